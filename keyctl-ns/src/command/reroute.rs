//! `reroute`

use clap::Args;
use keyns_interfaces::upcalls::{Reroute, Target};

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::view;

/// Give a waiting key request to another queue, or to other agents
///
/// The rule that routed it stays as it is, and is asked again should the daemon be started anew
/// meanwhile. An agent that has the request is told nothing; its answer is refused from then on. Where
/// no agent would take the request, it stays where it is.
#[derive(Debug, Args)]
#[command(
    group = clap::ArgGroup::new("target").required(true),
    override_usage = "keyctl-ns reroute [OPTIONS] <ID> <TARGET>",
    after_help = "\
Examples:
  keyctl-ns reroute 7 --to manual
  keyctl-ns reroute 7 --any-agent --deadline 30s")]
pub struct RerouteArgs {
    /// Number of the request (see upcalls)
    pub id: u64,
    /// Let it wait in this queue
    #[arg(long, value_name = "QUEUE", group = "target", value_parser = args::not_empty)]
    pub to: Option<String>,
    /// Send it to the agents of this name
    #[arg(long, value_name = "NAME", group = "target", value_parser = args::not_empty)]
    pub agent: Option<String>,
    /// Send it to whichever agent serves its type
    #[arg(long, group = "target")]
    pub any_agent: bool,
    /// How long it may wait, counted from its arrival, 1s to 60s (default: as before, but at least 60s in a queue and 10s for agents)
    #[arg(long, value_name = "TIME", value_parser = args::deadline)]
    pub deadline: Option<u32>,
}

/// Gives the request to somebody else.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &RerouteArgs) -> Result<(), CommandError> {
    let target = match (&args.to, &args.agent) {
        (Some(queue), _) => Target::Queue(queue.clone()),
        (None, name) => Target::Agent(name.clone().unwrap_or_default()),
    };
    let done = context.daemon()?.call(&Reroute {
        id: args.id,
        target: target.clone(),
        deadline_ms: args.deadline,
    })?;
    context.ui.print(&done, |out, done| {
        writeln!(out, "{}", view::rerouted(&done.upcall, &target))
    })
}

//! `intercept`, `intercept list`

use clap::{Args, Subcommand};
use keyns::name::ContainerPath;
use keyns_interfaces::upcalls::{Intercept, ListRules, Rejection, Target};

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::view;

/// Decide who answers the key requests that come out of a container
///
/// A rule is for one type of key; the type * stands for all types without a rule of their own. A
/// request is matched with the rules of its own container first and then with those of the
/// containers around it. A second rule for the same container and type replaces the first.
///
/// Without --to, --agent or --reject requests wait in the queue “manual” to be answered by hand
/// (see upcalls and answer).
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct InterceptArgs {
    /// What to do other than adding a rule.
    #[command(subcommand)]
    pub action: Option<InterceptAction>,
    /// The container
    #[arg(required = true, value_parser = args::container())]
    pub container: Option<ContainerPath>,
    /// Type of key, or *
    #[arg(required = true, value_parser = args::key_type)]
    pub r#type: Option<String>,
    /// Let requests wait in this queue
    #[arg(long, value_name = "QUEUE", group = "target")]
    pub to: Option<String>,
    /// Send requests to the agents of this name
    // An empty name would mean any agent, which is said with its own option.
    #[arg(long, value_name = "NAME", group = "target", value_parser = args::not_empty)]
    pub agent: Option<String>,
    /// Send requests to whichever agent serves the type
    #[arg(long, group = "target")]
    pub any_agent: bool,
    /// Reject requests with this error, repeated by the kernel for this long (1 to 60 s; default 5 s)
    #[arg(long, value_name = "ERRNO[:TIME]", group = "target", value_parser = args::rejection)]
    pub reject: Option<Rejection>,
    /// How long a request may wait, 1s to 60s (default: 60s in a queue, 10s for agents)
    #[arg(long, value_name = "TIME", value_parser = args::deadline)]
    pub deadline: Option<u32>,
    /// Requests per second; more are rejected (default: 20)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Requests at once beyond the rate (default: twice the rate)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub burst: Option<u32>,
    /// Requests waiting at once, 1 to 256 (default: 16)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub pending: Option<u32>,
}

/// What `intercept` does other than adding a rule.
#[derive(Debug, Subcommand)]
pub enum InterceptAction {
    /// Show the rules in the order they are tried
    List(InterceptListArgs),
}

/// Arguments of `intercept list`.
#[derive(Debug, Args)]
pub struct InterceptListArgs {
    /// Only the rules of this container
    #[arg(value_parser = args::container())]
    pub container: Option<ContainerPath>,
}

/// Adds a rule, or lists them.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &InterceptArgs) -> Result<(), CommandError> {
    if let Some(InterceptAction::List(args)) = &args.action {
        return list(context, args);
    }
    // The parser requires both where there is no subcommand.
    let (Some(container), Some(type_)) = (&args.container, &args.r#type) else {
        return Err(CommandError::usage("missing: CONTAINER and TYPE"));
    };
    let target = match (&args.to, &args.agent, args.reject) {
        (_, _, Some(rejection)) => Target::Reject(rejection),
        (_, Some(name), None) => Target::Agent(name.clone()),
        (_, None, None) if args.any_agent => Target::Agent(String::new()),
        (queue, None, None) => Target::Queue(queue.clone().unwrap_or_else(|| "manual".to_owned())),
    };
    let done = context.daemon()?.call(&Intercept {
        container: container.to_string(),
        type_: type_.clone(),
        target,
        deadline_ms: args.deadline,
        rate: args.rate,
        burst: args.burst,
        pending: args.pending,
    })?;
    context.ui.print(&done, |out, done| {
        let rule = &done.rule;
        writeln!(
            out,
            "requests of container “{}” for {} go to: {}{}",
            view::safe(&rule.container),
            if rule.type_ == "*" {
                "all other types".to_owned()
            } else {
                format!("type {}", view::safe(&rule.type_))
            },
            view::target(&rule.target),
            if done.replaced {
                " (replaces the former rule)"
            } else {
                ""
            },
        )
    })
}

fn list(context: &Context, args: &InterceptListArgs) -> Result<(), CommandError> {
    let call = ListRules {
        container: args.container.as_ref().map(ToString::to_string),
    };
    let rules = context.daemon()?.call(&call)?;
    context.ui.print(&rules, |out, rules| {
        view::rule_table(&rules.rules).write(out, "no rules")
    })
}

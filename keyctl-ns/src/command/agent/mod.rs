//! `agent`

pub mod answerer;
pub mod list;
pub mod program;
pub mod serve;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CommandError;

/// Programs that answer key requests
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: AgentCommand,
}

/// Commands about agents.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments of each command document it")]
pub enum AgentCommand {
    Serve(serve::ServeArgs),
    List(list::ListArgs),
}

/// Runs a command about agents.
///
/// # Errors
/// Those of the command.
pub fn run(context: &Context, args: AgentArgs) -> Result<(), CommandError> {
    match args.action {
        AgentCommand::Serve(args) => serve::run(context, args),
        AgentCommand::List(args) => list::run(context, &args),
    }
}

//! `doctor`

pub mod upcall;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CommandError;

/// Find out beforehand what would work, and why something does not
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// What to look at.
    #[command(subcommand)]
    pub subject: DoctorCommand,
}

/// What can be looked at.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments of each command document it")]
pub enum DoctorCommand {
    Upcall(upcall::UpcallArgs),
}

/// Looks at something. The exit code says whether it would work.
///
/// # Errors
/// Those of the command.
pub fn run(context: &Context, args: &DoctorArgs) -> Result<u8, CommandError> {
    match &args.subject {
        DoctorCommand::Upcall(args) => upcall::run(context, args),
    }
}

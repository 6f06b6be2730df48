//! `container`

pub mod create;
pub mod enter;
pub mod keyring;
pub mod kill;
pub mod list;
pub mod process;
pub mod remove;
pub mod run;
pub mod show;
pub mod wait;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::error::CommandError;

/// Containers: create them, run programs in them, look at them, end them
#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: ContainerCommand,
}

/// Commands about containers.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the arguments of each command document it")]
pub enum ContainerCommand {
    Create(create::CreateArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Run(run::RunArgs),
    /// Start a further program in a running container
    ///
    /// As container run, which starts the first one.
    Exec(run::ExecArgs),
    Enter(enter::EnterArgs),
    Keyring(keyring::KeyringArgs),
    Kill(kill::KillArgs),
    Wait(wait::WaitArgs),
    Remove(remove::RemoveArgs),
}

/// Runs a command about containers; the exit code is that of a program run in one.
///
/// # Errors
/// Those of the command.
pub fn run(context: &Context, args: ContainerArgs) -> Result<u8, CommandError> {
    let done = match args.action {
        ContainerCommand::Run(args) => return run::run(context, &args.start),
        ContainerCommand::Exec(args) => return run::exec(context, &args.start),
        ContainerCommand::Enter(args) => return enter::run(context, &args),
        ContainerCommand::Create(args) => create::run(context, &args),
        ContainerCommand::List(args) => list::run(context, &args),
        ContainerCommand::Show(args) => show::run(context, &args),
        ContainerCommand::Keyring(args) => keyring::run(context, &args),
        ContainerCommand::Kill(args) => kill::run(context, &args),
        ContainerCommand::Wait(args) => wait::run(context, &args),
        ContainerCommand::Remove(args) => remove::run(context, &args),
    };
    done.map(|()| 0)
}

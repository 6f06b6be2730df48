//! `container kill`

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::containers::Kill;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::view;

/// Kill a container with everything in it, or send a signal to one process
///
/// Key requests of the container that still wait are rejected first. A signal other than KILL and
/// STOP does not reach a first process that has no handler for it.
#[derive(Debug, Args)]
pub struct KillArgs {
    /// The container
    #[arg(value_parser = args::container())]
    pub container: ContainerPath,
    /// Send this signal, by name or number, to one process only
    #[arg(long, short, value_parser = args::signal, allow_negative_numbers = true)]
    pub signal: Option<i32>,
    /// Process the signal goes to (default: the first one)
    #[arg(long, short, value_name = "N", requires = "signal")]
    pub process: Option<u64>,
}

/// Kills the container or sends the signal.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &KillArgs) -> Result<(), CommandError> {
    let call = Kill {
        container: args.container.to_string(),
        signal: args.signal,
        process: args.process,
    };
    let killed = context.daemon()?.call(&call)?;
    context.ui.print(&killed, |out, killed| match args.signal {
        Some(signal) => {
            let process = args.process.unwrap_or(1);
            writeln!(
                out,
                "signal {signal} is sent to process {process} of container “{}”",
                args.container
            )
        }
        None => {
            let rejected = match killed.upcalls_rejected {
                0 => String::new(),
                1 => ", 1 key request was rejected".to_owned(),
                n => format!(", {n} key requests were rejected"),
            };
            let took = view::milliseconds(killed.milliseconds);
            writeln!(
                out,
                "container “{}” is dead after {took}{rejected}",
                args.container
            )
        }
    })
}

//! `container wait`

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::containers::Wait;

use crate::args;
use crate::context::Context;
use crate::daemon::{self, refused};
use crate::error::CommandError;
use crate::view;

/// Wait until a process of a container has ended, and print how
///
/// The exit code of this command is 0 however the process ended.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The container
    #[arg(value_parser = args::container())]
    pub container: ContainerPath,
    /// Number of the process within the container (default: the first one)
    #[arg(long, short, value_name = "N")]
    pub process: Option<u64>,
}

/// Waits.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &WaitArgs) -> Result<(), CommandError> {
    let call = Wait {
        container: args.container.to_string(),
        process: args.process,
    };
    let ended = daemon::runtime()?.block_on(async {
        let mut client = daemon::connect(&context.addresses()).await?;
        client
            .call(&call, Vec::new())
            .await
            .map(|(ended, _)| ended)
            .map_err(refused)
    })?;
    context.ui.print(&ended, |out, ended| {
        writeln!(out, "{}", view::exit(ended.exit))
    })
}

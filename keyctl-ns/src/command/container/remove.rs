//! `container remove`

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::containers::Remove;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;

/// Remove a container that is dead or was never started
///
/// Its keys are destroyed. A running container is ended with container kill first.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// The container
    #[arg(value_parser = args::container())]
    pub container: ContainerPath,
}

#[derive(Serialize)]
struct Output {
    removed: String,
}

/// Removes the container.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &RemoveArgs) -> Result<(), CommandError> {
    let removed = args.container.to_string();
    context.daemon()?.call(&Remove {
        container: removed.clone(),
    })?;
    context.ui.print(&Output { removed }, |out, done| {
        writeln!(out, "container “{}” is removed", done.removed)
    })
}

//! `container list`

use clap::Args;
use keyns_interfaces::containers::List;

use crate::context::Context;
use crate::error::CommandError;
use crate::table::Table;
use crate::view;

/// Show the containers
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Also those that are dead and not removed yet
    #[arg(long, short)]
    pub all: bool,
}

/// Shows the containers.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &ListArgs) -> Result<(), CommandError> {
    let listing = context.daemon()?.call(&List { dead: args.all })?;
    context.ui.print(&listing, |out, listing| {
        let mut table = Table::new([
            ">ID",
            "NAME",
            "STATE",
            ">PID",
            ">KEYRING",
            ">AGE",
            "ROOT",
            "NAMESPACES",
        ]);
        for container in &listing.containers {
            table.row([
                container.id.to_string(),
                view::safe(&container.name),
                view::state(container.state).to_owned(),
                container
                    .init_pid
                    .map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                container
                    .keyring
                    .map_or_else(|| "-".to_owned(), |serial| serial.to_string()),
                view::ago(container.created),
                view::root(container.root.as_ref()),
                view::namespaces(&container.namespaces),
            ]);
        }
        table.write(out, "no containers")
    })
}

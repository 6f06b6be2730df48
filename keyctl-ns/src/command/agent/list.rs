//! `agent list`

use clap::Args;
use keyns_interfaces::agents::List;

use crate::context::Context;
use crate::error::CommandError;
use crate::table::Table;
use crate::view;

/// Show the connected agents
#[derive(Debug, Args)]
pub struct ListArgs {}

/// Shows the agents.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, _: &ListArgs) -> Result<(), CommandError> {
    let listing = context.daemon()?.call(&List {})?;
    context.ui.print(&listing, |out, listing| {
        let mut table = Table::new([
            ">AGENT",
            "NAME",
            "TYPES",
            "CONTAINERS",
            ">PID",
            ">UID",
            ">BUSY",
            ">ANSWERED",
            ">FAILED",
        ]);
        for agent in &listing.agents {
            let containers = if agent.containers.is_empty() {
                "all".to_owned()
            } else {
                agent.containers.join(",")
            };
            table.row([
                agent.agent.to_string(),
                view::safe(&agent.name),
                view::safe(&agent.types.join(",")),
                view::safe(&containers),
                agent.pid.to_string(),
                agent.uid.to_string(),
                agent.in_flight.to_string(),
                agent.answered.to_string(),
                agent.failed.to_string(),
            ]);
        }
        table.write(out, "no agents")
    })
}

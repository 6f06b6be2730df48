//! `upcalls`

use clap::Args;
use keyns_interfaces::upcalls::List;

use crate::command::watch;
use crate::context::Context;
use crate::error::CommandError;
use crate::view;

/// Show the key requests that wait for an answer
///
/// Everything about a requester but its description, callout text and command comes from the kernel.
/// Of a description or callout text over 512 bytes only the beginning is shown; query shows all.
#[derive(Debug, Args)]
pub struct UpcallsArgs {
    /// Keep showing requests as they arrive and end, until interrupted
    #[arg(long, short, conflicts_with = "history")]
    pub watch: bool,
    /// Also show the last N requests that have ended, newest first
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=256), hide_default_value = true)]
    pub history: u32,
}

/// Shows upcalls.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &UpcallsArgs) -> Result<(), CommandError> {
    if args.watch {
        return watch::follow(context, &[watch::Topic::Upcalls]);
    }
    let listing = context.daemon()?.call(&List {
        history: args.history,
    })?;
    context.ui.print(&listing, |out, listing| {
        view::upcall_table(&listing.upcalls).write(out, "no request is waiting")?;
        if args.history > 0 {
            writeln!(out)?;
            view::upcall_table(&listing.history).write(out, "no request has ended yet")?;
        }
        Ok(())
    })
}

//! `container show`

use std::io::{self, Write};

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::containers::{Show, Shown};

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::style;
use crate::table::{Table, fields};
use crate::view;

/// Show everything about a container: its processes, keys, grants and rules
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The container
    #[arg(value_parser = args::container())]
    pub container: ContainerPath,
}

/// Shows the container.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &ShowArgs) -> Result<(), CommandError> {
    let shown = context.daemon()?.call(&Show {
        container: args.container.to_string(),
    })?;
    context.ui.print(&shown, show)
}

fn show(out: &mut dyn Write, shown: &Shown) -> io::Result<()> {
    let container = &shown.container;
    let mut rows = vec![
        (
            "container",
            format!("{} (number {})", view::safe(&container.name), container.id),
        ),
        ("state", view::state(container.state).to_owned()),
        (
            "created",
            format!(
                "{} ({} ago)",
                view::time(container.created),
                view::ago(container.created)
            ),
        ),
        ("namespaces", view::namespaces(&container.namespaces)),
        ("root", view::root(container.root.as_ref())),
    ];
    if let (Some(base), Some(count)) = (container.uid_base, container.uid_count) {
        rows.push((
            "ids",
            format!(
                "{base} to {}",
                u64::from(base) + u64::from(count).saturating_sub(1)
            ),
        ));
    }
    if let Some(keyring) = container.keyring {
        rows.push(("keyring", keyring.to_string()));
    }
    if let Some(pid) = container.init_pid {
        rows.push(("first process", format!("pid {pid}")));
    }
    if let Some(exit) = container.exit {
        rows.push(("ended", view::exit(exit)));
    }
    if container.kill_on_close {
        rows.push(("lease", "it is killed when the lease is closed".to_owned()));
    }
    for caveat in &container.caveats {
        rows.push(("caveat", view::safe(caveat)));
    }
    fields(out, &rows)?;

    section(out, "Processes")?;
    let mut table = Table::new([">PROCESS", ">PID", "STATUS", "COMMAND"]);
    for process in &shown.processes {
        let words: Vec<String> = process.command.iter().map(view::bytes).collect();
        table.row([
            process.process.to_string(),
            process.pid.to_string(),
            process
                .exit
                .map_or_else(|| "running".to_owned(), view::exit),
            words.join(" "),
        ]);
    }
    table.write(out, "none was started")?;

    section(out, "Keys")?;
    view::key_table(&shown.keys).write(out, "none was added or lent")?;

    let granted: Vec<_> = shown.keys.iter().flat_map(|key| &key.grants).collect();
    if !granted.is_empty() {
        section(out, "Grants")?;
        let mut table = Table::new([">KEY", "CONTAINER", ">COPY", "ENDS", "RIGHTS"]);
        for grant in granted {
            table.row([
                grant.key.to_string(),
                view::safe(&grant.container),
                grant
                    .copy
                    .map_or_else(|| "-".to_owned(), |serial| serial.to_string()),
                view::expiry(grant.expires_in),
                view::grant_rights(grant),
            ]);
        }
        table.write(out, "")?;
    }

    section(out, "Rules")?;
    view::rule_table(&shown.rules).write(
        out,
        "none: rules of containers around it apply, else its keyring answers or nobody",
    )
}

fn section(out: &mut dyn Write, title: &str) -> io::Result<()> {
    let bold = style::HEADING;
    writeln!(out, "\n{bold}{title}{bold:#}")
}

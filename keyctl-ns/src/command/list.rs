//! `list`

use clap::Args;
use keyns::name::ContainerPath;
use keyns::spec::KeySpec;
use keyns_interfaces::keys::{KeyInfo, List};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key;
use crate::proc_file::ProcFile;
use crate::table::Table;
use crate::view;

/// List the keys of a keyring or container
///
/// Without arguments the keys of your session keyring. Keys that you may not view are counted, not
/// shown.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// A keyring of your own (default: @s)
    #[arg(value_parser = args::key(), allow_negative_numbers = true, group = "what")]
    pub keyring: Option<KeySpec>,
    /// The keys of this container: those put into its store and the copies its processes see
    #[arg(long, short, value_name = "CONTAINER", value_parser = args::container(), group = "what")]
    pub container: Option<ContainerPath>,
    /// The keys of your session keyring and of all containers
    #[arg(long, short, group = "what")]
    pub all: bool,
}

#[derive(Serialize)]
struct Output {
    keys: Vec<KeyInfo>,
    hidden: usize,
}

/// Lists keys.
///
/// # Errors
/// What `KEYCTL_READ` or the daemon says.
pub fn run(context: &Context, args: &ListArgs) -> Result<(), CommandError> {
    if let Some(container) = &args.container {
        let keys = context
            .daemon()?
            .call(&List {
                container: Some(container.to_string()),
            })?
            .keys;
        return context.ui.print(&Output { keys, hidden: 0 }, |out, done| {
            view::key_table(&done.keys).write(out, "no keys")
        });
    }
    let session = KeySpec::Serial(keyns::serial::KeySerial::SESSION);
    let own = key::members(
        key::resolve(args.keyring.as_ref().unwrap_or(&session))?,
        &ProcFile::read(),
    )?;
    let mut output = Output {
        keys: own.keys,
        hidden: own.hidden,
    };
    if args.all {
        match context
            .daemon()
            .and_then(|mut daemon| daemon.call(&List { container: None }))
        {
            Ok(listing) => output.keys.extend(listing.keys),
            Err(error) if error.kind == ErrorKind::Unreachable => {
                context.ui.warn(&format!("only your own keys: {error}"));
            }
            Err(error) => return Err(error),
        }
        return context.ui.print(&output, |out, done| {
            view::key_table(&done.keys).write(out, "no keys")?;
            hidden(out, done.hidden)
        });
    }
    context.ui.print(&output, |out, done| {
        let mut table = Table::new([
            ">KEY",
            "TYPE",
            "MASK",
            ">UID",
            ">GID",
            "EXPIRES",
            "DESCRIPTION",
        ]);
        for key in &done.keys {
            table.row([
                key.serial.to_string(),
                view::safe(&key.type_),
                view::mask(key.mask),
                key.uid.to_string(),
                key.gid.to_string(),
                key.expires_in.map_or_else(|| "-".to_owned(), view::seconds),
                view::short(&key.description),
            ]);
        }
        table.write(out, "no keys")?;
        hidden(out, done.hidden)
    })
}

fn hidden(out: &mut dyn std::io::Write, hidden: usize) -> std::io::Result<()> {
    match hidden {
        0 => Ok(()),
        1 => writeln!(out, "and 1 key you may not view"),
        n => writeln!(out, "and {n} keys you may not view"),
    }
}

//! `container keyring`

use std::io::{self, Write};

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::containers::{GetKeyring, Keyring};

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::table::{Table, fields};
use crate::view;

/// Show a container's keyring and the keys its processes find in it
///
/// A + after a mask: what the container may do is not in it, but in the key's list of rights, which
/// keyctl-ns acl shows. Only kernels with container objects have such lists.
#[derive(Debug, Args)]
pub struct KeyringArgs {
    /// The container
    #[arg(value_parser = args::container())]
    pub container: ContainerPath,
}

/// Shows the keyring.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &KeyringArgs) -> Result<(), CommandError> {
    let keyring = context.daemon()?.call(&GetKeyring {
        container: args.container.to_string(),
    })?;
    context.ui.print(&keyring, show)
}

fn show(out: &mut dyn Write, keyring: &Keyring) -> io::Result<()> {
    let ring = &keyring.keyring;
    fields(
        out,
        &[
            (
                "keyring",
                format!("{} {}", ring.serial, view::key_name(ring)),
            ),
            ("owner", format!("uid {}, gid {}", ring.uid, ring.gid)),
            (
                "mask",
                format!(
                    "{} ({:#010x})",
                    view::mask_in_container(ring.mask),
                    ring.mask
                ),
            ),
        ],
    )?;
    writeln!(out)?;
    let mut table = Table::new([">KEY", "TYPE", "MASK", "EXPIRES", "DESCRIPTION"]);
    for key in &keyring.keys {
        table.row([
            key.serial.to_string(),
            view::safe(&key.type_),
            view::mask_in_container(key.mask),
            view::expiry(key.expires_in),
            view::short(&key.description),
        ]);
    }
    table.write(out, "no keys: none was granted to it")
}

//! `link` and `unlink`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};
use crate::keyctl::walk;

/// Link a key into a keyring, where it can be found as well from then on
///
/// A key of the same type and description there is replaced.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns link %user:token @u")]
pub struct LinkArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Keyring of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: KeySpec,
}

/// Take a key out of a keyring
///
/// A key that no keyring holds any more is gone. Without a keyring every link to the key is removed
/// from your session keyring and the keyrings below it.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns unlink %user:token @s")]
pub struct UnlinkArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Keyring of your own (default: wherever the key is found)
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: Option<KeySpec>,
}

const GRANT: &str = "give it to a container with keyctl-ns grant, take it back with ungrant";
const END: &str = "keyctl-ns invalidate removes a key of a container";

#[derive(Serialize)]
struct Output {
    key: KeyRef,
    /// Absent where links were removed wherever they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    keyring: Option<KeyRef>,
    /// How many were made or removed.
    links: usize,
}

/// Links the key.
///
/// # Errors
/// What `KEYCTL_LINK` says.
pub fn run(context: &Context, args: &LinkArgs) -> Result<(), CommandError> {
    let serial = key::resolve_own(&args.key, GRANT)?;
    let keyring = key::resolve_own(&args.keyring, GRANT)?;
    sys::link(serial, keyring).map_err(|error| {
        let what = format!("cannot link key {} into keyring {}", args.key, args.keyring);
        key::failed_on(serial, what, KeyOp::Link, &error)
    })?;
    let output = Output {
        key: KeyRef::own(serial),
        keyring: Some(KeyRef::own(keyring)),
        links: 1,
    };
    context.ui.print(&output, |out, _| {
        writeln!(
            out,
            "key {} is linked into keyring {}",
            args.key, args.keyring
        )
    })
}

/// Removes one link, or all there are.
///
/// # Errors
/// What `KEYCTL_UNLINK` says of the only one, or of the first that could not be removed.
pub fn unlink(context: &Context, args: &UnlinkArgs) -> Result<(), CommandError> {
    let serial = key::resolve_own(&args.key, END)?;
    // Afterwards it may be gone.
    let named = KeyRef::own(serial);
    let Some(keyring) = &args.keyring else {
        return everywhere(context, args, serial, named);
    };
    let ring = key::resolve_own(keyring, END)?;
    sys::unlink(serial, ring).map_err(|error| {
        let what = format!("cannot take key {} out of keyring {keyring}", args.key);
        key::failed_on(ring, what, KeyOp::Unlink, &error)
    })?;
    let output = Output {
        key: named,
        keyring: Some(KeyRef::own(ring)),
        links: 1,
    };
    context.ui.print(&output, |out, _| {
        writeln!(out, "key {} is not in keyring {keyring} any more", args.key)
    })
}

fn everywhere(
    context: &Context,
    args: &UnlinkArgs,
    serial: KeySerial,
    named: KeyRef,
) -> Result<(), CommandError> {
    let mut links = 0;
    let mut failure = None;
    let what = || format!("cannot remove every link to key {}", args.key);
    walk::session(|visit| {
        if visit.key != serial || visit.parent == KeySerial::NONE {
            return;
        }
        match sys::unlink(visit.key, visit.parent) {
            Ok(()) => links += 1,
            Err(error) => {
                let parent = visit.parent;
                failure.get_or_insert_with(|| {
                    let what = format!("{}: keyring {parent} keeps it", what());
                    key::failed_on(parent, what, KeyOp::Unlink, &error)
                });
            }
        }
    })
    .map_err(|error| key::failed(what(), KeyOp::GetKeyringId, &error))?;
    let output = Output {
        key: named,
        keyring: None,
        links,
    };
    context.ui.print(&output, |out, done| match done.links {
        0 => writeln!(out, "no keyring of yours holds key {}", args.key),
        1 => writeln!(out, "1 link to key {} is removed", args.key),
        n => writeln!(out, "{n} links to key {} are removed", args.key),
    })?;
    failure.map_or(Ok(()), Err)
}

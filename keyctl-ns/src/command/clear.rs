//! `clear`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, KeyRef};

/// Take every key out of a keyring
///
/// Keys that no other keyring holds are gone.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns clear %:build")]
pub struct ClearArgs {
    /// Keyring of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub keyring: KeySpec,
}

#[derive(Serialize)]
struct Output {
    keyring: KeyRef,
}

/// Empties the keyring.
///
/// # Errors
/// What `KEYCTL_CLEAR` says.
pub fn run(context: &Context, args: &ClearArgs) -> Result<(), CommandError> {
    let keyring = key::resolve_own(
        &args.keyring,
        "keyctl-ns ungrant and invalidate remove single keys of a container",
    )?;
    sys::clear(keyring).map_err(|error| {
        let what = format!("cannot empty keyring {}", args.keyring);
        key::failed_on(keyring, what, KeyOp::Clear, &error)
    })?;
    let output = Output {
        keyring: KeyRef::own(keyring),
    };
    context.ui.print(&output, |out, _| {
        writeln!(out, "keyring {} is empty", args.keyring)
    })
}

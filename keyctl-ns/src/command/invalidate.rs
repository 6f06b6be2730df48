//! `invalidate`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_interfaces::keys::Invalidate;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, Target};

/// Destroy a key at once
///
/// The key vanishes from every keyring. For a key of a container every copy of it is destroyed as
/// well. What a process has read already, it keeps.
#[derive(Debug, Args)]
pub struct InvalidateArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

#[derive(Serialize)]
struct Output {
    invalidated: String,
}

/// Invalidates the key.
///
/// # Errors
/// What `KEYCTL_INVALIDATE` or the daemon says.
pub fn run(context: &Context, args: &InvalidateArgs) -> Result<(), CommandError> {
    match Target::of(&args.key)? {
        Target::Contained(key) => {
            context.daemon()?.call(&Invalidate { key })?;
        }
        Target::Own(serial) => sys::invalidate(serial).map_err(|error| {
            key::failed_on(
                serial,
                format!("cannot invalidate key {}", args.key),
                KeyOp::Invalidate,
                &error,
            )
        })?,
    }
    context.ui.print(
        &Output {
            invalidated: args.key.to_string(),
        },
        |out, done| writeln!(out, "key {} is gone", done.invalidated),
    )
}

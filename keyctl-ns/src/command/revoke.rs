//! `revoke`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key;

/// Make a key unusable
///
/// Whoever uses it from now on is told that it was revoked, until the kernel collects it some minutes
/// later. invalidate makes it vanish at once instead.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns revoke %user:token")]
pub struct RevokeArgs {
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

#[derive(Serialize)]
struct Output {
    revoked: String,
    serial: i32,
}

/// Revokes the key.
///
/// # Errors
/// What `KEYCTL_REVOKE` says.
pub fn run(context: &Context, args: &RevokeArgs) -> Result<(), CommandError> {
    let hint = format!(
        "destroy it and every copy of it: keyctl-ns invalidate {}",
        args.key
    );
    let serial = key::resolve_own(&args.key, &hint)?;
    sys::revoke(serial).map_err(|error| {
        let what = format!("cannot revoke key {}", args.key);
        key::failed_on(serial, what, KeyOp::Revoke, &error)
    })?;
    let output = Output {
        revoked: args.key.to_string(),
        serial: serial.raw(),
    };
    context.ui.print(&output, |out, done| {
        writeln!(out, "key {} is revoked", done.revoked)
    })
}

//! `negate` and `reject`

use clap::Args;
use keyns::errno::{Errno, KeyOp};
use keyns::spec::KeySpec;
use keyns_sys::key as sys;
use serde::Serialize;

use super::instantiate::Construction;
use crate::args::{self, Destination};
use crate::context::Context;
use crate::error::CommandError;
use crate::view;

/// Say that a key under construction does not exist
///
/// The requester is told that there is no such key (ENOKEY), and so is everybody who asks within TIME.
/// For programs that the kernel starts to have a key made, as instantiate.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns negate \"$1\" 30s @s")]
pub struct NegateArgs {
    /// The key under construction
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// For how long the kernel repeats it (30s, 5m, or a number of seconds)
    #[arg(value_name = "TIME", value_parser = args::timeout)]
    pub time: u32,
    /// Keyring to link the negative key into: one of the requester's, or 0 for none
    #[arg(
        value_parser = args::destination(),
        allow_negative_numbers = true,
        default_value = "0"
    )]
    pub keyring: Destination,
}

/// Reject the request for a key under construction with an error
///
/// The requester gets the error, and so does everybody who asks within TIME. For programs that the
/// kernel starts to have a key made, as instantiate.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns reject \"$1\" 30s EKEYREJECTED @s")]
pub struct RejectArgs {
    /// The key under construction
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// For how long the kernel repeats it (30s, 5m, or a number of seconds)
    #[arg(value_name = "TIME", value_parser = args::timeout)]
    pub time: u32,
    /// The error by name or number; or rejected, revoked, expired
    #[arg(value_name = "ERROR", value_parser = args::rejection_error)]
    pub errno: Errno,
    /// Keyring to link the negative key into: one of the requester's, or 0 for none
    #[arg(
        value_parser = args::destination(),
        allow_negative_numbers = true,
        default_value = "0"
    )]
    pub keyring: Destination,
}

#[derive(Serialize)]
struct Output {
    serial: i32,
    error: Errno,
    /// Seconds for which the kernel repeats it.
    timeout: u32,
}

/// Negates the key.
///
/// # Errors
/// What `KEYCTL_REJECT` says.
pub fn negate(context: &Context, args: &NegateArgs) -> Result<(), CommandError> {
    end(
        context,
        "negate",
        &args.key,
        args.time,
        Errno::ENOKEY,
        &args.keyring,
    )
}

/// Rejects the request.
///
/// # Errors
/// What `KEYCTL_REJECT` says.
pub fn run(context: &Context, args: &RejectArgs) -> Result<(), CommandError> {
    end(
        context,
        "reject",
        &args.key,
        args.time,
        args.errno,
        &args.keyring,
    )
}

fn end(
    context: &Context,
    verb: &str,
    spec: &KeySpec,
    time: u32,
    errno: Errno,
    Destination(keyring): &Destination,
) -> Result<(), CommandError> {
    let construction = Construction::of(spec, keyring.as_ref())?;
    construction.assume_authority();
    sys::reject(
        construction.serial,
        time,
        errno.raw(),
        construction.destination,
    )
    .map_err(|error| construction.failed(verb, KeyOp::Reject, &error))?;
    let output = Output {
        serial: construction.serial.raw(),
        error: errno,
        timeout: time,
    };
    context.ui.print(&output, |out, done| {
        writeln!(
            out,
            "key {spec} is rejected with {} for {}",
            done.error,
            view::seconds(done.timeout.into())
        )
    })
}

//! `read`

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_interfaces::Payload;
use keyns_interfaces::keys::Read;
use keyns_sys::key as sys;
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, Target};
use crate::reveal::RevealArgs;

/// Print the payload of a key
///
/// To a pipe or file the payload goes as it is. On a terminal nothing is shown without --reveal;
/// with it, text is shown as text and anything else in hexadecimal. With --json the payload is
/// base64.
///
/// The payload of a keyring is a list of serial numbers; list shows it in a readable form.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// How it is shown.
    #[command(flatten)]
    pub reveal: RevealArgs,
}

/// A payload as JSON.
#[derive(Serialize)]
pub(crate) struct Output {
    key: String,
    bytes: usize,
    pub(crate) payload: Payload,
}

/// Reads the key.
///
/// # Errors
/// What `KEYCTL_READ` or the daemon says; a usage error when a terminal would show the payload
/// unasked.
pub fn run(context: &Context, args: &ReadArgs) -> Result<(), CommandError> {
    let output = payload(context, &args.key, args.reveal)?;
    args.reveal
        .print(&context.ui, output.payload.bytes(), &output)
}

/// The payload of a key, if it may be shown where it would go.
///
/// # Errors
/// As [`run`].
pub(crate) fn payload(
    context: &Context,
    spec: &KeySpec,
    reveal: RevealArgs,
) -> Result<Output, CommandError> {
    reveal.permit(&context.ui, &format!("the payload of key {spec}"))?;
    let payload = match Target::of(spec)? {
        Target::Contained(key) => context.daemon()?.call(&Read { key })?.payload,
        Target::Own(serial) => sys::read(serial).map(Payload::new).map_err(|error| {
            key::failed_on(
                serial,
                format!("cannot read key {spec}"),
                KeyOp::Read,
                &error,
            )
        })?,
    };
    Ok(Output {
        key: spec.to_string(),
        bytes: payload.bytes().len(),
        payload,
    })
}

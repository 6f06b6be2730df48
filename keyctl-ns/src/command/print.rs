//! `print` and `pipe`: the payload of a key, in the two other forms of keyctl(1).

use clap::Args;
use keyns::spec::KeySpec;

use super::read;
use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::hex;
use crate::reveal::RevealArgs;

/// Print the payload of a key in one line
///
/// As text if all of it is printable ASCII, otherwise in hexadecimal after “:hex:”. On a terminal
/// nothing is shown without --reveal. With --json the payload is base64, as with read.
#[derive(Debug, Args)]
pub struct PrintArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Show it even though standard output is a terminal
    #[arg(long)]
    pub reveal: bool,
}

/// Print the payload of a key byte for byte
///
/// Nothing is added and nothing left out, on a terminal neither, where it needs --reveal. With
/// --json the payload is base64, as with read.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns pipe %user:cert > cert.pem")]
pub struct PipeArgs {
    /// The key
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
    /// Show it even though standard output is a terminal
    #[arg(long)]
    pub reveal: bool,
}

/// Prints the payload in one line.
///
/// # Errors
/// Those of [`read::run`].
pub fn run(context: &Context, args: &PrintArgs) -> Result<(), CommandError> {
    let reveal = RevealArgs {
        reveal: args.reveal,
        ..RevealArgs::default()
    };
    let output = read::payload(context, &args.key, reveal)?;
    let ui = &context.ui;
    if ui.is_json() {
        return ui.print(&output, |_, _| Ok(()));
    }
    let bytes = output.payload.bytes();
    if bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        ui.raw(bytes)?;
    } else {
        ui.raw(b":hex:")?;
        ui.raw(&hex::line(bytes)?)?;
    }
    ui.raw(b"\n")
}

/// Prints the payload as it is.
///
/// # Errors
/// Those of [`read::run`].
pub fn pipe(context: &Context, args: &PipeArgs) -> Result<(), CommandError> {
    let reveal = RevealArgs {
        reveal: args.reveal,
        raw: true,
        hex: false,
    };
    let output = read::payload(context, &args.key, reveal)?;
    reveal.print(&context.ui, output.payload.bytes(), &output)
}

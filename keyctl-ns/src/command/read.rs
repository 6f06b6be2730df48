//! `read`

use std::io::Write;

use clap::Args;
use keyns::errno::KeyOp;
use keyns::spec::KeySpec;
use keyns_interfaces::Payload;
use keyns_interfaces::keys::Read;
use keyns_sys::key as sys;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key::{self, Target};

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
    /// Show the payload even though standard output is a terminal
    #[arg(long)]
    pub reveal: bool,
    /// Print the bytes as they are, also on a terminal
    #[arg(long, conflicts_with = "hex")]
    pub raw: bool,
    /// Print the bytes in hexadecimal
    #[arg(long)]
    pub hex: bool,
}

#[derive(Serialize)]
struct Output {
    key: String,
    bytes: usize,
    payload: Payload,
}

/// Reads the key.
///
/// # Errors
/// What `KEYCTL_READ` or the daemon says; a usage error when a terminal would show the payload
/// unasked.
pub fn run(context: &Context, args: &ReadArgs) -> Result<(), CommandError> {
    let ui = &context.ui;
    if ui.is_terminal() && !args.reveal {
        return Err(
            CommandError::usage(format!("not showing the payload of key {}", args.key))
                .cause("standard output is a terminal, and what it shows stays readable there")
                .hint("add --reveal, or send the output to a file or program"),
        );
    }
    let payload = match Target::of(&args.key)? {
        Target::Contained(key) => context.daemon()?.call(&Read { key })?.payload,
        Target::Own(serial) => sys::read(serial).map(Payload::new).map_err(|error| {
            key::failed_on(
                serial,
                format!("cannot read key {}", args.key),
                KeyOp::Read,
                &error,
            )
        })?,
    };
    if ui.is_json() {
        let output = Output {
            key: args.key.to_string(),
            bytes: payload.bytes().len(),
            payload,
        };
        return ui.print(&output, |_, _| Ok(()));
    }
    let bytes = payload.bytes();
    let text = ui.is_terminal() && !args.raw;
    if args.hex || (text && !printable(bytes)) {
        return ui.raw(&hex(bytes)?);
    }
    ui.raw(bytes)?;
    if text && !bytes.ends_with(b"\n") {
        ui.raw(b"\n")?;
    }
    Ok(())
}

/// Whether a terminal can show these bytes without acting on any of them.
fn printable(bytes: &[u8]) -> bool {
    bytes.split(|b| matches!(b, b'\n' | b'\t')).all(|part| {
        // Backslashes are doubled by the escaping, nothing else of a harmless text is changed.
        let shown = Zeroizing::new(keyns::text::escape(part));
        shown.replace("\\\\", "\\").as_bytes() == part
    })
}

/// 32 bytes to a line.
fn hex(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() * 2 + bytes.len() / 32 + 1));
    for line in bytes.chunks(32) {
        for byte in line {
            write!(out, "{byte:02x}").map_err(|error| CommandError::output(&error))?;
        }
        out.push(b'\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_without_control_characters_is_printable() {
        assert!(printable("two\nlines\tand \\n ü".as_bytes()));
        assert!(!printable(b"\x1b[2J"));
        assert!(!printable(b"\xff"));
        assert!(!printable(b"a\rb"));
    }

    #[test]
    fn hexadecimal_has_32_bytes_to_a_line() {
        let text = hex(&[0xab; 33]).unwrap();
        assert_eq!(
            text.as_slice(),
            format!("{}\nab\n", "ab".repeat(32)).as_bytes()
        );
    }
}

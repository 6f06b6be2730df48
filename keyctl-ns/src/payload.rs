//! Where payloads come from: standard input, a file, an open descriptor. The command line, which every
//! process of the machine can read, is taken as `keyctl(1)` takes it, with a warning.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Args;
use keyns::text::Escaped;
use keyns_sys::key::MAX_PAYLOAD;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use zeroize::Zeroizing;

use crate::error::CommandError;
use crate::hex;
use crate::terminal;
use crate::ui::Ui;

/// The longest hexadecimal text that is read: two digits and a blank for each byte.
const MAX_HEX: usize = 3 * MAX_PAYLOAD;

/// Options that say where a payload comes from.
#[derive(Debug, Clone, Default, Args)]
pub struct PayloadArgs {
    /// Read the payload from FILE
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "fd",
        help_heading = "Payload (default: standard input, to its end)"
    )]
    pub file: Option<PathBuf>,
    /// Read the payload from the open descriptor N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=0x7fff_ffff), help_heading = "Payload (default: standard input, to its end)")]
    pub fd: Option<u32>,
    /// The payload is written in hexadecimal, with or without blanks between the bytes
    #[arg(
        long,
        short = 'x',
        help_heading = "Payload (default: standard input, to its end)"
    )]
    pub hex: bool,
}

impl PayloadArgs {
    /// Reads the payload, all of it, exactly as it is or as its hexadecimal digits say.
    ///
    /// # Errors
    /// When the source cannot be read, holds more than the 1,048,575 bytes a key can, or is not the
    /// hexadecimal text it was said to be.
    pub fn read(&self, ui: &Ui) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        if !self.hex {
            return self.text(ui, MAX_PAYLOAD);
        }
        decode(&self.text(ui, MAX_HEX)?)
    }

    /// The payload, which may stand on the command line.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_or(
        &self,
        ui: &Ui,
        argument: Option<&OsStr>,
    ) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        let Some(argument) = argument else {
            return self.read(ui);
        };
        ui.warn(
            "a payload on the command line can be read by every process of this machine; \
             leave it out and pass it on standard input, or with --file",
        );
        if self.hex {
            decode(argument.as_bytes())
        } else {
            Ok(Zeroizing::new(argument.as_bytes().to_vec()))
        }
    }

    fn text(&self, ui: &Ui, most: usize) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        if let Some(path) = &self.file {
            return file_of(path, most);
        }
        match self.fd {
            Some(number) => limited(
                File::from(duplicate(number)?),
                &format!("descriptor {number}"),
                most,
            ),
            None => input_of(ui, most),
        }
    }

    /// Whether a source was named.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.file.is_some() || self.fd.is_some()
    }
}

/// Reads a payload from a file.
///
/// # Errors
/// As [`PayloadArgs::read`].
pub fn from_file(path: &std::path::Path) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    file_of(path, MAX_PAYLOAD)
}

fn decode(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let payload = hex::decode(text).map_err(|error| {
        CommandError::usage("cannot read the payload as hexadecimal").cause(error.to_string())
    })?;
    if payload.len() > MAX_PAYLOAD {
        return Err(too_long("the hexadecimal text"));
    }
    Ok(payload)
}

fn file_of(path: &std::path::Path, most: usize) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let name = format!("“{}”", Escaped::new(path.as_os_str().as_bytes()).cut(200));
    let file = File::open(path).map_err(|error| {
        CommandError::io(format!("cannot read the payload from {name}"), &error)
    })?;
    limited(file, &name, most)
}

/// Reads a payload from standard input: to its end, or one line without echo from a terminal.
///
/// # Errors
/// As [`PayloadArgs::read`].
pub fn standard_input(ui: &Ui) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    input_of(ui, MAX_PAYLOAD)
}

fn input_of(ui: &Ui, most: usize) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let stdin = io::stdin();
    // The library's own handle would keep a copy of the secret in its buffer.
    let unbuffered = rustix::stdio::stdin()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(|error| CommandError::io("cannot read the payload from standard input", &error))?;
    if !stdin.is_terminal() {
        return limited(unbuffered, "standard input", most);
    }
    ui.note("type the payload and press Enter; it is not shown (control characters need a file)");
    let _hidden = terminal::Restorer::hide_echo()
        .map_err(|error| CommandError::io("cannot switch off the echo of the terminal", &error))?;
    limited(Line(unbuffered), "the terminal", most)
}

/// Stops before the first newline.
struct Line<R>(R);

impl<R: Read> Read for Line<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(slot) = buffer.get_mut(..1) else {
            return Ok(0);
        };
        let n = self.0.read(slot)?;
        Ok(if slot.first() == Some(&b'\n') { 0 } else { n })
    }
}

/// Reads to the end, or to one byte more than `most`, which is too much.
fn limited(source: impl Read, name: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    // Never grows, so no copy of a part of the secret is left behind in freed memory.
    let mut payload = Zeroizing::new(Vec::with_capacity(most + 1));
    let limit = most as u64 + 1;
    source
        .take(limit)
        .read_to_end(&mut payload)
        .map_err(|error| {
            CommandError::io(format!("cannot read the payload from {name}"), &error)
        })?;
    if payload.len() > most {
        return Err(too_long(name));
    }
    Ok(payload)
}

fn too_long(name: &str) -> CommandError {
    CommandError::failure(format!("cannot take the payload from {name}"))
        .cause(format!(
            "it is longer than {MAX_PAYLOAD} bytes, the most any key can hold"
        ))
        .hint("keep large data in a file and put the key that encrypts it here")
}

/// A descriptor of our own by its number, which safe code cannot simply claim to own.
fn duplicate(number: u32) -> Result<OwnedFd, CommandError> {
    let raw = i32::try_from(number).unwrap_or(i32::MAX);
    pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, raw, PidfdGetfdFlags::empty()))
        .map_err(|error| {
            CommandError::io(
                format!("cannot read the payload from descriptor {number}"),
                &error.into(),
            )
            .hint(format!(
                "open it in the shell: keyctl-ns … --fd {number} {number}<FILE"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_end_is_cut_off_at_the_limit() {
        let error = limited(io::repeat(b'x'), "standard input", MAX_PAYLOAD).unwrap_err();
        assert!(error.cause.unwrap().contains("1048575"));
    }

    #[test]
    fn the_largest_payload_is_taken_whole() {
        let payload = limited(
            io::repeat(b'x').take(MAX_PAYLOAD as u64),
            "a test",
            MAX_PAYLOAD,
        )
        .unwrap();
        assert_eq!(payload.len(), MAX_PAYLOAD);
    }

    #[test]
    fn a_line_ends_before_its_newline() {
        let payload = limited(Line(&b"secret\nrest"[..]), "a test", 100).unwrap();
        assert_eq!(payload.as_slice(), b"secret");
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_named() {
        let error = duplicate(0x7fff_fff0).unwrap_err();
        assert!(error.message.contains("descriptor 2147483632"), "{error}");
    }
}

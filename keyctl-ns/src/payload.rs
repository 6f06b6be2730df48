//! Where payloads come from: standard input, a file, an open descriptor. Never the command line,
//! which every process of the machine can read.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Args;
use keyns::text::Escaped;
use keyns_sys::key::MAX_PAYLOAD;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use zeroize::Zeroizing;

use crate::error::CommandError;
use crate::terminal;
use crate::ui::Ui;

/// Options that say where a payload comes from.
#[derive(Debug, Clone, Args)]
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
}

impl PayloadArgs {
    /// Reads the payload, all of it, exactly as it is.
    ///
    /// # Errors
    /// When the source cannot be read, or holds more than the 1,048,575 bytes a key can.
    pub fn read(&self, ui: &Ui) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        if let Some(path) = &self.file {
            return from_file(path);
        }
        match self.fd {
            Some(number) => limited(
                File::from(duplicate(number)?),
                &format!("descriptor {number}"),
            ),
            None => standard_input(ui),
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
    use std::os::unix::ffi::OsStrExt as _;
    let name = format!("“{}”", Escaped::new(path.as_os_str().as_bytes()).cut(200));
    let file = File::open(path).map_err(|error| {
        CommandError::io(format!("cannot read the payload from {name}"), &error)
    })?;
    limited(file, &name)
}

/// Reads a payload from standard input: to its end, or one line without echo from a terminal.
///
/// # Errors
/// As [`PayloadArgs::read`].
pub fn standard_input(ui: &Ui) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let stdin = io::stdin();
    // The library's own handle would keep a copy of the secret in its buffer.
    let unbuffered = rustix::stdio::stdin()
        .try_clone_to_owned()
        .map(File::from)
        .map_err(|error| CommandError::io("cannot read the payload from standard input", &error))?;
    if !stdin.is_terminal() {
        return limited(unbuffered, "standard input");
    }
    ui.note("type the payload and press Enter; it is not shown (control characters need a file)");
    let _hidden = terminal::Restorer::hide_echo()
        .map_err(|error| CommandError::io("cannot switch off the echo of the terminal", &error))?;
    limited(Line(unbuffered), "the terminal")
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

/// Reads to the end, or to one byte more than a key can hold.
fn limited(source: impl Read, name: &str) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    // Never grows, so no copy of a part of the secret is left behind in freed memory.
    let mut payload = Zeroizing::new(Vec::with_capacity(MAX_PAYLOAD + 1));
    let limit = MAX_PAYLOAD as u64 + 1;
    source
        .take(limit)
        .read_to_end(&mut payload)
        .map_err(|error| {
            CommandError::io(format!("cannot read the payload from {name}"), &error)
        })?;
    if payload.len() > MAX_PAYLOAD {
        return Err(
            CommandError::failure(format!("cannot take the payload from {name}"))
                .cause(format!(
                    "it is longer than {MAX_PAYLOAD} bytes, the most any key can hold"
                ))
                .hint("keep large data in a file and put the key that encrypts it here"),
        );
    }
    Ok(payload)
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
        let error = limited(io::repeat(b'x'), "standard input").unwrap_err();
        assert!(error.cause.unwrap().contains("1048575"));
    }

    #[test]
    fn the_largest_payload_is_taken_whole() {
        let payload = limited(io::repeat(b'x').take(MAX_PAYLOAD as u64), "a test").unwrap();
        assert_eq!(payload.len(), MAX_PAYLOAD);
    }

    #[test]
    fn a_line_ends_before_its_newline() {
        let payload = limited(Line(&b"secret\nrest"[..]), "a test").unwrap();
        assert_eq!(payload.as_slice(), b"secret");
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_named() {
        let error = duplicate(0x7fff_fff0).unwrap_err();
        assert!(error.message.contains("descriptor 2147483632"), "{error}");
    }
}

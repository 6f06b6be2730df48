//! Output: data to standard output, talk to standard error, each either for people or as JSON.
//!
//! A command hands over one serialisable value and how to show it to a person; which of the two is
//! printed is decided here. Everything printed for people passes through writers that drop colours
//! when they are not wanted.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use anstream::{AutoStream, ColorChoice};
use keyns::text::Escaped;
use serde::Serialize;

use crate::aside::Aside;
use crate::error::{CommandError, ErrorKind};
use crate::style;

/// Version of the JSON shapes. It grows when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

/// RFC 7464: each record of a JSON text sequence begins with this byte.
const RECORD_SEPARATOR: u8 = 0x1e;

/// How much of a long result is written at a time.
const STREAM_BUFFER: usize = 64 * 1024;

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<Color> for ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

/// Where a command talks to.
pub struct Ui {
    json: bool,
    quiet: bool,
    color: Color,
    aside: OnceLock<Aside>,
}

#[derive(Serialize)]
struct Versioned<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

#[derive(Serialize)]
struct Failure<'a> {
    error: FailureBody<'a>,
}

#[derive(Serialize)]
struct FailureBody<'a> {
    kind: ErrorKind,
    exit_code: u8,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<keyns_interfaces::ErrorKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<i32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    rights: &'a [String],
}

impl Ui {
    /// Output as the global options ask for.
    #[must_use]
    pub fn new(json: bool, quiet: bool, color: Color) -> Self {
        Self {
            json,
            quiet,
            color,
            aside: OnceLock::new(),
        }
    }

    /// The same output for what must not wait for its reader.
    pub fn aside(&self) -> &Aside {
        let ui = || Self::new(self.json, self.quiet, self.color);
        self.aside.get_or_init(|| Aside::start(ui()))
    }

    /// Whether output is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether standard output is a terminal, where secrets are not shown unasked.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Prints the result of a command.
    ///
    /// # Errors
    /// [`CommandError::output`].
    pub fn print<T: Serialize>(
        &self,
        value: &T,
        human: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        if self.json {
            let body = Versioned {
                schema_version: SCHEMA_VERSION,
                body: value,
            };
            let mut bytes = if self.is_terminal() {
                serde_json::to_vec_pretty(&body)
            } else {
                serde_json::to_vec(&body)
            }
            .map_err(|error| unserialisable(&error))?;
            bytes.push(b'\n');
            return write_raw(&bytes);
        }
        let mut buffer = Vec::new();
        human(&mut buffer, value).map_err(|error| CommandError::output(&error))?;
        let mut out = AutoStream::new(io::stdout().lock(), self.choice(&io::stdout()));
        out.write_all(&buffer)
            .and_then(|()| out.flush())
            .map_err(|error| CommandError::output(&error))
    }

    /// Prints one element of an endless result: with `--json` a record of a JSON text sequence.
    ///
    /// # Errors
    /// [`CommandError::output`].
    pub fn record<T: Serialize>(
        &self,
        value: &T,
        human: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        if !self.json {
            return self.print(value, human);
        }
        let mut bytes = vec![RECORD_SEPARATOR];
        serde_json::to_writer(
            &mut bytes,
            &Versioned {
                schema_version: SCHEMA_VERSION,
                body: value,
            },
        )
        .map_err(|error| unserialisable(&error))?;
        bytes.push(b'\n');
        write_raw(&bytes)
    }

    /// Whether what is printed for people has colours.
    #[must_use]
    pub fn is_coloured(&self) -> bool {
        !self.json && self.choice(&io::stdout()) != ColorChoice::Never
    }

    /// Prints a result that may be too long to be held in memory, as it comes. Nothing takes colours
    /// out again: see [`Self::is_coloured`].
    ///
    /// # Errors
    /// Those of `write`, of which a failure to print is a [`CommandError::output`].
    pub fn stream(
        &self,
        write: impl FnOnce(&mut dyn Write) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let mut out = io::BufWriter::with_capacity(STREAM_BUFFER, io::stdout().lock());
        write(&mut out)?;
        out.flush().map_err(|error| CommandError::output(&error))
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// [`CommandError::output`].
    pub fn raw(&self, bytes: &[u8]) -> Result<(), CommandError> {
        write_raw(bytes)
    }

    /// Says something that is not part of the result. Nothing with `--quiet`.
    ///
    /// A failure to say it is ignored: the command itself did not fail.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let style = style::NOTE;
            let mut err = self.stderr();
            let _ = writeln!(err, "{style}note:{style:#} {}", Lines(text));
        }
    }

    /// Like [`Self::note`] for what must be read; also with `--quiet`.
    pub fn warn(&self, text: &str) {
        let style = style::WARNING;
        let mut err = self.stderr();
        let _ = writeln!(err, "{style}warning:{style:#} {}", Lines(text));
    }

    /// Shows why the command failed. A failure to show it is ignored: nobody is left to tell.
    pub fn error(&self, error: &CommandError) {
        if error.kind == ErrorKind::BrokenPipe {
            return;
        }
        let mut err = self.stderr();
        if self.json {
            let body = Failure {
                error: FailureBody {
                    kind: error.kind,
                    exit_code: error.kind.exit_code(),
                    message: &error.message,
                    cause: error.cause.as_deref(),
                    hint: error.hint.as_deref(),
                    refusal: error.refusal,
                    errno: error.errno,
                    rights: &error.rights,
                },
            };
            let body = Versioned {
                schema_version: SCHEMA_VERSION,
                body: &body,
            };
            if let Ok(text) = serde_json::to_string(&body) {
                let _ = writeln!(err, "{text}");
            }
            return;
        }
        let (bad, hint) = (style::ERROR, style::HINT);
        let _ = writeln!(err, "{bad}error:{bad:#} {}", Lines(&error.message));
        if let Some(text) = &error.cause {
            let _ = writeln!(err, "  {bad}cause:{bad:#} {}", Lines(text));
        }
        if let Some(text) = &error.hint {
            let _ = writeln!(err, "  {hint}hint:{hint:#} {}", Lines(text));
        }
    }

    fn stderr(&self) -> AutoStream<io::Stderr> {
        AutoStream::new(io::stderr(), self.choice(&io::stderr()))
    }

    fn choice<S: anstream::stream::RawStream>(&self, stream: &S) -> ColorChoice {
        match self.color.into() {
            ColorChoice::Auto => AutoStream::choice(stream),
            choice => choice,
        }
    }
}

/// A sentence of our own or of the daemon, made safe for a terminal.
///
/// Only what the text itself contains is escaped; backslashes stay single, because names inside the
/// sentence were escaped when it was composed and must not be escaped twice.
struct Lines<'a>(&'a str);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.0.split('\\').enumerate() {
            if index > 0 {
                f.write_str("\\")?;
            }
            write!(f, "{}", Escaped::new(part))?;
        }
        Ok(())
    }
}

fn write_raw(bytes: &[u8]) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::output(&error))
}

fn unserialisable(error: &serde_json::Error) -> CommandError {
    CommandError::failure("cannot write the result as JSON").cause(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn a_sentence_with_an_escaped_name_is_not_escaped_again() {
        assert_eq!(Lines("key “a\\x1b”").to_string(), "key “a\\x1b”");
    }

    #[test]
    fn a_sentence_with_control_characters_cannot_act_on_the_terminal() {
        assert_eq!(Lines("a\x1b[2J\nb").to_string(), "a\\x1b[2J\\nb");
    }
}

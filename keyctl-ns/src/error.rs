//! The one error of every command, and the only place where errors become exit codes.
//!
//! An error says what failed on which object, why, and what to type next. Texts that come from
//! elsewhere (the kernel's descriptions, the daemon's messages) are escaped before they get here or
//! when they are shown, so that printing an error is always safe for a terminal.

use std::io;

use keyns_interfaces::ErrorKind as Refusal;
use serde::Serialize;

/// What kind of failure it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The reader of our output went away; success.
    BrokenPipe,
    /// Anything without a code of its own.
    Failure,
    /// The command line does not make sense.
    Usage,
    /// The caller may not do this.
    Denied,
    /// There is no such key, container, upcall, rule, agent or process.
    NotFound,
    /// A key quota is used up.
    Quota,
    /// The daemon cannot be reached.
    Unreachable,
    /// Not finished in time.
    TimedOut,
    /// This kernel cannot enforce it exactly as asked.
    NotEnforceable,
}

impl ErrorKind {
    /// The exit code of the process.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NotFound => 4,
            Self::Quota => 5,
            Self::Unreachable => 6,
            Self::TimedOut => 7,
            Self::NotEnforceable => 8,
        }
    }
}

impl From<Refusal> for ErrorKind {
    fn from(kind: Refusal) -> Self {
        match kind {
            Refusal::NoSuchContainer
            | Refusal::NoSuchKey
            | Refusal::NoSuchUpcall
            | Refusal::NoSuchRule
            | Refusal::NoSuchAgent
            | Refusal::NoSuchProcess => Self::NotFound,
            Refusal::NotPermitted | Refusal::NotLendable | Refusal::NotCopyable => Self::Denied,
            Refusal::ImpliedRights | Refusal::NotEnforceable => Self::NotEnforceable,
            Refusal::QuotaExceeded => Self::Quota,
            Refusal::TimedOut => Self::TimedOut,
            Refusal::InvalidArgument
            | Refusal::AlreadyExists
            | Refusal::WrongState
            | Refusal::LimitReached
            | Refusal::TooLarge
            | Refusal::Unsupported
            | Refusal::System => Self::Failure,
        }
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// Decides the exit code.
    pub kind: ErrorKind,
    /// What failed, on which object.
    pub message: String,
    /// Why.
    pub cause: Option<String>,
    /// What to type next.
    pub hint: Option<String>,
    /// The daemon's name for the failure, e.g. `ImpliedRights`.
    pub refusal: Option<Refusal>,
    /// The Linux errno behind it.
    pub errno: Option<i32>,
    /// The rights concerned, by name.
    pub rights: Vec<String>,
}

impl CommandError {
    /// An error with a message alone.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
            hint: None,
            refusal: None,
            errno: None,
            rights: Vec::new(),
        }
    }

    /// The command line does not make sense.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Anything without a kind of its own.
    #[must_use]
    pub fn failure(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failure, message)
    }

    /// A failed operation on something that is not a key: a file, a descriptor, a terminal.
    #[must_use]
    pub fn io(doing: impl Into<String>, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            _ => ErrorKind::Failure,
        };
        let mut new = Self::new(kind, doing).cause(plain(error));
        new.errno = error.raw_os_error();
        new
    }

    /// A failed write to our own output.
    #[must_use]
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(ErrorKind::BrokenPipe, "the reader of the output went away");
        }
        Self::io("cannot write the output", error)
    }

    /// Adds why.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds what to type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what to type next, unless something more precise is said already.
    #[must_use]
    pub fn or_hint(self, hint: impl Into<String>) -> Self {
        if self.hint.is_some() {
            self
        } else {
            self.hint(hint)
        }
    }
}

impl From<keyns_interfaces::Error> for CommandError {
    fn from(error: keyns_interfaces::Error) -> Self {
        Self {
            kind: error.kind.into(),
            message: without_number(&error.message),
            // Never a bare errno: the sentence before it says the same.
            cause: error.cause.map(|cause| without_number(&cause)),
            hint: error.hint,
            refusal: Some(error.kind),
            errno: error.errno,
            rights: error.rights,
        }
    }
}

/// The error's sentence.
fn plain(error: &io::Error) -> String {
    without_number(&error.to_string())
}

/// A sentence without Rust's “(os error N)” at its end.
fn without_number(text: &str) -> String {
    match text.rsplit_once(" (os error ") {
        Some((sentence, number)) if number.ends_with(')') => sentence.to_owned(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_daemon_has_an_exit_code_that_is_not_success() {
        for kind in Refusal::ALL {
            assert_ne!(ErrorKind::from(kind).exit_code(), 0, "{kind}");
        }
    }

    #[test]
    fn rights_that_need_an_acknowledgement_are_code_8_and_quota_is_code_5() {
        assert_eq!(ErrorKind::from(Refusal::ImpliedRights).exit_code(), 8);
        assert_eq!(ErrorKind::from(Refusal::NotEnforceable).exit_code(), 8);
        assert_eq!(ErrorKind::from(Refusal::QuotaExceeded).exit_code(), 5);
    }

    #[test]
    fn a_broken_pipe_is_success() {
        let error = CommandError::output(&io::Error::from_raw_os_error(32));
        assert_eq!(error.kind.exit_code(), 0);
    }

    #[test]
    fn an_operating_system_error_is_a_sentence_without_its_number() {
        let error = CommandError::io("cannot open “x”", &io::Error::from_raw_os_error(2));
        assert_eq!(error.cause.as_deref(), Some("No such file or directory"));
    }
}

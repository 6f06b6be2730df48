//! The one error shape of all interfaces.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure an [`Error`] is; its name is the last part of the varlink error id, e.g.
/// `org.keyns.Keys.ImpliedRights`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// A parameter is malformed or out of range.
    InvalidArgument,
    /// No living container has this name or id.
    NoSuchContainer,
    /// No such key, or it died meanwhile.
    NoSuchKey,
    /// No pending upcall has this id (answered, timed out, or never there).
    NoSuchUpcall,
    /// No interception rule matches.
    NoSuchRule,
    /// The agent token is unknown or its connection is gone.
    NoSuchAgent,
    /// No process with this id was started in the container.
    NoSuchProcess,
    /// A living sibling has the name, or a key of this type and description is there.
    AlreadyExists,
    /// The caller may not do this.
    NotPermitted,
    /// The kernel cannot give the rights without further ones; `rights` lists those.
    ImpliedRights,
    /// The kernel cannot give the rights at all; only a daemon could mediate; `rights` lists those.
    NotEnforceable,
    /// The key cannot be lent to the daemon (no LINK right).
    NotLendable,
    /// The key's payload cannot be read, so no copy can be made.
    NotCopyable,
    /// A key quota is used up.
    QuotaExceeded,
    /// The object is in a state that does not allow this.
    WrongState,
    /// A limit of the daemon is reached.
    LimitReached,
    /// Larger than the type or the protocol allows.
    TooLarge,
    /// Not finished in time.
    TimedOut,
    /// This kernel or engine does not have what is needed.
    Unsupported,
    /// A system call failed; `errno` says how.
    System,
}

impl ErrorKind {
    /// All kinds, as the IDL files list them.
    pub const ALL: [Self; 20] = [
        Self::InvalidArgument,
        Self::NoSuchContainer,
        Self::NoSuchKey,
        Self::NoSuchUpcall,
        Self::NoSuchRule,
        Self::NoSuchAgent,
        Self::NoSuchProcess,
        Self::AlreadyExists,
        Self::NotPermitted,
        Self::ImpliedRights,
        Self::NotEnforceable,
        Self::NotLendable,
        Self::NotCopyable,
        Self::QuotaExceeded,
        Self::WrongState,
        Self::LimitReached,
        Self::TooLarge,
        Self::TimedOut,
        Self::Unsupported,
        Self::System,
    ];
}

impl ErrorKind {
    /// The kind of this name, as it stands at the end of a varlink error id.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_string() == name)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A refusal or failure: what failed on which object, why, and what to type next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// The varlink error id carries it; absent from the parameters.
    #[serde(skip, default = "unknown_kind")]
    pub kind: ErrorKind,
    /// What failed, on which object: `cannot grant search on key 7 to container “web”`.
    pub message: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to type next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The Linux errno behind it, if a system call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The rights concerned (`ImpliedRights`, `NotEnforceable`), by name.
    #[serde(default)]
    pub rights: Vec<String>,
}

fn unknown_kind() -> ErrorKind {
    ErrorKind::System
}

impl Error {
    /// An error of `kind` with only a message.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
            hint: None,
            errno: None,
            rights: Vec::new(),
        }
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

    /// Adds the errno of the system call that failed.
    #[must_use]
    pub fn errno(mut self, errno: i32) -> Self {
        self.errno = Some(errno);
        self
    }

    /// Adds the rights concerned.
    #[must_use]
    pub fn rights(mut self, rights: Vec<String>) -> Self {
        self.rights = rights;
        self
    }
}

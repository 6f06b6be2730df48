//! Why a key operation failed.

use std::io;

use keyns_sys::KeySerial;
use rustix::io::Errno;

use crate::engine::error::EngineError;

/// A key operation that failed. No variant ever carries a payload.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key is not (or no longer) where the daemon holds it.
    #[error("key {serial} is gone: {why}")]
    Gone {
        /// Its serial.
        serial: KeySerial,
        /// What became of it.
        why: &'static str,
    },
    /// The container has no keyrings here.
    #[error("container {0} has no keyrings")]
    NoContainer(u64),
    /// A key of this type and description is there already.
    #[error("a key of this type and description is there already")]
    Exists,
    /// The daemon cannot get hold of the caller's key.
    #[error("key {serial} cannot be lent: {why}")]
    NotLendable {
        /// Its serial.
        serial: KeySerial,
        /// What is missing.
        why: String,
    },
    /// No copy of the key can be made.
    #[error("no copy of the key can be made: {0}")]
    NotCopyable(String),
    /// The key quota of a uid is used up.
    #[error("{}", quota_text(*.uid, .usage.as_deref()))]
    Quota {
        /// The kernel uid whose quota it is.
        uid: u32,
        /// Its line of `/proc/key-users` in words.
        usage: Option<String>,
    },
    /// The deadline of a copy has passed already.
    #[error("its time has run out already")]
    Expired,
    /// Anything else.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<KeyError> for EngineError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Engine(error) => error,
            KeyError::Quota { .. } => Self::Quota(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

fn quota_text(uid: u32, usage: Option<&str>) -> String {
    match usage {
        Some(usage) => format!("key quota of uid {uid} is used up: {usage}"),
        None => format!("key quota of uid {uid} is used up"),
    }
}

impl KeyError {
    /// For `map_err`: names the operation whose error it gets, completing "cannot …".
    pub(super) fn of<E: Into<io::Error>>(operation: impl Into<String>) -> impl FnOnce(E) -> Self {
        let operation = operation.into();
        move |error| Self::Engine(EngineError::system(operation)(error.into()))
    }

    /// Same for an operation on one key: a dead key becomes [`KeyError::Gone`].
    pub(super) fn on(
        serial: KeySerial,
        operation: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |error| match death(&error) {
            Some(why) => Self::Gone { serial, why },
            None => Self::Engine(EngineError::system(operation)(error)),
        }
    }

    /// Same for an operation that charges `uid`: a full quota becomes [`KeyError::Quota`].
    pub(super) fn charging(
        uid: u32,
        operation: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |error| {
            if Errno::from_io_error(&error) == Some(Errno::DQUOT) {
                Self::Quota {
                    uid,
                    usage: super::facts::quota_usage(uid),
                }
            } else {
                Self::Engine(EngineError::system(operation)(error))
            }
        }
    }

    /// The errno behind it, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Engine(error) => error.errno(),
            Self::Quota { .. } => Some(Errno::DQUOT.raw_os_error()),
            _ => None,
        }
    }
}

/// What an errno says about a dead key.
pub(super) fn death(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error)? {
        Errno::NOKEY => Some("it was invalidated or collected"),
        Errno::KEYREVOKED => Some("it was revoked"),
        Errno::KEYEXPIRED => Some("it has expired"),
        Errno::KEYREJECTED => Some("it is negative"),
        _ => None,
    }
}

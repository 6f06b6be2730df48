//! Why an engine could not do something.

use std::io;

use crate::name::ContainerPath;

/// A failed engine operation: what was tried, on what, and what the kernel said.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A system call failed.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried, as the rest of a sentence beginning with "cannot".
        operation: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The key quota of a uid is used up.
    #[error("{0}")]
    Quota(String),
    /// The request cannot be met on this kernel or with these parameters.
    #[error("{0}")]
    Refused(String),
    /// The container must have its first process before this can be done.
    #[error("container “{0}” has no process yet")]
    NotStarted(ContainerPath),
    /// A helper process broke off or answered nonsense.
    #[error("the helper that should {operation} failed: {reason}")]
    Helper {
        /// What it should do.
        operation: String,
        /// What went wrong.
        reason: String,
    },
}

impl EngineError {
    /// Wraps a system call's error; `operation` completes "cannot …".
    pub fn system(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::System { operation, source }
    }

    /// The errno behind it, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { source, .. } => source.raw_os_error(),
            Self::Quota(_) => Some(rustix::io::Errno::DQUOT.raw_os_error()),
            Self::Refused(_) | Self::NotStarted(_) | Self::Helper { .. } => None,
        }
    }
}

//! How a helper process reports that a step failed.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::error::EngineError;

/// A step of a helper that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was tried, completing "cannot …".
    pub operation: String,
    /// The errno; 0 if no system call failed.
    pub errno: i32,
}

impl Failure {
    /// For `map_err`: names the operation whose error it gets.
    pub fn of<E: Into<io::Error>>(operation: impl Into<String>) -> impl FnOnce(E) -> Self {
        let operation = operation.into();
        move |error| {
            let error = error.into();
            match error.raw_os_error() {
                Some(errno) => Self { operation, errno },
                None => Self {
                    operation: format!("{operation} ({error})"),
                    errno: 0,
                },
            }
        }
    }

    /// A failure that is no system call's.
    pub fn because(operation: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            errno: 0,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if self.errno != 0 {
            write!(f, ": {}", io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl From<Failure> for EngineError {
    fn from(failure: Failure) -> Self {
        if failure.errno == 0 {
            Self::Refused(failure.to_string())
        } else {
            Self::System {
                operation: failure.operation,
                source: io::Error::from_raw_os_error(failure.errno),
            }
        }
    }
}

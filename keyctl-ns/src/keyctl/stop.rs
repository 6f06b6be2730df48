//! Why a command ends before its end.

use std::io;

/// The end of a command, with what standard error is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The usage text; status 2.
    Usage,
    /// The usage text of `--test`; status 2.
    TestUsage,
    /// One line, here without its line break.
    Said(Vec<u8>, i32),
    /// `label: text of the errno`; status 1.
    Failed(Vec<u8>, i32),
}

impl Stop {
    /// One line and the status.
    pub(crate) fn said(line: impl Into<Vec<u8>>, status: i32) -> Self {
        Self::Said(line.into(), status)
    }

    /// `what: '‹argument›'`, for an argument that cannot be parsed; status 2.
    pub(crate) fn unparsable(what: &str, argument: &[u8]) -> Self {
        Self::said([what.as_bytes(), b": '", argument, b"'"].concat(), 2)
    }
}

/// For `map_err`: the call that `label` stands for failed.
pub(crate) fn failed(label: &str) -> impl FnOnce(io::Error) -> Stop + '_ {
    move |error| Stop::Failed(label.as_bytes().to_vec(), errno(&error))
}

/// The number of an error of a system call.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

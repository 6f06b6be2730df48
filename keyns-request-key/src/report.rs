//! What is told to whom: errors to the system's log, everything to standard error for `-v`.

use std::io::Write as _;

use crate::syslog::{self, Level};

/// Where messages go.
pub(crate) struct Report {
    verbose: usize,
    logged: bool,
}

impl Report {
    pub(crate) const fn new(verbose: usize, logged: bool) -> Self {
        Self { verbose, logged }
    }

    /// Whether [`debug`](Self::debug) says anything, for messages that take some making.
    pub(crate) const fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    /// Whether every single comparison is told.
    pub(crate) const fn is_very_verbose(&self) -> bool {
        self.verbose > 1
    }

    pub(crate) fn error(&self, message: &[u8]) {
        if self.is_verbose() {
            show(message);
        }
        if self.logged {
            syslog::send(Level::Error, message);
        }
    }

    /// Tells the pieces of a message in one line.
    pub(crate) fn debug(&self, pieces: &[&[u8]]) {
        if !self.is_verbose() {
            return;
        }
        let message = pieces.concat();
        show(&message);
        if self.logged {
            syslog::send(Level::Debug, &message);
        }
    }
}

fn show(message: &[u8]) {
    let line = [message, b"\n"].concat();
    // There is nobody else to tell.
    let _ = std::io::stderr().write_all(&line);
}

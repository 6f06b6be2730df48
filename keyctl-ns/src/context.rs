//! What every command is given.

use std::path::PathBuf;

use crate::cli::GlobalArgs;
use crate::daemon::Daemon;
use crate::error::CommandError;
use crate::ui::Ui;

/// Output, and the way to the daemon.
pub struct Context {
    /// Output.
    pub ui: Ui,
    socket: Option<PathBuf>,
    instance: String,
}

impl Context {
    /// As the global options ask for.
    #[must_use]
    pub fn new(global: GlobalArgs) -> Self {
        Self {
            ui: Ui::new(global.json, global.quiet, global.color),
            socket: global.socket,
            instance: global.instance,
        }
    }

    /// Connects to the daemon.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`](crate::error::ErrorKind::Unreachable) with the socket tried.
    pub fn daemon(&self) -> Result<Daemon, CommandError> {
        Daemon::connect(&self.addresses())
    }

    /// The sockets to try, in this order. A socket given by name is the only one.
    #[must_use]
    pub fn addresses(&self) -> Vec<PathBuf> {
        if let Some(socket) = &self.socket {
            return vec![socket.clone()];
        }
        let run = PathBuf::from("/run/keyns").join(&self.instance);
        let mut addresses = vec![run.join("keynsd")];
        // Kept for the administrator, so that clients that fill the other one cannot lock root out.
        if rustix::process::geteuid().is_root() {
            addresses.push(run.join("admin"));
        }
        addresses
    }
}

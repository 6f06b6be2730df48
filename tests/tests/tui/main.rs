//! The dashboard in real terminals: that it gives them back however it ends, takes whatever they
//! send, and draws on whatever they are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod daemons;
mod exits;
mod places;
mod story;
mod typed;

use std::process::Command;

use keyns_tests::terminal::Terminal;
use keyns_tests::{bin_dir, unique};

/// The dashboard without a daemon, a configuration, or anything of the environment that it minds.
fn dashboard(arguments: &[&str]) -> Command {
    let mut command = Command::new(bin_dir().join("keyns-tui"));
    command.args(arguments);
    if !arguments
        .iter()
        .any(|it| matches!(*it, "--instance" | "--socket"))
    {
        command.args(["--instance", &unique("nobody")]);
    }
    plain(&mut command);
    command
}

/// An environment that is the same on every machine.
fn plain(command: &mut Command) {
    for name in ["KEYNS_SOCKET", "NO_COLOR", "LC_ALL", "LC_CTYPE", "HOME"] {
        command.env_remove(name);
    }
    command
        .env("TERM", "xterm-256color")
        .env("LANG", "C.UTF-8")
        .env("XDG_CONFIG_HOME", "/nonexistent");
}

/// The dashboard as far as it shows the keys of its own session.
fn started(arguments: &[&str]) -> Terminal {
    let terminal = Terminal::start(&dashboard(arguments), 80, 24);
    terminal.shows("@s");
    assert!(terminal.is_taken(), "{:?}", terminal.modes());
    terminal
}

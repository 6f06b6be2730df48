//! The command line.

use std::path::PathBuf;

use clap::Parser;
use keyctl_ns::cli::GlobalArgs;
use keyctl_ns::ui::Color;
use keyns::name::ContainerPath;

use crate::theme;

/// Keys, containers and upcalls on one screen
///
/// Shows your keyrings, and through keynsd every container with its keys, grants and requests.
/// Without a daemon it shows your own keys alone. Press ? for what the keys do.
#[derive(Debug, Parser)]
#[command(
    name = "keyns-tui",
    bin_name = "keyns-tui",
    version,
    styles = keyctl_ns::style::help(),
    max_term_width = 100
)]
pub struct Cli {
    /// Colours: terminal, high-contrast, colour-blind, mono (also set by NO_COLOR)
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true)]
    pub theme: Option<theme::Name>,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub no_mouse: bool,
    /// Draw with ASCII characters alone, as in locales without UTF-8
    #[arg(long)]
    pub ascii: bool,
    /// Refuse everything that changes something
    #[arg(long)]
    pub read_only: bool,
    /// Configuration file, instead of keyns/tui.toml in $XDG_CONFIG_HOME or ~/.config
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket of the daemon, instead of the one of --instance
    #[arg(
        long,
        value_name = "PATH",
        env = "KEYNS_SOCKET",
        hide_env_values = true
    )]
    pub socket: Option<PathBuf>,
    /// Instance of the daemon; its socket is /run/keyns/NAME/keynsd
    #[arg(long, value_name = "NAME", default_value = "main", value_parser = keyctl_ns::args::instance)]
    pub instance: String,
    /// What the program starts itself with for a shell in a container, which needs a process of its
    /// own: whatever reads the terminal for it ends with it.
    #[arg(long, value_name = "CONTAINER", hide = true, value_parser = keyctl_ns::args::container())]
    pub shell: Option<ContainerPath>,
}

impl Cli {
    /// The way to the daemon as the command line of `keyctl-ns` has it.
    #[must_use]
    pub fn global(&self) -> GlobalArgs {
        GlobalArgs {
            json: false,
            quiet: true,
            color: Color::default(),
            socket: self.socket.clone(),
            instance: self.instance.clone(),
        }
    }
}

//! The programs whose command lines are described by clap.

use clap::{Command, CommandFactory as _};
use keyctl_ns::cli::Cli;

/// The command line of `keyctl-ns`.
#[must_use]
pub fn keyctl_ns() -> Command {
    Cli::command()
}

/// The command line of `keynsd`.
#[must_use]
pub fn keynsd() -> Command {
    keynsd::cli::command().bin_name("keynsd")
}

/// The command line of `keyns-tui`.
#[must_use]
pub fn keyns_tui() -> Command {
    keyns_tui::cli::Cli::command()
}

/// Every program by its name, with its manual page.
#[must_use]
pub fn all() -> Vec<(&'static str, &'static str, Command)> {
    vec![
        ("keyctl-ns", "keyctl-ns.1", keyctl_ns()),
        ("keyns-tui", "keyns-tui.1", keyns_tui()),
        ("keynsd", "keynsd.8", keynsd()),
    ]
}

/// A command that does something, as it is typed.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its name with those of the commands around it, without the program's.
    pub words: Vec<String>,
    /// Its definition, without the options of every command.
    pub command: Command,
}

/// The commands of a program that do something, in the order of its help text. A command with
/// further ones in it counts if it can stand alone.
#[must_use]
pub fn leaves(program: &Command) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect(program, &[], &mut found);
    found
}

fn collect(command: &Command, words: &[String], found: &mut Vec<Leaf>) {
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        let words = [words, &[command.get_name().to_owned()]].concat();
        if !command.has_subcommands() || !command.is_subcommand_required_set() {
            found.push(Leaf {
                words: words.clone(),
                command: command.clone(),
            });
        }
        collect(command, &words, found);
    }
}

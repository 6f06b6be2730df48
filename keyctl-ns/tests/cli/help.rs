//! The help texts: there is one for everything, and it fits a terminal.

use clap::{Command, CommandFactory as _};
use keyctl_ns::cli::Cli;

fn each(command: &Command, check: &mut impl FnMut(&Command)) {
    check(command);
    for child in command.get_subcommands() {
        each(child, check);
    }
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_and_every_argument_is_explained() {
    let mut root = Cli::command();
    root.build();
    each(&root, &mut |command| {
        assert!(
            command.get_about().is_some(),
            "{} has no help",
            command.get_name()
        );
        for argument in command.get_arguments() {
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                !help.is_empty(),
                "{} {} has no help",
                command.get_name(),
                argument.get_id()
            );
            assert!(
                !help.ends_with('.'),
                "{} {}: {help}",
                command.get_name(),
                argument.get_id()
            );
        }
    });
}

#[test]
fn no_line_of_the_help_is_longer_than_100_columns() {
    let mut root = Cli::command();
    root.build();
    each(&root, &mut |command| {
        let text = command.clone().render_long_help().to_string();
        for line in text.lines() {
            assert!(
                line.chars().count() <= 100,
                "{}: {line}",
                command.get_name()
            );
        }
    });
}

#[test]
fn the_exit_codes_of_the_help_are_those_of_the_program() {
    use keyctl_ns::error::ErrorKind as Kind;
    let help = Cli::command().render_long_help().to_string();
    let documented = [
        (Kind::BrokenPipe, "done"),
        (Kind::Failure, "failed"),
        (Kind::Usage, "the command line is wrong"),
        (Kind::Denied, "denied"),
        (Kind::NotFound, "no such key"),
        (Kind::Quota, "a key quota is used up"),
        (Kind::Unreachable, "the daemon cannot be reached"),
        (Kind::TimedOut, "timed out"),
        (Kind::NotEnforceable, "this kernel cannot enforce"),
    ];
    for (kind, text) in documented {
        assert!(
            help.contains(&format!("\n  {}  {text}", kind.exit_code())),
            "{kind:?}"
        );
    }
}

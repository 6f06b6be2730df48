//! Which of its two personalities the program has, and the beginning of the greater one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use clap::Parser as _;
use clap::error::ErrorKind;
use keyns_sys::execute;
use keyns_sys::helper_process::{self, Arguments};

use crate::abbreviation;
use crate::cli::Cli;
use crate::command;
use crate::completion;
use crate::context::Context;
use crate::keyctl;
use crate::usage;

/// The entry point of the program.
///
/// The standard library's start-up is left out, because it changes what `keyctl` and the programs
/// it starts must find unchanged: which descriptors are open, and what becomes of `SIGPIPE`.
#[must_use]
pub fn start(arguments: Arguments) -> i32 {
    if keyctl::is_called(arguments) {
        return keyctl::run(arguments);
    }
    helper_process::fill_standard_descriptors();
    execute::ignore_broken_pipes();
    let words = (0..arguments.count()).filter_map(|at| arguments.get(at));
    run(words.map(|word| OsStr::from_bytes(word.to_bytes()).to_owned())).into()
}

/// Runs the command line `arguments` (the program's name first) and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(code) = completion::answer(&arguments) {
        return code;
    }
    let parsed = match Cli::try_parse_from(&arguments) {
        // Only then, so that a command that is written out costs nothing more.
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            if abbreviation::expand(&mut arguments) {
                Cli::try_parse_from(&arguments)
            } else {
                Err(error)
            }
        }
        parsed => parsed,
    };
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &arguments),
    };
    let context = Context::new(cli.global);
    match command::run(&context, cli.command) {
        Ok(code) => code,
        Err(error) => {
            context.ui.error(&error);
            error.kind.exit_code()
        }
    }
}

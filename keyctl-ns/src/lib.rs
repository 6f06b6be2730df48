//! The command line of keyns.
//!
//! One file per command under [`command`]: the doc comment of its arguments is its help text, and a
//! function beside them does the work. What a person owns already is reached by system calls of
//! this process, with its own possession and ids; everything about containers goes through the
//! daemon. Nothing is decided here that the kernel or the daemon decides: commands translate, call
//! and show.
//!
//! While a command line is being typed, [`completion`] says what may follow.
//!
//! [`error`] is the only place where a failure becomes an exit code, [`ui`] the only one that
//! prints.

pub mod args;
pub mod cli;
pub mod command;
pub mod completion;
pub mod context;
pub mod daemon;
pub mod error;
pub mod key;
pub mod payload;
pub mod proc_file;
pub mod style;
pub mod table;
pub mod terminal;
pub mod ui;
pub mod usage;
pub mod view;

use std::ffi::OsString;

use clap::Parser as _;

use crate::cli::Cli;
use crate::context::Context;

/// Runs the command line `arguments` (the program's name first) and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(code) = completion::answer(&arguments) {
        return code;
    }
    let cli = match Cli::try_parse_from(&arguments) {
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

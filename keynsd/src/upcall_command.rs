//! `keynsd upcall`: which program the kernel starts for requests.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Subcommand;
use keyns::takeover::{self, Means, Root, TakeOverError};

use crate::cli::programs;

const PROGRAM: &str = "keyns-upcall";

#[derive(Debug, Subcommand)]
pub(crate) enum UpcallCommand {
    /// Install keyns-upcall permanently as /sbin/request-key; the original is kept and executed for
    /// requests of the host
    Install {
        /// The program [default: keyns-upcall beside keynsd, else in ../libexec/keyns]
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
    },
    /// Put the original program back
    Uninstall,
    /// Show which program is in place and which one serves the host
    Status,
    /// Take over /sbin/request-key while a command runs, and give it back afterwards
    ///
    /// The original is covered by a bind mount; nothing is changed on disk. Several of these may
    /// run at once; the last one gives back. What an interrupted one left is undone by the next.
    With {
        /// The program [default: keyns-upcall beside keynsd, else in ../libexec/keyns]
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// The command and its arguments
        #[arg(required = true, last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Undo a take-over that an interrupted command left behind
    Recover,
}

/// Runs one of the commands.
pub(crate) fn run(command: &UpcallCommand) -> ExitCode {
    let root = Root::default();
    let program = |given: &Option<PathBuf>| {
        given
            .clone()
            .unwrap_or_else(|| programs(PROGRAM).join(PROGRAM))
    };
    let result = match command {
        UpcallCommand::Install { program: given } => {
            takeover::install(&root, &program(given)).and_then(|()| status(&root))
        }
        UpcallCommand::Uninstall => takeover::uninstall(&root).and_then(|()| status(&root)),
        UpcallCommand::Status => status(&root),
        UpcallCommand::Recover => takeover::recover(&root).map(|undone| {
            println!(
                "{}",
                if undone {
                    "undone"
                } else {
                    "nothing was left behind"
                }
            );
            ExitCode::SUCCESS
        }),
        UpcallCommand::With {
            program: given,
            command,
        } => with(&program(given), command),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: cannot change or show /sbin/request-key\n  cause: {error}");
        ExitCode::FAILURE
    })
}

fn with(program: &std::path::Path, command: &[OsString]) -> Result<ExitCode, TakeOverError> {
    let held = takeover::take_over(program)?;
    let code = match command.split_first() {
        None => ExitCode::SUCCESS,
        Some((name, arguments)) => match Command::new(name).args(arguments).status() {
            // A signal's number above 128, as shells have it.
            Ok(status) => {
                use std::os::unix::process::ExitStatusExt as _;
                let code = status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
                ExitCode::from(u8::try_from(code).unwrap_or(1))
            }
            Err(error) => {
                eprintln!(
                    "error: cannot run “{}”\n  cause: {error}",
                    name.to_string_lossy()
                );
                ExitCode::FAILURE
            }
        },
    };
    held.give_back()?;
    Ok(code)
}

fn status(root: &Root) -> Result<ExitCode, TakeOverError> {
    let status = takeover::status(root)?;
    println!("program    {}", status.program.display());
    let means = match status.means {
        Some(Means::Bind) => "keyns-upcall covers it by a bind mount",
        Some(Means::Placed) => "keyns-upcall was put there, as there was no program",
        Some(Means::Installed) => "keyns-upcall is installed",
        None => "not taken over by keyns",
    };
    println!("keyns      {means}");
    if status.means.is_some() && !status.effective {
        println!("           but something else is in place now");
    }
    if matches!(status.means, Some(Means::Bind | Means::Placed)) && !status.in_use {
        println!("           and nobody uses it: keynsd upcall recover");
    }
    match (&status.original, status.means) {
        (Some((path, digest)), _) => println!("original   {} ({digest})", path.display()),
        (None, Some(_)) => println!(
            "original   none: requests of the host are rejected with ENOKEY for 60 s, where a \
             kernel without a program gives ENOENT to the first"
        ),
        (None, None) => println!("original   none"),
    }
    Ok(ExitCode::SUCCESS)
}

//! `keynsd upcall`: which program the kernel starts for requests.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Subcommand, ValueEnum};
use keyns::takeover::{self, HostChoice, HostProgram, Means, Root, Status, TakeOverError};
use serde::Serialize;

use crate::cli::programs;

const PROGRAM: &str = "keyns-upcall";
const REQUEST_KEY: &str = "keyns-request-key";
/// Version of the JSON shape. It grows when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// Which program is to serve requests of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    /// The one that is there; keyns-request-key where there is none
    Original,
    /// keyns-request-key, also where there is another
    Keyns,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UpcallCommand {
    /// Install keyns-upcall permanently as /sbin/request-key; the original is kept and executed for
    /// requests of the host
    Install {
        /// The program [default: keyns-upcall beside keynsd, else in ../libexec/keyns]
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// Which program serves requests of the host [default: as it is; at first, original]
        #[arg(long, value_enum, value_name = "WHICH")]
        request_key: Option<Host>,
    },
    /// Put the original program back
    Uninstall,
    /// Show which program is in place and which one serves the host
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
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
        UpcallCommand::Install {
            program: given,
            request_key,
        } => install(&root, &program(given), *request_key).and_then(|()| status(&root, false)),
        UpcallCommand::Uninstall => takeover::uninstall(&root).and_then(|()| status(&root, false)),
        UpcallCommand::Status { json } => status(&root, *json),
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

/// A `keyns-request-key` that is not there is missed only where it was chosen.
fn install(
    root: &Root,
    program: &std::path::Path,
    host: Option<Host>,
) -> Result<(), TakeOverError> {
    let own = programs(REQUEST_KEY).join(REQUEST_KEY);
    let chosen = match host {
        Some(host) => host == Host::Keyns,
        None => takeover::is_own_chosen(root)?,
    };
    let choice = if chosen {
        HostChoice::Keyns(&own)
    } else {
        HostChoice::Original(own.exists().then_some(own.as_path()))
    };
    takeover::install(root, program, choice)
}

fn status(root: &Root, json: bool) -> Result<ExitCode, TakeOverError> {
    let status = takeover::status(root)?;
    if json {
        let text = serde_json::to_string(&StatusJson::from(&status));
        let failed = |error: serde_json::Error| TakeOverError::Command {
            command: "status --json".into(),
            output: error.to_string(),
        };
        println!("{}", text.map_err(failed)?);
    } else {
        show(&status);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(status: &Status) {
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
    match &status.original {
        Some((path, digest)) => println!("original   {} ({digest})", path.display()),
        None => println!("original   none"),
    }
    match (&status.host, status.means) {
        (Some((HostProgram::Original, path)), _) => {
            println!("host       served by the original, {}", path.display());
        }
        (Some((HostProgram::Keyns, path)), _) => {
            println!("host       served by keyns-request-key, {}", path.display());
        }
        (None, Some(_)) => println!(
            "host       served by none: its requests are rejected with ENOKEY for 60 s, where a \
             kernel without a program gives ENOENT to the first"
        ),
        (None, None) => println!("host       served by none"),
    }
}

#[derive(Serialize)]
struct StatusJson {
    schema_version: u32,
    /// The file that the kernel executes.
    program: String,
    /// By which means keyns is there; absent where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    means: Option<Means>,
    effective: bool,
    in_use: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Original>,
    /// What serves requests of the host; absent where nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Server>,
}

#[derive(Serialize)]
struct Original {
    path: String,
    digest: String,
}

#[derive(Serialize)]
struct Server {
    served_by: HostProgram,
    path: String,
}

impl From<&Status> for StatusJson {
    fn from(status: &Status) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        Self {
            schema_version: SCHEMA_VERSION,
            program: text(&status.program),
            means: status.means,
            effective: status.effective,
            in_use: status.in_use,
            original: status.original.as_ref().map(|(path, digest)| Original {
                path: text(path),
                digest: digest.to_string(),
            }),
            host: status.host.as_ref().map(|(served_by, path)| Server {
                served_by: *served_by,
                path: text(path),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_says_which_program_serves_the_host_and_where() {
        let mut status = Status {
            program: "/usr/sbin/request-key".into(),
            means: Some(Means::Installed),
            effective: true,
            original: None,
            host: Some((HostProgram::Keyns, "/sbin/request-key.keyns".into())),
            in_use: false,
        };
        let json = |status: &Status| serde_json::to_value(StatusJson::from(status)).unwrap();
        let shown = json(&status);
        assert_eq!(shown["schema_version"], 1);
        assert_eq!(shown["means"], "installed");
        assert_eq!(shown["host"]["served_by"], "keyns");
        assert_eq!(shown["host"]["path"], "/sbin/request-key.keyns");
        status.host = Some((
            HostProgram::Original,
            "/usr/sbin/request-key.distrib".into(),
        ));
        assert_eq!(json(&status)["host"]["served_by"], "original");
        status.host = None;
        assert_eq!(json(&status).get("host"), None);
    }
}

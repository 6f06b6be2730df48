//! `session` and `new_session`

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::Args;
use keyns::errno::KeyOp;
use keyns::serial::KeySerial;
use keyns::text::Escaped;
use keyns_sys::key as sys;

use crate::context::Context;
use crate::error::{CommandError, ErrorKind};
use crate::key::{self, KeyRef};

/// Run a program or a shell in a session keyring of its own
///
/// Without a name, or with -, the session keyring is a new one. With a name it is the keyring of that
/// name if there is one that you may search, otherwise a new one. What the program finds in its
/// session keyring ends with it.
///
/// A program stands after the name or -, with its own options. It takes the place of keyctl-ns, and
/// its exit code is what you see.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyctl-ns session
  keyctl-ns session - make test
  keyctl-ns session build make test")]
pub struct SessionArgs {
    /// Name of the session keyring; - for a new one without name
    pub name: Option<OsString>,
    /// The program and its arguments (default: $SHELL)
    #[arg(
        value_name = "PROGRAM",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub program: Vec<OsString>,
}

/// Give the calling process a new session keyring
///
/// The process that started keyctl-ns, as a rule the shell, gets it; it must be of the same user and
/// have one thread. Its former session keyring is left.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns new_session build")]
pub struct NewSessionArgs {
    /// Name of the session keyring; the keyring of that name if there is one
    pub name: Option<OsString>,
}

/// Joins the session keyring and becomes the program; returns only if that failed.
///
/// # Errors
/// What `KEYCTL_JOIN_SESSION_KEYRING` and execve(2) say.
pub fn run(context: &Context, args: &SessionArgs) -> Result<(), CommandError> {
    if context.ui.is_json() {
        return Err(CommandError::usage("cannot print JSON here")
            .cause("the output is that of the program")
            .hint("in the session: keyctl-ns describe @s --json"));
    }
    let name = args.name.as_deref().filter(|name| *name != "-");
    let serial = join(name)?;
    context.ui.note(&format!("joined session keyring {serial}"));
    let mut command = match args.program.split_first() {
        Some((program, rest)) => {
            let mut command = Command::new(program);
            command.args(rest);
            command
        }
        None => Command::new(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())),
    };
    let error = command.exec();
    let shown = Escaped::new(command.get_program().as_bytes())
        .cut(200)
        .to_string();
    let new = CommandError::io(format!("cannot run “{shown}”"), &error);
    Err(match error.kind() {
        io::ErrorKind::NotFound => new.hint("give its path, or look at $PATH"),
        _ => new,
    })
}

/// Joins a session keyring and gives it to the parent process.
///
/// # Errors
/// What `KEYCTL_JOIN_SESSION_KEYRING` and `KEYCTL_SESSION_TO_PARENT` say.
pub fn new_session(context: &Context, args: &NewSessionArgs) -> Result<(), CommandError> {
    let serial = join(args.name.as_deref())?;
    sys::session_to_parent().map_err(|error| {
        let what = "cannot give the session keyring to the calling process".to_owned();
        let new = key::failed(what, KeyOp::JoinSession, &error);
        match error.raw_os_error() {
            Some(1) => new
                .cause("it has several threads, other ids than you, or is PID 1")
                .hint("start a program in a session keyring instead: keyctl-ns session - PROGRAM"),
            _ => new,
        }
    })?;
    context
        .ui
        .print(&KeyRef::own(serial), |out, key| writeln!(out, "{key}"))
}

fn join(name: Option<&OsStr>) -> Result<KeySerial, CommandError> {
    let Some(name) = name else {
        return sys::join_session_keyring(None).map_err(|error| {
            let what = "cannot make a session keyring".to_owned();
            key::failed(what, KeyOp::JoinSession, &error)
        });
    };
    let what = || {
        let shown = Escaped::new(name.as_bytes()).cut(80).to_string();
        format!("cannot join session keyring “{shown}”")
    };
    let wrong = |cause: &str| CommandError::usage(what()).cause(cause);
    match name.len() {
        0 => return Err(wrong("the name is empty").hint("- stands for a new one without name")),
        1..=sys::MAX_DESCRIPTION => {}
        _ => return Err(wrong("a name has at most 4095 bytes")),
    }
    if name.as_bytes().starts_with(b".") {
        return Err(CommandError::new(ErrorKind::Denied, what())
            .cause("names that begin with a dot are the kernel's own"));
    }
    let name = CString::new(name.as_bytes()).map_err(|_| wrong("the name has a NUL byte"))?;
    sys::join_session_keyring(Some(&name))
        .map_err(|error| key::failed(what(), KeyOp::JoinSession, &error))
}

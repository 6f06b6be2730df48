//! `container run` and `container exec`

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::ByteText;

use super::process::{self, Program, Terminal};
use crate::args;
use crate::context::Context;
use crate::error::CommandError;

/// Start the first program of a container
///
/// When standard input and output are terminals the program gets a terminal of the container's own,
/// joined to yours; otherwise it gets your standard input, output and error. The command ends when
/// the program does, with its exit code, or 128 and the number of the signal that killed it.
///
/// The program's environment is PATH, HOME and, with a terminal, TERM, and what --env adds.
#[derive(Debug, Args)]
#[command(
    override_usage = "keyctl-ns container run [OPTIONS] <NAME> -- <CMD> [ARG]...
       keyctl-ns container run [OPTIONS] --program <FILE> <NAME> [-- <ARG0> [ARG]...]"
)]
pub struct RunArgs {
    /// What to start, and where.
    #[command(flatten)]
    pub start: StartArgs,
}

/// Arguments of `container exec`, documented where the command is declared.
#[derive(Debug, Args)]
#[command(
    override_usage = "keyctl-ns container exec [OPTIONS] <NAME> -- <CMD> [ARG]...
       keyctl-ns container exec [OPTIONS] --program <FILE> <NAME> [-- <ARG0> [ARG]...]"
)]
pub struct ExecArgs {
    /// What to start, and where.
    #[command(flatten)]
    pub start: StartArgs,
}

/// What to start, and where.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// The container
    #[arg(value_name = "NAME", value_parser = args::container())]
    pub container: ContainerPath,
    /// Execute this file of the host, by descriptor; it needs no file system inside if it is static
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Set a variable of its environment; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = args::variable())]
    pub env: Vec<ByteText>,
    /// User inside the container, by number; the group is the same number unless given
    #[arg(long, short, value_name = "UID[:GID]", default_value = "0")]
    pub user: args::User,
    /// Give it a terminal even if yours is not one
    #[arg(short = 't', long = "terminal", conflicts_with = "no_terminal")]
    pub terminal: bool,
    /// Give it no terminal
    #[arg(short = 'T', long = "no-terminal")]
    pub no_terminal: bool,
    /// Leave it running and print its number; its input and output are /dev/null
    #[arg(long, short, conflicts_with = "terminal")]
    pub detach: bool,
    /// The program inside the container and its arguments
    #[arg(last = true, value_name = "CMD", required_unless_present = "program")]
    pub command: Vec<OsString>,
}

/// Starts the first program.
///
/// # Errors
/// What the daemon says, or why the program's end is not known.
pub fn run(context: &Context, args: &StartArgs) -> Result<u8, CommandError> {
    start(context, args, true)
}

/// Starts a further program.
///
/// # Errors
/// As [`run`].
pub fn exec(context: &Context, args: &StartArgs) -> Result<u8, CommandError> {
    start(context, args, false)
}

fn start(context: &Context, args: &StartArgs, first: bool) -> Result<u8, CommandError> {
    let mut command: Vec<ByteText> = args
        .command
        .iter()
        .map(|word| ByteText(word.as_bytes().to_vec()))
        .collect();
    if let (true, Some(file)) = (command.is_empty(), &args.program) {
        command.push(ByteText(file.as_os_str().as_bytes().to_vec()));
    }
    let program = Program {
        container: args.container.clone(),
        command,
        environment: args.env.clone(),
        user: args.user,
        file: args.program.clone(),
        terminal: match (args.terminal, args.no_terminal || args.detach) {
            (true, _) => Terminal::Always,
            (_, true) => Terminal::Never,
            _ => Terminal::Auto,
        },
        first,
    };
    if args.detach {
        return process::detached(context, &program).map(|()| 0);
    }
    process::foreground(context, &program)
}

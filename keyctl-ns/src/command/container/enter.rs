//! `container enter`

use std::os::unix::ffi::OsStrExt as _;

use clap::Args;
use keyns::name::ContainerPath;
use keyns_interfaces::ByteText;

use super::process::{self, Program, Terminal};
use crate::args;
use crate::context::Context;
use crate::error::CommandError;

/// Open a shell in a running container
///
/// The shell is /bin/sh; if the container has none, the one of $SHELL.
#[derive(Debug, Args)]
pub struct EnterArgs {
    /// The container
    #[arg(value_parser = args::container())]
    pub container: ContainerPath,
    /// User inside the container
    #[arg(long, short, value_name = "UID[:GID]", default_value = "0")]
    pub user: args::User,
}

/// Opens the shell and returns its exit code.
///
/// # Errors
/// What the daemon says.
pub fn run(context: &Context, args: &EnterArgs) -> Result<u8, CommandError> {
    let shell = |path: ByteText| Program {
        container: args.container.clone(),
        command: vec![path],
        environment: Vec::new(),
        user: args.user,
        file: None,
        terminal: Terminal::Always,
        first: false,
    };
    match process::foreground(context, &shell("/bin/sh".into())) {
        // ENOENT
        Err(error) if error.errno == Some(2) => match std::env::var_os("SHELL") {
            Some(own) if own != "/bin/sh" => {
                process::foreground(context, &shell(ByteText(own.as_bytes().to_vec())))
                    .map_err(|_| error)
            }
            _ => Err(error),
        },
        done => done,
    }
}

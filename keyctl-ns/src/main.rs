//! `keyctl-ns`: keys, grants and upcalls of containers from the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(keyctl_ns::run(std::env::args_os()))
}

//! `keynsd`, the keyns daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    keynsd::cli::main()
}

//! The name shelter as a program; started by the daemon, with its socket as standard input.

use std::process::ExitCode;

use keyns::engine::keyring::shelter;

fn main() -> ExitCode {
    match shelter::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("keyns-shelter: {failure}");
            ExitCode::FAILURE
        }
    }
}

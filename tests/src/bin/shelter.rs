//! The name shelter for tests of the engine: what the daemon's package ships as `keyns-shelter`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match keyns::engine::keyring::shelter::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shelter: {failure}");
            ExitCode::FAILURE
        }
    }
}

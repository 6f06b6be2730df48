//! Parent of everything in one container; started by `keynsd`, from a sealed copy.

use std::process::ExitCode;

fn main() -> ExitCode {
    match keyns::engine::monitor::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyns-monitor: {error}; this program is started by keynsd");
            ExitCode::FAILURE
        }
    }
}

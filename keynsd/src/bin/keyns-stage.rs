//! Builds the namespaces of a container; started by `keynsd`, from a sealed copy.

use std::process::ExitCode;

fn main() -> ExitCode {
    match keyns::engine::build::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyns-stage: {error}; this program is started by keynsd");
            ExitCode::FAILURE
        }
    }
}

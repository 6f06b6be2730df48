//! Fetches the programs that tests compare with, and prints where they are; see
//! [`keyns_tests::stock`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match keyns_tests::stock::unpacked() {
        Ok(package) => {
            println!("{}", package.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot fetch the packages keyutils and libkeyutils1: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `make bench`: measures what keyns costs on this machine, and leaves the machine as it was.
//!
//! Everything is a ratio or a difference of two things measured in turns within one run, because
//! absolute times say more about the machine than about keyns.

mod agent;
mod bus;
mod crowd;
mod dashboard;
mod denizen;
mod host;
mod idle;
mod keyctl;
mod machine;
mod parts;
mod permission;
mod ping;
mod place;
mod queue;
mod quota;
mod request_key;
mod round_trip;
mod sample;
mod start;
mod stock;
mod table;
mod turns;
mod upcall;
mod world;

use std::process::ExitCode;

/// Why something could not be measured.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    parts::main().unwrap_or_else(|failure| {
        eprintln!("error: the measurement failed\n  cause: {failure}");
        ExitCode::FAILURE
    })
}

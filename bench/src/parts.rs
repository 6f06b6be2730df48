//! The command line, and the order of things.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use keyns_tests::{bin_dir, leftovers};

use crate::permission::Kernels;
use crate::stock::Stock;
use crate::table::Table;
use crate::{
    Failure, agent, bus, crowd, dashboard, denizen, host, idle, keyctl, machine, permission, ping,
    queue, request_key, round_trip, start, upcall,
};

/// Measure what keyns costs
///
/// Needs root, and the programs that `make programs` has built. The result is printed and written
/// to bench.json beside them.
#[derive(Debug, Parser)]
#[command(name = "keyns-bench")]
struct Cli {
    /// What to measure [default: everything]
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Alternating pairs of each comparison
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..))]
    pairs: u64,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests of containers, answered by an agent
    Upcall,
    /// Requests that the kernel queues, where it does
    Queue,
    /// Requests of the host
    Host,
    /// Requests of the host that keyns-request-key serves
    RequestKey,
    /// Calls to the daemon
    RoundTrip,
    /// Reads and signals over the bus
    Bus,
    /// The start of the daemon
    Start,
    /// The daemon with nothing to do
    Idle,
    /// A thousand containers
    Crowd,
    /// The program keyctl, against the original
    Keyctl,
    /// The dashboard
    Tui,
    /// Keys without a list of rights, on two kernels that must have been built
    Permission,
}

const ALL: [Part; 10] = [
    Part::Upcall,
    Part::Host,
    Part::RequestKey,
    Part::RoundTrip,
    Part::Bus,
    Part::Start,
    Part::Idle,
    Part::Crowd,
    Part::Keyctl,
    Part::Tui,
];

/// Processes that the measurement starts.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
enum Role {
    #[command(hide = true)]
    Denizen,
    #[command(hide = true)]
    Agent { socket: PathBuf },
    #[command(hide = true)]
    PingServer { socket: PathBuf, listing: String },
    #[command(hide = true)]
    BusEcho { address: String },
    #[command(hide = true)]
    KeyCalls,
}

/// How much is measured.
pub(crate) struct Plan {
    pub(crate) pairs: u64,
}

/// # Errors
/// The first thing that cannot be measured.
pub(crate) fn main() -> Result<ExitCode, Failure> {
    let cli = Cli::parse();
    match cli.role {
        Some(Role::Denizen) => denizen::run()?,
        Some(Role::Agent { socket }) => agent::run(&socket)?,
        Some(Role::BusEcho { address }) => bus::serve(&address)?,
        Some(Role::KeyCalls) => permission::run()?,
        Some(Role::PingServer { socket, listing }) => ping::run(&socket, &listing)?,
        None => {
            let parts = match cli.parts.as_slice() {
                [] if queue::is_possible()? => [&[Part::Queue], &ALL[..]].concat(),
                // The kernel of the lab does not boot another.
                [] => [&ALL[..], &[Part::Permission]].concat(),
                chosen => chosen.to_vec(),
            };
            return measure(&parts, &Plan { pairs: cli.pairs });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(parts: &[Part], plan: &Plan) -> Result<ExitCode, Failure> {
    for instance in leftovers::remove(&bin_dir())? {
        eprintln!("removed what a killed run has left: instance {instance}");
    }
    let mut table = Table {
        machine: machine::line(),
        notes: Vec::new(),
        rows: Vec::new(),
    };
    for part in parts {
        eprintln!(
            "measuring: {}",
            part.to_possible_value()
                .map_or_else(String::new, |v| v.get_name().to_owned())
        );
        let rows = match part {
            Part::Upcall => upcall::measure(plan, &Stock::place()?)?,
            Part::Queue => queue::measure(plan, &Stock::place()?)?,
            Part::Host => host::measure(plan, &Stock::place()?)?,
            Part::RequestKey => request_key::measure(plan, &Stock::place()?)?,
            Part::RoundTrip => round_trip::measure(plan)?,
            Part::Bus => bus::measure(plan)?,
            Part::Start => start::measure()?,
            Part::Idle => idle::measure()?,
            Part::Crowd => crowd::measure()?,
            Part::Keyctl => keyctl::measure(plan)?,
            Part::Tui => dashboard::measure()?,
            Part::Permission => match Kernels::find()? {
                Some(kernels) => permission::measure(&kernels)?,
                None => {
                    table.notes.push(Kernels::HINT.to_owned());
                    Vec::new()
                }
            },
        };
        table.rows.extend(rows);
    }
    println!("{table}");
    let file = bin_dir().with_file_name("bench.json");
    fs::write(&file, serde_json::to_vec_pretty(&table)?)?;
    println!("also in {}", file.display());
    let missed = table.rows.iter().any(crate::table::Row::missed);
    Ok(if missed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

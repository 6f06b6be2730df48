//! The daemon's command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use keyns::engine::EngineChoice;
use keyns::engine::paths::Paths;

use crate::config::{BusAddress, Config, Settings, Sources};
use crate::log::Log;
use crate::run::StartError;
use crate::upcall_command::{self, UpcallCommand};

/// The instance of the machine.
const MAIN: &str = "main";

/// The keyns daemon: containers with their own kernel keys, grants, and the requests for keys that
/// come out of containers.
///
/// Runs in the foreground and logs to standard error (RUST_LOG sets what). SIGTERM and SIGINT stop
/// it; containers live on and the next daemon of the same instance finds them again. SIGHUP has it
/// read its settings again.
#[derive(Debug, Parser)]
#[command(name = "keynsd", version)]
struct Cli {
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct DaemonArgs {
    /// Name of the instance: its sockets are in /run/keyns/NAME, its state in /var/lib/keyns/NAME
    #[arg(long, value_name = "NAME", default_value = "main", value_parser = instance)]
    instance: Paths,
    /// How containers are made: “mainline” works on every kernel, “patched” only where the kernel has
    /// container objects; “auto” is the better one, or that whose containers live [default: that of the
    /// settings, else auto]
    #[arg(long, value_name = "ENGINE", value_parser = engine_parser())]
    engine: Option<EngineChoice>,
    /// Directory of keyns-stage, keyns-monitor and keyns-shelter [default: beside keynsd, else
    /// ../libexec/keyns]
    #[arg(long, value_name = "DIR")]
    helpers: Option<PathBuf>,
    /// Kernel uid, used by nobody else, whose user keyring keeps the keyrings of all containers
    /// [default: that of the settings, else 2147483725]
    #[arg(long, value_name = "UID")]
    service_uid: Option<u32>,
    /// File of settings, with those in the directory FILE.d [default: keyns.conf(5) for the instance
    /// “main”, none for others]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Bus to serve org.keyns on: “system”, “none”, or an address such as unix:path=/run/my-bus
    /// [default: system for the instance main, else none]
    #[arg(long, value_name = "BUS")]
    bus: Option<BusAddress>,
    /// When stopped, end all containers and remove everything of the instance
    #[arg(long)]
    transient: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manage which program the kernel starts for requests (/sbin/request-key)
    #[command(subcommand)]
    Upcall(UpcallCommand),
}

fn instance(name: &str) -> Result<Paths, String> {
    Paths::new(name)
}

fn engine_parser() -> impl TypedValueParser<Value = EngineChoice> {
    PossibleValuesParser::new(EngineChoice::WORDS).try_map(|word| word.parse())
}

/// The command line, for manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// `main` of `keynsd`.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Upcall(command)) => return upcall_command::run(&command),
        None => serve(cli.daemon),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "error: keynsd cannot run\n  cause: {}",
                without_numbers(&error.to_string())
            );
            ExitCode::FAILURE
        }
    }
}

/// A sentence without Rust's “(os error N)”.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |said, part| {
        said + part.split_once(')').map_or(part, |(_, rest)| rest)
    })
}

fn serve(args: DaemonArgs) -> Result<(), StartError> {
    let sources = match args.config {
        Some(file) => Sources::File(file),
        None if args.instance.instance() == MAIN => Sources::Machine("/".into()),
        None => Sources::None,
    };
    let settings = Settings::read(&sources).map_err(|m| StartError::Refused(m.to_string()))?;
    let log = Log::start(&settings.log);
    let bus = args.bus.unwrap_or(match args.instance.instance() {
        MAIN => BusAddress::System,
        _ => BusAddress::None,
    });
    let config = Config {
        bus,
        paths: args.instance,
        engine: args.engine.unwrap_or(settings.engine),
        helpers: args.helpers.unwrap_or_else(|| programs("keyns-stage")),
        service_uid: args.service_uid.unwrap_or(settings.service_uid),
        transient: args.transient,
    };
    crate::run::run(config, settings, sources, log)
}

/// The directory that holds `program`: that of `keynsd` itself, or `../libexec/keyns`.
pub(crate) fn programs(program: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().unwrap_or(Path::new("/"));
    if beside.join(OsString::from(program)).exists() {
        return beside.to_owned();
    }
    beside.join("../libexec/keyns")
}

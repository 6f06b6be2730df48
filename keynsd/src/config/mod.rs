//! What a daemon is started with: the command line, and the settings in files.
//!
//! Settings can be read again while the daemon runs (`SIGHUP`). All files are read and judged before
//! any of them counts, so that a mistake changes nothing. Those that only a start can use keep their
//! values until then.

mod bus;
mod file;
mod places;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use keyns::engine::EngineChoice;
use keyns::engine::keyring::SERVICE_UID;
use keyns::engine::paths::Paths;
use tracing_subscriber::EnvFilter;

pub use bus::BusAddress;
pub use file::Mistake;
use file::Placed;
pub use places::Sources;

use crate::front::Limits;
use crate::services::upcalls::limits::{MAX_TOTAL_PENDING, Totals};

/// What a daemon is started with, and does not change.
#[derive(Debug, Clone)]
pub struct Config {
    /// Paths of the instance.
    pub paths: Paths,
    /// The engine to work with.
    pub engine: EngineChoice,
    /// Directory of the helper programs.
    pub helpers: PathBuf,
    /// Uid whose user keyring holds the registry.
    pub service_uid: u32,
    /// The bus to serve on.
    pub bus: BusAddress,
    /// End all containers and remove the state when the daemon is told to stop.
    pub transient: bool,
}

/// What files say, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The engine; counts at a start.
    pub engine: EngineChoice,
    /// Uid whose user keyring holds the registry; counts at a start.
    pub service_uid: u32,
    /// What is logged, in the words of `RUST_LOG`.
    pub log: String,
    /// What connections may take.
    pub connections: Limits,
    /// How many requests of all containers together may wait, and how fast they may come.
    pub requests: Totals,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            engine: EngineChoice::default(),
            service_uid: SERVICE_UID,
            log: "info".to_owned(),
            connections: Limits::default(),
            requests: Totals::default(),
        }
    }
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first mistake in any of the files.
    pub fn read(sources: &Sources) -> Result<Self, Mistake> {
        let values = sources.read()?;
        let mut settings = Self::default();
        if let Some((word, origin)) = &values.engine {
            settings.engine = word.parse().map_err(|why| {
                origin.mistake(format!("engine = “{}”: {why}", word.escape_debug()))
            })?;
        }
        if let Some((log, origin)) = &values.log {
            EnvFilter::try_new(log).map_err(|error| origin.mistake(format!("log: {error}")))?;
            settings.log.clone_from(log);
        }
        // 2³² − 1 is no uid, and the user keyring of root is open to every process of root.
        within(
            &values.service_uid,
            "service-uid",
            1..=4_294_967_294,
            &mut settings.service_uid,
        )?;
        let connections = &mut settings.connections;
        within(
            &values.total,
            "connections.total",
            2..=16_384,
            &mut connections.total,
        )?;
        within(
            &values.per_user,
            "connections.per-user",
            1..=8192,
            &mut connections.per_uid,
        )?;
        within(
            &values.admin,
            "connections.admin",
            1..=256,
            &mut connections.admin,
        )?;
        seconds(
            &values.idle_seconds,
            "connections.idle-seconds",
            1..=86_400,
            &mut connections.idle,
        )?;
        seconds(
            &values.write_seconds,
            "connections.write-seconds",
            1..=60,
            &mut connections.write,
        )?;
        if let Some((_, origin)) = values.per_user.as_ref().or(values.total.as_ref())
            && connections.per_uid >= connections.total
        {
            return Err(origin.mistake(format!(
                "connections.per-user = {} leaves none of connections.total = {} for others: as many \
                 are kept for root",
                connections.per_uid, connections.total
            )));
        }
        let most = i64::from(MAX_TOTAL_PENDING);
        let requests = &mut settings.requests;
        within(
            &values.pending,
            "requests.pending",
            1..=most,
            &mut requests.pending,
        )?;
        within(
            &values.per_second,
            "requests.per-second",
            1..=10_000,
            &mut requests.per_second,
        )?;
        Ok(settings)
    }
}

/// Sets `setting` to a value of a file, if one has it and the value is possible.
fn within<N: TryFrom<i64>>(
    value: &Option<Placed<i64>>,
    name: &str,
    range: std::ops::RangeInclusive<i64>,
    setting: &mut N,
) -> Result<(), Mistake> {
    let Some((value, origin)) = value else {
        return Ok(());
    };
    let known = range.contains(value).then_some(*value);
    *setting = known.and_then(|v| N::try_from(v).ok()).ok_or_else(|| {
        let (least, most) = range.clone().into_inner();
        origin.mistake(format!("{name} = {value} is not within {least} and {most}"))
    })?;
    Ok(())
}

fn seconds(
    value: &Option<Placed<i64>>,
    name: &str,
    range: std::ops::RangeInclusive<i64>,
    setting: &mut Duration,
) -> Result<(), Mistake> {
    let mut seconds = setting.as_secs();
    within(value, name, range, &mut seconds)?;
    *setting = Duration::from_secs(seconds);
    Ok(())
}

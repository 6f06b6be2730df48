//! What a daemon is started with.

use std::path::PathBuf;

use keyns::engine::mainline::paths::Paths;

/// The daemon's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Paths of the instance.
    pub paths: Paths,
    /// Directory of the helper programs.
    pub helpers: PathBuf,
    /// Uid whose user keyring holds the registry.
    pub service_uid: u32,
    /// End all containers and remove the state when the daemon is told to stop.
    pub transient: bool,
}

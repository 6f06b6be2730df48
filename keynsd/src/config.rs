//! What a daemon is started with.

use std::path::PathBuf;

use keyns::engine::EngineChoice;
use keyns::engine::paths::Paths;

/// The daemon's settings.
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
    /// End all containers and remove the state when the daemon is told to stop.
    pub transient: bool,
}

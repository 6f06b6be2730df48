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
    /// The bus to serve on.
    pub bus: BusAddress,
    /// End all containers and remove the state when the daemon is told to stop.
    pub transient: bool,
}

/// Where the door on a bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// Nowhere.
    None,
    /// On the system bus.
    System,
    /// At this address.
    At(String),
}

impl std::str::FromStr for BusAddress {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "none" => Ok(Self::None),
            "system" => Ok(Self::System),
            address if address.starts_with("unix:") => Ok(Self::At(address.to_owned())),
            _ => Err("say system, none, or an address that begins with unix:".to_owned()),
        }
    }
}

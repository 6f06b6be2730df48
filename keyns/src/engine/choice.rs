//! Which engine works on this kernel.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::contract::Engine;
use super::error::EngineError;
use super::mainline::Mainline;
use super::patched::Patched;
use super::paths::Paths;

/// What an engine is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Paths of the instance.
    pub paths: Paths,
    /// Directory of the helper programs `keyns-stage`, `keyns-monitor`, `keyns-shelter`.
    pub helpers: PathBuf,
    /// Uid whose user keyring holds the registry.
    pub service_uid: u32,
    /// Files in the instance's runtime directory that belong to somebody else, such as the sockets
    /// of a service manager: they stay when the instance goes.
    pub foreign: Vec<PathBuf>,
}

/// The engine that somebody asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// The one for stock kernels, as long as it is the only one that does everything.
    #[default]
    Auto,
    /// The one for stock kernels.
    Mainline,
    /// The one for kernels with container objects.
    Patched,
}

impl EngineChoice {
    /// Starts the engine.
    ///
    /// # Errors
    /// A sentence for everything this machine lacks.
    pub fn start(self, options: Options) -> Result<Arc<dyn Engine>, EngineError> {
        match self {
            Self::Auto | Self::Mainline => Ok(Arc::new(Mainline::start(options)?)),
            Self::Patched => Ok(Arc::new(Patched::start(options)?)),
        }
    }

    /// Takes back what a start that failed has made, as far as nothing of the instance is in it.
    pub fn withdraw(self, paths: &Paths) {
        Mainline::withdraw(paths);
    }

    /// The words that choose an engine.
    pub const WORDS: [&'static str; 3] = ["auto", "mainline", "patched"];
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "mainline" => Ok(Self::Mainline),
            "patched" => Ok(Self::Patched),
            _ => Err("an engine is “auto”, “mainline” or “patched”".into()),
        }
    }
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Mainline => "mainline",
            Self::Patched => "patched",
        })
    }
}

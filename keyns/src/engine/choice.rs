//! Which engine works on this kernel.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::container::{ContainerRecord, State};
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
    /// The one whose containers live; else the one for kernels with container objects, where this is
    /// such a kernel, else the one for stock kernels.
    #[default]
    Auto,
    /// The one for stock kernels.
    Mainline,
    /// The one for kernels with container objects.
    Patched,
}

impl EngineChoice {
    /// Starts the engine. `stored` are the containers of a former daemon, those that live among them
    /// made by one engine and known to no other.
    ///
    /// # Errors
    /// A sentence for everything this machine lacks; and where the containers are another engine's.
    pub fn start(
        self,
        options: Options,
        stored: &[ContainerRecord],
    ) -> Result<Arc<dyn Engine>, EngineError> {
        match self.settle(stored, || Patched::check().is_ok())? {
            Self::Patched => Ok(Arc::new(Patched::start(options)?)),
            Self::Auto | Self::Mainline => Ok(Arc::new(Mainline::start(options)?)),
        }
    }

    /// One of the two engines.
    fn settle(
        self,
        stored: &[ContainerRecord],
        is_patched: impl FnOnce() -> bool,
    ) -> Result<Self, EngineError> {
        // Those of before a reboot have no cgroup.
        let lives =
            |record: &&ContainerRecord| record.state != State::Dead && record.cgroup.is_dir();
        let Some(record) = stored.iter().find(lives) else {
            return Ok(match self {
                Self::Auto if is_patched() => Self::Patched,
                Self::Auto => Self::Mainline,
                chosen => chosen,
            });
        };
        let maker = match record.object {
            Some(_) => Self::Patched,
            None => Self::Mainline,
        };
        if self == Self::Auto || self == maker {
            return Ok(maker);
        }
        Err(EngineError::Refused(format!(
            "container “{}” lives and is one of the engine “{maker}”: with --engine auto, or engine = \
             \"auto\" in keyns.conf, it is taken over by that",
            record.path
        )))
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

//! Processes that are started in containers.

use serde::{Deserialize, Serialize};

use super::container::ExitStatus;

/// Processes that ended and are remembered, besides the first one.
pub const ENDED_KEPT: usize = 256;

/// A process to be started in a container.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// Its number within the container; 1 is the first process.
    pub process: u64,
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// `NAME=value` strings.
    pub environment: Vec<Vec<u8>>,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Whether it gets a terminal of the container.
    pub terminal: bool,
    /// Whether the last descriptor is the program.
    pub program_passed: bool,
}

/// A process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    /// Number within the container.
    pub process: u64,
    /// Id on the host.
    pub pid: u32,
    /// How it ended; `None` while it lives.
    pub exit: Option<ExitStatus>,
}

//! `org.keyns.Manager`: the daemon itself.

use serde::{Deserialize, Serialize};

use crate::method::method;

/// Who the daemon is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GetStatus {}
method!(GetStatus, "org.keyns.Manager.GetStatus" => Status);

/// The daemon's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of keyns.
    pub version: String,
    /// `mainline` or `patched`.
    pub engine: String,
    /// Instance name.
    pub instance: String,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Containers that are not dead.
    pub containers: u64,
    /// Upcalls waiting for an answer.
    pub pending_upcalls: u64,
    /// Connected agents.
    pub agents: u64,
    /// Milliseconds between two looks at granted keys (0: nothing to look at).
    pub poll_interval_ms: u64,
}

/// What this kernel and engine enforce.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GetFeatures {}
method!(GetFeatures, "org.keyns.Manager.GetFeatures" => Features);

/// The feature table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// One row per feature.
    pub features: Vec<Feature>,
}

/// One feature and who enforces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feature {
    /// Name of the feature.
    pub name: String,
    /// `kernel`, `daemon`, `advisory` or `unavailable`.
    pub enforcer: String,
    /// One sentence.
    pub detail: String,
}

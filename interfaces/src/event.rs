//! What `Subscribe` streams carry.

use serde::{Deserialize, Serialize};

use crate::containers::ContainerInfo;
use crate::keys::{Grant, KeyInfo};
use crate::upcalls::UpcallInfo;

/// One thing that happened. The first event of a stream is `subscribed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What: `subscribed`, `container-created`, `key-added`, `upcall-answered` …
    pub event: String,
    /// Milliseconds since the epoch.
    pub time_ms: u64,
    /// Events this subscriber lost just before this one because it read too slowly.
    #[serde(default)]
    pub dropped: u64,
    /// The container concerned, in events of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerInfo>,
    /// The key concerned, in events of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyInfo>,
    /// The grant concerned, in events of keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// The upcall concerned, in events of upcalls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upcall: Option<UpcallInfo>,
}

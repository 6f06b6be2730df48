//! What only `/proc/keys` tells about the caller's own keys: expiry and state.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use keyns::description::KeyDescription;
use keyns::proc_keys::{self, Expiry, Flags, ProcKey};
use keyns::serial::KeySerial;

/// The file as it was read once.
#[derive(Debug, Default)]
pub struct ProcFile {
    /// None for a serial that several lines claim: descriptions can forge lines.
    lines: BTreeMap<KeySerial, Option<ProcKey>>,
}

impl ProcFile {
    /// Reads the file. One that cannot be read tells nothing, and no command depends on it.
    #[must_use]
    pub fn read() -> Self {
        let mut lines = BTreeMap::new();
        for line in proc_keys::lines(&std::fs::read("/proc/keys").unwrap_or_default()) {
            match lines.entry(line.serial) {
                Entry::Vacant(place) => {
                    place.insert(Some(line));
                }
                Entry::Occupied(mut place) => {
                    place.insert(None);
                }
            }
        }
        Self { lines }
    }

    /// The line of a key, if there is one and it agrees with what the kernel describes.
    #[must_use]
    pub fn line(&self, serial: KeySerial, described: &KeyDescription) -> Option<&ProcKey> {
        let line = self.lines.get(&serial)?.as_ref()?;
        line.agrees_with(described).then_some(line)
    }
}

/// At least how many seconds a key has left; none if it does not expire.
#[must_use]
pub fn seconds_left(line: &ProcKey) -> Option<u64> {
    line.expiry.at_least().map(|left| left.as_secs())
}

/// The state of a key in words.
#[must_use]
pub fn state(line: &ProcKey) -> &'static str {
    match line.flags {
        Flags { revoked: true, .. } => "revoked",
        Flags {
            invalidated: true, ..
        }
        | Flags { dead: true, .. } => "invalidated",
        Flags {
            under_construction: true,
            ..
        } => "under construction",
        Flags { negative: true, .. } => "negative: requests for it fail until it expires",
        _ if line.expiry == Expiry::Expired => "expired",
        Flags {
            instantiated: true, ..
        } => "valid",
        _ => "without payload yet",
    }
}

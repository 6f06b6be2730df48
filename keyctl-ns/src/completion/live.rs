//! Values that exist right now: keys of the caller, and what the daemon knows.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use keyns::description::KeyDescription;
use keyns::serial::KeySerial;
use keyns_interfaces::Method;
use keyns_interfaces::agents::AgentInfo;
use keyns_interfaces::keys::KeyInfo;
use keyns_interfaces::upcalls::UpcallInfo;
use keyns_interfaces::{agents, containers, keys, upcalls};
use keyns_sys::key as sys;

use crate::daemon;

/// How long the daemon may take, connection and answer together. More would be felt as a pause.
pub const PATIENCE: Duration = Duration::from_millis(40);

/// How many keys of the caller are looked at, about ten milliseconds' worth.
const MOST_KEYS: usize = 2000;

/// The way to values that exist.
#[derive(Debug)]
pub struct Live {
    addresses: Vec<PathBuf>,
}

impl Live {
    /// Values of the daemon that listens at the first of `addresses` where one does.
    #[must_use]
    pub fn new(addresses: Vec<PathBuf>) -> Self {
        Self { addresses }
    }

    /// Full names of the containers, with the state of each.
    #[must_use]
    pub fn containers(&self) -> Vec<(String, String)> {
        let listed = self.ask(&containers::List { dead: false });
        let named = listed.into_iter().flat_map(|listed| listed.containers);
        named
            .map(|container| (container.name, format!("container {}", container.id)))
            .collect()
    }

    /// The keys of a container, by its name or number.
    #[must_use]
    pub fn keys_of(&self, container: &str) -> Vec<KeyInfo> {
        let container = Some(container.to_owned());
        self.ask(&keys::List { container })
            .map(|listed| listed.keys)
            .unwrap_or_default()
    }

    /// The requests that wait for an answer.
    #[must_use]
    pub fn requests(&self) -> Vec<UpcallInfo> {
        self.ask(&upcalls::List { history: 0 })
            .map(|listed| listed.upcalls)
            .unwrap_or_default()
    }

    /// The agents.
    #[must_use]
    pub fn agents(&self) -> Vec<AgentInfo> {
        self.ask(&agents::List {})
            .map(|listed| listed.agents)
            .unwrap_or_default()
    }

    /// A call's reply, if it comes in time.
    fn ask<M: Method>(&self, call: &M) -> Option<M::Reply> {
        let asked = async {
            let mut client = daemon::connect(&self.addresses).await.ok()?;
            let (reply, _) = client.call(call, Vec::new()).await.ok()?;
            Some(reply)
        };
        daemon::runtime()
            .ok()?
            .block_on(async { tokio::time::timeout(PATIENCE, asked).await.ok()? })
    }
}

/// The keys in the tree of the caller's session keyring that the caller may view, the nearest first.
///
/// No keyring is created and no key is requested: both are what `KEYCTL_READ` and `KEYCTL_DESCRIBE`
/// say.
#[must_use]
pub fn own_keys() -> Vec<(KeySerial, KeyDescription)> {
    let mut found = Vec::new();
    let Ok(session) = sys::get_keyring_id(KeySerial::SESSION, false) else {
        return found;
    };
    let mut seen = BTreeSet::from([session]);
    let mut level = vec![session];
    while !level.is_empty() {
        let mut below = Vec::new();
        for keyring in level {
            for serial in sys::read_keyring(keyring).unwrap_or_default() {
                if seen.len() > MOST_KEYS || !seen.insert(serial) {
                    continue;
                }
                let Some(described) = sys::describe(serial)
                    .ok()
                    .and_then(|text| KeyDescription::parse(&text).ok())
                else {
                    continue;
                };
                if described.is_keyring() {
                    below.push(serial);
                }
                found.push((serial, described));
            }
        }
        level = below;
    }
    found
}

/// Names of the instances of the daemon on this machine.
#[must_use]
pub fn instances() -> Vec<String> {
    let entries = std::fs::read_dir("/run/keyns").into_iter().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let is_instance = entry.path().join("keynsd").exists();
            is_instance.then(|| entry.file_name().into_string().ok())?
        })
        .collect();
    names.sort();
    names
}

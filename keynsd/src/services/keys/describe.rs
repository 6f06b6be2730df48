//! Keys and grants as the contract shows them.

use keyns::engine::container::{ContainerId, ContainerRecord};
use keyns::engine::keyring::store::{Deadline, now};
use keyns::engine::keyring::{Home, KeyError, KeyFacts};
use keyns::rights::Rights;
use keyns_interfaces::keys::{Grant, KeyInfo};
use keyns_interfaces::{ByteText, Error};

use super::KeyBook;
use super::failure::key_error;
use super::record::{Granting, Source};
use crate::daemon::Daemon;

pub(super) fn names(rights: Rights) -> Vec<String> {
    rights.names().map(str::to_owned).collect()
}

fn left(deadline: Option<Deadline>) -> Option<u64> {
    deadline.map(|deadline| deadline.saturating_sub(now()))
}

fn path(daemon: &Daemon, id: ContainerId) -> String {
    daemon
        .containers
        .get(id)
        .map_or_else(|| id.to_string(), |record| record.path.to_string())
}

/// A key of the kernel that is no source.
fn plain(facts: &KeyFacts, origin: &str, container: Option<String>) -> KeyInfo {
    KeyInfo {
        serial: facts.serial.raw(),
        type_: facts.type_.to_string_lossy().into_owned(),
        description: ByteText::from(facts.description.as_bytes()),
        uid: facts.uid,
        gid: facts.gid,
        mask: facts.mask,
        expires_in: None,
        container,
        origin: origin.to_owned(),
        grants: Vec::new(),
    }
}

pub(super) fn key_info(daemon: &Daemon, source: &Source) -> KeyInfo {
    let (origin, container) = match source.key.home {
        Home::Store(id) => ("added", Some(path(daemon, id))),
        Home::Lent => ("lent", None),
    };
    KeyInfo {
        expires_in: left(source.deadline),
        grants: source
            .grants
            .iter()
            .map(|grant| grant_info(daemon, source, grant))
            .collect(),
        ..plain(&source.key.facts, origin, container)
    }
}

pub(super) fn grant_info(daemon: &Daemon, source: &Source, grant: &Granting) -> Grant {
    Grant {
        key: source.serial().raw(),
        container: path(daemon, grant.container),
        requested: names(grant.requested),
        kernel: names(grant.kernel),
        implied: names(grant.implied),
        copy: (grant.copy.raw() != 0).then(|| grant.copy.raw()),
        mask: grant.mask,
        expires_in: left(grant.deadline),
    }
}

impl KeyBook {
    /// The keys of a container: those in its store, then those of others granted to it.
    ///
    /// # Errors
    /// The key worker's.
    pub async fn keys_of(&self, daemon: &Daemon, id: ContainerId) -> Result<Vec<KeyInfo>, Error> {
        let belongs =
            |source: &Source| source.key.home == Home::Store(id) || source.grant_to(id).is_some();
        let mut sources = self.current(|source| belongs(source)).await?;
        sources.sort_by_key(|source| (source.key.home != Home::Store(id), source.serial()));
        Ok(sources
            .iter()
            .map(|source| key_info(daemon, source))
            .collect())
    }

    /// Every key of the book, by container and serial, lent ones last.
    pub(super) async fn all_keys(&self, daemon: &Daemon) -> Result<Vec<KeyInfo>, Error> {
        let mut sources = self.current(|_| true).await?;
        sources.sort_by_key(|source| {
            let container = match source.key.home {
                Home::Store(id) => Some(id),
                Home::Lent => None,
            };
            (container.is_none(), container, source.serial())
        });
        Ok(sources
            .iter()
            .map(|source| key_info(daemon, source))
            .collect())
    }

    /// Asks the kernel about the chosen sources and returns those that live.
    pub(super) async fn current(
        &self,
        chosen: impl Fn(&Source) -> bool,
    ) -> Result<Vec<Source>, Error> {
        let keys: Vec<_> = self
            .sources
            .borrow()
            .values()
            .filter(|s| chosen(s))
            .map(|s| s.key.clone())
            .collect();
        let asked = keys.clone();
        let alive = self
            .work(move |worker| {
                let mut alive = Vec::new();
                for key in keys {
                    match worker.describe(&key) {
                        Ok(facts) => alive.push(facts),
                        Err(KeyError::Gone { .. } | KeyError::NoContainer(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(alive)
            })
            .await
            .map_err(|error| key_error("describe the keys", &error))?;
        let mut sources = self.sources.borrow_mut();
        // Granted keys that died are left to whoever looks after the grants.
        for key in asked {
            let serial = key.facts.serial;
            let dead = !alive.iter().any(|facts| facts.serial == serial);
            let idle = |source: &Source| source.grants.is_empty() && source.key.home == key.home;
            if dead && self.turn.try_lock().is_ok() && sources.get(&serial).is_some_and(idle) {
                sources.remove(&serial);
                self.forget(serial);
            }
        }
        Ok(alive
            .into_iter()
            .filter_map(|facts| {
                let source = sources.get_mut(&facts.serial)?;
                source.key.facts = facts;
                Some(source.clone())
            })
            .collect())
    }

    /// A container keyring as the kernel has it, and the copies in it.
    ///
    /// # Errors
    /// The key worker's; `NoSuchKey` when a denizen has just invalidated it.
    pub async fn container_keyring(
        &self,
        daemon: &Daemon,
        record: &ContainerRecord,
    ) -> Result<(KeyInfo, Vec<KeyInfo>), Error> {
        let id = record.id;
        let (keyring, copies) = self
            .work(move |keys| Ok((keys.container_keyring(id)?, keys.copies(id)?)))
            .await
            .map_err(|error| {
                key_error(
                    format!("show the keyring of container “{}”", record.path),
                    &error,
                )
            })?;
        let owner = Some(record.path.to_string());
        let sources = self.sources.borrow();
        let infos = copies.iter().map(|copy| {
            let mut info = plain(copy, "copy", owner.clone());
            let grant = sources.values().find_map(|source| {
                source
                    .grant_to(id)
                    .filter(|g| g.copy == copy.serial)
                    .map(|grant| (source, grant))
            });
            if let Some((source, grant)) = grant {
                info.expires_in = left(source.deadline_of(grant));
                info.grants = vec![grant_info(daemon, source, grant)];
            }
            info
        });
        Ok((plain(&keyring, "keyring", owner.clone()), infos.collect()))
    }
}

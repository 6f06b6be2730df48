//! The keyrings of one container.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use keyns_sys::{KeySerial, key};

use super::error::{KeyError, death};
use super::facts::KeyFacts;
use super::possession::{ActingAs, Grasp};
use super::registry::{Keys, acting_as, children, hold};
use super::session::Sessions;
use super::{RESERVED_BASE, masks};
use crate::engine::container::{ContainerId, ContainerKeyrings, IdRange};
use crate::engine::error::EngineError;

/// Description of every container keyring; denizens may rely on it.
const CONTAINER_KEYRING: &str = "_container";

/// What the worker knows of one container.
#[derive(Debug)]
pub(super) struct Ring {
    /// `container:ID:OWNER`
    root: KeySerial,
    /// `_container`; `NONE` if it was dead when the worker started.
    pub(super) container: KeySerial,
    /// What the worker linked into it, or found there at its start.
    pub(super) copies: BTreeSet<KeySerial>,
    pub(super) store: KeySerial,
    pub(super) sessions: Sessions,
    /// Owner of the container keyring and of what is in it.
    pub(super) owner: u32,
}

/// The owner of a container's keyring and copies: uid 0 where no denizen can be uid 0 of the host,
/// else a reserved uid, which protects against uid 0 by mistake but not against `CAP_SETUID`.
#[must_use]
pub fn owner_for(id: ContainerId, ids: Option<IdRange>) -> u32 {
    match ids {
        Some(ids) if ids.inside(0).is_none() => 0,
        _ => reserved(id),
    }
}

/// A kernel id that belongs to no process and to this container alone.
pub(super) fn reserved(id: ContainerId) -> u32 {
    // Numbers are never reused, and 2³⁰ of them are never alive at once.
    RESERVED_BASE + (id.0 % 0x4000_0000) as u32
}

impl Keys {
    /// Creates the keyrings of a container.
    ///
    /// # Errors
    /// [`KeyError::Exists`] if it has keyrings already; [`KeyError::Quota`].
    pub fn create_container(
        &mut self,
        id: ContainerId,
        owner: u32,
    ) -> Result<ContainerKeyrings, KeyError> {
        if self.rings.contains_key(&id) {
            return Err(KeyError::Exists);
        }
        let name = format!("container:{id}:{owner}");
        let root = self.create(&name, self.registry, 0, masks::SLOT)?;
        let made = self.fill(id, root, owner);
        if made.is_err() {
            key::unlink(root, self.registry)
                .map_err(KeyError::of("remove a container's keyring"))?;
        }
        let ring = made?;
        let keyrings = ring.keyrings();
        self.rings.insert(id, ring);
        Ok(keyrings)
    }

    fn fill(&mut self, id: ContainerId, root: KeySerial, owner: u32) -> Result<Ring, KeyError> {
        let held = hold(0, &[root])?;
        let store = self.create("store", root, 0, masks::SLOT)?;
        let container = self.create(CONTAINER_KEYRING, root, owner, masks::CONTAINER)?;
        drop(held);
        let sessions = self.create(&format!("sessions:{id}"), self.registry, 0, masks::CLOSED)?;
        let sessions = Sessions::new(sessions);
        Ok(Ring {
            root,
            container,
            copies: BTreeSet::new(),
            store,
            sessions,
            owner,
        })
    }

    /// Finds the containers a former worker left in the registry.
    pub(super) fn learn_containers(&mut self) -> Result<(), KeyError> {
        let found = children(self.registry).map_err(KeyError::of("read the registry"))?;
        let mut sessions: BTreeMap<ContainerId, KeySerial> = found
            .iter()
            .filter_map(|facts| {
                let id = facts
                    .description
                    .to_str()
                    .ok()?
                    .strip_prefix("sessions:")?
                    .parse()
                    .ok()?;
                Some((ContainerId(id), facts.serial))
            })
            .collect();
        let mut unfinished = Vec::new();
        for facts in found {
            let Some((id, owner)) = parse(&facts) else {
                continue;
            };
            let ring = match sessions.remove(&id) {
                Some(sessions) => learn(facts.serial, sessions, owner)
                    .map_err(KeyError::of("read a container's keyrings"))?,
                None => None,
            };
            match ring {
                Some(ring) => {
                    self.rings.insert(id, ring);
                }
                None => unfinished.push(facts.serial),
            }
        }
        // The making or removal of these was cut off: nobody knows of them.
        unfinished.extend(sessions.into_values());
        for serial in unfinished {
            unless_dead(key::unlink(serial, self.registry))
                .map_err(KeyError::of("remove an unfinished container's keyring"))?;
        }
        Ok(())
    }

    /// Invalidates the container keyring, every copy in it and the store, and forgets the container.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn destroy_container(&mut self, id: ContainerId) -> Result<(), KeyError> {
        let ring = self.rings.get(&id).ok_or(KeyError::NoContainer(id.0))?;
        let what = "invalidate a container's keys";
        let acting = acting_as(ring.owner)?;
        if let Ok(copies) = key::read_keyring(ring.container) {
            for copy in copies {
                unless_dead(key::invalidate(copy)).map_err(KeyError::of(what))?;
            }
            unless_dead(key::invalidate(ring.container)).map_err(KeyError::of(what))?;
        }
        drop(acting);
        let held = hold(0, &[ring.root])?;
        for stored in key::read_keyring(ring.store).map_err(KeyError::of(what))? {
            unless_dead(key::invalidate(stored)).map_err(KeyError::of(what))?;
        }
        drop(held);
        for keyring in [ring.root, ring.sessions.keyring] {
            unless_dead(key::unlink(keyring, self.registry))
                .map_err(KeyError::of("remove a container's keyring"))?;
        }
        self.rings.remove(&id);
        Ok(())
    }

    /// The containers that have keyrings here.
    #[must_use]
    pub fn containers(&self) -> Vec<ContainerId> {
        self.rings.keys().copied().collect()
    }

    /// The keyrings of a container, as they are now.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]
    pub fn keyrings(&self, id: ContainerId) -> Result<ContainerKeyrings, KeyError> {
        Ok(self.ring(id)?.keyrings())
    }

    pub(super) fn ring(&self, id: ContainerId) -> Result<&Ring, KeyError> {
        self.rings.get(&id).ok_or(KeyError::NoContainer(id.0))
    }

    /// The container keyring itself.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; [`KeyError::Gone`] if a denizen invalidated it.
    pub fn container_keyring(&self, id: ContainerId) -> Result<KeyFacts, KeyError> {
        let ring = self.ring(id)?;
        let _acting = acting_as(ring.owner)?;
        KeyFacts::of(ring.container)
            .map_err(KeyError::on(ring.container, "describe a container keyring"))
    }

    /// Rebuilds the container keyring if a denizen invalidated it, and links the new one into every
    /// session it was given to. The copies in it have to be made again.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn heal(&mut self, id: ContainerId) -> Result<bool, KeyError> {
        let ring = self.ring(id)?;
        let (root, owner, old) = (ring.root, ring.owner, ring.container);
        if old != KeySerial::NONE {
            let _acting = acting_as(owner)?;
            match KeyFacts::of(old) {
                Ok(_) => return Ok(false),
                Err(error) if death(&error).is_some() => {}
                Err(error) => return Err(KeyError::of("describe a container keyring")(error)),
            }
        }
        let held = hold(0, &[root])?;
        let new = self.create(CONTAINER_KEYRING, root, owner, masks::CONTAINER)?;
        drop(held);
        let Some(ring) = self.rings.get_mut(&id) else {
            return Ok(true);
        };
        ring.container = new;
        ring.copies.clear();
        ring.sessions.relink(new, owner, reserved(id));
        Ok(true)
    }
}

impl Ring {
    fn keyrings(&self) -> ContainerKeyrings {
        ContainerKeyrings {
            container: self.container.raw(),
            owner: self.owner,
            store: self.store.raw(),
            sessions: self.sessions.keyring.raw(),
        }
    }
}

fn learn(root: KeySerial, sessions: KeySerial, owner: u32) -> io::Result<Option<Ring>> {
    let grasp = Grasp::of(&[root])?;
    let named = |name: &str| {
        let mut found = children(root)?.into_iter();
        io::Result::Ok(found.find(|f| f.description.as_bytes() == name.as_bytes()))
    };
    let Some(store) = named("store")? else {
        return Ok(None);
    };
    // Only its owner may view the container keyring.
    let acting = ActingAs::owner(owner)?;
    let container = named(CONTAINER_KEYRING)?.filter(|facts| facts.uid == owner);
    let (container, copies) = match container {
        Some(facts) => (
            facts.serial,
            key::read_keyring(facts.serial)?.into_iter().collect(),
        ),
        None => (KeySerial::NONE, BTreeSet::new()),
    };
    drop((acting, grasp));
    let sessions = Sessions::learn(sessions)?;
    Ok(Some(Ring {
        root,
        container,
        copies,
        store: store.serial,
        sessions,
        owner,
    }))
}

/// `container:ID:OWNER`
fn parse(facts: &KeyFacts) -> Option<(ContainerId, u32)> {
    let mut parts = facts.description.to_str().ok()?.split(':');
    let (Some("container"), Some(id), Some(owner), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    Some((ContainerId(id.parse().ok()?), owner.parse().ok()?))
}

/// Success also when the key died before.
pub(super) fn unless_dead(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if death(&error).is_some() => Ok(()),
        other => other,
    }
}

impl Keys {
    /// Whether a container's process could still find what was put into the container keyring.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn copies(&self, id: ContainerId) -> Result<Vec<KeyFacts>, KeyError> {
        let ring = self.ring(id)?;
        let _acting = acting_as(ring.owner)?;
        match children(ring.container) {
            Ok(copies) => Ok(copies),
            Err(error) if death(&error).is_some() => Ok(Vec::new()),
            Err(error) => Err(EngineError::system("read a container keyring")(error).into()),
        }
    }
}

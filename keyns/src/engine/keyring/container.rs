//! The keyrings of one container.

use std::collections::BTreeMap;
use std::io;

use keyns_sys::{KeySerial, key};
use rustix::io::Errno;

use super::error::{KeyError, death};
use super::facts::KeyFacts;
use super::ledger::Ledger;
use super::list;
use super::possession::ActingAs;
use super::registry::{Keys, acting_as, children, hold};
use super::session::Sessions;
use super::{RESERVED_BASE, masks};
use crate::engine::container::{ContainerId, ContainerKeyrings, IdRange};
use crate::engine::error::EngineError;
use crate::engine::objects::Objects;
use crate::rights::Rights;

/// Description of every container keyring; denizens may rely on it.
const CONTAINER_KEYRING: &str = "_container";

/// What the worker knows of one container.
#[derive(Debug)]
pub(super) struct Ring {
    /// `container:ID:OWNER`
    root: KeySerial,
    /// `_container`; `NONE` if it was dead or a denizen's own when the worker started.
    pub(super) container: KeySerial,
    /// The copies that were made for it.
    pub(super) ledger: Ledger,
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

/// A kernel id that is given to no process, and to this container alone. A process with `CAP_SETUID`
/// or `CAP_SETGID` in the host's user namespace can still take it.
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
        let root = self.create(&name, self.registry, 0, masks::CLOSED)?;
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
        let store = self.create("store", root, 0, masks::SLOT)?;
        let container = self.create(CONTAINER_KEYRING, root, owner, masks::CONTAINER)?;
        let copies = self.create("copies", root, 0, masks::CLOSED)?;
        let sessions = self.create(&format!("sessions:{id}"), self.registry, 0, masks::CLOSED)?;
        let sessions = Sessions::new(sessions);
        Ok(Ring {
            root,
            container,
            ledger: Ledger::new(copies),
            store,
            sessions,
            owner,
        })
    }

    /// Attaches the keyring of a container to its object, and lets the container search and link it.
    /// Nobody else has rights to it but its owner, who is the daemon, so no denizen can end it.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn attach(&mut self, id: ContainerId) -> Result<(), KeyError> {
        let what = "attach the container keyring";
        let ring = self.ring(id)?;
        let (keyring, owner) = (ring.container, ring.owner);
        let objects = self.objects()?;
        let acting = acting_as(owner)?;
        list::limit(objects, id, keyring, Rights::SEARCH | Rights::LINK)
            .and_then(|()| list::attach(objects, id, keyring))
            .map_err(KeyError::of(what))?;
        drop(acting);
        if !objects.intercepts() {
            return Ok(());
        }
        // Every type: what has no rule in the daemon must not reach a program of the host.
        let _held = hold(0, &[self.requests])?;
        list::intercept(objects, id, self.requests)
            .map_err(KeyError::of("have the container’s requests queued"))
    }

    /// The keyring into which the kernel links what containers ask for.
    #[must_use]
    pub fn requests(&self) -> KeySerial {
        self.requests
    }

    /// Same for an object that took the place of one that died: also gives the new one what the
    /// former was granted.
    ///
    /// # Errors
    /// As [`Self::attach`].
    pub fn attach_again(&mut self, id: ContainerId) -> Result<(), KeyError> {
        self.attach(id)?;
        let ring = self.ring(id)?;
        let objects = self.objects()?;
        let _acting = acting_as(ring.owner)?;
        for copy in ring.ledger.serials() {
            list::renew(objects, id, copy)
                .map_err(KeyError::on(copy, "grant a copy to the container again"))?;
        }
        Ok(())
    }

    fn objects(&self) -> Result<&Objects, KeyError> {
        let missing = || EngineError::Refused("this engine has no container objects".into());
        Ok(self.options.objects.as_deref().ok_or_else(missing)?)
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

    /// Invalidates the container keyring, every copy made for it and the store, and forgets the
    /// container. What denizens linked anywhere does not matter.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn destroy_container(&mut self, id: ContainerId) -> Result<(), KeyError> {
        let ring = self.rings.get_mut(&id).ok_or(KeyError::NoContainer(id.0))?;
        let what = "invalidate a container's keys";
        ring.ledger.end_all(ring.owner, ring.container)?;
        // A denizen that became the owner may have linked keys of its own into the container keyring,
        // which are not ours to end, and may have taken the daemon's rights to it.
        let acting = acting_as(ring.owner)?;
        if ring.container != KeySerial::NONE {
            unless_foreign(key::invalidate(ring.container)).map_err(KeyError::of(what))?;
        }
        drop(acting);
        let held = hold(0, &[ring.store])?;
        for stored in key::read_keyring(ring.store).map_err(KeyError::of(what))? {
            unless_foreign(key::invalidate(stored)).map_err(KeyError::of(what))?;
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
    /// session it was given to. Copies that are not in the container keyring any more are ended, since
    /// a denizen may hold them, and have to be made again; what else is in it is thrown out.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn heal(&mut self, id: ContainerId) -> Result<bool, KeyError> {
        let ring = self.rings.get_mut(&id).ok_or(KeyError::NoContainer(id.0))?;
        let (root, owner, old) = (ring.root, ring.owner, ring.container);
        if old != KeySerial::NONE {
            let acting = acting_as(owner)?;
            let links = key::read_keyring(old);
            drop(acting);
            match links {
                Ok(links) => {
                    ring.ledger.compare(owner, old, links)?;
                    return Ok(false);
                }
                Err(error) if is_lost(&error) => {}
                Err(error) => return Err(KeyError::of("read a container keyring")(error)),
            }
        }
        ring.ledger.end_all(owner, old)?;
        let new = self.create(CONTAINER_KEYRING, root, owner, masks::CONTAINER)?;
        if let Some(objects) = &self.options.objects {
            let _acting = acting_as(owner)?;
            list::limit(objects, id, new, Rights::SEARCH | Rights::LINK)
                .map_err(KeyError::of("limit a container keyring"))?;
        }
        let Some(ring) = self.rings.get_mut(&id) else {
            return Ok(true);
        };
        ring.container = new;
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
    let below = key::read_keyring(root)?;
    let named = |name: &str| {
        let mut found = below.iter().filter_map(|serial| KeyFacts::of(*serial).ok());
        found.find(|facts| facts.description.as_bytes() == name.as_bytes())
    };
    let (Some(store), Some(ledger)) = (named("store"), named("copies")) else {
        return Ok(None);
    };
    // Only its owner may view the container keyring.
    let acting = ActingAs::owner(owner)?;
    let container = named(CONTAINER_KEYRING).filter(|facts| facts.uid == owner);
    let (container, links) = match container {
        Some(facts) => match key::read_keyring(facts.serial) {
            Ok(links) => (facts.serial, links),
            Err(error) if is_lost(&error) => (KeySerial::NONE, Vec::new()),
            Err(error) => return Err(error),
        },
        None => (KeySerial::NONE, Vec::new()),
    };
    drop(acting);
    let ledger = Ledger::learn(ledger.serial, owner, &links)?;
    let sessions = Sessions::learn(sessions)?;
    Ok(Some(Ring {
        root,
        container,
        ledger,
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

/// Whether a container keyring is dead, or a denizen that became its owner took it for itself.
fn is_lost(error: &io::Error) -> bool {
    death(error).is_some() || Errno::from_io_error(error) == Some(Errno::ACCESS)
}

/// Success also when the key died before, or is not ours to end.
fn unless_foreign(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is_lost(&error) => Ok(()),
        other => other,
    }
}

impl Keys {
    /// What is in a container keyring now, as far as its owner may view it; nothing if it is dead.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn copies(&self, id: ContainerId) -> Result<Vec<KeyFacts>, KeyError> {
        let ring = self.ring(id)?;
        let _acting = acting_as(ring.owner)?;
        match children(ring.container) {
            Ok(copies) => Ok(copies),
            Err(error) if is_lost(&error) => Ok(Vec::new()),
            Err(error) => Err(EngineError::system("read a container keyring")(error).into()),
        }
    }
}

//! The keyrings of one container.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use keyns_sys::{KeySerial, key};

use super::error::{KeyError, death};
use super::facts::{self, KeyFacts};
use super::possession::ActingAs;
use super::registry::{Keys, children, hold};
use super::{RESERVED_OWNER_BASE, masks};
use crate::engine::container::{ContainerId, ContainerKeyrings, IdRange};
use crate::engine::error::EngineError;

/// Description of every container keyring; denizens may rely on it.
const CONTAINER_KEYRING: &str = "_container";

/// A start that has not linked its session into its slot by then never will.
const SLOT_PATIENCE: Duration = Duration::from_secs(60);

/// So many slots are kept without looking whether their sessions live.
const QUIET_SLOTS: usize = 8;

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
    sessions: KeySerial,
    /// Owner of the container keyring and of what is in it.
    pub(super) owner: u32,
    slots: Vec<Slot>,
    /// The number of slots at which dead ones are looked for again.
    prune_at: usize,
}

#[derive(Debug)]
struct Slot {
    serial: KeySerial,
    /// Kernel uid that owns the session keyring linked here.
    uid: u32,
    since: Instant,
}

/// The owner of a container's keyring and copies: uid 0 where no denizen can be uid 0 of the host,
/// else a reserved uid, which protects against uid 0 by mistake but not against `CAP_SETUID`.
#[must_use]
pub fn owner_for(id: ContainerId, ids: Option<IdRange>) -> u32 {
    match ids {
        Some(ids) if ids.inside(0).is_none() => 0,
        // Numbers are never reused, and 2³⁰ of them are never alive at once.
        _ => RESERVED_OWNER_BASE + (id.0 % 0x4000_0000) as u32,
    }
}

impl Keys {
    /// Creates the keyrings of a container.
    ///
    /// # Errors
    /// [`KeyError::Exists`] if it has keyrings already; [`KeyError::Quota`].
    pub fn create_container(&mut self, id: ContainerId, owner: u32) -> Result<ContainerKeyrings, KeyError> {
        if self.rings.contains_key(&id) {
            return Err(KeyError::Exists);
        }
        let name = format!("container:{id}:{owner}");
        let root = self.create(&name, self.registry, 0, masks::SLOT)?;
        let made = self.fill(root, owner);
        if made.is_err() {
            key::unlink(root, self.registry).map_err(KeyError::of("remove a container's keyring"))?;
        }
        let ring = made?;
        let keyrings = ring.keyrings();
        self.rings.insert(id, ring);
        Ok(keyrings)
    }

    fn fill(&mut self, root: KeySerial, owner: u32) -> Result<Ring, KeyError> {
        let held = hold(0, &[root])?;
        let store = self.create("store", root, 0, masks::SLOT)?;
        let sessions = self.create("sessions", root, 0, masks::CLOSED)?;
        let container = self.create(CONTAINER_KEYRING, root, owner, masks::CONTAINER)?;
        drop(held);
        Ok(Ring { root, container, copies: BTreeSet::new(), store, sessions, owner, slots: Vec::new(), prune_at: QUIET_SLOTS })
    }

    /// Finds the containers a former worker left in the registry.
    pub(super) fn learn_containers(&mut self) -> Result<(), KeyError> {
        let found = children(self.registry).map_err(KeyError::of("read the registry"))?;
        for facts in found {
            let Some((id, owner)) = parse(&facts) else { continue };
            match learn(facts.serial, owner)? {
                Some(ring) => {
                    self.rings.insert(id, ring);
                }
                // Its creation was cut off: nobody knows of it.
                None => key::unlink(facts.serial, self.registry)
                    .map_err(KeyError::of("remove an unfinished container's keyring"))?,
            }
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
        let acting = hold(ring.owner, &[])?;
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
        unless_dead(key::unlink(ring.root, self.registry))
            .map_err(KeyError::of("remove a container's keyring"))?;
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
        let _acting = hold(ring.owner, &[])?;
        KeyFacts::of(ring.container).map_err(KeyError::on(ring.container, "describe a container keyring"))
    }

    /// A slot for the session keyring of a process about to be started in the container; that process
    /// still has the host's uid 0 and links its new session keyring into the slot, then gives it to
    /// `uid`. Through the slot a container keyring that was invalidated is replaced in the session.
    /// If it is dead already, it is rebuilt first: ask for [`Self::keyrings`] afterwards.
    ///
    /// A slot per session, because one keyring holds one key of each description and every anonymous
    /// session keyring is called `_ses`.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn session_slot(&mut self, id: ContainerId, uid: u32) -> Result<KeySerial, KeyError> {
        self.heal(id)?;
        self.prune_sessions(id)?;
        let sessions = self.ring(id)?.sessions;
        let name = format!("{}:{uid}", self.unique("session"));
        let serial = self.create(&name, sessions, 0, masks::SESSION_SLOT)?;
        if let Some(ring) = self.rings.get_mut(&id) {
            ring.slots.push(Slot { serial, uid, since: Instant::now() });
        }
        Ok(serial)
    }

    /// Lets go of session keyrings that nothing but our link keeps: they count for the quota of
    /// their owner, 200 keys for an ordinary uid.
    fn prune_sessions(&mut self, id: ContainerId) -> Result<(), KeyError> {
        let ring = self.rings.get_mut(&id).ok_or(KeyError::NoContainer(id.0))?;
        if ring.slots.len() < ring.prune_at {
            return Ok(());
        }
        let what = "look for ended sessions";
        let mut alive = Vec::new();
        for slot in ring.slots.drain(..) {
            let sessions = key::read_keyring(slot.serial).unwrap_or_default();
            let keep = match sessions.first() {
                Some(session) => in_use(*session, slot.uid).map_err(KeyError::of(what))?,
                None => slot.since.elapsed() < SLOT_PATIENCE,
            };
            if keep {
                alive.push(slot);
            } else {
                unless_dead(key::unlink(slot.serial, ring.sessions)).map_err(KeyError::of(what))?;
            }
        }
        ring.prune_at = QUIET_SLOTS.max(2 * alive.len());
        ring.slots = alive;
        Ok(())
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
            let _acting = hold(owner, &[])?;
            match KeyFacts::of(old) {
                Ok(_) => return Ok(false),
                Err(error) if death(&error).is_some() => {}
                Err(error) => return Err(KeyError::of("describe a container keyring")(error)),
            }
        }
        let held = hold(0, &[root])?;
        let new = self.create(CONTAINER_KEYRING, root, owner, masks::CONTAINER)?;
        drop(held);
        let Some(ring) = self.rings.get_mut(&id) else { return Ok(true) };
        ring.container = new;
        ring.copies.clear();
        for slot in &ring.slots {
            // A denizen may have made its session unwritable or left it: its own loss.
            let _ = relink(new, owner, slot.serial);
        }
        Ok(true)
    }
}

impl Ring {
    fn keyrings(&self) -> ContainerKeyrings {
        ContainerKeyrings {
            container: self.container.raw(),
            owner: self.owner,
            store: self.store.raw(),
            sessions: self.sessions.raw(),
        }
    }
}

/// Links the container keyring into the session keyring that lies in `slot`.
fn relink(container: KeySerial, owner: u32, slot: KeySerial) -> Result<(), KeyError> {
    let what = "link a container keyring into a session";
    // Both directly in the thread keyring: they are found there before a search enters the session,
    // where a denizen may have built a tree that takes very long to search.
    let held = hold(0, &[slot])?;
    {
        let _acting = ActingAs::owner(owner).map_err(KeyError::of(what))?;
        key::link(container, KeySerial::THREAD).map_err(KeyError::of(what))?;
    }
    for session in key::read_keyring(slot).map_err(KeyError::of(what))? {
        let _acting = ActingAs::owner(owner).map_err(KeyError::of(what))?;
        key::link(container, session).map_err(KeyError::of(what))?;
    }
    drop(held);
    Ok(())
}

/// Whether anything but one link refers to a session keyring of `uid`.
fn in_use(session: KeySerial, uid: u32) -> io::Result<bool> {
    let _acting = ActingAs::owner(uid)?;
    // Not shown: its owner took VIEW away. It is kept as long as the container.
    Ok(facts::rows()?.get(&session).is_none_or(|row| row.usage > 1))
}

fn learn(root: KeySerial, owner: u32) -> Result<Option<Ring>, KeyError> {
    let failed = || KeyError::of("read a container's keyrings");
    let held = hold(0, &[root])?;
    let mine = children(root).map_err(failed())?;
    let find = |name: &str| mine.iter().find(|f| f.description.as_bytes() == name.as_bytes()).map(|f| f.serial);
    let (Some(store), Some(sessions)) = (find("store"), find("sessions")) else {
        return Ok(None);
    };
    let slots = children(sessions)
        .map_err(failed())?
        .iter()
        .filter_map(|facts| {
            let uid = facts.description.to_str().ok()?.rsplit_once(':')?.1.parse().ok()?;
            Some(Slot { serial: facts.serial, uid, since: Instant::now() })
        })
        .collect();
    // Only its owner may view the container keyring.
    let acting = ActingAs::owner(owner).map_err(failed())?;
    let container = children(root)
        .map_err(failed())?
        .iter()
        .find(|f| f.description.as_bytes() == CONTAINER_KEYRING.as_bytes() && f.uid == owner)
        .map_or(KeySerial::NONE, |f| f.serial);
    let copies = match container {
        KeySerial::NONE => BTreeSet::new(),
        container => key::read_keyring(container).map_err(failed())?.into_iter().collect(),
    };
    drop((acting, held));
    Ok(Some(Ring { root, container, copies, store, sessions, owner, slots, prune_at: QUIET_SLOTS }))
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
        let _acting = hold(ring.owner, &[])?;
        match children(ring.container) {
            Ok(copies) => Ok(copies),
            Err(error) if death(&error).is_some() => Ok(Vec::new()),
            Err(error) => Err(EngineError::system("read a container keyring")(error).into()),
        }
    }
}

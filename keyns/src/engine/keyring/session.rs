//! Session keyrings of a container's processes.
//!
//! Each lies in a slot of the registry, so that its serial keeps meaning it, and can be given a new
//! container keyring when a denizen invalidated the old one. Two things must never happen: that the
//! worker searches such a session, or that a keyring above it is linked anywhere, which makes the
//! kernel look for cycles in everything below (`keyring_detect_cycle`). A denizen can build a tree
//! in its session that takes either of them hours, or fail with `ELOOP`. So the slots hang below
//! closed keyrings directly in the registry, which are never linked again, and the worker does not
//! possess a session to write to it: the session's *group* is a number reserved for the container,
//! which nobody is given, and may view and write. (A process with `CAP_SETGID` in a container without
//! a user namespace can take it, and then write to the sessions of that container alone.)

use std::io;
use std::time::{Duration, Instant};

use keyns_sys::cred::set_fsuid;
use keyns_sys::{KeySerial, key};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::container::{reserved, unless_dead};
use super::error::KeyError;
use super::facts::{self, KeyFacts};
use super::masks;
use super::possession::ActingAs;
use super::registry::{Keys, children};
use crate::engine::container::ContainerId;
use crate::engine::failure::Failure;

/// A start that has not linked its session into its slot by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// After so many new slots it is looked which sessions live.
const QUIET: usize = 8;

/// How a process about to be started in a container gets its session keyring.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SessionPlan {
    container: i32,
    container_owner: u32,
    slot: i32,
    uid: u32,
    group: u32,
}

impl SessionPlan {
    /// Gives the calling thread, which has the host's uid 0 and is alone in its process, a new
    /// session keyring that links the container keyring, and gives that to its future owner. If that
    /// one's key quota is used up, which denizens can do, it stays uid 0's, whose quota they cannot
    /// use up: it is possession that lets a process use its session. Its owner is asked for only by
    /// `KEYCTL_SESSION_TO_PARENT`, which is refused then.
    ///
    /// Without this the process would inherit its maker's session keyring.
    ///
    /// # Errors
    /// The step that failed.
    pub fn take_up(&self) -> Result<(), Failure> {
        let session =
            key::join_session_keyring(None).map_err(Failure::of("make a session keyring"))?;
        // Only its owner may link the container keyring.
        let what = "link the container keyring";
        set_fsuid(self.container_owner).map_err(Failure::of(what))?;
        let linked = key::link(KeySerial::new(self.container), KeySerial::SESSION);
        set_fsuid(0).map_err(Failure::of("become uid 0 again"))?;
        linked.map_err(Failure::of(what))?;
        key::link(session, KeySerial::new(self.slot))
            .map_err(Failure::of("register the session keyring"))?;
        key::set_perm(session, masks::SESSION)
            .map_err(Failure::of("set the session keyring's mask"))?;
        let what = "give the session keyring to the process";
        key::chown(session, None, Some(self.group)).map_err(Failure::of(what))?;
        match key::chown(session, Some(self.uid), None) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::DQUOT) => {
                // The daemon acts as uid 0 then, and its owner's rights count instead of its group's.
                key::set_perm(session, masks::SESSION_OF_ROOT).map_err(Failure::of(what))
            }
            other => other.map_err(Failure::of(what)),
        }
    }
}

/// The session keyrings of one container.
#[derive(Debug)]
pub(super) struct Sessions {
    /// `sessions:ID`, in the registry itself.
    pub(super) keyring: KeySerial,
    slots: Vec<Slot>,
    /// The number of slots at which dead ones are looked for again.
    prune_at: usize,
    pruned: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    serial: KeySerial,
    since: Instant,
}

impl Sessions {
    pub(super) fn new(keyring: KeySerial) -> Self {
        Self {
            keyring,
            slots: Vec::new(),
            prune_at: QUIET,
            pruned: None,
        }
    }

    /// Finds the slots a former worker left.
    pub(super) fn learn(keyring: KeySerial) -> io::Result<Self> {
        let slot = |facts: KeyFacts| Slot {
            serial: facts.serial,
            since: Instant::now(),
        };
        let slots = children(keyring)?.into_iter().map(slot).collect();
        Ok(Self {
            slots,
            ..Self::new(keyring)
        })
    }

    /// Lets go of session keyrings that nothing but our link keeps: they count for the quota of
    /// their owner, 200 keys for an ordinary uid. Walks all keys of the machine, so not twice within
    /// `interval`.
    fn prune(&mut self, reserved: u32, interval: Duration) -> io::Result<()> {
        let lately = self.pruned.is_some_and(|at| at.elapsed() < interval);
        if self.slots.len() < self.prune_at || lately {
            return Ok(());
        }
        self.pruned = Some(Instant::now());
        let linked = |slot: &Slot| {
            let sessions = key::read_keyring(slot.serial).unwrap_or_default();
            sessions.first().copied()
        };
        let lines = {
            let sessions = self.slots.iter().filter_map(linked).collect();
            // Shown are the container's sessions by their group, and next to no other key.
            let _acting = ActingAs::member(reserved, reserved)?;
            facts::lines_of(&sessions)?
        };
        let mut alive = Vec::new();
        for slot in self.slots.drain(..) {
            let keep = match linked(&slot) {
                // Without a line that can be believed, for instance since its owner took VIEW away,
                // it is kept as long as the container.
                Some(session) => lines.get(&session).is_none_or(|line| line.usage > 1),
                None => slot.since.elapsed() < PATIENCE,
            };
            if keep || unless_dead(key::unlink(slot.serial, self.keyring)).is_err() {
                alive.push(slot);
            }
        }
        self.prune_at = alive.len() + QUIET;
        self.slots = alive;
        Ok(())
    }

    /// Links a new container keyring into every session.
    pub(super) fn relink(&self, container: KeySerial, owner: u32, group: u32) {
        for slot in &self.slots {
            let sessions = key::read_keyring(slot.serial).unwrap_or_default();
            let Ok(_acting) = ActingAs::member(owner, group) else {
                return;
            };
            for session in sessions {
                // A denizen may have made its session unwritable: its own loss.
                let _ = key::link(container, session);
            }
        }
    }
}

impl Keys {
    /// Prepares the session keyring of a process about to be started in the container as the kernel
    /// uid `uid`. A container keyring that a denizen invalidated is rebuilt first.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn prepare_session(&mut self, id: ContainerId, uid: u32) -> Result<SessionPlan, KeyError> {
        self.heal(id)?;
        let group = reserved(id);
        let interval = self.options.survey;
        let ring = self.rings.get_mut(&id).ok_or(KeyError::NoContainer(id.0))?;
        ring.sessions
            .prune(group, interval)
            .map_err(KeyError::of("look for ended sessions"))?;
        let (container, container_owner) = (ring.container.raw(), ring.owner);
        let keyring = ring.sessions.keyring;
        // One slot each: a keyring holds one key of each description, and every anonymous session
        // keyring is called `_ses`.
        let name = self.unique("session");
        let slot = self.create(&name, keyring, 0, masks::SESSION_SLOT)?;
        if let Some(ring) = self.rings.get_mut(&id) {
            ring.sessions.slots.push(Slot {
                serial: slot,
                since: Instant::now(),
            });
        }
        Ok(SessionPlan {
            container,
            container_owner,
            slot: slot.raw(),
            uid,
            group,
        })
    }
}

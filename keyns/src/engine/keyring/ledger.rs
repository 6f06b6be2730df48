//! The copies a container was given and that were not ended, whoever holds them by now.
//!
//! A denizen that may link its copy can keep it when the container keyring is gone: it needs no more
//! than to link it into its own session and to invalidate that keyring. So each copy is linked in a
//! second place, which no denizen possesses, from before it can be found until it is invalidated. A
//! worker that starts anew finds it there, and its serial cannot come to mean another key.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::io;

use keyns_sys::{KeySerial, key};
use rustix::io::Errno;

use super::container::unless_dead;
use super::error::{KeyError, death};
use super::facts::KeyFacts;
use super::possession::ActingAs;
use super::registry::{Keys, acting_as};
use crate::engine::container::ContainerId;

/// A copy.
#[derive(Debug)]
struct Entry {
    /// Type and description, which it has in common with its source.
    type_: CString,
    description: CString,
    /// Hash of the payload it was last given; `None`: by a former worker.
    given: Option<u64>,
}

impl Entry {
    fn of(facts: &KeyFacts) -> Self {
        Self {
            type_: facts.type_.clone(),
            description: facts.description.clone(),
            given: None,
        }
    }
}

/// The copies of one container.
#[derive(Debug)]
pub(super) struct Ledger {
    /// `copies`, owned by uid 0 and closed.
    keyring: KeySerial,
    copies: BTreeMap<KeySerial, Entry>,
}

impl Ledger {
    pub(super) fn new(keyring: KeySerial) -> Self {
        Self {
            keyring,
            copies: BTreeMap::new(),
        }
    }

    /// Finds the copies a former worker made: those entered, and those in the container keyring,
    /// whose entry another copy of that name may have displaced when the worker was cut off.
    pub(super) fn learn(
        keyring: KeySerial,
        owner: u32,
        container: &[KeySerial],
    ) -> io::Result<Self> {
        let entered = key::read_keyring(keyring)?;
        let mut ledger = Self::new(keyring);
        let _acting = ActingAs::owner(owner)?;
        for serial in entered.iter().chain(container) {
            // What is not ours was linked there by a denizen that became the owner.
            match KeyFacts::of(*serial) {
                Ok(facts) if facts.uid == owner && !facts.is_keyring() => {
                    ledger.copies.insert(*serial, Entry::of(&facts));
                }
                _ => {}
            }
        }
        Ok(ledger)
    }

    /// Enters a copy; the worker acts as uid 0 and may link it.
    pub(super) fn enter(
        &mut self,
        serial: KeySerial,
        type_: &CStr,
        description: &CStr,
    ) -> io::Result<()> {
        key::link(serial, self.keyring)?;
        let entry = Entry {
            type_: type_.into(),
            description: description.into(),
            given: None,
        };
        self.copies.insert(serial, entry);
        Ok(())
    }

    /// Notes the hash of the payload a copy has now.
    pub(super) fn note_given(&mut self, serial: KeySerial, hash: u64) {
        if let Some(entry) = self.copies.get_mut(&serial) {
            entry.given = Some(hash);
        }
    }

    pub(super) fn was_given(&self, serial: KeySerial, hash: u64) -> bool {
        self.copies
            .get(&serial)
            .is_some_and(|entry| entry.given == Some(hash))
    }

    /// The copies.
    pub(super) fn serials(&self) -> impl Iterator<Item = KeySerial> {
        self.copies.keys().copied()
    }

    /// Invalidates every copy.
    pub(super) fn end_all(&mut self, owner: u32, container: KeySerial) -> Result<(), KeyError> {
        let serials: Vec<KeySerial> = self.copies.keys().copied().collect();
        serials
            .into_iter()
            .try_for_each(|serial| self.end(owner, container, serial).map(drop))
    }

    /// Compares with what is in the container keyring: invalidates the copies that are not there any
    /// more, and throws out what a denizen that became the owner linked there. A tree of keyrings
    /// would keep new processes from linking the container keyring (`keyring_detect_cycle`).
    pub(super) fn compare(
        &mut self,
        owner: u32,
        container: KeySerial,
        links: Vec<KeySerial>,
    ) -> Result<(), KeyError> {
        let links: BTreeSet<KeySerial> = links.into_iter().collect();
        let missing = self.copies.keys().filter(|serial| !links.contains(serial));
        let missing: Vec<KeySerial> = missing.copied().collect();
        for serial in missing {
            self.end(owner, container, serial)?;
        }
        let foreign = links.iter().filter(|s| !self.copies.contains_key(s));
        for serial in foreign {
            let _acting = acting_as(owner)?;
            unless_gone(key::unlink(*serial, container))?;
        }
        Ok(())
    }

    /// Invalidates a copy and forgets it. Returns false if there is no such copy or it died before.
    fn end(
        &mut self,
        owner: u32,
        container: KeySerial,
        serial: KeySerial,
    ) -> Result<bool, KeyError> {
        let Some(entry) = self.copies.get(&serial) else {
            return Ok(false);
        };
        let ended = end_key(owner, serial, &entry.type_, &entry.description)?;
        if ended == Ending::Refused {
            // Whoever may change masks made the copy its own. At least nobody finds it here.
            unless_gone(key::unlink(serial, self.keyring))?;
            let _acting = acting_as(owner)?;
            unless_gone(key::unlink(serial, container))?;
        }
        self.copies.remove(&serial);
        Ok(ended == Ending::Done)
    }
}

#[derive(PartialEq, Eq)]
enum Ending {
    Done,
    /// It died before, or its number means another key.
    Needless,
    /// The kernel does not let its owner.
    Refused,
}

fn end_key(
    owner: u32,
    serial: KeySerial,
    type_: &CStr,
    description: &CStr,
) -> Result<Ending, KeyError> {
    let _acting = acting_as(owner)?;
    let ended = KeyFacts::of(serial).and_then(|facts| {
        if facts.uid != owner || !facts.is(type_, description) {
            return Ok(Ending::Needless);
        }
        key::invalidate(serial).map(|()| Ending::Done)
    });
    match ended {
        Err(error) if death(&error).is_some() => Ok(Ending::Needless),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => Ok(Ending::Refused),
        other => other.map_err(KeyError::of("invalidate a copy")),
    }
}

/// Success also when key, link or the right to the keyring is gone.
fn unless_gone(result: io::Result<()>) -> Result<(), KeyError> {
    match result {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::ACCESS)
            ) =>
        {
            Ok(())
        }
        other => unless_dead(other).map_err(KeyError::of("unlink a copy")),
    }
}

impl Keys {
    /// The copies a container was given and that were not ended yet, dead ones included.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]
    pub fn given(&self, id: ContainerId) -> Result<Vec<KeySerial>, KeyError> {
        Ok(self.ring(id)?.ledger.copies.keys().copied().collect())
    }

    /// Invalidates a copy, wherever a denizen may have linked it. Returns false if it was gone
    /// already.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn remove_copy(
        &mut self,
        container: ContainerId,
        serial: KeySerial,
    ) -> Result<bool, KeyError> {
        let ring = self
            .rings
            .get_mut(&container)
            .ok_or(KeyError::NoContainer(container.0))?;
        ring.ledger.end(ring.owner, ring.container, serial)
    }

    /// Same for a copy of that key which the ledger may have lost: a worker was ended after it had
    /// entered the next copy of that name and before it invalidated this one.
    pub(super) fn remove_copy_of(
        &mut self,
        container: ContainerId,
        serial: KeySerial,
        source: &KeyFacts,
    ) -> Result<(), KeyError> {
        if self.remove_copy(container, serial)? {
            return Ok(());
        }
        let owner = self.ring(container)?.owner;
        end_key(owner, serial, &source.type_, &source.description).map(drop)
    }

    /// Whether `serial` is a copy we made for the present container keyring and alive; if `source` is
    /// given, one of that key.
    pub(super) fn copy_lives(
        &self,
        container: ContainerId,
        serial: KeySerial,
        source: Option<&KeyFacts>,
    ) -> Result<bool, KeyError> {
        let ring = self.ring(container)?;
        let Some(entry) = ring.ledger.copies.get(&serial) else {
            return Ok(false);
        };
        let _acting = acting_as(ring.owner)?;
        match KeyFacts::of(serial) {
            Ok(facts) => Ok(facts.uid == ring.owner
                && facts.is(&entry.type_, &entry.description)
                && source.is_none_or(|s| facts.is(&s.type_, &s.description))),
            Err(error) if death(&error).is_some() => Ok(false),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => Ok(false),
            Err(error) => Err(KeyError::of("describe a copy")(error)),
        }
    }
}

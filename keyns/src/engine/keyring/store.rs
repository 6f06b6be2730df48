//! Keys the daemon holds: those of the containers' stores and those lent to it.

use std::ffi::CStr;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use keyns_sys::secret::SecretBytes;
use keyns_sys::{KeySerial, key};
use rustix::io::Errno;

use super::container::unless_dead;
use super::error::{KeyError, death};
use super::facts::KeyFacts;
use super::masks;
use super::possession::{ActingAs, Grasp};
use super::registry::{Keys, children, hold};
use crate::engine::container::ContainerId;
use crate::engine::error::EngineError;

/// Which keyring of the registry keeps a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Home {
    /// A container's store.
    Store(ContainerId),
    /// The slot of a lent key.
    Lent,
}

/// A key the daemon holds. A serial alone identifies nothing: it is used only while the link in its
/// home keyring is held, and only if type and description are still those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRef {
    /// Where it is kept.
    pub home: Home,
    /// What it was when the daemon got it.
    pub facts: KeyFacts,
}

/// A point in time: seconds since the epoch, which is how the kernel keeps the expiry of keys.
pub type Deadline = u64;

/// Seconds since the epoch.
#[must_use]
pub fn now() -> Deadline {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

impl Keys {
    /// Creates a key in a container's store.
    ///
    /// # Errors
    /// [`KeyError::Exists`]; [`KeyError::Quota`]; [`KeyError::Expired`]; what the type says to the
    /// payload (`EINVAL`, `ENODEV` for an unknown type, `EPERM` for one beginning with `.`).
    pub fn add(
        &mut self,
        id: ContainerId,
        type_: &CStr,
        description: &CStr,
        payload: &SecretBytes,
        deadline: Option<Deadline>,
    ) -> Result<KeyFacts, KeyError> {
        let store = self.ring(id)?.store;
        if *type_ == *c"keyring" {
            let reason = "a container's store keeps keys, not keyrings";
            return Err(EngineError::Refused(reason.into()).into());
        }
        // The store is possessed for the sake of types that look for a master key.
        let (_grasp, _acting) = hold_store(self, id)?;
        let what = "add a key";
        let scratch = key::add_key(type_, description, payload.as_slice(), KeySerial::THREAD)
            .map_err(KeyError::charging(0, what))?;
        key::set_perm(scratch, masks::STORE).map_err(KeyError::of(what))?;
        set_deadline(scratch, deadline)?;
        let put = || key::move_key(scratch, KeySerial::THREAD, store, key::MOVE_EXCL);
        let exists = |error: &io::Error| Errno::from_io_error(error) == Some(Errno::EXIST);
        let mut put_in = put();
        if put_in.as_ref().is_err_and(exists) {
            // Perhaps an expired key of that name, which the kernel keeps for minutes.
            unlink_dead(store).map_err(KeyError::of(what))?;
            put_in = put();
        }
        match put_in {
            Err(error) if exists(&error) => return Err(KeyError::Exists),
            other => other.map_err(KeyError::charging(0, what))?,
        }
        KeyFacts::of(scratch).map_err(KeyError::on(scratch, what))
    }

    /// The keys of a container's store.
    ///
    /// # Errors
    /// [`KeyError::NoContainer`]; the kernel's.
    pub fn stored(&self, id: ContainerId) -> Result<Vec<KeyFacts>, KeyError> {
        let store = self.ring(id)?.store;
        let _held = hold_store(self, id)?;
        children(store).map_err(KeyError::of("read a container's store"))
    }

    /// Replaces a stored key's payload; its deadline stays (the kernel's own UPDATE drops it for
    /// some types).
    ///
    /// # Errors
    /// [`KeyError::Gone`]; [`KeyError::Quota`]; what the type says to the payload.
    pub fn update(
        &mut self,
        key: &KeyRef,
        payload: &SecretBytes,
        deadline: Option<Deadline>,
    ) -> Result<KeyFacts, KeyError> {
        let _held = self.hold_key(key)?;
        let facts = &key.facts;
        let what = "update a key";
        match key::update(facts.serial, payload.as_slice()) {
            Err(error) if is_too_long(&error, payload) => {
                // add_key(2) updates a key that is there, and takes as much as its type does.
                let (type_, description) = (&facts.type_, &facts.description);
                let updated = key::add_key(type_, description, payload.as_slice(), self.home(key)?)
                    .map_err(KeyError::charging(facts.uid, what))?;
                if updated != facts.serial {
                    unless_dead(key::invalidate(updated)).map_err(KeyError::of(what))?;
                    let why = "it expired just now";
                    return Err(KeyError::Gone {
                        serial: facts.serial,
                        why,
                    });
                }
            }
            other => other.map_err(KeyError::charging(facts.uid, what))?,
        }
        set_deadline(facts.serial, deadline)?;
        Ok(facts.clone())
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`KeyError::Gone`]; `EOPNOTSUPP` for a type without read method; `EACCES` for a lent key that
    /// gives its possessor no right to search.
    pub fn read(&self, key: &KeyRef) -> Result<SecretBytes, KeyError> {
        let _held = self.hold_key(key)?;
        let facts = &key.facts;
        key::read_secret(facts.serial).map_err(KeyError::on(facts.serial, "read a key"))
    }

    /// Describes a key anew.
    ///
    /// # Errors
    /// [`KeyError::Gone`]
    pub fn describe(&self, key: &KeyRef) -> Result<KeyFacts, KeyError> {
        let _held = self.hold_key(key)?;
        let serial = key.facts.serial;
        KeyFacts::of(serial).map_err(KeyError::on(serial, "describe a key"))
    }

    /// Invalidates a stored key.
    ///
    /// # Errors
    /// [`KeyError::Gone`]; the kernel's.
    pub fn invalidate(&mut self, key: &KeyRef) -> Result<(), KeyError> {
        let _held = self.hold_key(key)?;
        let facts = &key.facts;
        unless_dead(key::invalidate(facts.serial)).map_err(KeyError::of("invalidate a key"))
    }

    /// Moves a key from one container's store to another's.
    ///
    /// # Errors
    /// [`KeyError::Exists`] unless `replace`; [`KeyError::Gone`]; [`KeyError::NoContainer`].
    pub fn move_to(
        &mut self,
        key: &KeyRef,
        to: ContainerId,
        replace: bool,
    ) -> Result<KeyFacts, KeyError> {
        let Home::Store(from) = key.home else {
            return Err(KeyError::NotLendable {
                serial: key.facts.serial,
                why: "a lent key stays where its owner has it".into(),
            });
        };
        let (from, to) = (self.ring(from)?.store, self.ring(to)?.store);
        let held = self.hold_key(key)?;
        let facts = key.facts.clone();
        drop(held);
        // Two stores have the same description, so the thread keyring can hold only one; the key
        // goes through it.
        let what = "move a key";
        let grasp = Grasp::of(&[from]).map_err(KeyError::of(what))?;
        key::link(facts.serial, KeySerial::THREAD).map_err(KeyError::on(facts.serial, what))?;
        key::link(to, KeySerial::THREAD).map_err(KeyError::of(what))?;
        let flags = if replace { 0 } else { key::MOVE_EXCL };
        match key::move_key(facts.serial, KeySerial::THREAD, to, flags) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => {
                Err(KeyError::Exists)
            }
            other => other.map_err(KeyError::on(facts.serial, what)),
        }?;
        drop(grasp);
        let _grasp = Grasp::of(&[from]).map_err(KeyError::of(what))?;
        key::unlink(facts.serial, from).map_err(KeyError::of(what))?;
        Ok(facts)
    }

    /// The keyring that links a key.
    fn home(&self, key: &KeyRef) -> Result<KeySerial, KeyError> {
        let serial = key.facts.serial;
        match key.home {
            Home::Store(id) => Ok(self.ring(id)?.store),
            Home::Lent => self.lent_slot(serial).ok_or(KeyError::Gone {
                serial,
                why: "it is not lent any more",
            }),
        }
    }

    /// Possesses a key through the link in its home and checks that it is still the same.
    pub(super) fn hold_key(&self, key: &KeyRef) -> Result<(Grasp, ActingAs), KeyError> {
        let serial = key.facts.serial;
        let gone = |why| KeyError::Gone { serial, why };
        let home = self.home(key)?;
        let held = hold(0, &[home])?;
        // A search by name says at once that the very key is linked here and has that name; a large
        // store costs no more than a small one.
        let (type_, description) = (&key.facts.type_, &key.facts.description);
        let found = key::search(home, type_, description, KeySerial::NONE);
        if found.is_ok_and(|found| found == serial) {
            return Ok(held);
        }
        // Keys of some types are found by other words, and lent ones may not be searchable.
        let linked = key::read_keyring(home).map_err(KeyError::of("read the keyring of a key"))?;
        if !linked.contains(&serial) {
            return Err(gone("it was invalidated, or expired and was collected"));
        }
        let facts = KeyFacts::of(serial).map_err(KeyError::on(serial, "describe a key"))?;
        if !facts.is(type_, description) {
            return Err(gone("another key has its number now"));
        }
        Ok(held)
    }
}

/// Whether UPDATE refused a payload for its length: it takes one page (`keyctl_update_key`), although
/// `add_key(2)` takes up to a megabyte.
pub(super) fn is_too_long(error: &io::Error, payload: &SecretBytes) -> bool {
    const SMALLEST_PAGE: usize = 4096;
    Errno::from_io_error(error) == Some(Errno::INVAL) && payload.len() > SMALLEST_PAGE
}

/// Unlinks the dead keys of a possessed store.
fn unlink_dead(store: KeySerial) -> io::Result<()> {
    for serial in key::read_keyring(store)? {
        if KeyFacts::of(serial).is_err_and(|error| death(&error).is_some()) {
            unless_dead(key::unlink(serial, store))?;
        }
    }
    Ok(())
}

fn hold_store(keys: &Keys, id: ContainerId) -> Result<(Grasp, ActingAs), KeyError> {
    hold(0, &[keys.ring(id)?.store])
}

/// Lets a key expire at `deadline`; `None`: never.
pub(super) fn set_deadline(serial: KeySerial, deadline: Option<Deadline>) -> Result<(), KeyError> {
    let seconds = match deadline {
        // 0 would mean "never".
        Some(deadline) => match deadline.saturating_sub(now()) {
            0 => return Err(KeyError::Expired),
            left => u32::try_from(left).unwrap_or(u32::MAX),
        },
        None => 0,
    };
    key::set_timeout(serial, seconds).map_err(KeyError::on(serial, "set a key's time-out"))
}

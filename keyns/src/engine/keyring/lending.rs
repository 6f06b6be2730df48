//! Lending: how the daemon gets hold of a key that is its caller's.
//!
//! The daemon has no right over a foreign key, not even over one of uid 0. The caller links the key
//! into a drop keyring that it owns and may only write to; that takes its own LINK right, which the
//! worker, possessing the drop keyring, then has too. Nothing of the key is changed: the daemon keeps
//! one link to it.

use std::collections::BTreeSet;

use keyns_sys::{KeySerial, key};
use rustix::io::Errno;

use super::container::unless_dead;
use super::error::{KeyError, death};
use super::facts::{self, KeyFacts};
use super::masks;
use super::possession::Grasp;
use super::registry::{Keys, children, hold};
use super::store::{Deadline, now};

/// An open drop keyring.
#[derive(Debug)]
pub(super) struct Drop {
    /// The slot around it: its owner may write to the drop keyring, but nobody may link it.
    slot: KeySerial,
}

/// A key that was lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentKey {
    /// What it is.
    pub facts: KeyFacts,
    /// When it expires.
    pub end: End,
}

/// What can be known of when a key of others expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Never, as things are.
    Never,
    /// At the earliest then: `/proc/keys` tells times of an hour and more in hours only, those of a
    /// day in days, and so on.
    NotBefore(Deadline),
    /// Somebody forged a line of that file.
    Unknown,
}

/// A copy is prolonged when it would expire within so many seconds.
const URGENT: u64 = 120;

/// For so many seconds a copy lives on when it is not known when its source ends; more than passes
/// between two looks.
const LEASE: u64 = 300;

impl End {
    /// When a copy that is made at `at` is to expire.
    #[must_use]
    pub fn deadline(self, at: Deadline) -> Option<Deadline> {
        match self {
            Self::Never => None,
            Self::NotBefore(end) => Some(end),
            Self::Unknown => Some(at.saturating_add(LEASE)),
        }
    }
}

/// When a copy is to expire that now expires at `old`, by what is known of its source. Never later
/// than the source, if that is known; later than before only when that is near.
#[must_use]
pub fn followed(old: Option<Deadline>, source: End, at: Deadline) -> Option<Deadline> {
    match (old, source.deadline(at)) {
        (Some(before), Some(earliest))
            if before <= earliest && before > at.saturating_add(URGENT) =>
        {
            old
        }
        (_, new) => new,
    }
}

impl Keys {
    /// Opens a drop keyring owned by the kernel uid `uid` and charged to it.
    ///
    /// # Errors
    /// [`KeyError::Quota`]; the kernel's.
    pub fn open_drop(&mut self, uid: u32) -> Result<KeySerial, KeyError> {
        let name = self.unique("drop");
        let slot = self.create(&name, self.drops, 0, masks::SLOT)?;
        let held = hold(0, &[slot])?;
        let made = self.create("_drop", slot, uid, masks::DROP);
        drop(held);
        match made {
            Ok(serial) => {
                self.open_drops.insert(serial, Drop { slot });
                Ok(serial)
            }
            Err(error) => {
                key::unlink(slot, self.drops).map_err(KeyError::of("remove a drop keyring"))?;
                Err(error)
            }
        }
    }

    /// Takes the key that its owner linked into a drop keyring, and empties that.
    ///
    /// # Errors
    /// [`KeyError::NotLendable`]: it does not lie there alone, it is a keyring, or its possessor may
    /// not view or link it.
    pub fn take_lent(
        &mut self,
        drop_keyring: KeySerial,
        serial: KeySerial,
    ) -> Result<LentKey, KeyError> {
        let refuse = |why: &str| KeyError::NotLendable {
            serial,
            why: why.into(),
        };
        let around = self
            .open_drops
            .get(&drop_keyring)
            .ok_or_else(|| refuse("its drop keyring is closed"))?
            .slot;
        let what = "take over a lent key";
        let _grasp = Grasp::of(&[around]).map_err(|error| match Errno::from_io_error(&error) {
            // The kernel's look for cycles gave up in what was dropped.
            Some(Errno::LOOP) => refuse("keyrings are not lent"),
            _ => KeyError::of("take hold of a drop keyring")(error),
        })?;
        let dropped =
            key::read_keyring(drop_keyring).map_err(KeyError::of("read a drop keyring"))?;
        if dropped != [serial] {
            return Err(refuse("it does not lie alone in the drop keyring"));
        }
        let view = |serial| {
            KeyFacts::of(serial).map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::ACCESS) => refuse("its possessor may not view it"),
                _ => KeyError::on(serial, what)(error),
            })
        };
        let before = view(serial)?;
        if before.is_keyring() {
            return Err(refuse("keyrings are not lent"));
        }
        if let Some(old) = self.slots.remove(&serial) {
            // Lent before: the link is made anew, in case the number means another key by now.
            unless_dead(key::unlink(old, self.lent)).map_err(KeyError::of(what))?;
        }
        let slot = self.create(&format!("lent:{serial}"), self.lent, 0, masks::SLOT)?;
        let linked = (|| {
            key::link(slot, KeySerial::THREAD).map_err(KeyError::of(what))?;
            key::link(serial, slot).map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::ACCESS) => refuse("its possessor may not link it"),
                _ => KeyError::on(serial, what)(error),
            })?;
            // Only now is it certain that the number still means the key that was looked at.
            let after = view(serial)?;
            let same = after.is(&before.type_, &before.description) && after.uid == before.uid;
            let linked = key::read_keyring(slot).map_err(KeyError::of(what))?;
            if !same || linked != [serial] {
                return Err(refuse("it became another key meanwhile"));
            }
            let end = ends(&BTreeSet::from([serial]))?(serial);
            key::clear(drop_keyring).map_err(KeyError::of("empty a drop keyring"))?;
            Ok(LentKey { facts: after, end })
        })();
        match linked {
            Ok(lent) => {
                self.slots.insert(serial, slot);
                Ok(lent)
            }
            Err(error) => {
                key::unlink(slot, self.lent).map_err(KeyError::of(what))?;
                Err(error)
            }
        }
    }

    /// Closes a drop keyring; closing one that is not open does nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn close_drop(&mut self, drop_keyring: KeySerial) -> Result<(), KeyError> {
        let Some(Drop { slot }) = self.open_drops.remove(&drop_keyring) else {
            return Ok(());
        };
        unless_dead(key::unlink(slot, self.drops)).map_err(KeyError::of("remove a drop keyring"))
    }

    /// Drops the daemon's link to a lent key. Returns whether there was one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn give_back(&mut self, serial: KeySerial) -> Result<bool, KeyError> {
        let Some(slot) = self.slots.remove(&serial) else {
            return Ok(false);
        };
        unless_dead(key::unlink(slot, self.lent)).map_err(KeyError::of("give a lent key back"))?;
        Ok(true)
    }

    /// The keys lent to this instance that are still alive. Makes the kernel walk all keys there are.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lent(&self) -> Result<Vec<LentKey>, KeyError> {
        let all: Vec<KeySerial> = self.slots.values().copied().collect();
        let _held = hold(0, &all)?;
        let serials = self.slots.keys().copied().collect();
        let end = ends(&serials)?;
        let mut lent = Vec::new();
        for (serial, slot) in &self.slots {
            let linked =
                key::read_keyring(*slot).map_err(KeyError::of("read the slot of a lent key"))?;
            if !linked.contains(serial) {
                continue;
            }
            let facts = match KeyFacts::of(*serial) {
                Ok(facts) => facts,
                Err(error) if death(&error).is_some() => continue,
                Err(error) => return Err(KeyError::of("describe a lent key")(error)),
            };
            let end = end(*serial);
            lent.push(LentKey { facts, end });
        }
        Ok(lent)
    }

    /// Serials of the keys lent to this instance, dead ones included.
    #[must_use]
    pub fn loans(&self) -> Vec<KeySerial> {
        self.slots.keys().copied().collect()
    }

    pub(super) fn lent_slot(&self, serial: KeySerial) -> Option<KeySerial> {
        self.slots.get(&serial).copied()
    }

    /// Finds the slots a former worker left.
    pub(super) fn learn_lent(&mut self) -> Result<(), KeyError> {
        for facts in children(self.lent).map_err(KeyError::of("read the lent keys"))? {
            let serial = facts
                .description
                .to_str()
                .ok()
                .and_then(|text| text.strip_prefix("lent:")?.parse().ok());
            let Some(serial) = serial.map(KeySerial::new) else {
                continue;
            };
            let grasp = Grasp::of(&[facts.serial]).map_err(KeyError::of("hold a lent key"))?;
            let alive =
                key::read_keyring(facts.serial).is_ok_and(|linked| linked.contains(&serial));
            drop(grasp);
            if alive {
                self.slots.insert(serial, facts.serial);
            } else {
                unless_dead(key::unlink(facts.serial, self.lent))
                    .map_err(KeyError::of("drop the slot of a dead key"))?;
            }
        }
        Ok(())
    }
}

/// When possessed keys expire.
fn ends(keys: &BTreeSet<KeySerial>) -> Result<impl Fn(KeySerial) -> End + use<>, KeyError> {
    let at = now();
    let lines = facts::lines_of(keys).map_err(KeyError::of("read /proc/keys"))?;
    Ok(move |serial| {
        let Some(line) = lines.get(&serial) else {
            return End::Unknown;
        };
        match line.expiry.at_least() {
            Some(left) => End::NotBefore(at.saturating_add(left.as_secs())),
            None => End::Never,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{End, LEASE, followed};

    #[test]
    fn a_rounded_expiry_is_followed_without_outliving_the_source() {
        // The source expires at 10,000; what is seen is rounded down to hours, minutes, seconds.
        let seen = |at: u64| {
            let left = 10_000 - at;
            let unit = [3600, 60, 1]
                .into_iter()
                .find(|unit| left >= *unit)
                .unwrap();
            End::NotBefore(at + left / unit * unit)
        };
        let mut deadline = seen(0).deadline(0);
        for at in (0..9990).step_by(30) {
            assert!(deadline.unwrap() > at, "the copy expired at {at}");
            deadline = followed(deadline, seen(at), at);
            assert!(deadline.unwrap() <= 10_000);
        }
        assert!(deadline.unwrap() > 9900);
    }

    #[test]
    fn a_new_end_is_taken_over() {
        let end = End::NotBefore;
        assert_eq!(followed(None, end(50), 0), Some(50));
        assert_eq!(followed(Some(50), End::Never, 0), None);
        assert_eq!(followed(Some(9000), end(50), 0), Some(50));
        assert_eq!(followed(Some(100), end(9000), 0), Some(9000));
        assert_eq!(followed(Some(1000), end(9000), 0), Some(1000));
    }

    #[test]
    fn an_end_that_is_not_known_is_put_off_again_and_again() {
        let mut deadline = None;
        for at in (1000..9000).step_by(60) {
            deadline = followed(deadline, End::Unknown, at);
            let end = deadline.unwrap();
            assert!(end > at + 60 && end <= at + LEASE, "{end} at {at}");
        }
    }
}

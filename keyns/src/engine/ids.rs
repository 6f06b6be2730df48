//! Ids for user namespaces: disjoint ranges, for all instances of the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::container::IdRange;
use super::paths::SHARED;
use super::shared;
use crate::key_users;
use crate::routing::CONTAINER_IDS;

/// First kernel id of the pool.
pub const POOL_BASE: u32 = CONTAINER_IDS.start;
/// Ids per container.
pub const RANGE: u32 = 65_536;
/// Containers with a user namespace on one machine.
pub const POOL_RANGES: u32 = (CONTAINER_IDS.end - CONTAINER_IDS.start) / RANGE;

/// A nested container gets this fraction of its parent's ids.
const NESTED_FRACTION: u32 = 16;
/// Slots of the parent's range that nested containers may have: the upper half but the last one,
/// so that neither low ids nor 65534 (nobody) are given away.
const NESTED_SLOTS: std::ops::Range<u32> = 8..15;

/// The pool, as files `/run/keyns/ids/<base>` that name their instance.
#[derive(Debug)]
pub struct IdPool {
    directory: PathBuf,
    instance: String,
}

impl IdPool {
    /// Opens the machine's pool for `instance`.
    ///
    /// # Errors
    /// When `/run/keyns/ids` cannot be made.
    pub fn open(instance: &str) -> io::Result<Self> {
        Self::open_at(Path::new(SHARED), instance)
    }

    fn open_at(shared: &Path, instance: &str) -> io::Result<Self> {
        let directory = shared.join("ids");
        fs::create_dir_all(&directory)?;
        Ok(Self {
            directory,
            instance: instance.to_owned(),
        })
    }

    fn lock(&self) -> io::Result<File> {
        shared::lock(&self.directory.with_file_name("lock"))
    }

    /// Takes a range that no container has and whose ids own no key.
    ///
    /// # Errors
    /// `ENOSPC` when the pool is used up.
    pub fn take(&self, owner: &str) -> io::Result<IdRange> {
        let _lock = self.lock()?;
        // Listed first: with a thousand containers, to try one after the other takes longer than all
        // the rest of creating one.
        let mut free = vec![true; POOL_RANGES as usize];
        let mut take = |id: u32| {
            let index = id.checked_sub(POOL_BASE).map(|offset| offset / RANGE);
            if let Some(range) = index.and_then(|index| free.get_mut(index as usize)) {
                *range = false;
            }
        };
        let users = fs::read_to_string("/proc/key-users")?;
        key_users::lines(&users).for_each(|user| take(user.uid));
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            if let Some(base) = name.to_str().and_then(|name| name.parse().ok()) {
                take(base);
            }
        }
        for (index, _) in (0..POOL_RANGES).zip(&free).filter(|(_, free)| **free) {
            let base = POOL_BASE + index * RANGE;
            let path = self.directory.join(base.to_string());
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
            {
                Ok(mut file) => {
                    writeln!(file, "{} {owner}", self.instance)?;
                    return Ok(IdRange { base, count: RANGE });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(rustix::io::Errno::NOSPC.into())
    }

    /// Gives a range back. It is not reused while a key owned by one of its ids lives.
    ///
    /// # Errors
    /// `unlink(2)`; a range that is not taken is no error.
    pub fn give_back(&self, range: IdRange) -> io::Result<()> {
        let _lock = self.lock()?;
        match fs::remove_file(self.directory.join(range.base.to_string())) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// The ranges that this instance has taken.
    ///
    /// # Errors
    /// Those of reading the pool.
    pub fn taken(&self) -> io::Result<Vec<IdRange>> {
        let mut ranges = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let base = entry.file_name().to_str().and_then(|n| n.parse().ok());
            if let (Some(base), true) =
                (base, text.split(' ').next() == Some(self.instance.as_str()))
            {
                ranges.push(IdRange { base, count: RANGE });
            }
        }
        Ok(ranges)
    }

    /// Gives back what this instance has taken but for no container of `in_use`, e.g. by a daemon
    /// that was killed between taking a range and storing the container.
    ///
    /// # Errors
    /// Those of reading the pool.
    pub fn reconcile(&self, in_use: &[IdRange]) -> io::Result<()> {
        let _lock = self.lock()?;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(base) = name.to_str().and_then(|n| n.parse::<u32>().ok()) else {
                continue;
            };
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let ours = text.split(' ').next() == Some(self.instance.as_str());
            if ours && !in_use.iter().any(|range| range.base == base) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Whether an id of `range` owns a key.
///
/// # Errors
/// Those of reading `/proc/key-users`.
pub fn own_keys(range: IdRange) -> io::Result<bool> {
    let users = fs::read_to_string("/proc/key-users")?;
    Ok(key_users::lines(&users).any(|user| range.inside(user.uid).is_some()))
}

/// The slice of `parent`'s ids that nested slot number `slot` (0 to 6) gets, or `None` when the
/// slot does not exist or the parent has too few ids left to divide.
#[must_use]
pub fn nested_slice(parent: IdRange, slot: u32) -> Option<IdRange> {
    let slot = NESTED_SLOTS
        .start
        .checked_add(slot)
        .filter(|s| NESTED_SLOTS.contains(s))?;
    let count = parent.count / NESTED_FRACTION;
    (count > 0).then(|| IdRange {
        base: parent.base + slot * count,
        count,
    })
}

/// Number of slots [`nested_slice`] knows.
pub const NESTED_LIMIT: u32 = NESTED_SLOTS.end - NESTED_SLOTS.start;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_never_get_the_same_range() {
        let shared = tempfile::tempdir().unwrap();
        let one = IdPool::open_at(shared.path(), "one").unwrap();
        let two = IdPool::open_at(shared.path(), "two").unwrap();
        let a = one.take("1").unwrap();
        let b = two.take("1").unwrap();
        assert_ne!(a.base, b.base);
        one.reconcile(&[]).unwrap();
        assert_eq!(one.take("2").unwrap().base, a.base);
        two.give_back(b).unwrap();
        two.give_back(b).unwrap();
    }

    #[test]
    fn nested_slices_are_disjoint_and_leave_nobody_to_the_parent() {
        let parent = IdRange {
            base: POOL_BASE,
            count: RANGE,
        };
        let slices: Vec<_> = (0..NESTED_LIMIT)
            .map(|s| nested_slice(parent, s).unwrap())
            .collect();
        for (i, a) in slices.iter().enumerate() {
            assert!(a.inside(parent.base + 65_534).is_none());
            assert!(a.base >= parent.base + RANGE / 2);
            for b in slices.iter().skip(i + 1) {
                assert!(a.base + a.count <= b.base || b.base + b.count <= a.base);
            }
        }
        assert_eq!(nested_slice(parent, NESTED_LIMIT), None);
        assert_eq!(nested_slice(IdRange { base: 1, count: 8 }, 0), None);
    }
}

//! The container objects of an instance: descriptors, by the daemon's number of the container.
//!
//! The daemon has a copy of each, which ends with it. What keeps an object is the copy of its monitor.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyns_sys::container_abi::{ContainerAbi, Feature};
use rustix::io::Errno;

use super::container::ContainerId;

/// The objects that are known, and the kernel's numbers.
#[derive(Debug)]
pub struct Objects {
    abi: ContainerAbi,
    held: Mutex<BTreeMap<ContainerId, Arc<OwnedFd>>>,
}

impl Objects {
    pub(super) fn new(abi: ContainerAbi) -> Self {
        Self {
            abi,
            held: Mutex::default(),
        }
    }

    /// The kernel's numbers.
    #[must_use]
    pub fn abi(&self) -> &ContainerAbi {
        &self.abi
    }

    /// Whether the kernel can queue requests instead of starting a program for each.
    #[must_use]
    pub fn intercepts(&self) -> bool {
        self.abi.has(Feature::Interception)
    }

    /// The object of a container.
    ///
    /// # Errors
    /// `ENOENT` where its descriptor is not known.
    pub fn get(&self, id: ContainerId) -> io::Result<Arc<OwnedFd>> {
        self.held()
            .get(&id)
            .cloned()
            .ok_or_else(|| Errno::NOENT.into())
    }

    pub(super) fn put(&self, id: ContainerId, object: OwnedFd) -> Arc<OwnedFd> {
        let object = Arc::new(object);
        self.held().insert(id, Arc::clone(&object));
        object
    }

    pub(super) fn forget(&self, id: ContainerId) {
        self.held().remove(&id);
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Arc<OwnedFd>>> {
        // Whoever panicked with the lock cannot have left half a change.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel says of the container behind a descriptor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its own number of it, which is never used again.
    pub(super) number: u64,
    /// The name, which another one may have once this has ended.
    pub(super) name: String,
}

/// Reads both from the descriptor's `fdinfo`.
pub(super) fn identity(object: &impl AsFd) -> io::Result<Identity> {
    let path = format!("/proc/self/fdinfo/{}", object.as_fd().as_raw_fd());
    parse(&fs::read_to_string(path)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse(text: &str) -> Option<Identity> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.next()?.strip_prefix('\t')
    };
    Some(Identity {
        number: value("container_id:")?.parse().ok()?,
        name: value("container_name:")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_its_number_and_name() {
        let text = "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t9\ncontainer_id:\t12\n\
            container_name:\tweb\ncontainer_flags:\t1\ncontainer_init:\t77\n";
        let identity = parse(text).unwrap();
        assert_eq!((identity.number, identity.name.as_str()), (12, "web"));
        for broken in [
            text.replace("container_id", "id"),
            text.replace("\t12", "\t-12"),
            text.replace("\t12", "12"),
            text.replace("container_name", "name"),
        ] {
            assert_eq!(parse(&broken), None, "{broken}");
        }
        assert!(identity_of_a_file().is_err());
    }

    fn identity_of_a_file() -> io::Result<Identity> {
        super::identity(&fs::File::open("/dev/null")?)
    }
}

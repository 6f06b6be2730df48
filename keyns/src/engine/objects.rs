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

/// The kernel's number of the container behind a descriptor (`container_id` in its `fdinfo`).
pub(super) fn number(object: &impl AsFd) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", object.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("container_id:")?.trim().parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

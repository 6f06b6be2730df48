//! What the worker thread possesses and whom it acts as, for the length of one operation.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use keyns_sys::cred::{set_fsgid, set_fsuid};
use keyns_sys::{KeySerial, key};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

thread_local! {
    /// The thread keyring could not be cleared after the last operation.
    static DIRTY: Cell<bool> = const { Cell::new(true) };
}

/// Links in the thread keyring; dropped with this value. Only one exists at a time.
#[must_use]
pub(super) struct Grasp(());

impl Grasp {
    /// Links each of `keyrings` into the thread keyring, which is empty before (needs LINK on each).
    pub(super) fn of(keyrings: &[KeySerial]) -> io::Result<Self> {
        if DIRTY.replace(true) {
            key::clear(KeySerial::THREAD)?;
        }
        let grasp = Self(());
        for keyring in keyrings {
            key::link(*keyring, KeySerial::THREAD)?;
        }
        Ok(grasp)
    }
}

impl Drop for Grasp {
    fn drop(&mut self) {
        // Without memory this fails, and the next operation has to.
        DIRTY.set(key::clear(KeySerial::THREAD).is_err());
    }
}

/// Acts as `owner` towards keys (`setfsuid(2)`), as uid and gid 0 again once dropped.
#[must_use]
pub(super) struct ActingAs {
    changed: bool,
}

impl ActingAs {
    pub(super) fn owner(owner: u32) -> io::Result<Self> {
        Self::member(owner, 0)
    }

    /// Same, with a group's rights on keys of others.
    pub(super) fn member(owner: u32, group: u32) -> io::Result<Self> {
        let acting = Self {
            changed: (owner, group) != (0, 0),
        };
        if acting.changed {
            set_fsgid(group)?;
            set_fsuid(owner)?;
        }
        Ok(acting)
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        // A worker that stays somebody else would create and change keys in that one's name.
        if self.changed && set_fsuid(0).and_then(|()| set_fsgid(0)).is_err() {
            std::process::abort();
        }
    }
}

/// Runs `work` in a network namespace, in which the keys of some types are found and tagged.
pub(super) fn in_network<R>(
    network: Option<BorrowedFd<'_>>,
    work: impl FnOnce() -> io::Result<R>,
) -> io::Result<R> {
    let Some(network) = network else {
        return work();
    };
    let home = std::fs::File::open("/proc/thread-self/ns/net")?;
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
    let result = work();
    // A worker left in a container's network namespace would tag every later key with it.
    if move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)).is_err() {
        std::process::abort();
    }
    result
}

//! Reading the routing table.

use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use keyns_sys::requester;
use keyns_sys::routing_entry::{self, RoutingEntry, RoutingKey};

/// The table, which has at least one entry.
pub(crate) struct Table(OwnedFd);

/// An entry names the requester but cannot be read, or a fact about the requester is missing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Undecidable;

impl From<io::Error> for Undecidable {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Table {
    /// Opens the table; `None` when it is absent or empty, so that no container lives.
    ///
    /// # Errors
    /// Any other failure: there may be containers.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        const O_DIRECTORY_NOFOLLOW: i32 = 0o600_000;
        let path = CString::new(routing_entry::DIRECTORY)?;
        match requester::open_at(None, &path, O_DIRECTORY_NOFOLLOW) {
            Ok(table) if requester::has_visible_entry(table.as_fd())? => Ok(Some(Self(table))),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The entry for one namespace or cgroup.
    ///
    /// # Errors
    /// [`Undecidable`] when there is one and it is malformed.
    pub(crate) fn get(&self, key: &RoutingKey) -> Result<Option<RoutingEntry>, Undecidable> {
        let name = CString::new(key.file_name()).map_err(|_| Undecidable)?;
        let file = match requester::open_at(Some(self.0.as_fd()), &name, 0) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(Undecidable),
        };
        let text = requester::read_all(file.as_fd(), routing_entry::MAX_ENTRY)?;
        RoutingEntry::decode(&text)
            .map(Some)
            .map_err(|_| Undecidable)
    }
}

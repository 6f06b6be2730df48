//! Reading the routing table.

use std::ffi::CString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use keyns_sys::request::Undecidable;
use keyns_sys::requester::{self, DIRECTORY_ITSELF};
use keyns_sys::routing_entry::{self, RoutingEntry, RoutingKey};

/// The table. Its directory exists only as long as it has entries, or a daemon was killed.
pub(crate) struct Table(OwnedFd);

impl Table {
    /// Opens the table; `None` when it is absent, so that no container lives.
    ///
    /// # Errors
    /// Any other failure: there may be containers.
    pub(crate) fn open() -> io::Result<Option<Self>> {
        match requester::open_at(None, routing_entry::DIRECTORY_C, DIRECTORY_ITSELF) {
            Ok(table) => Ok(Some(Self(table))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether any entry matches by cgroup.
    ///
    /// # Errors
    /// [`Undecidable`] when that cannot be told.
    pub(crate) fn has_cgroups(&self) -> Result<bool, Undecidable> {
        self.has(routing_entry::CGROUPS)
    }

    /// Whether a container lives whose processes may have ids of the host.
    ///
    /// # Errors
    /// [`Undecidable`] when that cannot be told.
    pub(crate) fn has_any_id(&self) -> Result<bool, Undecidable> {
        self.has(routing_entry::ANY_ID)
    }

    fn has(&self, directory: &str) -> Result<bool, Undecidable> {
        let name = CString::new(directory).map_err(|_| Undecidable)?;
        match requester::open_at(Some(self.0.as_fd()), &name, DIRECTORY_ITSELF) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(_) => Err(Undecidable),
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

//! Descriptors that a service manager hands over: sockets that it listens on, and what the daemon
//! before had it keep, which is sockets and containers. Each is looked at before it is believed; what
//! does not fit is closed, and made anew where it is needed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use keyns::engine::container::ContainerId;
use keyns::engine::paths::Paths;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike as _, UnixAddr};
use nix::sys::socket::{getsockname, getsockopt, sockopt};

use super::Environment;
use super::notify::Manager;
use crate::upcall_link::first_path;

/// Before the role in the name of what the daemon has had kept.
const STORED: &str = "stored-";
/// Before the daemon's number of a container.
const CONTAINER: &str = "container-";

/// What a listening socket of the daemon is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Varlink for everyone.
    Varlink,
    /// Varlink for root.
    Admin,
    /// Requests.
    Upcall,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Varlink, Self::Admin, Self::Upcall];

    /// Its name as `FileDescriptorName=` of a socket unit has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Varlink => "varlink",
            Self::Admin => "admin",
            Self::Upcall => "upcall",
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(self, paths: &Paths) -> PathBuf {
        match self {
            Self::Varlink => paths.socket(),
            Self::Admin => paths.admin_socket(),
            Self::Upcall => paths.upcall(),
        }
    }

    const fn socket_type(self) -> SockType {
        match self {
            Self::Varlink | Self::Admin => SockType::Stream,
            Self::Upcall => SockType::SeqPacket,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a listening socket comes from, and whose its file is.
#[derive(Debug, Default)]
pub enum ListenerSource {
    /// Made by the daemon, which removes its file again.
    #[default]
    Own,
    /// Made by the daemon for a service manager to keep: the file stays.
    Kept,
    /// Made before; the file stays.
    Given(OwnedFd),
}

/// What was handed over.
#[derive(Debug, Default)]
pub struct Handed {
    listeners: [Option<OwnedFd>; 3],
    /// Who knows the containers looks at these.
    containers: BTreeMap<ContainerId, OwnedFd>,
}

impl Handed {
    /// Takes what the environment announces, closes what does not fit, and tells the manager to forget
    /// it.
    ///
    /// # Errors
    /// A sentence where what is announced cannot be understood at all.
    pub fn take(
        environment: &Environment,
        paths: &Paths,
        manager: &Manager,
    ) -> Result<Self, String> {
        let names = environment.descriptors(std::process::id())?;
        let count = u16::try_from(names.len()).unwrap_or(u16::MAX);
        if count == 0 {
            return Ok(Self::default());
        }
        let descriptors = keyns_sys::inherited::take(count)
            .map_err(|error| format!("what LISTEN_FDS announces cannot be taken: {error}"))?;
        let mut handed = Self::default();
        for (number, (name, descriptor)) in (3_u32..).zip(names.iter().zip(descriptors)) {
            let placed = handed.place(name, descriptor, paths);
            if placed.is_ok() && (name.starts_with(STORED) || name.starts_with(CONTAINER)) {
                manager.has_kept(name);
            }
            if let Err(why) = placed {
                let name = name.escape_debug().to_string();
                tracing::warn!(
                    number,
                    name,
                    why,
                    "closed a descriptor that the service manager handed over"
                );
                // Otherwise it would come again with every start.
                manager.forget(&name);
            }
        }
        Ok(handed)
    }

    fn place(
        &mut self,
        name: &str,
        descriptor: Option<OwnedFd>,
        paths: &Paths,
    ) -> Result<(), String> {
        let descriptor = descriptor.ok_or("it is not open")?;
        if let Some(id) = container_of(name) {
            return match self.containers.entry(id) {
                Entry::Vacant(place) => {
                    place.insert(descriptor);
                    Ok(())
                }
                Entry::Occupied(_) => Err("there is another of its kind".into()),
            };
        }
        let role = name.strip_prefix(STORED).unwrap_or(name);
        let role = Role::ALL.into_iter().find(|known| known.name() == role);
        let role = role.ok_or("keynsd knows no such name")?;
        fits(descriptor.as_fd(), role, &role.path(paths))?;
        let place = self.listeners.get_mut(role as usize);
        match place {
            Some(place @ None) => {
                *place = Some(descriptor);
                Ok(())
            }
            _ => Err("there is another of its kind".into()),
        }
    }

    /// The containers, which are then no longer here.
    pub fn containers(&mut self) -> BTreeMap<ContainerId, OwnedFd> {
        std::mem::take(&mut self.containers)
    }

    /// The socket of a role, which is then no longer here.
    pub fn listener(&mut self, role: Role) -> Option<OwnedFd> {
        self.listeners.get_mut(role as usize)?.take()
    }
}

/// The container that a name is for: only as [`container_name`] writes it.
fn container_of(name: &str) -> Option<ContainerId> {
    let id = ContainerId(name.strip_prefix(CONTAINER)?.parse().ok()?);
    (container_name(id) == name).then_some(id)
}

/// The name under which the manager keeps a container.
#[must_use]
pub fn container_name(id: ContainerId) -> String {
    format!("{CONTAINER}{id}")
}

/// Whether a descriptor is the listening socket of a role.
fn fits(descriptor: BorrowedFd<'_>, role: Role, path: &std::path::Path) -> Result<(), String> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::FileTypeExt as _;

    let kind = getsockopt(&descriptor, sockopt::SockType).map_err(|_| "it is no socket")?;
    if kind != role.socket_type() {
        return Err(format!(
            "it is a socket of type {kind:?}, not {:?}",
            role.socket_type()
        ));
    }
    let address: UnixAddr =
        getsockname(descriptor.as_raw_fd()).map_err(|_| "it is no Unix socket")?;
    if address.family() != Some(AddressFamily::Unix) {
        return Err("it is no Unix socket".into());
    }
    if !getsockopt(&descriptor, sockopt::AcceptConn).unwrap_or(false) {
        return Err("it does not listen".into());
    }
    let renamed = (role == Role::Upcall).then(|| first_path(path));
    if address
        .path()
        .is_none_or(|at| at != path && Some(at) != renamed.as_deref())
    {
        return Err(format!("it does not listen at {}", path.display()));
    }
    let file = std::fs::symlink_metadata(path);
    if !file.is_ok_and(|file| file.file_type().is_socket()) {
        return Err(format!(
            "nobody can reach it, as {} is gone",
            path.display()
        ));
    }
    Ok(())
}

/// The name under which the manager keeps a role's socket.
pub(super) fn stored_name(role: Role) -> String {
    format!("{STORED}{role}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_one_name() {
        for id in [0, 7, u64::MAX] {
            let id = ContainerId(id);
            let name = container_name(id);
            assert_eq!(container_of(&name), Some(id));
            // As systemd wants it.
            assert!(name.len() < 256 && !name.contains(|c: char| c == ':' || c.is_control()));
        }
        for other in [
            "container-",
            "container-07",
            "container-+7",
            "container--7",
            "container-7 ",
            "container-18446744073709551616",
            "stored-container-7",
            "7",
        ] {
            assert_eq!(container_of(other), None, "{other}");
        }
    }
}

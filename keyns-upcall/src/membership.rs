//! Whether a thread belongs to a container, decided by its namespaces and its cgroup.

use keyns_sys::requester::{self, NsKind, ThreadDir};
use keyns_sys::routing_entry::{RoutingEntry, RoutingKey};
use keyns_sys::upcall_wire::{MAX_LEVELS, MAX_PATH};

use crate::routing::{Table, Undecidable};

/// Where a thread lives, innermost namespaces first.
pub(crate) struct Place {
    pub(crate) pid_ns: Vec<u64>,
    pub(crate) user_ns: Vec<u64>,
}

impl Place {
    /// Reads the place from the kernel.
    ///
    /// # Errors
    /// [`Undecidable`] when the thread is gone or lives outside our own namespaces.
    pub(crate) fn of(thread: &ThreadDir) -> Result<Self, Undecidable> {
        let pid_ns = ancestry(thread, NsKind::Pid)?;
        Ok(Self {
            pid_ns,
            user_ns: ancestry(thread, NsKind::User)?,
        })
    }

    /// The entry of the table that names the thread, the innermost of its kind; `None`: the host.
    ///
    /// # Errors
    /// [`Undecidable`] when an entry that names it is malformed, or two of different daemons do.
    pub(crate) fn route(
        &self,
        thread: &ThreadDir,
        table: &Table,
    ) -> Result<Option<RoutingEntry>, Undecidable> {
        let by_pid = first_hit(table, inner(&self.pid_ns).map(RoutingKey::Pid))?;
        let by_user = first_hit(table, inner(&self.user_ns).map(RoutingKey::User))?;
        match (by_pid, by_user) {
            (Some(pid), Some(user)) if pid.socket != user.socket => Err(Undecidable),
            (Some(entry), _) | (None, Some(entry)) => Ok(Some(entry)),
            (None, None) if table.has_cgroups()? => route_by_cgroup(&cgroup_of(thread)?, table),
            (None, None) => Ok(None),
        }
    }
}

fn route_by_cgroup(cgroup: &[u8], table: &Table) -> Result<Option<RoutingEntry>, Undecidable> {
    for path in ancestors(cgroup) {
        let hit = table.get(&RoutingKey::Cgroup(path.to_vec()))?;
        // Two paths may have the same hash; only the path itself counts.
        if let Some(entry) = hit.filter(|e| e.cgroup.as_deref() == Some(path)) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The thread's cgroup; empty without cgroup2.
///
/// # Errors
/// [`Undecidable`] when the thread is gone.
pub(crate) fn cgroup_of(thread: &ThreadDir) -> Result<Vec<u8>, Undecidable> {
    cgroup_path(&thread.read(c"cgroup", 4 * MAX_PATH)?)
}

/// All but the last, which is the initial namespace: no entry may claim the whole host.
fn inner(inodes: &[u64]) -> impl Iterator<Item = u64> {
    inodes
        .split_last()
        .map_or(&[][..], |(_, inner)| inner)
        .iter()
        .copied()
}

fn first_hit(
    table: &Table,
    keys: impl Iterator<Item = RoutingKey>,
) -> Result<Option<RoutingEntry>, Undecidable> {
    for key in keys {
        if let Some(entry) = table.get(&key)? {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The inodes from the thread's own namespace up to the initial one.
fn ancestry(thread: &ThreadDir, kind: NsKind) -> Result<Vec<u64>, Undecidable> {
    let inode = thread.namespace_inode(kind)?;
    if Some(inode) == kind.initial_inode() {
        return Ok(vec![inode]);
    }
    let mut namespace = thread.namespace(kind)?;
    let mut inodes = vec![namespace.inode()?];
    // The kernel starts us in the initial ones. Our own are looked up only when they are others.
    while inodes.last().copied() != kind.initial_inode() {
        if inodes.len() == MAX_LEVELS {
            return Err(Undecidable);
        }
        match namespace.parent() {
            Ok(parent) => namespace = parent,
            Err(_) if inodes.last() == Some(&requester::own_namespace_inode(kind)?) => break,
            Err(error) => return Err(error.into()),
        }
        inodes.push(namespace.inode()?);
    }
    Ok(inodes)
}

/// The path on the line `0::<path>`; empty without cgroup2.
fn cgroup_path(text: &[u8]) -> Result<Vec<u8>, Undecidable> {
    let path = text
        .split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"));
    let path = path.unwrap_or_default();
    if path.len() > MAX_PATH {
        Err(Undecidable)
    } else {
        Ok(path.to_vec())
    }
}

/// The path itself, its parent and so on, without the root.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path).filter(|p| p.len() > 1), |path| {
        let cut = path.iter().rposition(|b| *b == b'/')?;
        path.get(..cut).filter(|p| !p.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_looked_up_from_the_leaf_to_the_first_level() {
        let all: Vec<_> = ancestors(b"/a/b c/d").collect();
        assert_eq!(all, [&b"/a/b c/d"[..], b"/a/b c", b"/a"]);
        assert_eq!(ancestors(b"/").count(), 0);
        assert_eq!(ancestors(b"").count(), 0);
    }

    #[test]
    fn only_the_unified_hierarchy_counts() {
        let text = b"9:name=systemd:/x\n4:memory:/y\n0::/keyns/1\n";
        assert_eq!(cgroup_path(text).unwrap(), b"/keyns/1");
        assert_eq!(cgroup_path(b"4:memory:/y\n").unwrap(), b"");
    }

    #[test]
    fn the_initial_namespace_is_never_looked_up() {
        assert_eq!(inner(&[3, 2, 1]).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(inner(&[1]).count(), 0);
        assert_eq!(inner(&[]).count(), 0);
    }
}

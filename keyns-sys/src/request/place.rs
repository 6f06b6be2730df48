//! Where a requesting thread lives: its namespaces and its cgroup.

use super::Undecidable;
use crate::requester::{self, NsKind, ThreadDir};
use crate::upcall_wire::{MAX_LEVELS, MAX_PATH};

/// Where a thread lives, innermost namespaces first.
pub struct Place {
    /// Inodes of its PID namespaces, up to and with the initial one.
    pub pid_ns: Vec<u64>,
    /// Inodes of its user namespaces, likewise.
    pub user_ns: Vec<u64>,
}

impl Place {
    /// Reads the place from the kernel.
    ///
    /// # Errors
    /// [`Undecidable`] when the thread is gone or lives outside our own namespaces.
    pub fn of(thread: &ThreadDir) -> Result<Self, Undecidable> {
        let pid_ns = ancestry(thread, NsKind::Pid)?;
        Ok(Self {
            pid_ns,
            user_ns: ancestry(thread, NsKind::User)?,
        })
    }
}

/// The thread's cgroup; empty without cgroup2.
///
/// # Errors
/// [`Undecidable`] when the thread is gone.
pub fn cgroup_of(thread: &ThreadDir) -> Result<Vec<u8>, Undecidable> {
    cgroup_path(&thread.read(c"cgroup", 4 * MAX_PATH)?)
}

/// The inodes from the thread's own namespace up to the initial one.
fn ancestry(thread: &ThreadDir, kind: NsKind) -> Result<Vec<u64>, Undecidable> {
    let inode = thread.namespace_inode(kind)?;
    if Some(inode) == kind.initial_inode() {
        return Ok(vec![inode]);
    }
    let mut namespace = thread.namespace(kind)?;
    let mut inodes = vec![namespace.inode()?];
    // Whoever asks usually lives in the initial ones. Our own are looked up only when they are others.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unified_hierarchy_counts() {
        let text = b"9:name=systemd:/x\n4:memory:/y\n0::/keyns/1\n";
        assert_eq!(cgroup_path(text).unwrap(), b"/keyns/1");
        assert_eq!(cgroup_path(b"4:memory:/y\n").unwrap(), b"");
    }
}

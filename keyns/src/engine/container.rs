//! What engines and daemon know about a container.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::name::ContainerPath;

/// Number of a container, never reused by an instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub u64);

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A kind of namespace a container may have of its own (`namespaces(7)`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// `CLONE_NEWUSER`
    User,
    /// `CLONE_NEWPID`
    Pid,
    /// `CLONE_NEWNS`
    Mount,
    /// `CLONE_NEWNET`
    Net,
    /// `CLONE_NEWIPC`
    Ipc,
    /// `CLONE_NEWUTS`
    Uts,
    /// `CLONE_NEWCGROUP`
    Cgroup,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::User,
        Self::Pid,
        Self::Ipc,
        Self::Uts,
        Self::Net,
        Self::Cgroup,
        Self::Mount,
    ];

    /// Name of its file in `/proc/PID/ns`.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Pid => "pid",
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
        }
    }
}

/// A set of namespaces.
pub type Namespaces = BTreeSet<Namespace>;

/// What a container with its own mount namespace has as its root directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// An empty tmpfs.
    Empty,
    /// A tmpfs with `/usr` bound read-only, the usual links, devpts and a minimal `/etc`.
    Usr,
    /// A directory of the host.
    Dir(PathBuf),
    /// A copy of the host's mounts.
    Copy,
}

/// Kernel ids mapped into a user namespace: ids 0 to `count` − 1 inside are `base` and up outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IdRange {
    /// First kernel id.
    pub base: u32,
    /// Number of ids.
    pub count: u32,
}

impl IdRange {
    /// The id inside, if `kernel_id` is mapped.
    #[must_use]
    pub fn inside(self, kernel_id: u32) -> Option<u32> {
        kernel_id
            .checked_sub(self.base)
            .filter(|id| *id < self.count)
    }

    /// The kernel id of an id inside, if it is mapped.
    #[must_use]
    pub fn outside(self, id: u32) -> Option<u32> {
        (id < self.count)
            .then(|| self.base.checked_add(id))
            .flatten()
    }
}

/// A container to be created.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Its number.
    pub id: ContainerId,
    /// Its full name.
    pub path: ContainerPath,
    /// Namespaces of its own.
    pub namespaces: Namespaces,
    /// Its root, used with a mount namespace.
    pub root: Root,
    /// Whether the end of its lease kills it.
    pub kill_on_close: bool,
}

/// State of a container; see the daemon's life cycle in `ARCHITECTURE.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Everything but the PID namespace exists.
    Created,
    /// Its first process lives.
    Running,
    /// Being killed: its upcalls are rejected at once.
    Dying,
    /// Final.
    Dead,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// Exited with this code.
    Exited(i32),
    /// Ended by this signal.
    Killed(i32),
    /// Nobody saw it.
    Unknown,
}

/// The keyrings of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ContainerKeyrings {
    /// The container keyring: what denizens possess.
    pub container: i32,
    /// Owner of the container keyring and of the copies in it (kernel uid).
    pub owner: u32,
    /// Where the manager's own keys for the container are kept; denizens never possess it.
    pub store: i32,
    /// Links to the session keyrings of the processes started in the container.
    pub sessions: i32,
}

/// What must survive a restart of the daemon.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Number.
    pub id: ContainerId,
    /// Full name.
    pub path: ContainerPath,
    /// The container it is nested in.
    pub parent: Option<ContainerId>,
    /// Namespaces of its own.
    pub namespaces: Namespaces,
    /// Its root, if it has a mount namespace.
    pub root: Root,
    /// Its ids, if it has a user namespace.
    pub ids: Option<IdRange>,
    /// Its keyrings.
    pub keyrings: ContainerKeyrings,
    /// Its cgroup directory.
    pub cgroup: PathBuf,
    /// Inode numbers of its pinned namespaces, by file name in the pin directory (`stage` is the
    /// mount namespace the manager mounts in).
    pub pins: BTreeMap<String, u64>,
    /// State.
    pub state: State,
    /// Process id of the first process; never trusted without its monitor.
    pub init: Option<u32>,
    /// How the first process ended.
    pub exit: Option<ExitStatus>,
    /// Seconds since the epoch.
    pub created: u64,
    /// Whether the end of its lease kills it.
    pub kill_on_close: bool,
    /// The kernel's number of it, on kernels that have container objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<u64>,
}

/// The innermost container of a lineage with a namespace of that kind of its own.
pub(super) fn nearest(lineage: &[ContainerRecord], kind: Namespace) -> Option<&ContainerRecord> {
    lineage
        .iter()
        .find(|record| record.namespaces.contains(&kind))
}

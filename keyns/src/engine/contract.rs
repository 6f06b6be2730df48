//! What an engine does for the daemon.
//!
//! Every method blocks and may be called from any thread. What is true of a container is decided by
//! the kernel and found again after a restart; the daemon brings the [`ContainerRecord`]s it has
//! stored. Keys are worked on by the key worker, which is the same for every engine
//! ([`keyring`](super::keyring)).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::container::{ContainerId, ContainerRecord, ContainerSpec, ExitStatus, IdRange};
use super::error::EngineError;
use super::keyring::KeyWorker;
use super::monitors::{Exits, Prepared};
use super::process::{ProcessState, RunSpec};
use super::requests::{RequestQueue, Sink};
use crate::expression::{Expression, Refusal};
use crate::feature::FeatureRow;
use crate::probe::KernelFacts;
use crate::rights::Rights;

/// Containers, their keyrings and their processes on one kind of kernel.
pub trait Engine: Debug + Send + Sync {
    /// The word for it in listings, and on the daemon's command line.
    fn name(&self) -> &'static str;

    /// What it offers on this kernel and who enforces it, then what is the kernel's alone.
    fn features(&self, facts: &KernelFacts) -> Vec<FeatureRow>;

    /// The thread that possesses the keyrings of all containers.
    fn keys(&self) -> &KeyWorker;

    /// How a container gets rights on its copy of a key, if it can have them with no others than
    /// those accepted.
    ///
    /// # Errors
    /// Which rights come along, or cannot be had at all.
    fn express(&self, requested: Rights, accepted: Rights) -> Result<Expression, Refusal>;

    /// Makes a container. `lineage` is its parent, its parent's parent and so on; `taken` are the
    /// id ranges of its parent's other children.
    ///
    /// # Errors
    /// What failed. What was made is removed again; if that fails too, at the next start.
    fn create(
        &self,
        spec: &ContainerSpec,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<ContainerRecord, EngineError>;

    /// Forks a process into the container, which waits there. `lineage` begins with the container.
    ///
    /// # Errors
    /// What failed; no process is left then.
    fn prepare(
        &self,
        lineage: &[ContainerRecord],
        run: &RunSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Prepared, EngineError>;

    /// Makes requests of a prepared process known as its container's, from the first on.
    ///
    /// # Errors
    /// Those of writing the routing table.
    fn register(
        &self,
        record: &mut ContainerRecord,
        prepared: &Prepared,
    ) -> Result<(), EngineError>;

    /// Undoes [`Self::register`] for a process that could not be released, so that the container is
    /// as before; the last argument is its [`Prepared::namespaces`]. `ancestors` are as in
    /// [`Self::create`].
    ///
    /// # Errors
    /// Those of writing the routing table; what kept the container from being as before.
    fn unregister(
        &self,
        record: &mut ContainerRecord,
        ancestors: &[ContainerRecord],
        namespaces: &BTreeMap<String, u64>,
    ) -> Result<(), EngineError>;

    /// Same for a container whose first process was prepared, and perhaps registered, by a daemon
    /// which died before it released it. Nothing happens where there was none.
    ///
    /// # Errors
    /// As [`Self::unregister`].
    fn forget_first(
        &self,
        record: &mut ContainerRecord,
        ancestors: &[ContainerRecord],
    ) -> Result<(), EngineError>;

    /// Has the kernel hand over the requests of containers, and reports each to `sink`. `None`: the
    /// kernel starts a program for each, which is not the engine's.
    ///
    /// # Errors
    /// What keeps it from them.
    fn requests(&self, sink: Sink) -> Result<Option<RequestQueue>, EngineError>;

    /// Sends a signal to a process started in the container.
    ///
    /// # Errors
    /// `ESRCH` when it ended or never was; `EINVAL` for an unknown signal.
    fn signal(&self, id: ContainerId, process: u64, signal: i32) -> Result<(), EngineError>;

    /// The processes of a container, and who reports the end of each from now on.
    ///
    /// # Errors
    /// When the container's monitor is gone.
    fn watch(&self, id: ContainerId) -> Result<(Vec<ProcessState>, Exits), EngineError>;

    /// Kills every process of the container and those nested in it; true: one is left yet.
    ///
    /// # Errors
    /// Those of killing.
    fn kill(&self, record: &ContainerRecord) -> Result<bool, EngineError>;

    /// Removes everything of a container in which nothing runs.
    ///
    /// # Errors
    /// When something runs in it: what leads requests to it and its ids must not be given away
    /// then. Else the first thing that cannot be removed; the rest is removed all the same.
    fn destroy(&self, record: &ContainerRecord) -> Result<(), EngineError>;

    /// How the first process ended, if the kernel remembers that of the container itself. [`Self::watch`]
    /// tells it of those whose monitor was never killed.
    fn end(&self, record: &ContainerRecord) -> Option<ExitStatus>;

    /// Whether a process is left in the container.
    fn populated(&self, record: &ContainerRecord) -> bool;

    /// Whether what the kernel has under a stored container's name is still that container.
    fn intact(&self, record: &ContainerRecord) -> bool;

    /// A copy of the descriptor that the kernel's container is kept by, for somebody else who keeps it
    /// too. `None`: the kernel has no such, or it is not known.
    fn descriptor(&self, record: &ContainerRecord) -> Option<OwnedFd>;

    /// Takes such a descriptor back from who has kept it, before anything else is asked about the
    /// container. It goes before that of the container's monitor, which may have none.
    ///
    /// # Errors
    /// Why it is not the descriptor of that container; it is closed.
    fn take_back(&self, record: &ContainerRecord, descriptor: OwnedFd) -> Result<(), EngineError>;

    /// The cgroup path of a container as `/proc/PID/cgroup` shows it.
    fn cgroup_path(&self, record: &ContainerRecord) -> PathBuf;

    /// Opens the nearest network namespace of its own in a container's lineage.
    ///
    /// # Errors
    /// `open(2)`.
    fn net_namespace(&self, lineage: &[ContainerRecord]) -> io::Result<Option<OwnedFd>>;

    /// Removes what belongs to no container of `records`: remains of a daemon that was killed while
    /// it made or removed one. Returns what could not be removed, which the next start tries again:
    /// one leftover must not keep the daemon from its containers.
    ///
    /// # Errors
    /// When it cannot be found out what there is.
    fn reconcile(&self, records: &[ContainerRecord]) -> Result<Vec<EngineError>, EngineError>;

    /// Whether the kernel has no container of the instance. In doubt it has.
    fn is_unused(&self) -> bool;

    /// Gives everything back when no container is left.
    ///
    /// # Errors
    /// The first thing that cannot be removed.
    fn dissolve(&self) -> Result<(), EngineError>;
}

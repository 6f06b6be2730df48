//! Building namespaces, in the helper `keyns-stage`: a container's, or once per instance the *seed*,
//! the almost empty mount namespace from which those of containers are copied.
//!
//! Two processes work on it. The *builder* stays in the host's namespaces: it writes the id maps
//! and pins what there is to pin. The *holder*, its child, walks into the new namespaces and does
//! nothing but exist there until the pins hold them; then it is ended. For a container object that is
//! nested in another there is a third one ([`object`]).
//!
//! A container with a user namespace gets its mounts in two steps. First the holder builds the root
//! in a *staging* namespace that belongs to the host, and only then unshares user and mount
//! namespace together: the kernel locks mounts when it copies a tree across a user-namespace
//! border, and only then. A tree put into a namespace that the container owns already could be
//! remounted writable and taken apart from inside.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use keyns_sys::process::{self, Fork, ForkOptions, SingleThreaded};

use super::channel::Channel;
use super::container::{IdRange, Namespace, Namespaces, Root};
use super::error::EngineError;
use super::failure::Failure;
use super::monitors::PATIENCE;
use super::program::SealedProgram;
use super::{cgroup, enter, object, pin, root};

/// How long a holder may take to build what it is told.
const LONG: Duration = Duration::from_secs(15);
/// Same for a process that makes one or two system calls in view of a container.
pub(super) const QUICK: Duration = Duration::from_secs(2);

/// What is to be built.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum BuildRequest {
    /// The seed, pinned there.
    Seed(PathBuf),
    /// The namespaces of a container.
    Container(ContainerPlan),
}

/// Everything the builder needs to know about a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ContainerPlan {
    /// Host name, if the container has its own.
    pub(super) host_name: String,
    pub(super) namespaces: Namespaces,
    pub(super) root: Root,
    /// The container's own ids.
    pub(super) ids: Option<IdRange>,
    /// Ids and user namespace of the nearest ancestor that has one.
    pub(super) parent_user: Option<(IdRange, PathBuf)>,
    /// Mount namespace of the nearest ancestor that has one.
    pub(super) parent_mount: Option<PathBuf>,
    /// Pin of the seed.
    pub(super) seed: PathBuf,
    /// Made already.
    pub(super) cgroup: PathBuf,
    /// Directory of the pins; made already.
    pub(super) pins: PathBuf,
    /// The namespaces are to be those of a container object of the kernel.
    pub(super) object: bool,
}

/// Descriptors that come with a plan.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The directory of a [`Root::Dir`], opened and checked by who asked for it.
    pub(super) directory: Option<OwnedFd>,
    /// The container object around the one to be made.
    pub(super) parent: Option<OwnedFd>,
}

impl Passed {
    fn sort(plan: &ContainerPlan, fds: Vec<OwnedFd>) -> Self {
        let mut fds = fds.into_iter();
        let directory = plan.has_directory().then(|| fds.next()).flatten();
        Self {
            directory,
            parent: fds.next(),
        }
    }

    fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.directory.iter().chain(&self.parent).map(AsFd::as_fd)
    }
}

impl ContainerPlan {
    /// Whether its processes are in another user namespace than the host’s.
    pub(super) fn in_user_namespace(&self) -> bool {
        self.ids.is_some() || self.parent_user.is_some()
    }

    /// Whether the container’s root is a directory of the host.
    fn has_directory(&self) -> bool {
        self.namespaces.contains(&Namespace::Mount) && matches!(self.root, Root::Dir(_))
    }
}

/// Inodes of the pins made, by name.
pub(super) type BuildReply = Result<BTreeMap<String, u64>, Failure>;

/// Name of the pin of the staging mount namespace.
pub(super) const STAGE_PIN: &str = "stage";

/// What a holder has done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Step {
    Staged,
    Unshared,
    /// Its descriptor comes along.
    Object,
}

/// `main` of the builder: one request from standard input, one answer.
///
/// # Errors
/// Only when it cannot even answer.
pub fn main() -> io::Result<()> {
    let alone = SingleThreaded::prove()?;
    nix::sys::prctl::set_dumpable(false)?;
    let daemon = Channel::from(process::take_inherited(&alone, 0)?);
    daemon.set_timeout(Some(Duration::from_secs(20)))?;
    let (request, fds) = daemon.receive::<BuildRequest>()?;
    let reply = match &request {
        BuildRequest::Seed(target) => build_seed(&alone, target).map(|pins| (pins, None)),
        BuildRequest::Container(plan) => {
            build_container(&alone, plan, &Passed::sort(plan, fds)).inspect_err(|_| {
                // Half a container is none; what cannot be undone here is reported by the pins left.
                let _ = pin::unpin_all(&plan.pins);
            })
        }
    };
    let (reply, object): (BuildReply, _) = match reply {
        Ok((pins, object)) => (Ok(pins), object),
        Err(failure) => (Err(failure), None),
    };
    let fds: Vec<_> = object.iter().map(AsFd::as_fd).collect();
    daemon.send(&reply, &fds)
}

/// What the builder has pinned, by name, and the container object if it made one.
pub(super) type Built = (BTreeMap<String, u64>, Option<OwnedFd>);

/// Has the builder build something.
pub(super) fn run(
    stage: &SealedProgram,
    request: &BuildRequest,
    passed: &Passed,
) -> Result<Built, EngineError> {
    let helper = |reason: String| EngineError::Helper {
        operation: "build namespaces".into(),
        reason,
    };
    let (ours, theirs) = Channel::pair().map_err(EngineError::system("make a socket pair"))?;
    ours.set_timeout(Some(PATIENCE))
        .map_err(EngineError::system("set a time-out"))?;
    let mut child = stage
        .start(&[], &theirs)
        .map_err(EngineError::system("start keyns-stage"))?;
    drop(theirs);
    let fds: Vec<_> = passed.fds().collect();
    let reply = ours.call::<_, BuildReply>(request, &fds);
    if reply.is_err() {
        let _ = child.kill();
    }
    let _ = child.wait();
    match reply {
        Ok((Ok(pins), mut fds)) => Ok((pins, fds.pop())),
        Ok((Err(failure), _)) => Err(failure.into()),
        Err(error) => Err(helper(error.to_string())),
    }
}

fn build_seed(alone: &SingleThreaded, target: &Path) -> BuildReply {
    let hold = |builder: &Channel| {
        close_inherited(alone, Some(builder), &Passed::default())?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .map_err(Failure::of("make a mount namespace"))?;
        root::become_seed()?;
        stay_until_pinned(builder)
    };
    let fork = || process::fork(alone, ForkOptions::default());
    with_holder(fork, LONG, hold, |holder, pid| {
        match hear(holder)? {
            (Step::Unshared, _) => {}
            _ => return Err(Failure::because("build the seed in one step")),
        }
        let inode = pin::pin(Path::new(&format!("/proc/{pid}/ns/mnt")), target)
            .map_err(Failure::of("pin the seed"))?;
        Ok(BTreeMap::from([(
            Namespace::Mount.file().to_owned(),
            inode,
        )]))
    })
}

fn build_container(
    alone: &SingleThreaded,
    request: &ContainerPlan,
    passed: &Passed,
) -> Result<Built, Failure> {
    let cgroup = cgroup::open(&request.cgroup).map_err(Failure::of("open the cgroup"))?;
    let options = ForkOptions {
        cgroup: Some(cgroup.as_fd()),
        ..ForkOptions::default()
    };
    with_holder(
        || process::fork(alone, options),
        LONG,
        |builder| hold(alone, request, passed, builder),
        |holder, pid| attend(alone, request, holder, pid),
    )
}

/// Forks a holder, and attends to it until what it holds is pinned.
pub(super) fn with_holder<T>(
    fork: impl FnOnce() -> io::Result<Fork>,
    patience: Duration,
    hold: impl FnOnce(&Channel) -> Result<(), Failure>,
    attend: impl FnOnce(&Channel, u32) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (ours, theirs) = Channel::pair().map_err(Failure::of("make a socket pair"))?;
    ours.set_timeout(Some(patience))
        .map_err(Failure::of("set a time-out"))?;
    let (holder, pidfd) = match fork().map_err(Failure::of("fork the holder"))? {
        Fork::Child => {
            drop(ours);
            let code = match hold(&theirs) {
                Ok(()) => 0,
                Err(failure) => {
                    let _ = theirs.send(&Err::<Step, _>(failure), &[]);
                    1
                }
            };
            std::process::exit(code);
        }
        Fork::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let result = attend(&ours, holder);
    drop(ours);
    // There is nothing more for it to do, and somebody who sees it may have stopped it.
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(holder.cast_signed()), None);
    result
}

/// The next thing the holder has done.
pub(super) fn hear(holder: &Channel) -> Result<(Step, Option<OwnedFd>), Failure> {
    let (step, mut fds) = holder
        .receive::<Result<Step, Failure>>()
        .map_err(Failure::of("hear from the holder"))?;
    Ok((step?, fds.pop()))
}

fn attend(
    alone: &SingleThreaded,
    request: &ContainerPlan,
    holder: &Channel,
    pid: u32,
) -> Result<Built, Failure> {
    let ns = PathBuf::from(format!("/proc/{pid}/ns"));
    let mut pins = BTreeMap::new();
    let mut pin = |file: &str, name: &str| -> Result<(), Failure> {
        let inode = pin::pin(&ns.join(file), &request.pins.join(name))
            .map_err(Failure::of(format!("pin the {name} namespace")))?;
        pins.insert(name.to_owned(), inode);
        Ok(())
    };
    loop {
        match hear(holder)? {
            (Step::Staged, _) => {
                pin("mnt", STAGE_PIN)?;
                holder
                    .send(&(), &[])
                    .map_err(Failure::of("release the holder"))?;
            }
            // Its namespaces are pinned with its first process.
            (Step::Object, Some(object)) => return Ok((pins, Some(object))),
            (Step::Object, None) => return Err(Failure::because("get the container’s descriptor")),
            (Step::Unshared, _) => break,
        }
    }
    if let (true, Some(ids)) = (request.namespaces.contains(&Namespace::User), request.ids) {
        write_maps(alone, pid, ids, request.parent_user.as_ref())?;
    }
    for kind in &request.namespaces {
        // The PID namespace is born with the first process.
        if *kind != Namespace::Pid {
            pin(kind.file(), kind.file())?;
        }
    }
    Ok((pins, None))
}

pub(super) fn write_maps(
    alone: &SingleThreaded,
    pid: u32,
    ids: IdRange,
    parent: Option<&(IdRange, PathBuf)>,
) -> Result<(), Failure> {
    let Some((parent_ids, parent_pin)) = parent else {
        return write_map_files(pid, ids.base, ids.count);
    };
    // The kernel takes a nested map only from a process of the parent user namespace itself.
    let base = parent_ids
        .inside(ids.base)
        .ok_or_else(|| Failure::because("map ids that the parent container does not have"))?;
    let child =
        process::fork(alone, ForkOptions::default()).map_err(Failure::of("fork the map writer"))?;
    match child {
        Fork::Child => {
            let wrote = close_inherited(alone, None, &Passed::default())
                .and_then(|()| join(parent_pin, CloneFlags::CLONE_NEWUSER))
                .and_then(|()| write_map_files(pid, base, ids.count));
            std::process::exit(wrote.map_or_else(|failure| failure.errno.clamp(1, 255), |()| 0));
        }
        // Root of that namespace may stop it, if it sees it.
        Fork::Parent { pid, .. } => enter::reap(pid, QUICK, "write a nested id map"),
    }
}

fn write_map_files(pid: u32, base: u32, count: u32) -> Result<(), Failure> {
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), format!("0 {base} {count}\n"))
            .map_err(Failure::of(format!("write {file}")))?;
    }
    Ok(())
}

/// Joins the namespace that is pinned at `pin`.
pub(super) fn join(pin: &Path, kind: CloneFlags) -> Result<(), Failure> {
    nix::sched::setns(open_pin(pin)?, kind).map_err(Failure::of(format!(
        "enter the namespace {}",
        pin.display()
    )))
}

fn open_pin(pin: &Path) -> Result<fs::File, Failure> {
    fs::File::open(pin).map_err(Failure::of(format!("open the namespace {}", pin.display())))
}

/// The flag of `clone(2)` for a kind of namespace.
pub(super) fn clone_flag(kind: Namespace) -> CloneFlags {
    match kind {
        Namespace::User => CloneFlags::CLONE_NEWUSER,
        Namespace::Pid => CloneFlags::CLONE_NEWPID,
        Namespace::Mount => CloneFlags::CLONE_NEWNS,
        Namespace::Net => CloneFlags::CLONE_NEWNET,
        Namespace::Ipc => CloneFlags::CLONE_NEWIPC,
        Namespace::Uts => CloneFlags::CLONE_NEWUTS,
        Namespace::Cgroup => CloneFlags::CLONE_NEWCGROUP,
    }
}

/// Leaves a child nothing but the channel to its builder and what was passed, and its own death.
pub(super) fn close_inherited(
    alone: &SingleThreaded,
    builder: Option<&Channel>,
    passed: &Passed,
) -> Result<(), Failure> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::of("set a death signal"))?;
    let mut keep: Vec<_> = builder.into_iter().map(AsFd::as_fd).collect();
    keep.extend(passed.fds());
    process::close_all_but(alone, 3, &keep).map_err(Failure::of("close inherited descriptors"))
}

/// The last thing a holder does: the builder hangs up when everything is pinned.
fn stay_until_pinned(builder: &Channel) -> Result<(), Failure> {
    builder
        .send(&Ok::<_, Failure>(Step::Unshared), &[])
        .map_err(Failure::of("report to the builder"))?;
    let _ = builder.receive::<()>();
    Ok(())
}

fn hold(
    alone: &SingleThreaded,
    request: &ContainerPlan,
    passed: &Passed,
    builder: &Channel,
) -> Result<(), Failure> {
    close_inherited(alone, Some(builder), passed)?;
    // Opened and read while the host’s files are still in view.
    let parent_user = request
        .parent_user
        .as_ref()
        .map(|(_, pin)| open_pin(pin))
        .transpose()?;
    let abi = request.object.then(object::abi).transpose()?;
    let has = |kind| request.namespaces.contains(&kind);
    let in_user_namespace = request.in_user_namespace();
    let owner = request
        .ids
        .or(request.parent_user.as_ref().map(|(ids, _)| *ids));
    let staged = has(Namespace::Mount) && request.root != Root::Copy;
    if staged {
        let sources = root::Sources::clone_for(&request.root, passed.directory.as_ref())?;
        join(&request.seed, CloneFlags::CLONE_NEWNS)?;
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .map_err(Failure::of("make a mount namespace"))?;
        root::enter_new_root(sources, owner.map_or(0, |ids| ids.base))?;
        root::make_shared()?;
        if in_user_namespace || request.object {
            tell(builder, Step::Staged)?;
        }
    }
    if let Some(abi) = abi {
        let object = object::build(alone, &abi, request, passed.parent.as_ref())?;
        return report_object(builder, &object);
    }
    if let (true, false, Some(parent)) = (has(Namespace::Mount), staged, &request.parent_mount) {
        join(parent, CloneFlags::CLONE_NEWNS)?;
    }
    if let Some(parent) = parent_user {
        nix::sched::setns(parent, CloneFlags::CLONE_NEWUSER)
            .map_err(Failure::of("enter the parent's user namespace"))?;
        become_root_inside()?;
    }
    let mut flags = CloneFlags::empty();
    for kind in &request.namespaces {
        match kind {
            Namespace::Pid => {}
            // Without a user namespace the staged tree already is the container's.
            Namespace::Mount if staged && !in_user_namespace => {}
            kind => flags |= clone_flag(*kind),
        }
    }
    nix::sched::unshare(flags).map_err(Failure::of("make the container's namespaces"))?;
    if has(Namespace::Mount) && !staged && !in_user_namespace {
        root::make_slave()?;
    }
    if has(Namespace::Uts) {
        nix::unistd::sethostname(&request.host_name).map_err(Failure::of("set the host name"))?;
    }
    if has(Namespace::Net) {
        process::loopback_up().map_err(Failure::of("switch the loopback interface on"))?;
    }
    stay_until_pinned(builder)
}

/// A user namespace can only be made by an id that is mapped in its parent. Nobody in there may look at
/// the process, and it is not to outlive who made it: changing ids cleared both (`commit_creds()` in
/// kernel/cred.c).
pub(super) fn become_root_inside() -> Result<(), Failure> {
    nix::unistd::setresgid(0.into(), 0.into(), 0.into())
        .and_then(|()| nix::unistd::setresuid(0.into(), 0.into(), 0.into()))
        .and_then(|()| nix::sys::prctl::set_dumpable(false))
        .and_then(|()| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL))
        .map_err(Failure::of("become root of the parent container"))
}

/// The last thing the holder of an object does.
pub(super) fn report_object(builder: &Channel, object: &OwnedFd) -> Result<(), Failure> {
    builder
        .send(&Ok::<_, Failure>(Step::Object), &[object.as_fd()])
        .map_err(Failure::of("report to the builder"))
}

fn tell(builder: &Channel, step: Step) -> Result<(), Failure> {
    builder
        .call::<_, ()>(&Ok::<_, Failure>(step), &[])
        .map(drop)
        .map_err(Failure::of("report to the builder"))
}

//! Containers that are objects of the kernel, as the helper programs meet them.
//!
//! The holder of [`build`](super::build) makes the object, or has it made within another container,
//! and moves the root into it in which it stands. The monitor holds its descriptor and forks processes
//! straight into it: such a process has the container's namespaces, the ids of nobody yet and no keyring
//! at all. The first one waits until the monitor has written the id maps, which a container object can
//! have only with a process.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use keyns_sys::container::{self, flags};
use keyns_sys::container_abi::ContainerAbi;
use keyns_sys::process::{self, Fork, SingleThreaded};
use keyns_sys::{KeySerial, key};

use super::build::{self, ContainerPlan, Passed, Step};
use super::channel::Channel;
use super::container::{IdRange, Namespace, Root};
use super::enter::{self, Descriptors, StartPlan};
use super::failure::Failure;
use super::root;

/// What a process forked into an object needs besides the rest of its [`StartPlan`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ObjectPlan {
    /// How a process of this kernel names the keyring of its own container.
    pub(super) keyring: i32,
    /// For the first process: the container's ids.
    pub(super) ids: Option<IdRange>,
    /// For the first process: ids and user namespace of the nearest ancestor that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent_user: Option<(IdRange, PathBuf)>,
    /// For the first process: where the container's namespaces are to be pinned.
    pub(super) pins: Vec<(Namespace, PathBuf)>,
    /// For the first process: the host name.
    pub(super) host_name: Option<String>,
    /// For the first process: whether there is a loopback interface to switch on.
    pub(super) loopback: bool,
}

/// The running kernel's numbers.
pub(super) fn abi() -> Result<ContainerAbi, Failure> {
    ContainerAbi::read()
        .map_err(Failure::of("read what the kernel says of containers"))?
        .ok_or_else(|| Failure::because("work with containers, which this kernel does not have"))
}

/// Makes the object. The calling process stands in the container’s root, if that was staged, and has
/// it moved into the object: what is not made new is that of the container around, `parent`, in
/// which a child makes the object for the kernel to see that it lies there.
pub(super) fn build(
    alone: &SingleThreaded,
    abi: &ContainerAbi,
    plan: &ContainerPlan,
    parent: Option<&OwnedFd>,
) -> Result<OwnedFd, Failure> {
    let object = match parent {
        None => create(abi, plan)?,
        Some(parent) => create_within(alone, abi, plan, parent)?,
    };
    if plan.namespaces.contains(&Namespace::Mount) && plan.root != Root::Copy {
        let tree = root::clone_whole().map_err(Failure::of("clone the container’s root"))?;
        container::set_root(abi, tree.as_fd(), object.as_fd())
            .map_err(Failure::of("set the container’s root"))?;
    }
    Ok(object)
}

/// Makes the object from within another container, in a process that is there for as long as that
/// takes and of which nobody inside sees more than that it exists.
fn create_within(
    alone: &SingleThreaded,
    abi: &ContainerAbi,
    plan: &ContainerPlan,
    parent: &OwnedFd,
) -> Result<OwnedFd, Failure> {
    let inside = |builder: &Channel| {
        build::close_inherited(alone, Some(builder), &Passed::default())?;
        build::become_root_inside()?;
        build::report_object(builder, &create(abi, plan)?)
    };
    build::with_holder(
        || container::fork_into(alone, abi, parent.as_fd()),
        build::QUICK,
        inside,
        |holder, _| match build::hear(holder) {
            Ok((Step::Object, Some(object))) => Ok(object),
            Ok(_) => Err(Failure::because("get the container’s descriptor")),
            Err(failure) if failure.errno == Errno::AGAIN.raw_os_error() => Err(Failure::because(
                "make a container in another one, in which something stops the process that should \
                 make it",
            )),
            Err(failure) => Err(failure),
        },
    )
}

/// Makes the object of the calling process’ container.
fn create(abi: &ContainerAbi, plan: &ContainerPlan) -> Result<OwnedFd, Failure> {
    let mut flags = 0;
    for kind in &plan.namespaces {
        flags |= match kind {
            Namespace::Mount => mounts(plan)?,
            Namespace::User => flags::NEW_USER_NS,
            Namespace::Pid => flags::NEW_PID_NS,
            Namespace::Net => flags::NEW_NET_NS,
            Namespace::Ipc => flags::NEW_IPC_NS,
            Namespace::Uts => flags::NEW_UTS_NS,
            Namespace::Cgroup => flags::NEW_CGROUP_NS,
        };
    }
    let name = CString::new(plan.host_name.clone())
        .map_err(|_| Failure::because("give a container such a name"))?;
    container::create(abi, &name, flags).map_err(|error| {
        let name = &plan.host_name;
        if error.raw_os_error() == Some(Errno::EXIST.raw_os_error()) {
            return Failure::because(format!(
                "make the kernel’s container “{name}”: one of that name, not of this daemon, lives in \
                 the same container (/proc/containers lists them)"
            ));
        }
        Failure::of(format!("make the kernel’s container “{name}”"))(error)
    })
}

/// How the object gets its mount namespace.
fn mounts(plan: &ContainerPlan) -> Result<u32, Failure> {
    if plan.root != Root::Copy {
        return Ok(flags::NEW_EMPTY_FS_NS);
    }
    if plan.in_user_namespace() {
        return Ok(flags::NEW_FS_NS);
    }
    // The kernel copies mounts as peers where the user namespace stays the same.
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).map_err(Failure::of("make a mount namespace"))?;
    root::make_slave().map(|()| 0)
}

/// Forks a process into the object.
pub(super) fn fork_into(alone: &SingleThreaded, object: &OwnedFd) -> Result<Fork, Failure> {
    container::fork_into(alone, &abi()?, object.as_fd()).map_err(|error| {
        if error.raw_os_error() == Some(Errno::CANCELED.raw_os_error()) {
            return Failure::because("start a process in a container that has ended");
        }
        Failure::of("fork into the container")(error)
    })
}

/// What the monitor does for a process it has just forked: its cgroup, and the container's ids.
pub(super) fn settle(
    alone: &SingleThreaded,
    plan: &StartPlan,
    way: &ObjectPlan,
    pid: u32,
) -> Result<(), Failure> {
    fs::write(plan.cgroup.join("cgroup.procs"), pid.to_string())
        .map_err(Failure::of("put the process into the container’s cgroup"))?;
    match way.ids {
        Some(ids) => build::write_maps(alone, pid, ids, way.parent_user.as_ref()),
        None => Ok(()),
    }
}

/// The process itself, up to its program. Only returns when something failed.
pub(super) fn run(
    alone: &SingleThreaded,
    plan: &StartPlan,
    way: &ObjectPlan,
    descriptors: &Descriptors,
    monitor: &Channel,
) -> Failure {
    match set_out(alone, way, descriptors, monitor) {
        Ok(()) => enter::become_process(alone, plan, descriptors, monitor),
        Err(failure) => failure,
    }
}

fn set_out(
    alone: &SingleThreaded,
    way: &ObjectPlan,
    descriptors: &Descriptors,
    monitor: &Channel,
) -> Result<(), Failure> {
    set_pdeathsig(Signal::SIGKILL).map_err(Failure::of("set a death signal"))?;
    // The monitor's descriptors came along, the container's own among them.
    let mut keep = vec![monitor.as_fd()];
    keep.extend(descriptors.standard.iter().flatten().map(AsFd::as_fd));
    keep.extend(descriptors.program.iter().map(AsFd::as_fd));
    process::close_all_but(alone, 3, &keep).map_err(Failure::of("close inherited descriptors"))?;
    monitor
        .receive::<()>()
        .map_err(Failure::of("wait for the container’s ids"))?;
    if let Some(name) = &way.host_name {
        nix::unistd::sethostname(name).map_err(Failure::of("set the host name"))?;
    }
    if way.loopback {
        process::loopback_up().map_err(Failure::of("switch the loopback interface on"))?;
    }
    Ok(())
}

/// Makes the session keyring of a process inside, and links the container keyring into it, so that
/// programs find in it what only the kernel would search otherwise.
pub(super) fn make_session(way: &ObjectPlan) -> Result<(), Failure> {
    key::join_session_keyring(None).map_err(Failure::of("make a session keyring"))?;
    key::link(KeySerial::new(way.keyring), KeySerial::SESSION)
        .map_err(Failure::of("link the container keyring"))
}

//! Containers that are objects of the kernel, as the helper programs meet them.
//!
//! The holder of [`build`](super::build) makes the object, since it stands where the container's
//! root is. The monitor holds its descriptor and forks processes straight into it: such a process
//! has the container's namespaces, the ids of nobody yet and no keyring at all. The first one waits
//! until the monitor has written the id maps, which a container object can have only with a process.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use keyns_sys::container::{self, flags};
use keyns_sys::container_abi::ContainerAbi;
use keyns_sys::process::{self, Fork, SingleThreaded};
use keyns_sys::{KeySerial, key};

use super::build::{self, ContainerPlan};
use super::channel::Channel;
use super::container::{IdRange, Namespace};
use super::enter::{self, Descriptors, StartPlan};
use super::failure::Failure;

/// What a process forked into an object needs besides the rest of its [`StartPlan`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ObjectPlan {
    /// How a process of this kernel names the keyring of its own container.
    pub(super) keyring: i32,
    /// For the first process: the container's ids.
    pub(super) ids: Option<IdRange>,
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

/// Makes the object; what is not made new is that of the calling process, its root directory above
/// all.
pub(super) fn create(
    abi: &ContainerAbi,
    plan: &ContainerPlan,
    copy_mounts: bool,
) -> Result<OwnedFd, Failure> {
    let mut flags = 0;
    for kind in &plan.namespaces {
        flags |= match kind {
            // Without a user namespace the mounts are the container's already.
            Namespace::Mount if !copy_mounts => 0,
            Namespace::Mount => flags::NEW_FS_NS,
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
    container::create(abi, &name, flags).map_err(Failure::of(format!(
        "make the kernel’s container “{}”",
        plan.host_name
    )))
}

/// Forks a process into the object.
pub(super) fn fork_into(alone: &SingleThreaded, object: &OwnedFd) -> Result<Fork, Failure> {
    container::fork_into(alone, &abi()?, object.as_fd())
        .map_err(Failure::of("fork into the container"))
}

/// What the monitor does for a process it has just forked: its cgroup, and the container's ids.
pub(super) fn settle(plan: &StartPlan, way: &ObjectPlan, pid: u32) -> Result<(), Failure> {
    fs::write(plan.cgroup.join("cgroup.procs"), pid.to_string())
        .map_err(Failure::of("put the process into the container’s cgroup"))?;
    match way.ids {
        Some(ids) => build::write_map_files(pid, ids.base, ids.count),
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

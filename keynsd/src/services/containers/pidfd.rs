//! Descriptors of processes in containers.

use std::os::fd::OwnedFd;

use keyns::engine::container::{ContainerRecord, Namespace};
use keyns_interfaces::containers::Opened;
use keyns_interfaces::{Error, ErrorKind};
use keyns_sys::requester::{NsKind, ThreadDir};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::daemon::Daemon;
use crate::namespaces::has_ended;

/// Bytes of `/proc/PID/cgroup` that are read.
const MOST: usize = 1 << 14;

/// A pidfd of a living process.
///
/// Its monitor waits for it, not the daemon, so its id may have been given again by now. Hence the
/// process is opened first and then looked at: it has to be in the container, and to be there still.
pub(super) fn open(
    daemon: &Daemon,
    record: &ContainerRecord,
    number: u64,
) -> Result<(Opened, OwnedFd), Error> {
    let gone = |cause: &str| {
        let message = format!(
            "cannot open process {number} of container “{}”",
            record.path
        );
        let hint = format!("list them: keyctl-ns container show {}", record.path);
        Error::new(ErrorKind::NoSuchProcess, message)
            .cause(cause)
            .hint(hint)
    };
    let pid = daemon.containers.with(record.id, |entry| {
        let process = entry.processes.get(&number);
        process
            .filter(|process| process.exit.is_none())
            .map(|p| p.pid)
    });
    let pid = pid
        .flatten()
        .ok_or_else(|| gone("it was never started or has ended"))?;
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let raw = raw.ok_or_else(|| gone("it has no process id"))?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|_| gone("it has ended"))?;
    let inside = ThreadDir::open(pid).is_ok_and(|thread| is_inside(daemon, record, &thread));
    if !inside || has_ended(std::os::fd::AsFd::as_fd(&pidfd)) {
        return Err(gone("it has ended"));
    }
    Ok((Opened { pid }, pidfd))
}

fn is_inside(daemon: &Daemon, record: &ContainerRecord, thread: &ThreadDir) -> bool {
    let own = [
        (Namespace::Pid, NsKind::Pid),
        (Namespace::User, NsKind::User),
    ];
    for (namespace, kind) in own {
        if let Some(pin) = record.pins.get(namespace.file()) {
            return thread
                .namespace_inode(kind)
                .is_ok_and(|inode| inode == *pin);
        }
    }
    let Ok(cgroups) = thread.read(c"cgroup", MOST) else {
        return false;
    };
    let mut lines = cgroups.split(|byte| *byte == b'\n');
    lines
        .find_map(|line| line.strip_prefix(b"0::"))
        .and_then(|path| daemon.containers.locate(&[], &[], path))
        .is_some_and(|found| found.id == record.id)
}

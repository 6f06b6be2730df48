//! From what the kernel said about a request to what everybody may know about it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use keyns::engine::{ContainerId, ContainerRecord, Namespace};
use keyns_interfaces::ByteText;
use keyns_interfaces::upcalls::{Requester, UpcallInfo};
use keyns_sys::pidfd;
use keyns_sys::upcall_wire::{Request, RequesterFd};

use super::pending::{RequestId, wall_clock_ms};
use super::policy::Network;

/// What an id that is not mapped looks like inside.
const NOBODY: u32 = 65_534;
/// How far the ancestry of a requester is followed.
const MAX_ANCESTORS: usize = 64;

/// Whether the descriptor that came along is the thread that the request names.
///
/// `keyns-upcall` has looked at the thread through the same descriptor; this makes sure that what
/// the daemon says about a thread id is about the thread that is held.
#[must_use]
pub(super) fn is_thread(request: &Request, requester: &OwnedFd) -> bool {
    let fd = requester.as_raw_fd();
    let named = match request.fd {
        RequesterFd::Thread => match pidfd::identity(requester.as_fd()) {
            Err(error) if pidfd::is_unknown(&error) => thread_of_pidfd(fd),
            known => known.ok().map(|identity| identity.tid),
        },
        // `/proc/TID` or `/proc/TGID/task/TID`: the last component either way.
        RequesterFd::ProcDirectory => std::fs::read_link(format!("/proc/self/fd/{fd}"))
            .ok()
            .and_then(|path| path.file_name()?.to_str()?.parse().ok()),
    };
    named == Some(request.tid)
}

/// The thread of one of our descriptors, for kernels that do not tell it of the pidfd itself.
fn thread_of_pidfd(fd: RawFd) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    info.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// The requester's network, as far as it matters for shared answers.
#[must_use]
pub(super) fn network(request: &Request, lineage: &[ContainerRecord], host: u64) -> Network {
    Network {
        own: lineage
            .iter()
            .any(|c| c.namespaces.contains(&Namespace::Net)),
        host: request.net_ns == host,
    }
}

/// The request as everybody is shown it, waiting since now.
#[must_use]
pub(super) fn facts(
    id: RequestId,
    request: &Request,
    lineage: &[ContainerRecord],
    rule: Option<u64>,
) -> UpcallInfo {
    // A container without ids of its own lives with those of the one around it.
    let ids = lineage.iter().find_map(|c| c.ids);
    let inside = |id: u32| ids.map_or(id, |range| range.inside(id).unwrap_or(NOBODY));
    let ([_, _, _, uid], [_, _, _, gid]) = (request.uids, request.gids);
    UpcallInfo {
        id,
        state: String::new(),
        operation: "create".to_owned(),
        key: request.target.raw(),
        type_: keyns::text::escape(&request.type_name),
        description: ByteText(request.description.clone()),
        callout: ByteText(request.callout.as_slice().to_vec()),
        requester: Requester {
            container: lineage.first().map(|c| c.path.to_string()),
            tid: request.tid,
            pid: request.tgid,
            uid,
            gid,
            container_uid: inside(uid),
            container_gid: inside(gid),
            command: ByteText(request.comm.clone()),
            executable: ByteText(request.exe.clone()),
            capabilities: request.permitted,
            verified: !request.doubts.nested(),
        },
        keyrings: [
            request.thread_keyring.raw(),
            request.process_keyring.raw(),
            request.session_keyring.raw(),
        ],
        rule,
        handler: None,
        time_ms: wall_clock_ms().saturating_sub(u64::from(request.waited_ms)),
        age_ms: 0,
        deadline_ms: None,
        outcome: None,
    }
}

/// The numbers of a container and those around it.
#[must_use]
pub(super) fn numbers(lineage: &[ContainerRecord]) -> Vec<ContainerId> {
    lineage.iter().map(|c| c.id).collect()
}

/// The first of `processes` that `process` is or descends from.
///
/// Every process is looked up by its id, so a child whose parent ended meanwhile, or that made
/// itself an orphan, is missed; that costs the requester its deadline and nobody else anything.
#[must_use]
pub(super) fn descends_from(process: u32, processes: &[u32]) -> Option<u32> {
    let mut process = process;
    for _ in 0..MAX_ANCESTORS {
        if processes.contains(&process) {
            return Some(process);
        }
        process = parent(process).filter(|parent| *parent > 1)?;
    }
    None
}

/// Field 4 of `/proc/PID/stat`, counted after the name, which may contain anything.
fn parent(process: u32) -> Option<u32> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    let after = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(after..)?).ok()?;
    rest.split_ascii_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_of_a_child_descends_from_this_process() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(shell.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        let this = std::process::id();
        assert_eq!(descends_from(grandchild, &[1, this]), Some(this));
        assert_eq!(
            descends_from(grandchild, &[shell.id(), this]),
            Some(shell.id())
        );
        assert_eq!(descends_from(this, &[grandchild]), None);
        assert_eq!(descends_from(u32::MAX, &[this]), None);
        let pid = nix::unistd::Pid::from_raw(grandchild.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        shell.wait().unwrap();
    }
}

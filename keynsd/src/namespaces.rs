//! Who lives in the same namespaces as the daemon.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use keyns_sys::pidfd;
use keyns_sys::requester::{self, NsKind, ThreadDir};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Whether a process lives in the daemon's own namespace of this kind. Any doubt is a no.
///
/// This only ever takes rights away, so the process id may be used where the kernel tells nothing of a
/// pidfd (before Linux 6.11); a pidfd then shows that the id still meant the process.
#[must_use]
pub fn are_ours(kind: NsKind, pid: u32, process: Option<BorrowedFd<'_>>) -> bool {
    own(kind).is_some_and(|own| inode(kind, pid, process).is_ok_and(|inode| inode == own))
}

/// The daemon never leaves its own.
fn own(kind: NsKind) -> Option<u64> {
    static OWN: [OnceLock<Option<u64>>; 3] = [const { OnceLock::new() }; 3];
    let place = match kind {
        NsKind::Pid => &OWN[0],
        NsKind::User => &OWN[1],
        NsKind::Net => &OWN[2],
    };
    *place.get_or_init(|| requester::own_namespace_inode(kind).ok())
}

fn inode(kind: NsKind, pid: u32, process: Option<BorrowedFd<'_>>) -> io::Result<u64> {
    let Some(process) = process else {
        return ThreadDir::open(pid)?.namespace_inode(kind);
    };
    match pidfd::namespace(process, kind) {
        Err(error) if pidfd::is_unknown(&error) => {
            let inode = ThreadDir::open(pid)?.namespace_inode(kind)?;
            if has_ended(process) {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(inode)
        }
        namespace => namespace?.inode(),
    }
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut poll = [PollFd::new(&pidfd, PollFlags::IN)];
    !matches!(
        rustix::event::poll(&mut poll, Some(&Timespec::default())),
        Ok(0)
    )
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_in_a_namespace_of_its_own_lives_elsewhere() {
        let own = std::process::id();
        assert!(are_ours(NsKind::Pid, own, None));
        assert!(!are_ours(NsKind::Pid, u32::MAX, None));
        // The child of unshare(1) is process 1 of a new namespace.
        let mut unshare = Command::new("unshare")
            .args([
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                "echo; sleep 60",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(unshare.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let inside: u32 = std::fs::read_to_string(children)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let process = requester::pidfd_of_thread(inside).unwrap();
        for process in [None, Some(process.as_fd())] {
            assert!(!are_ours(NsKind::Pid, inside, process));
            assert!(are_ours(NsKind::User, inside, process));
        }
        unshare.kill().unwrap();
        unshare.wait().unwrap();
        // It is killed with unshare(1), a moment later.
        let deadline = Timespec {
            tv_sec: 10,
            tv_nsec: 0,
        };
        let mut end = [PollFd::new(&process, PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut end, Some(&deadline)), Ok(1));
        // An id that somebody else has by now does not speak for the process that is gone.
        assert!(!are_ours(NsKind::User, own, Some(process.as_fd())));
    }
}

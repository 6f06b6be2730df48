//! Whether two connections come from the same process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use keyns_interfaces::{Error, ErrorKind};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::authority::Caller;

/// The process at the other end of an agent's connection.
///
/// A process id alone could have been given again. From Linux 6.9 a pidfd has an inode of its own
/// for each process; before, the kernel gives all of them the same one, and the process still being
/// alive is what keeps its id from being given again. Before 6.5 there is no pidfd of a peer, and
/// the start time takes its place.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    mark: Mark,
}

#[derive(Debug)]
enum Mark {
    Pidfd { fd: OwnedFd, inode: (u64, u64) },
    Started(u64),
}

impl Process {
    /// The process that made the connection.
    ///
    /// # Errors
    /// `System` when it is gone or the kernel does not say.
    pub fn of(caller: &Caller) -> Result<Self, Error> {
        let failed = |cause: String| {
            Error::new(
                ErrorKind::System,
                format!("cannot tell process {} apart", caller.pid()),
            )
            .cause(cause)
        };
        let mark = match caller.process() {
            Some(fd) => {
                let fd = fd.try_clone_to_owned().map_err(|e| failed(e.to_string()))?;
                let inode = inode(fd.as_fd()).map_err(|e| failed(e.to_string()))?;
                Mark::Pidfd { fd, inode }
            }
            None => {
                Mark::Started(started(caller.pid()).ok_or_else(|| failed("it has ended".into()))?)
            }
        };
        Ok(Self {
            pid: caller.pid(),
            mark,
        })
    }

    /// Its id on the host.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether `caller` is this very process. Any doubt is a no.
    #[must_use]
    pub fn is(&self, caller: &Caller) -> bool {
        if caller.pid() != self.pid {
            return false;
        }
        match (&self.mark, caller.process()) {
            (Mark::Pidfd { fd, inode: known }, Some(other)) => {
                inode(other).is_ok_and(|other| other == *known) && alive(fd)
            }
            (Mark::Started(at), None) => started(caller.pid()) == Some(*at),
            _ => false,
        }
    }
}

fn inode(fd: BorrowedFd<'_>) -> rustix::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// A pidfd becomes readable when its process has ended.
fn alive(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}

/// Start time in clock ticks since boot: field 22 of `/proc/PID/stat`, counted after the name,
/// which may itself contain blanks and parentheses.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|b| *b == b')')?.checked_add(2)?;
    let fields = std::str::from_utf8(stat.get(after..)?).ok()?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn caller() -> Caller {
        let (a, _b) = UnixStream::pair().unwrap();
        Caller::of(a.as_fd()).unwrap()
    }

    #[test]
    fn two_connections_of_one_process_are_the_same() {
        assert!(Process::of(&caller()).unwrap().is(&caller()));
    }

    #[test]
    fn a_reused_process_id_is_another_process() {
        let mut earlier = Process::of(&caller()).unwrap();
        match &mut earlier.mark {
            Mark::Pidfd { inode, .. } => inode.1 += 1,
            Mark::Started(at) => *at += 1,
        }
        assert!(!earlier.is(&caller()));
        let mut other = Process::of(&caller()).unwrap();
        other.pid += 1;
        assert!(!other.is(&caller()));
    }

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let of_self = started(std::process::id()).unwrap();
        assert!(of_self > 0);
        assert_eq!(started(u32::MAX), None);
    }
}

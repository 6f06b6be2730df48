//! What the kernel says about the requesting thread besides where it lives.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::requester::{self, NsKind, ThreadDir};
use crate::{cred, pidfd};

use super::Undecidable;

/// From `/proc/<tid>/stat`.
pub struct Stat {
    /// The thread’s name, which it chose.
    pub comm: Vec<u8>,
    state: u8,
    flags: u64,
    /// Clock ticks since boot.
    pub start_time: u64,
}

impl Stat {
    /// Reads the line of a thread.
    ///
    /// # Errors
    /// [`Undecidable`] when the thread is gone or the kernel's format is another.
    pub fn of(thread: &ThreadDir) -> Result<Self, Undecidable> {
        Self::parse(&thread.read(c"stat", 4096)?).ok_or(Undecidable)
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The name may hold spaces and brackets, so it ends at the last bracket of the line.
        let open = line.iter().position(|b| *b == b'(')?;
        let close = line.iter().rposition(|b| *b == b')')?;
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let column = |number: usize| rest.split_ascii_whitespace().nth(number - 3);
        Some(Self {
            comm: line.get(open + 1..close)?.to_vec(),
            state: *column(3)?.as_bytes().first()?,
            flags: column(9)?.parse().ok()?,
            start_time: column(22)?.parse().ok()?,
        })
    }

    /// Seen in state `D`, where a direct requester is all the time we run.
    pub const fn is_waiting(&self) -> bool {
        self.state == b'D'
    }

    /// A thread of the kernel (`PF_KTHREAD`): reconnects and writeback of the host's file systems.
    pub const fn is_kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }
}

/// Who the thread is.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The process.
    pub tgid: u32,
    /// Real, effective, saved and file system uid.
    pub uids: [u32; 4],
    /// Likewise.
    pub gids: [u32; 4],
    /// Permitted capabilities, in its own user namespace.
    pub permitted: u64,
}

impl Credentials {
    /// The credentials of a thread, from its pidfd where the kernel tells them there.
    ///
    /// # Errors
    /// [`Undecidable`] when the thread is gone or the kernel's format is another.
    pub fn of(
        thread: &ThreadDir,
        pidfd: Option<BorrowedFd<'_>>,
        tid: u32,
    ) -> Result<Self, Undecidable> {
        let Some(pidfd) = pidfd else {
            return Self::read(thread);
        };
        // First by its number: if the pidfd still has it afterwards, it was this thread's all the time.
        let permitted = cred::permitted(tid)?;
        match pidfd::identity(pidfd) {
            Ok(identity) if identity.tid == tid => Ok(Self {
                tgid: identity.tgid,
                uids: identity.uids,
                gids: identity.gids,
                permitted,
            }),
            Ok(_) => Err(Undecidable),
            Err(error) if pidfd::is_unknown(&error) => Self::read(thread),
            Err(error) => Err(error.into()),
        }
    }

    /// From `/proc/<tid>/status`, which takes the kernel as long as half of all the other facts.
    fn read(thread: &ThreadDir) -> Result<Self, Undecidable> {
        Self::parse(&thread.read(c"status", 1 << 20)?).ok_or(Undecidable)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The kernel escapes line breaks in the name, so every line is the kernel's.
        let line = |key: &str| {
            text.split(|b| *b == b'\n')
                .find_map(|line| std::str::from_utf8(line).ok()?.strip_prefix(key))
        };
        let ids = |key: &str| {
            let ids: Vec<u32> = line(key)?
                .split_ascii_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            <[u32; 4]>::try_from(ids).ok()
        };
        Some(Self {
            tgid: line("Tgid:")?.trim().parse().ok()?,
            uids: ids("Uid:")?,
            gids: ids("Gid:")?,
            permitted: u64::from_str_radix(line("CapPrm:")?.trim(), 16).ok()?,
        })
    }
}

/// Inode of the network namespace.
///
/// # Errors
/// [`Undecidable`] when the thread is gone.
pub fn net_ns(thread: &ThreadDir) -> Result<u64, Undecidable> {
    Ok(thread.namespace_inode(NsKind::Net)?)
}

/// Path of the executable for display; empty when there is none to see.
pub fn executable(thread: &ThreadDir) -> Vec<u8> {
    thread.read_link(c"exe").unwrap_or_default()
}

/// Whether the thread is [waiting](Stat::is_waiting).
///
/// It may be preempted on its way there, so it gets 20 ms.
pub fn comes_to_wait(thread: &ThreadDir) -> Result<bool, Undecidable> {
    for _ in 0..20 {
        if Stat::of(thread)?.is_waiting() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

/// Opens what the authorisation key names.
///
/// # Errors
/// [`Undecidable`] when there is no such thread any more: a nested request that outlived the outer.
pub fn open_thread(tid: u32) -> Result<ThreadDir, Undecidable> {
    Ok(requester::ThreadDir::open(tid)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_name_full_of_brackets_moves_no_column() {
        let line = b"7 (a) R (b) D 1 7 7 0 -1 2097216 0 0 0 0 0 0 0 0 20 0 1 0 555 0 0\n";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.comm.as_slice(), stat.state, stat.start_time),
            (&b"a) R (b"[..], b'D', 555)
        );
        assert!(stat.is_kernel_thread());
        assert!(Stat::parse(b"7 (a) D 1 7").is_none());
        assert!(Stat::parse(b"").is_none());
    }

    #[test]
    fn credentials_are_read_up_to_the_highest_uid() {
        let text = b"Name:\tx\nTgid:\t12\nUid:\t1\t2\t3\t4294967294\nGid:\t5\t6\t7\t2147483648\n\
            CapPrm:\t000001ffffffffff\n";
        let read = Credentials::parse(text).unwrap();
        assert_eq!(
            (read.tgid, read.uids[3], read.gids[3]),
            (12, u32::MAX - 1, 1 << 31)
        );
        assert_eq!(read.permitted, 0x1ff_ffff_ffff);
        assert!(Credentials::parse(b"Tgid:\t12\nUid:\t1\t2\t3\n").is_none());
    }

    #[test]
    fn the_facts_of_this_very_thread_can_be_read() {
        let own = std::process::id();
        let thread = open_thread(own).unwrap();
        let pidfd = requester::pidfd_of_thread(own).unwrap();
        let read = Credentials::of(&thread, None, own).unwrap();
        assert_eq!(read.tgid, own);
        assert_eq!(
            Credentials::of(&thread, Some(pidfd.as_fd()), own).unwrap(),
            read
        );
        assert!(Credentials::of(&thread, Some(pidfd.as_fd()), 2).is_err());
        assert!(!Stat::of(&thread).unwrap().is_kernel_thread());
        assert!(
            Stat::of(&open_thread(2).unwrap())
                .unwrap()
                .is_kernel_thread()
        );
    }
}

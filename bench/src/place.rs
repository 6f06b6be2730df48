//! Where the two ends of a conversation run.
//!
//! On two processors a reply takes half as long when both ends happen to be on the same one, and the
//! kernel may leave one server there and not the other. So the caller gets one processor, and all
//! servers that are compared get the other.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Failure;

const OWN_THREAD: Pid = Pid::from_raw(0);

/// The calling thread is apart from servers; dropped, it may run anywhere again.
pub(crate) struct Apart(CpuSet);

impl Apart {
    /// Puts the calling thread and the first thread of each server process on different processors;
    /// where there is only one, everything stays as it is.
    ///
    /// # Errors
    /// `sched_setaffinity(2)`.
    pub(crate) fn from(servers: &[u32]) -> Result<Self, Failure> {
        let allowed = sched_getaffinity(OWN_THREAD)?;
        let mut processors =
            (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        if let (Some(ours), Some(theirs)) = (processors.next(), processors.next()) {
            for server in servers {
                pin(Pid::from_raw(server.cast_signed()), theirs)?;
            }
            pin(OWN_THREAD, ours)?;
        }
        Ok(Self(allowed))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(OWN_THREAD, &self.0) {
            eprintln!("warning: what follows is measured on one processor: {error}");
        }
    }
}

fn pin(thread: Pid, cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(thread, &set)
}

//! Leases: a container that dies with its last holder.
//!
//! A lease is the writing end of a named pipe. Its path outlives the daemon, so that a new one can
//! ask again whether anybody holds it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use keyns::engine::container::{ContainerId, ExitStatus};
use tokio::net::unix::pipe;

use super::end::end_in_background;
use crate::daemon::Daemon;

fn path(daemon: &Daemon, id: ContainerId) -> PathBuf {
    daemon
        .config
        .paths
        .runtime()
        .join("lease")
        .join(id.to_string())
}

/// Makes the lease of a new container: the end the daemon watches, and the holder's.
pub(super) fn grant(daemon: &Daemon, id: ContainerId) -> io::Result<(pipe::Receiver, OwnedFd)> {
    use rustix::fs::{CWD, FileType, Mode, OFlags};

    let path = path(daemon, id);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    let reader = pipe::OpenOptions::new().open_receiver(&path)?;
    let writer = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((reader, writer))
}

/// Opens the lease of a container again after a restart of the daemon.
pub(super) fn reopen(daemon: &Daemon, id: ContainerId) -> io::Result<pipe::Receiver> {
    pipe::OpenOptions::new().open_receiver(path(daemon, id))
}

/// Ends the container when nobody holds the lease any more.
pub(super) fn watch(daemon: &Rc<Daemon>, id: ContainerId, reader: pipe::Receiver) {
    let daemon = Rc::clone(daemon);
    tokio::task::spawn_local(async move {
        let mut byte = [0; 64];
        // A pipe that had no writer when it was opened never becomes readable; only reading tells.
        let mut held = !matches!(rustix::io::read(&reader, &mut byte), Ok(0));
        while held {
            // What a holder writes means nothing; only the end does.
            match reader.try_read(&mut byte) {
                Ok(0) => held = false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    held = reader.readable().await.is_ok();
                }
                Err(_) => held = false,
            }
        }
        end_in_background(&daemon, id, ExitStatus::Unknown);
    });
}

/// Removes the lease of a container that ended.
pub(super) fn revoke(daemon: &Daemon, id: ContainerId) {
    if let Err(error) = fs::remove_file(path(daemon, id))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(container_id = id.0, %error, "cannot remove the lease");
    }
}

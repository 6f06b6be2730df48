//! Waiting for the socket of a bus to be there, without looking for it again and again: a machine that
//! has no bus is not woken up for that.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::readiness::readable;

/// The file of a bus that has one address, with a path.
pub(super) fn socket(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix("unix:path=")?;
    // Further addresses, options of this one, and escaped characters.
    let is_plain = !path.contains([';', ',', '%']);
    (is_plain && path.starts_with('/')).then(|| PathBuf::from(path))
}

/// Waits until `socket` is there. Cancel safe.
///
/// # Errors
/// Those of inotify(7), of which a user has a limited number.
pub(super) async fn of(socket: &Path) -> io::Result<()> {
    while !socket.exists() {
        let Some(directory) = socket.ancestors().skip(1).find(|it| it.is_dir()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let interesting = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        add_watch(&changes, directory, interesting)?;
        // What came before the watch is not told.
        let below = socket.ancestors().take_while(|it| *it != directory).last();
        if below.is_some_and(Path::exists) {
            continue;
        }
        readable(changes).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    #[test]
    fn a_plain_path_is_read_and_nothing_else() {
        let path = Some(PathBuf::from("/run/dbus/bus"));
        assert_eq!(socket("unix:path=/run/dbus/bus"), path);
        for other in [
            "unix:path=run/bus",
            "unix:path=/run/a%20b",
            "unix:path=/run/bus,guid=7",
            "unix:path=/run/bus;unix:path=/run/other",
            "unix:abstract=/run/bus",
            "tcp:host=localhost",
        ] {
            assert_eq!(socket(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_seen_when_it_comes_with_its_directories() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("a/b/bus");
        let waits = of(&socket);
        tokio::pin!(waits);
        for step in ["a", "other", "a/b", "a/b/other"] {
            let early = timeout(Duration::from_millis(50), &mut waits).await;
            assert!(early.is_err(), "before {step}");
            std::fs::create_dir(place.path().join(step)).unwrap();
        }
        let comes = async {
            sleep(Duration::from_millis(50)).await;
            std::fs::write(&socket, b"").unwrap();
        };
        let (seen, ()) = tokio::join!(timeout(Duration::from_secs(10), waits), comes);
        seen.unwrap().unwrap();
        of(&socket).await.unwrap();
    }
}

//! What the service manager is told: sd_notify(3), without its library.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, sendmsg_addr,
};
use rustix::time::ClockId;

use super::Environment;
use super::handed::{Role, stored_name};

/// How long a manager that does not read may keep the daemon's only thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager, if there is one.
#[derive(Debug, Default, Clone)]
pub struct Manager {
    socket: Option<Rc<(OwnedFd, SocketAddrUnix)>>,
    watchdog: Option<Duration>,
    /// Places that are left in its store.
    places: Rc<Cell<usize>>,
    /// What is in the others, by name.
    kept: Rc<RefCell<BTreeSet<String>>>,
}

impl Manager {
    /// The one that the environment names. What cannot be used of it is said, and not a reason to stop.
    #[must_use]
    pub fn find(environment: &Environment) -> Self {
        let said = |why: String| tracing::warn!(why, "cannot talk to the service manager");
        let Some(name) = &environment.notify_socket else {
            return Self::default();
        };
        let socket = match open(name) {
            Ok(socket) => socket,
            Err(error) => {
                let name = name.to_string_lossy();
                said(format!(
                    "NOTIFY_SOCKET is “{}”: {error}",
                    name.escape_debug()
                ));
                return Self::default();
            }
        };
        Self {
            socket: Some(Rc::new(socket)),
            watchdog: environment
                .watchdog(std::process::id())
                .inspect_err(|why| said(why.clone()))
                .unwrap_or_default(),
            places: Rc::new(Cell::new(
                environment
                    .store()
                    .inspect_err(|why| said(why.clone()))
                    .unwrap_or_default(),
            )),
            kept: Rc::default(),
        }
    }

    /// Whether it keeps descriptors for the daemon.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.socket.is_some() && self.places.get() > 0
    }

    /// Whether it has a store at all, be it full.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.keeps() || !self.kept.borrow().is_empty()
    }

    /// The daemon answers from now on, or again.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}\n", line(status)));
    }

    /// The settings are being read again; ends with [`Self::ready`].
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\n"));
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping\n");
    }

    /// Has it keep a listening socket.
    pub fn keep_listener(&self, role: Role, listener: BorrowedFd<'_>) {
        self.keep(&stored_name(role), listener);
    }

    /// Has it keep a descriptor, until [`Self::forget`] is called or the service is stopped.
    pub fn keep(&self, name: &str, descriptor: BorrowedFd<'_>) {
        if self.socket.is_none() {
            return;
        }
        let Some(left) = self.places.get().checked_sub(1) else {
            tracing::warn!(name, "the service manager’s store of descriptors is full");
            return;
        };
        // A listening socket and a container are to stay whatever poll(2) says of them.
        let message = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0\n");
        match self.send(&message, Some(descriptor), SendFlags::empty()) {
            Ok(()) => {
                self.places.set(left);
                self.kept.borrow_mut().insert(name.to_owned());
            }
            Err(error) => {
                tracing::warn!(%error, name, "the service manager does not keep a descriptor");
            }
        }
    }

    /// It has handed over a descriptor that it goes on keeping.
    pub(super) fn has_kept(&self, name: &str) {
        if self.kept.borrow_mut().insert(name.to_owned()) {
            self.places.set(self.places.get().saturating_sub(1));
        }
    }

    /// Whether it keeps a descriptor of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.kept.borrow().contains(name)
    }

    /// Has it keep those of this name no longer.
    pub fn forget(&self, name: &str) {
        if self.kept.borrow_mut().remove(name) {
            self.places.set(self.places.get() + 1);
        }
        self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={}\n", line(name)));
    }

    /// Shows, as often as it wants, that the daemon's thread gets to run. Never returns where nothing
    /// is to be shown to anybody.
    pub async fn show_life(&self) -> std::convert::Infallible {
        let Some(interval) = self.watchdog else {
            return std::future::pending().await;
        };
        let mut pace = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            pace.tick().await;
            // The next one follows; a manager that does not read is not waited for.
            let _ = self.send("WATCHDOG=1\n", None, SendFlags::DONTWAIT);
        }
    }

    fn tell(&self, message: &str) {
        if let Err(error) = self.send(message, None, SendFlags::empty()) {
            let what = message.split('=').next();
            tracing::warn!(%error, what, "cannot tell the service manager");
        }
    }

    fn send(
        &self,
        message: &str,
        descriptor: Option<BorrowedFd<'_>>,
        flags: SendFlags,
    ) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let pieces = [IoSlice::new(message.as_bytes())];
        let flags = flags | SendFlags::NOSIGNAL;
        sendmsg_addr(&socket.0, &socket.1, &pieces, &mut control, flags)?;
        Ok(())
    }
}

fn open(name: &OsStr) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let address = match name.as_bytes().split_first() {
        Some((b'/', _)) => SocketAddrUnix::new(name.as_bytes())?,
        Some((b'@', rest)) => SocketAddrUnix::new_abstract_name(rest)?,
        _ => {
            return Err(io::Error::other(
                "neither a path nor the name of an abstract socket",
            ));
        }
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    Ok((socket, address))
}

/// A text that cannot be taken for further lines of a message.
fn line(text: &str) -> String {
    text.chars()
        .fold(String::with_capacity(text.len()), |mut line, c| {
            let _ = line.write_char(if c.is_control() { ' ' } else { c });
            line
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn manager(path: &std::path::Path) -> Manager {
        Manager::find(&Environment {
            notify_socket: Some(path.into()),
            fdstore: Some("1".into()),
            ..Environment::default()
        })
    }

    #[test]
    fn a_status_is_one_line_whatever_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        manager(&path).ready("a\nMAINPID=1\nb");
        let mut text = [0; 100];
        let length = socket.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1\nSTATUS=a MAINPID=1 b\n");
    }

    #[test]
    fn a_store_takes_no_more_than_it_has_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager(&path);
        assert!(manager.keeps());
        use std::os::fd::AsFd as _;
        manager.keep_listener(Role::Admin, socket.as_fd());
        assert!(!manager.keeps() && manager.has_store());
        manager.keep_listener(Role::Varlink, socket.as_fd());
        let mut text = [0; 100];
        let length = socket.recv(&mut text).unwrap();
        assert_eq!(
            &text[..length],
            b"FDSTORE=1\nFDNAME=stored-admin\nFDPOLL=0\n"
        );
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut text).is_err());
    }

    #[test]
    fn a_broken_socket_is_no_reason_to_stop() {
        for name in [
            "",
            "relative",
            "vsock:2:1",
            "/nowhere/notify",
            "@",
            "@keyns-nobody",
        ] {
            let manager = Manager::find(&Environment {
                notify_socket: Some(name.into()),
                ..Environment::default()
            });
            manager.ready("");
            assert!(!manager.keeps(), "{name}");
        }
        let long = Environment {
            notify_socket: Some(format!("/{}", "x".repeat(200)).into()),
            ..Environment::default()
        };
        Manager::find(&long).ready("");
    }
}

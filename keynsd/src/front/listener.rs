//! The two sockets, and how many connections each may have.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use keyns_interfaces::{Error, ErrorKind};
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::connection::Connection;
use super::gate::Gate;
use super::service;
use super::shared::Front;
use crate::authority::{self, Caller, NoCredentials};
use crate::service_manager::ListenerSource;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 512;

/// The daemon's sockets; the files of those that are its own are removed when this is dropped.
#[derive(Debug)]
pub struct Sockets {
    main: UnixListener,
    admin: UnixListener,
    _files: [Option<SocketFile>; 2],
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    stays: bool,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.stays {
            // At worst a stale file stays, which the next start replaces.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Sockets {
    /// Binds `keynsd` (for everyone) and `admin` (for root) in `directory`, which must exist. Needs
    /// a tokio runtime.
    ///
    /// # Errors
    /// `AddrInUse` if somebody listens there; else those of socket(2), bind(2), listen(2), chmod(2).
    pub fn bind(directory: &Path) -> io::Result<Self> {
        Self::open(directory, ListenerSource::Own, ListenerSource::Own)
    }

    /// Same with sockets that exist already, or are to outlive the daemon.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub fn open(directory: &Path, main: ListenerSource, admin: ListenerSource) -> io::Result<Self> {
        let (main, main_file) = open_at(&directory.join("keynsd"), 0o666, main)?;
        let (admin, admin_file) = open_at(&directory.join("admin"), 0o600, admin)?;
        Ok(Self {
            main,
            admin,
            _files: [main_file, admin_file],
        })
    }

    /// The socket for everyone.
    #[must_use]
    pub fn main(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }

    /// The one for root.
    #[must_use]
    pub fn admin(&self) -> BorrowedFd<'_> {
        self.admin.as_fd()
    }
}

fn open_at(
    path: &Path,
    mode: u32,
    source: ListenerSource,
) -> io::Result<(UnixListener, Option<SocketFile>)> {
    match source {
        ListenerSource::Own => bind_at(path, mode).map(|(socket, file)| (socket, Some(file))),
        ListenerSource::Kept => {
            let (socket, mut file) = bind_at(path, mode)?;
            file.stays = true;
            Ok((socket, Some(file)))
        }
        ListenerSource::Given(socket) => {
            // Again, so that those who connect are told this process as their peer, and not the one
            // that listened first.
            listen(&socket, BACKLOG)?;
            let socket = std::os::unix::net::UnixListener::from(socket);
            socket.set_nonblocking(true)?;
            Ok((UnixListener::from_std(socket)?, None))
        }
    }
}

fn bind_at(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(path)?,
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // bind(2) gives the file the socket's mode (less the umask), so it is never wider than this.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile {
        path: path.to_owned(),
        stays: false,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG)?;
    let listener = UnixListener::from_std(OwnedFd::into(socket))?;
    Ok((listener, file))
}

/// Raises the soft limit of open descriptors to the hard one; returns it. A connection takes two.
///
/// # Errors
/// Those of setrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

impl<S: 'static> Front<S> {
    /// Serves both sockets on the current `LocalSet`. Dropping the future closes every connection.
    pub async fn serve(self: Rc<Self>, sockets: Sockets) -> Infallible {
        let main = Door {
            admin: false,
            gate: Rc::clone(&self.gate),
            front: Rc::clone(&self),
        };
        let admin = Door {
            admin: true,
            gate: Rc::default(),
            front: self,
        };
        tokio::select! {
            never = main.open(&sockets.main) => never,
            never = admin.open(&sockets.admin) => never,
        }
    }
}

struct Door<S> {
    admin: bool,
    gate: Rc<Gate>,
    front: Rc<Front<S>>,
}

impl<S: 'static> Door<S> {
    async fn open(&self, listener: &UnixListener) -> Infallible {
        let mut connections = JoinSet::new();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, _)) => {
                        pause = Duration::ZERO;
                        if let Some(task) = self.admit(socket) {
                            connections.spawn_local(task);
                        }
                    }
                    Err(error) => {
                        // The connection that failed may be first in line again at once (EMFILE).
                        if pause.is_zero() {
                            tracing::warn!(%error, "cannot accept a connection");
                        }
                        pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                        sleep(pause).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Takes a connection in, or tells it why not.
    fn admit(&self, socket: UnixStream) -> Option<impl Future<Output = ()> + use<S>> {
        let limits = self.front.limits.now();
        let (total, per_uid) = match self.admin {
            true => (limits.admin, limits.admin),
            false => (limits.total, limits.per_uid),
        };
        let refused = match Caller::of(socket.as_fd()) {
            Err(error) => no_credentials(&error),
            Ok(caller) if self.admin && !caller.is_root() => not_root(&caller),
            Ok(caller) => match self.gate.enter(authority::account(&caller), total, per_uid) {
                Ok(place) => {
                    let front = Rc::clone(&self.front);
                    let connection = Connection::new(front, socket, caller, limits);
                    return Some(async move {
                        connection.serve().await;
                        drop(place);
                    });
                }
                Err(error) => error,
            },
        };
        if let Some(frame) = service::refusal("org.keyns.Manager", &refused) {
            // It fits into the empty socket buffer; a peer that cannot take it just sees the end.
            let _ = socket.try_write(&frame);
        }
        None
    }
}

fn no_credentials(error: &NoCredentials) -> Error {
    Error::new(ErrorKind::NotPermitted, "cannot tell who connects").cause(error.to_string())
}

fn not_root(caller: &Caller) -> Error {
    let message = format!("uid {} may not use the admin socket", caller.uid());
    Error::new(ErrorKind::NotPermitted, message).hint("run it as root of the host")
}

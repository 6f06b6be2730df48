//! The daemon's end of the upcall socket.
//!
//! Translates between packets and the messages of [`keyns_sys::upcall_wire`], checks who connects,
//! and puts a limit on every wait; it takes no decision about a request. One connection is one
//! request. A fault on one connection ends that connection and never the listener.
//!
//! The sockets are `SOCK_SEQPACKET`. tokio has no type of that name; its types for stream sockets
//! serve as well, because they only wait here: packets go through `sendmsg(2)` and `recvmsg(2)`.
//!
//! All methods can be cancelled: a packet is either received or sent as a whole.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::authority::Caller;
use crate::namespaces;
use crate::service_manager::ListenerSource;
use keyns_sys::requester::NsKind;
use keyns_sys::secret::SecretBytes;
use keyns_sys::upcall_wire::{
    MAX_INLINE_PAYLOAD, MAX_MESSAGE, Rejection, Request, ToDaemon, ToUpcall, WireError,
};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::warn;

/// How long a program that connected may take to send its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// How long a packet may wait for a peer that does not read.
const SEND_LIMIT: Duration = Duration::from_secs(2);
/// How long the kernel may take to instantiate a key.
const OUTCOME_LIMIT: Duration = Duration::from_secs(10);
/// Pause after an error of `accept(2)` that will not go away at once, such as `EMFILE`.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Room for an [`Outcome`]: hundreds of requests may wait for one at a time.
const MAX_OUTCOME: usize = 64;
/// Waiting connections; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The program ended or was killed: the kernel has given, or will give, the request an error.
    #[error("keyns-upcall is gone")]
    Gone,
    /// Nothing came, or the peer did not read, within the limit.
    #[error("keyns-upcall did not {0} in time")]
    Late(&'static str),
    /// The bytes are no message; `Version` has been answered with `Unsupported`.
    #[error("keyns-upcall sent something else: {0}")]
    Wire(#[from] WireError),
    /// A message at the wrong time, or a request without its descriptor.
    #[error("keyns-upcall sent {0}")]
    Unexpected(&'static str),
    /// The socket failed.
    #[error("the connection to keyns-upcall failed: {0}")]
    Io(#[from] io::Error),
}

/// A request as it arrived.
#[derive(Debug)]
pub struct Incoming {
    /// What the kernel says about it.
    pub request: Box<Request>,
    /// The requesting thread: a pidfd or a directory of `/proc`, as [`Request::fd`] says.
    pub requester: OwnedFd,
    /// The kernel's number of the requester's container, where the kernel itself says it.
    pub object: Option<u64>,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 0: it took effect; else the error that `keyns-upcall` met or gave.
    pub errno: i32,
    /// The request is over; otherwise another answer may be given on the same connection.
    pub settled: bool,
}

/// The listening socket. If it is the daemon's own, it is removed from the file system when dropped.
#[derive(Debug)]
pub struct UpcallListener {
    socket: UnixListener,
    _file: Option<OwnFile>,
}

#[derive(Debug)]
struct OwnFile {
    path: PathBuf,
    identity: (u64, u64),
    stays: bool,
}

impl UpcallListener {
    /// As [`Self::bind`], or with a socket that exists already or is to outlive the daemon.
    ///
    /// # Errors
    /// Those of [`Self::bind`], and `listen(2)`.
    pub fn open(path: &Path, source: ListenerSource) -> io::Result<Self> {
        match source {
            ListenerSource::Own => Self::bind(path),
            ListenerSource::Kept => Self::bind_at(path, true),
            ListenerSource::Given(socket) => {
                // Again, so that this process is the peer of whoever connects.
                rustix::net::listen(&socket, BACKLOG)?;
                let socket = std::os::unix::net::UnixListener::from(socket);
                socket.set_nonblocking(true)?;
                Ok(Self {
                    socket: UnixListener::from_std(socket)?,
                    _file: None,
                })
            }
        }
    }

    /// Listens at `path`, mode 0600, replacing what an earlier run left there in one step.
    ///
    /// The caller makes sure that only one daemon of the instance runs.
    ///
    /// # Errors
    /// `bind(2)`, `rename(2)`; a path of more than 107 bytes is `InvalidInput`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Self::bind_at(path, false)
    }

    /// Same; whether its file stays when it is dropped.
    fn bind_at(path: &Path, stays: bool) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        // Programs of containers of the last run wait for this path: it is never absent.
        let fresh = first_path(path);
        match fs::remove_file(&fresh) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        rustix::net::bind(&socket, &SocketAddrUnix::new(&fresh)?)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&socket, BACKLOG)?;
        fs::rename(&fresh, path)?;
        let identity = identity(path)?;
        let socket = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?;
        Ok(Self {
            socket,
            _file: Some(OwnFile {
                path: path.into(),
                identity,
                stays,
            }),
        })
    }

    /// The next connection of a process of root; others are closed unheard.
    pub async fn accept(&self) -> UpcallPeer {
        loop {
            match self.try_accept().await {
                Ok(Some(peer)) => return peer,
                Ok(None) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(e) => {
                    warn!(error = %e, "cannot accept a connection of keyns-upcall");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<Option<UpcallPeer>> {
        let (socket, _) = self.socket.accept().await?;
        // What is said here about requesters is believed. So uid 0 is not enough: root of another user
        // namespace, such as a service with `PrivateUsers=`, can open the socket's file as its owner.
        match Caller::of(socket.as_fd()) {
            Ok(program) if program.is_root() => Ok(Some(UpcallPeer { socket, program })),
            Ok(caller) => {
                let (uid, pid) = (caller.uid(), caller.pid());
                warn!(name: "upcall-refused", uid, pid, "refused a connection to the upcall socket");
                Ok(None)
            }
            Err(error) => {
                warn!(name: "upcall-refused", %error, "refused a connection to the upcall socket");
                Ok(None)
            }
        }
    }
}

impl AsFd for UpcallListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        // A successor may have renamed its own socket here meanwhile.
        if !self.stays && identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where a socket is bound before it is renamed to `path`; the kernel goes on naming it so.
pub(crate) fn first_path(path: &Path) -> PathBuf {
    let mut first = path.as_os_str().to_owned();
    first.push(".new");
    first.into()
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::lstat(path)?;
    Ok((found.st_dev, found.st_ino))
}

/// One `keyns-upcall` and its request.
#[derive(Debug)]
pub struct UpcallPeer {
    socket: UnixStream,
    program: Caller,
}

impl UpcallPeer {
    /// PID of the program, for logs.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Whether the program lives in this process's PID namespace, as the one that the kernel starts
    /// does. Root of a container without a user namespace has the uid that the socket demands, and
    /// would otherwise be believed about requesters of other containers.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        namespaces::are_ours(NsKind::Pid, self.pid(), self.program.process())
    }

    /// The request, which must come first and within 2 s.
    ///
    /// # Errors
    /// [`LinkError`]; a request of another version has been answered with `Unsupported`.
    pub async fn recv_request(&self) -> Result<Incoming, LinkError> {
        let received = timeout(REQUEST_LIMIT, self.receive(MAX_MESSAGE)).await;
        match received.map_err(|_| LinkError::Late("send its request"))? {
            Ok((ToDaemon::Request(request), Some(requester))) => Ok(Incoming {
                request,
                requester,
                object: None,
            }),
            Ok((ToDaemon::Request(_), None)) => {
                Err(LinkError::Unexpected("a request without a descriptor"))
            }
            Ok((ToDaemon::Outcome { .. }, _)) => {
                Err(LinkError::Unexpected("an outcome before any request"))
            }
            Err(LinkError::Wire(WireError::Version(version))) => {
                self.send(&ToUpcall::Unsupported, None).await?;
                Err(WireError::Version(version).into())
            }
            Err(e) => Err(e),
        }
    }

    /// Tells that the request was taken; its deadline counts from now, at most 60 s after its start.
    ///
    /// # Errors
    /// [`LinkError`] of the connection.
    pub async fn accepted(&self, request: u64, deadline: Duration) -> Result<(), LinkError> {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.send(
            &ToUpcall::Accepted {
                request,
                deadline_ms,
            },
            None,
        )
        .await
    }

    /// Answers with a payload; then wait for the [`outcome`](Self::outcome).
    ///
    /// # Errors
    /// [`LinkError::Wire`] for a payload over 1 MiB − 1, and the errors of the connection.
    pub async fn instantiate(&self, payload: &[u8]) -> Result<(), LinkError> {
        if payload.len() <= MAX_INLINE_PAYLOAD {
            return self
                .send(&ToUpcall::Instantiate(SecretBytes::from(payload)), None)
                .await;
        }
        let length = u32::try_from(payload.len()).map_err(|_| WireError::Range("payload"))?;
        let message = ToUpcall::InstantiateFd { length };
        // Before the memfd is made: the message knows the limit.
        message.encode()?;
        let sealed = sealed_memfd(payload)?;
        self.send(&message, Some(sealed.as_fd())).await
    }

    /// Answers with an error; then wait for the [`outcome`](Self::outcome).
    ///
    /// # Errors
    /// [`LinkError`] of the connection.
    pub async fn reject(&self, rejection: Rejection) -> Result<(), LinkError> {
        self.send(&ToUpcall::Reject(rejection), None).await
    }

    /// Hands the request to the program that was behind `/sbin/request-key` before. There is no
    /// outcome: the program replaces itself and the connection ends.
    ///
    /// # Errors
    /// [`LinkError`] of the connection.
    pub async fn original(&self) -> Result<(), LinkError> {
        self.send(&ToUpcall::Original, None).await
    }

    /// What became of the last answer, within 10 s.
    ///
    /// # Errors
    /// [`LinkError`]; [`LinkError::Gone`] leaves open whether the answer took effect.
    pub async fn outcome(&self) -> Result<Outcome, LinkError> {
        let received = timeout(OUTCOME_LIMIT, self.receive_outcome()).await;
        received.map_err(|_| LinkError::Late("report an outcome"))?
    }

    /// Waits, without limit, until the program gives up by itself: its own deadline or `SIGTERM`
    /// (an [`Outcome`]), or its end (`None`). To be awaited beside whatever works on the answer.
    pub async fn closed(&self) -> Option<Outcome> {
        // Whatever else arrives before an answer was given makes the peer useless as well.
        self.receive_outcome().await.ok()
    }

    async fn receive_outcome(&self) -> Result<Outcome, LinkError> {
        match self.receive(MAX_OUTCOME).await? {
            (ToDaemon::Outcome { errno, settled }, _) => Ok(Outcome { errno, settled }),
            (ToDaemon::Request(_), _) => Err(LinkError::Unexpected("a second request")),
        }
    }

    async fn receive(&self, most: usize) -> Result<(ToDaemon, Option<OwnedFd>), LinkError> {
        let receive = || match receive_packet(self.socket.as_fd(), most) {
            // Told once when the program ended with something unread; its last words follow.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                receive_packet(self.socket.as_fd(), most)
            }
            other => other,
        };
        // `async_io` calls the closure again only when it said that there is nothing yet.
        let (packet, fd) = self
            .socket
            .async_io(Interest::READABLE, receive)
            .await
            .map_err(gone)?;
        if packet.is_empty() {
            return Err(LinkError::Gone);
        }
        Ok((ToDaemon::decode(packet.as_slice())?, fd))
    }

    async fn send(&self, message: &ToUpcall, fd: Option<BorrowedFd<'_>>) -> Result<(), LinkError> {
        let bytes = message.encode()?;
        let send = || send_packet(self.socket.as_fd(), bytes.as_slice(), fd);
        let sent = timeout(SEND_LIMIT, self.socket.async_io(Interest::WRITABLE, send)).await;
        sent.map_err(|_| LinkError::Late("read its answer"))?
            .map_err(gone)
    }
}

fn gone(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => LinkError::Gone,
        _ => LinkError::Io(error),
    }
}

fn send_packet(socket: BorrowedFd<'_>, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let pieces = [IoSlice::new(bytes)];
    rustix::net::sendmsg(socket, &pieces, &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One packet of at most `most` bytes; empty when the peer has closed.
fn receive_packet(
    socket: BorrowedFd<'_>,
    most: usize,
) -> io::Result<(SecretBytes, Option<OwnedFd>)> {
    // Its length first: room for the longest, wiped each time, would cost more than all the rest.
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, length) = rustix::net::recv(socket, &mut [0; 0][..], peek)?;
    let mut packet = SecretBytes::zeroed(length.min(most));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(packet.as_mut_slice())];
    let got = rustix::net::recvmsg(socket, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((packet.truncated(got.bytes), fd))
}

/// A memfd that nobody can change any more.
fn sealed_memfd(payload: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3; some systems then allow no other, and 6.1 knows no such flag.
    let fd = rustix::fs::memfd_create("keyns-payload", flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| rustix::fs::memfd_create("keyns-payload", flags))?;
    let file = fs::File::from(fd);
    io::Write::write_all(&mut &file, payload)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[cfg(test)]
#[path = "upcall_link_tests.rs"]
mod tests;

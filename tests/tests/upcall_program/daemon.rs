//! The daemon's end of the protocol as a test plays it, one step at a time.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyns_sys::upcall_wire::{MAX_MESSAGE, Rejection, Request, ToDaemon, ToUpcall};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

/// Long enough for a loaded machine, short enough for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Daemon {
    socket: OwnedFd,
    path: PathBuf,
}

impl Daemon {
    pub(crate) fn listen(path: &Path) -> Self {
        let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        rustix::net::listen(&socket, 16).unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        Self {
            socket,
            path: path.into(),
        }
    }

    pub(crate) fn accept(&self) -> Peer {
        let socket = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC).unwrap();
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        Peer { socket }
    }

    /// The request of the next connection.
    pub(crate) fn next(&self) -> (Peer, Request, OwnedFd) {
        let peer = self.accept();
        let (request, fd) = peer.request();
        (peer, request, fd)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

pub(crate) struct Peer {
    socket: OwnedFd,
}

impl Peer {
    pub(crate) fn request(&self) -> (Request, OwnedFd) {
        match self.receive().unwrap().unwrap() {
            (ToDaemon::Request(request), Some(fd)) => (*request, fd),
            other => panic!("{other:?}"),
        }
    }

    /// Errno and whether the request is over.
    pub(crate) fn outcome(&self) -> (i32, bool) {
        match self.receive().unwrap().unwrap() {
            (ToDaemon::Outcome { errno, settled }, None) => (errno, settled),
            other => panic!("{other:?}"),
        }
    }

    /// Whether the program closes without another word.
    pub(crate) fn is_closed(&self) -> bool {
        self.receive().unwrap().is_none()
    }

    pub(crate) fn accepted(&self, deadline_ms: u32) {
        self.send(&ToUpcall::Accepted {
            request: 1,
            deadline_ms,
        });
    }

    pub(crate) fn instantiate(&self, payload: &str) {
        self.send(&ToUpcall::Instantiate(payload.as_bytes().into()));
    }

    pub(crate) fn reject(&self, errno: i32, seconds: u32) {
        self.send(&ToUpcall::Reject(Rejection::new(errno, seconds).unwrap()));
    }

    pub(crate) fn send(&self, message: &ToUpcall) {
        self.send_bytes(message.encode().unwrap().as_slice(), None);
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = fd.into_iter().collect();
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let pieces = [IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.socket, &pieces, &mut control, SendFlags::NOSIGNAL).unwrap();
    }

    pub(crate) fn program_pid(&self) -> rustix::process::Pid {
        sockopt::socket_peercred(&self.socket).unwrap().pid
    }

    fn receive(&self) -> io::Result<Option<(ToDaemon, Option<OwnedFd>)>> {
        match self.receive_once() {
            // Told once when the program ended with something unread; its last words follow.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => self.receive_once(),
            other => other,
        }
    }

    fn receive_once(&self) -> io::Result<Option<(ToDaemon, Option<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let socket = self.socket.as_fd();
        let got = rustix::net::recvmsg(socket, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if got.bytes == 0 {
            return Ok(None);
        }
        Ok(Some((ToDaemon::decode(&bytes[..got.bytes]).unwrap(), fd)))
    }
}

//! Messages with descriptors between the daemon, its helpers and the monitors.
//!
//! SOCK_SEQPACKET keeps message borders; a message is one JSON value. Both ends are root and part
//! of keyns, still nothing here trusts a length or a descriptor count.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message: a command line with its environment is the largest thing sent.
pub const MAX_MESSAGE: usize = 192 * 1024;
/// Most descriptors in one message.
pub const MAX_DESCRIPTORS: usize = 8;

/// How long a listener may take to have room for a connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(3);

/// One end of a connection.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// A connected pair.
    ///
    /// # Errors
    /// `socketpair(2)`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(a), Self(b)))
    }

    /// Binds and listens at `path`, readable and writable by root only.
    ///
    /// # Errors
    /// `bind(2)`: `EADDRINUSE` when the path exists.
    pub fn listen(path: &Path) -> io::Result<OwnedFd> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::fs::fchmod(&socket, 0o600.into())?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, 16)?;
        Ok(socket)
    }

    /// Accepts a connection; refuses a peer that is not kernel uid 0.
    ///
    /// # Errors
    /// `accept(2)`; `EPERM` for another peer.
    pub fn accept(listener: impl AsFd) -> io::Result<Self> {
        let socket = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
        let channel = Self(socket);
        channel.demand_root()?;
        Ok(channel)
    }

    /// Connects to `path`; refuses a listener that is not kernel uid 0.
    ///
    /// # Errors
    /// `connect(2)`; `EAGAIN` where it is not accepted for some seconds; `EPERM` for another listener.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // A listener that takes no more connections would be waited for.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(CONNECTED_WITHIN))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        let channel = Self(socket);
        channel.set_timeout(None)?;
        channel.demand_root()?;
        Ok(channel)
    }

    fn demand_root(&self) -> io::Result<()> {
        if sockopt::socket_peercred(&self.0)?.uid.is_root() {
            Ok(())
        } else {
            Err(rustix::io::Errno::PERM.into())
        }
    }

    /// Bounds every later send and receive; `None`: wait for ever.
    ///
    /// # Errors
    /// `setsockopt(2)`.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, timeout)?;
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Send, timeout)?;
        Ok(())
    }

    /// Sends one message.
    ///
    /// # Errors
    /// `EMSGSIZE` above [`MAX_MESSAGE`] or [`MAX_DESCRIPTORS`]; `sendmsg(2)`; `EPIPE` when the peer
    /// is gone; `EAGAIN` after the time-out.
    pub fn send<T: Serialize>(&self, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE || fds.len() > MAX_DESCRIPTORS {
            return Err(rustix::io::Errno::MSGSIZE.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(&bytes)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }

    /// Receives one message.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer has closed; `InvalidData` for a message that is too long or
    /// not of type `T`; `EAGAIN` after the time-out.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut buffer = vec![0u8; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            match rustix::net::recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        let mut fds = Vec::new();
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if message
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let bytes = buffer.get(..message.bytes).unwrap_or_default();
        Ok((serde_json::from_slice(bytes)?, fds))
    }

    /// Sends a request and receives its answer.
    ///
    /// # Errors
    /// Those of [`Self::send`] and [`Self::receive`].
    pub fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        request: &Q,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<(A, Vec<OwnedFd>)> {
        self.send(request, fds)?;
        self.receive()
    }

    /// The socket itself, e.g. to poll it.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (a, b) = Channel::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        a.send(&("hello", 7), &[writer.as_fd()]).unwrap();
        drop(writer);
        let ((text, number), fds) = b.receive::<(String, u32)>().unwrap();
        assert_eq!((text.as_str(), number, fds.len()), ("hello", 7, 1));
        rustix::io::write(&fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&reader, &mut byte).unwrap(), 1);
    }

    #[test]
    fn a_closed_peer_is_an_end_not_an_empty_message() {
        let (a, b) = Channel::pair().unwrap();
        drop(a);
        let end = b.receive::<u32>().unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn garbage_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&"text", &[]).unwrap();
        assert!(b.receive::<u32>().is_err());
        let long = "x".repeat(MAX_MESSAGE);
        assert_eq!(a.send(&long, &[]).unwrap_err().raw_os_error(), Some(90));
    }
}

//! The client end of the upcall socket: `SOCK_SEQPACKET`, never blocking.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use crate::call::check;
use crate::requester;
use crate::secret::SecretBytes;

/// A connection to the daemon.
#[derive(Debug)]
pub struct UpcallSocket(OwnedFd);

/// One packet and the descriptor that came with it.
#[derive(Debug)]
pub struct Packet {
    /// The content.
    pub bytes: SecretBytes,
    /// The first descriptor; more than one are closed unseen.
    pub fd: Option<OwnedFd>,
}

impl UpcallSocket {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// `connect(2)`: `ENOENT`, `ECONNREFUSED`, `EAGAIN` when the daemon's backlog is full;
    /// `InvalidInput` for a path of more than 107 bytes; `PermissionDenied` when the peer is not
    /// uid 0.
    pub fn connect(path: &Path) -> io::Result<Self> {
        // Safety: all bits zero is a valid `sockaddr_un`.
        let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let path = path.as_os_str().as_bytes();
        // An empty or NUL-led path would name the abstract name space, which needs no permission.
        if path.len() >= address.sun_path.len() || path.is_empty() || path.contains(&0) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for (to, from) in address.sun_path.iter_mut().zip(path) {
            *to = *from as libc::c_char;
        }
        let flags = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Safety: plain numbers.
        let fd = check(unsafe { libc::socket(libc::AF_UNIX, flags, 0) }.into())?;
        // Safety: the descriptor is new and nobody else knows it.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        let length = mem::size_of_val(&address) as libc::socklen_t;
        let pointer = (&raw const address).cast();
        // Safety: the address is initialised and the length is its own.
        check(unsafe { libc::connect(socket.0.as_raw_fd(), pointer, length) }.into())?;
        if socket.peer_uid()? != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(socket)
    }

    /// Uid of the process that listens (`SO_PEERCRED`).
    fn peer_uid(&self) -> io::Result<u32> {
        let mut peer = libc::ucred {
            pid: 0,
            uid: u32::MAX,
            gid: u32::MAX,
        };
        let mut length = mem::size_of_val(&peer) as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        let (value, size) = ((&raw mut peer).cast(), &raw mut length);
        // Safety: the structure is exclusively borrowed and has the length given.
        let done = unsafe { libc::getsockopt(self.0.as_raw_fd(), level, option, value, size) };
        check(done.into())?;
        Ok(peer.uid)
    }

    /// Sends one packet, with at most one descriptor.
    ///
    /// # Errors
    /// `sendmsg(2)`: `WouldBlock` when the peer does not read, `EPIPE` when it is gone.
    pub fn send(&self, bytes: &[u8], fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut piece = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        let mut control = Control::default();
        // Safety: all bits zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        if let Some(fd) = fd {
            control.level = libc::SOL_SOCKET;
            control.kind = libc::SCM_RIGHTS;
            control.length = Control::LENGTH;
            control.fds[0] = fd.as_raw_fd();
            message.msg_control = (&raw mut control).cast();
            message.msg_controllen = mem::size_of::<Control>() as _;
        }
        // Safety: everything the header points to outlives the call; the kernel only reads it.
        let sent = check(unsafe {
            libc::sendmsg(self.0.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
        } as libc::c_long)?;
        if sent as usize == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Length of the packet that comes next, 0 when the peer has closed. Most packets are a thousand
    /// times shorter than the longest, and a buffer costs by the page.
    fn next_length(&self) -> io::Result<usize> {
        let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
        // Safety: no byte is written to a buffer of length 0.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), ptr::null_mut(), 0, flags) };
        check(length as libc::c_long).map(|length| length as usize)
    }

    /// Receives one packet of at most `most` bytes; `None` when the peer has closed.
    ///
    /// # Errors
    /// `recvmsg(2)`: `WouldBlock` when there is none; `InvalidData` when the packet was longer.
    pub fn receive(&self, most: usize) -> io::Result<Option<Packet>> {
        let mut bytes = SecretBytes::zeroed(self.next_length()?.min(most));
        let mut piece = libc::iovec {
            iov_base: bytes.as_mut_slice().as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        let mut control = Control::default();
        // Safety: all bits zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = mem::size_of::<Control>() as _;
        // Safety: both buffers are exclusively borrowed and have the lengths given.
        let got = check(unsafe {
            libc::recvmsg(self.0.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
        } as libc::c_long)?;
        let fd = control.take_fd();
        if message.msg_flags & libc::MSG_TRUNC != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if got == 0 {
            return Ok(None);
        }
        Ok(Some(Packet {
            bytes: bytes.truncated(got as usize),
            fd,
        }))
    }
}

impl AsFd for UpcallSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `struct cmsghdr` with room for one descriptor, padded as `CMSG_SPACE` does.
#[repr(C)]
#[derive(Default)]
struct Control {
    length: usize,
    level: libc::c_int,
    kind: libc::c_int,
    fds: [libc::c_int; 2],
}

impl Control {
    /// `CMSG_LEN` of one descriptor.
    const LENGTH: usize = mem::offset_of!(Self, fds) + mem::size_of::<libc::c_int>();

    /// Takes over the descriptor the kernel put here; a second one is closed.
    fn take_fd(&mut self) -> Option<OwnedFd> {
        if self.level != libc::SOL_SOCKET || self.kind != libc::SCM_RIGHTS {
            return None;
        }
        let count = self.length.saturating_sub(mem::offset_of!(Self, fds)) / 4;
        let mut fds = self.fds.iter().take(count).map(|fd| {
            // Safety: the kernel just installed these descriptors for us; each is taken once,
            // because `kind` is cleared below.
            unsafe { OwnedFd::from_raw_fd(*fd) }
        });
        let first = fds.next();
        drop(fds.next());
        self.kind = 0;
        first
    }
}

const _: () = assert!(mem::offset_of!(Control, fds) == 16 && mem::size_of::<Control>() == 24);

/// What happened first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The first descriptor is readable or its peer is gone.
    pub first: bool,
    /// The second descriptor is readable.
    pub second: bool,
}

/// Waits until a descriptor is readable or the time is over (then neither is).
///
/// # Errors
/// `ppoll(2)`; an interruption by a signal is not an error but the end of the wait.
pub fn wait_readable(
    first: Option<BorrowedFd<'_>>,
    second: BorrowedFd<'_>,
    most: Duration,
) -> io::Result<Ready> {
    let entry = |fd: i32| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // A negative descriptor is skipped by the kernel.
    let mut entries = [
        entry(first.map_or(-1, |f| f.as_raw_fd())),
        entry(second.as_raw_fd()),
    ];
    let limit = libc::timespec {
        tv_sec: most.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: most.subsec_nanos().into(),
    };
    // Safety: the array has two entries; the signal mask is not changed.
    let outcome = check(
        unsafe { libc::ppoll(entries.as_mut_ptr(), 2, &raw const limit, ptr::null()) }.into(),
    );
    match outcome {
        Ok(_) => {
            let [a, b] = entries;
            Ok(Ready {
                first: a.revents != 0,
                second: b.revents != 0,
            })
        }
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Ready::default()),
        Err(e) => Err(e),
    }
}

/// Reads a payload from a sealed memfd of exactly `length` bytes.
///
/// # Errors
/// `InvalidData` when size or seals are not as the protocol demands, so that the content could
/// change while it is read.
pub fn read_sealed(fd: BorrowedFd<'_>, length: usize) -> io::Result<SecretBytes> {
    let needed = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK;
    // Safety: F_GET_SEALS takes no argument; other files answer EINVAL.
    let seals = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) }.into())?;
    let size = requester::status(fd)?.size;
    if seals & libc::c_long::from(needed) != libc::c_long::from(needed) || size != length as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = SecretBytes::zeroed(length);
    let mut done = 0;
    while let Some(rest) = payload
        .as_mut_slice()
        .get_mut(done..)
        .filter(|r| !r.is_empty())
    {
        // Safety: the buffer is exclusively borrowed and has the length given.
        let got = check(unsafe {
            libc::pread(
                fd.as_raw_fd(),
                rest.as_mut_ptr().cast(),
                rest.len(),
                done as libc::off_t,
            )
        } as libc::c_long)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done += got as usize;
    }
    Ok(payload)
}

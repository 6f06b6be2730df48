//! Frames: one JSON object each, ended by a NUL byte, with the descriptors that came along.
//!
//! Both ends use this rather than a ready-made connection because frames carry payloads and
//! descriptors: buffers are wiped when they are dropped or outgrown, descriptors are received
//! close-on-exec, and size, number of descriptors and duration are limited before anything is
//! parsed.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};
use zeroize::{Zeroize, Zeroizing};

/// Largest call that the daemon reads, in bytes: a payload of 1 MiB fits as base64.
pub const MAX_CALL: usize = 2 << 20;
/// Largest reply that a client reads and the daemon sends, in bytes.
pub const MAX_REPLY: usize = 16 << 20;
/// Descriptors per frame; the kernel closes what is beyond them.
pub const MAX_DESCRIPTORS: usize = 8;
/// Time from the first to the last byte of a frame.
pub const FRAME_TIME: Duration = Duration::from_secs(5);

/// Buffer of a connection that nothing large passes through.
const SMALL: usize = 4096;

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame is longer than this many bytes.
    #[error("a frame is longer than {0} bytes")]
    TooLarge(usize),
    /// The frame did not end within [`FRAME_TIME`].
    #[error("a frame was not complete after {} s", FRAME_TIME.as_secs())]
    TooSlow,
    /// The peer hung up inside a frame.
    #[error("the connection ended inside a frame")]
    Cut,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A frame as received.
#[derive(Debug)]
pub struct Frame {
    /// The bytes before the NUL.
    pub bytes: Bytes,
    /// Descriptors that came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// Bytes of a frame: may hold a payload, so wiped when dropped and not shown by `Debug`.
#[derive(Default)]
pub struct Bytes(Zeroizing<Vec<u8>>);

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({})", self.0.len())
    }
}

impl Bytes {
    /// `value` as JSON, ended by a NUL byte: ready to be sent.
    ///
    /// # Errors
    /// `None` if `value` does not serialise or needs more than `limit` bytes.
    pub fn encode<T: serde::Serialize>(value: &T, limit: usize) -> Option<Self> {
        let mut out = Outgoing {
            bytes: Self::default(),
            limit,
        };
        serde_json::to_writer(&mut out, value).ok()?;
        out.bytes.append(b"\0");
        Some(out.bytes)
    }

    /// As `Vec::extend_from_slice`, but wipes the old memory when it moves.
    #[inline]
    fn append(&mut self, more: &[u8]) {
        self.reserve(more.len());
        self.0.extend_from_slice(more);
    }

    fn reserve(&mut self, more: usize) {
        let needed = self.0.len().saturating_add(more);
        if needed > self.0.capacity() {
            self.grow(needed);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        // In large steps, and the first one large enough for most frames: whatever is outgrown has to
        // be wiped.
        let mut larger = Vec::with_capacity(needed.max(self.0.capacity() * 4).max(SMALL));
        larger.extend_from_slice(&self.0);
        // Dropping the former buffer wipes it.
        self.0 = Zeroizing::new(larger);
    }
}

struct Outgoing {
    bytes: Bytes,
    limit: usize,
}

impl std::io::Write for Outgoing {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.write_all(buf).map(|()| buf.len())
    }

    // JSON is written in pieces of a byte or two.
    #[inline]
    fn write_all(&mut self, buf: &[u8]) -> std::io::Result<()> {
        if self.bytes.len() + buf.len() >= self.limit {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.append(buf);
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads frames from a socket.
#[derive(Debug)]
pub struct FrameReader {
    socket: Arc<UnixStream>,
    // Received and not handed out yet: `buffer[start..end]`; no NUL in `buffer[start..scanned]`.
    buffer: Bytes,
    start: usize,
    scanned: usize,
    end: usize,
    // Descriptors with the position of a byte of the frame they belong to.
    fds: VecDeque<(usize, Vec<OwnedFd>)>,
    limit: usize,
    // Whether descriptors are taken.
    descriptors: bool,
    begun: Option<Instant>,
}

impl FrameReader {
    /// Reads frames of up to `limit` bytes.
    #[must_use]
    pub fn new(socket: Arc<UnixStream>, limit: usize) -> Self {
        Self {
            socket,
            buffer: Bytes::default(),
            start: 0,
            scanned: 0,
            end: 0,
            fds: VecDeque::new(),
            limit,
            descriptors: true,
            begun: None,
        }
    }

    /// Takes no descriptors: whatever the peer sends, frames come without.
    #[must_use]
    pub fn without_descriptors(self) -> Self {
        Self {
            descriptors: false,
            ..self
        }
    }

    /// The next frame; `None` if the peer hung up between two frames. Cancel safe.
    ///
    /// # Errors
    /// See [`FrameError`]; afterwards the connection is of no use.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if !self.ready().await? {
            return Ok(None);
        }
        Ok(self.take())
    }

    /// Waits until a whole frame is buffered; false if the peer hung up instead. Cancel safe.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn ready(&mut self) -> Result<bool, FrameError> {
        loop {
            if self.complete()?.is_some() {
                return Ok(true);
            }
            let received = match self.begun {
                Some(begun) => timeout_at(begun + FRAME_TIME, self.receive())
                    .await
                    .map_err(|_| FrameError::TooSlow)??,
                None => self.receive().await?,
            };
            if received == 0 {
                return if self.start == self.end {
                    Ok(false)
                } else {
                    Err(FrameError::Cut)
                };
            }
            if self.begun.is_none() {
                self.begun = Some(Instant::now());
            }
        }
    }

    /// Whether the peer has closed the connection, also if it left something to be read.
    #[must_use]
    pub fn peer_gone(&self) -> bool {
        let mut poll = [PollFd::new(&*self.socket, PollFlags::empty())];
        match rustix::event::poll(&mut poll, Some(&Timespec::default())) {
            Ok(_) => poll
                .iter()
                .any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)),
            Err(_) => true,
        }
    }

    /// The position of the NUL that ends the next frame, if it is buffered already.
    fn complete(&mut self) -> Result<Option<usize>, FrameError> {
        let unseen = self.buffer.get(self.scanned..self.end).unwrap_or_default();
        let nul = unseen
            .iter()
            .position(|byte| *byte == 0)
            .map(|at| self.scanned + at);
        self.scanned = nul.unwrap_or(self.end);
        if self.scanned - self.start > self.limit {
            return Err(FrameError::TooLarge(self.limit));
        }
        Ok(nul)
    }

    fn take(&mut self) -> Option<Frame> {
        let nul = self.complete().ok()??;
        let mut bytes = Bytes::default();
        bytes.append(self.buffer.get(self.start..nul)?);
        let mut fds = Vec::new();
        while let Some((at, _)) = self.fds.front() {
            if *at > nul {
                break;
            }
            fds.extend(self.fds.pop_front().map(|(_, fds)| fds).unwrap_or_default());
        }
        fds.truncate(MAX_DESCRIPTORS);
        self.start = nul + 1;
        self.scanned = self.start;
        if self.start == self.end {
            let used = std::mem::take(&mut self.end);
            self.begun = None;
            self.start = 0;
            self.scanned = 0;
            if self.buffer.len() > SMALL {
                self.buffer = Bytes::default();
            } else {
                // What lies behind has not been written to, or was wiped before.
                self.buffer.0.get_mut(..used).unwrap_or_default().zeroize();
            }
        } else {
            self.begun = Some(Instant::now());
        }
        Some(Frame { bytes, fds })
    }

    async fn receive(&mut self) -> Result<usize, FrameError> {
        self.make_room();
        let Self {
            socket,
            buffer,
            end,
            fds,
            descriptors,
            ..
        } = self;
        let room = buffer.0.get_mut(*end..).unwrap_or_default();
        let receive = if *descriptors { receive } else { receive_bytes };
        let (bytes, mut received) = socket
            .async_io(Interest::READABLE, || receive(socket.as_fd(), room))
            .await?;
        *end += bytes;
        if bytes > 0 && !received.is_empty() {
            // The kernel ends a read with the data of the write that carried descriptors, so the
            // last byte received is of their frame.
            let at = *end - 1;
            let held: usize = fds.iter().map(|(_, fds)| fds.len()).sum();
            received.truncate(MAX_DESCRIPTORS.saturating_sub(held));
            fds.push_back((at, received));
        }
        Ok(bytes)
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.0.copy_within(self.start..self.end, 0);
            let vacated = self.end - self.start..self.end;
            self.buffer.0.get_mut(vacated).unwrap_or_default().zeroize();
            for (at, _) in &mut self.fds {
                *at = at.saturating_sub(self.start);
            }
            self.end -= self.start;
            self.scanned -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let larger = (self.end * 2).clamp(SMALL, self.limit.saturating_add(SMALL));
            self.buffer.reserve(larger - self.buffer.len());
            self.buffer.0.resize(larger, 0);
        }
    }
}

fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> std::io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(room)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((message.bytes, fds))
}

/// Leaves descriptors where they are: without room for them the kernel lets go of its references.
///
/// To close one may take as long as the file system behind it likes (`FUSE_FLUSH`), and who sends it
/// chooses the file system.
fn receive_bytes(
    socket: BorrowedFd<'_>,
    room: &mut [u8],
) -> std::io::Result<(usize, Vec<OwnedFd>)> {
    let (bytes, _) = recv(socket, room, RecvFlags::DONTWAIT)?;
    Ok((bytes, Vec::new()))
}

/// Writes frames to a socket.
#[derive(Debug, Clone)]
pub struct FrameWriter {
    socket: Arc<UnixStream>,
}

impl FrameWriter {
    /// Writes to `socket`.
    #[must_use]
    pub fn new(socket: Arc<UnixStream>) -> Self {
        Self { socket }
    }

    /// Sends a frame made by [`Bytes::encode`], the descriptors with its first byte. Not cancel
    /// safe: a frame cut short makes the connection useless.
    ///
    /// # Errors
    /// Those of sendmsg(2); `EPIPE` raises no signal.
    pub async fn send(&self, frame: &Bytes, fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let mut rest: &[u8] = frame;
        let mut fds = fds;
        while !rest.is_empty() {
            let sent = self
                .socket
                .async_io(Interest::WRITABLE, || send(self.socket.as_fd(), rest, fds))
                .await?;
            rest = rest.get(sent..).unwrap_or_default();
            fds = &[];
        }
        Ok(())
    }
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        flags,
    )?)
}

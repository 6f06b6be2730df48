//! The protocol between `keyns-upcall` and the daemon, byte by byte.
//!
//! It is frozen: a `keyns-upcall` that was installed once must understand a daemon of years later
//! well enough to reject a request, so the first four bytes keep their meaning in every version.
//!
//! # Transport
//! A `SOCK_SEQPACKET` socket in the file system. One connection carries one request; each side
//! accepts only a peer of uid 0 (`SO_PEERCRED`). A message is one packet of at most
//! [`MAX_MESSAGE`] bytes. Numbers are little-endian; `bytes` is a `u32` length followed by as many
//! bytes; `levels` is a `u16` count (at most [`MAX_LEVELS`]) followed by as many `u64`. Bytes left
//! over after the last field make a message invalid.
//!
//! # Order
//! ```text
//! keyns-upcall                                  daemon
//!   Request (+ 1 descriptor)  ───────────────▶
//!                             ◀───────────────  Accepted
//!                             ◀───────────────  Instantiate | InstantiateFd (+ memfd)
//!                                               | Reject | Original
//!   Outcome                   ───────────────▶
//! ```
//! Instead of `Accepted` the daemon may answer at once. After an `Outcome` that is not *settled*
//! (the key's type refused the payload) the daemon answers again; after a settled one both close.
//! `Original` is final and has no `Outcome`: the program replaces itself. When the connection ends
//! before that, `keyns-upcall` connects again and repeats the `Request` with a higher `attempt`,
//! until its deadline.
//!
//! # Messages
//! Every message begins with `version: u16, kind: u16`.
//!
//! | kind | message | fields after the header |
//! |---|---|---|
//! | 0 | `Unsupported` | none that matters; `version` is the highest the sender speaks |
//! | 1 | `Request` | see [`Request`], in the order of its fields |
//! | 2 | `Accepted` | `request: u64, deadline_ms: u32` |
//! | 3 | `Instantiate` | `payload: bytes`, at most [`MAX_INLINE_PAYLOAD`] |
//! | 4 | `InstantiateFd` | `length: u32`; the payload is a sealed memfd of exactly that size |
//! | 5 | `Reject` | `errno: u32, seconds: u32`, see [`Rejection`] |
//! | 6 | `Original` | none |
//! | 7 | `Outcome` | `errno: u32, settled: u8` (0 or 1) |
//!
//! A payload over 64 KiB travels in a memfd because a packet of a megabyte would need a send buffer
//! beyond `net.core.wmem_max` and a contiguous copy in the kernel. The memfd must carry the seals
//! `F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK`.
//!
//! # Versions
//! A daemon that gets a `Request` of a version it does not speak answers `Unsupported`.
//! `keyns-upcall` then, and whenever a message carries another version than its own, rejects the
//! request: the routing table already said that the requester lives in a container, and such a
//! request must not reach the host's program. Requests of the host never come this far.

use std::error::Error;
use std::fmt;

use crate::key::{MAX_DESCRIPTION, MAX_PAYLOAD, MAX_TYPE};
use crate::secret::SecretBytes;
use crate::serial::KeySerial;

/// The version of the messages below.
pub const VERSION: u16 = 1;
/// The longest message in bytes, either way.
pub const MAX_MESSAGE: usize = 96 * 1024;
/// The longest callout information. The kernel takes less than a page (`strndup_user` in
/// `request_key(2)`), and no architecture has larger pages than this.
pub const MAX_CALLOUT: usize = 64 * 1024;
/// The longest payload inside a message; longer ones travel in a memfd.
pub const MAX_INLINE_PAYLOAD: usize = 64 * 1024;
/// The longest chain of namespaces; the kernel nests 32 deep below the initial one.
pub const MAX_LEVELS: usize = 40;
/// The longest path (cgroup, executable) in bytes.
pub const MAX_PATH: usize = 4096;
/// The longest thread name in bytes.
pub const MAX_COMM: usize = 64;
/// The longest time in seconds a rejection may keep the key negative.
pub const MAX_REJECT_SECONDS: u32 = 60;
/// The longest time in milliseconds a request may stay open, whatever the daemon says.
pub const MAX_DEADLINE_MS: u32 = 60_000;

/// What the descriptor that comes with a [`Request`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequesterFd {
    /// A pidfd of the thread itself (`PIDFD_THREAD`, Linux 6.9).
    Thread,
    /// A directory descriptor on `/proc/<tid>`, bound to that very thread.
    ProcDirectory,
}

/// Why the thread named in the authorisation key may not be the one that waits for this answer.
///
/// The kernel records the thread that called `request_key(2)`, except when that thread had assumed
/// the authority over an *outer* request: then the requester of the outer one is recorded again
/// (`request_key_auth_new`). Nothing in the authorisation key tells the two apart. What can be
/// seen from outside are two facts; the daemon adds a third, whether it already holds a request of
/// this very thread, which can wait for one request at a time only. A kernel that queues requests
/// says itself which of the two it was, so that there nothing is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// The thread is not in state `D`, in which every direct requester stays until
    /// `keyns-upcall` exits: the request is certainly nested, and the outer one over. Out of the
    /// queue of a kernel: that kernel says that it is nested.
    pub not_waiting: bool,
    /// The file system ids in the arguments are not those of the thread: either nested, or kernel
    /// code that asks with credentials of its own (DNS, NFS and CIFS caches).
    pub other_ids: bool,
}

impl Doubts {
    /// Whether either fact speaks for a nested request.
    #[must_use]
    pub const fn nested(self) -> bool {
        self.not_waiting || self.other_ids
    }
}

/// Everything the kernel says about one request.
///
/// Ids are those of the initial user namespace, PIDs those of the initial PID namespace. On the
/// wire the fields follow each other in this order; `fd` is a `u8` (1 thread, 2 directory), `doubts`
/// a `u8` (bit 0 `not_waiting`, bit 1 `other_ids`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The key under construction.
    pub target: KeySerial,
    /// The authorisation key; with `target` it identifies the request across restarts.
    pub auth: KeySerial,
    /// File system uid the request was made with, from the arguments.
    pub fsuid: u32,
    /// File system gid, likewise.
    pub fsgid: u32,
    /// The requester's thread keyring, 0 if none.
    pub thread_keyring: KeySerial,
    /// The requester's process keyring, 0 if none.
    pub process_keyring: KeySerial,
    /// The requester's session keyring.
    pub session_keyring: KeySerial,
    /// 0 for the first time this request is sent, then counting.
    pub attempt: u32,
    /// Milliseconds since `keyns-upcall` started, or since the request was queued.
    pub waited_ms: u32,
    /// The thread that asked.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// Start time of the thread in clock ticks since boot (`/proc/<tid>/stat`, field 22).
    pub start_time: u64,
    /// What the descriptor sent along is.
    pub fd: RequesterFd,
    /// See [`Doubts`].
    pub doubts: Doubts,
    /// Real, effective, saved and file system uid of the thread.
    pub uids: [u32; 4],
    /// Real, effective, saved and file system gid of the thread.
    pub gids: [u32; 4],
    /// Permitted capabilities of the thread, in its own user namespace.
    pub permitted: u64,
    /// Inode of the network namespace.
    pub net_ns: u64,
    /// Inodes of the PID namespaces, innermost first, up to and with the initial one.
    pub pid_ns: Vec<u64>,
    /// Inodes of the user namespaces, likewise.
    pub user_ns: Vec<u64>,
    /// Path in the cgroup2 hierarchy; empty without one.
    pub cgroup: Vec<u8>,
    /// Type of the key asked for. The requester chose it.
    pub type_name: Vec<u8>,
    /// Description of the key asked for. The requester chose it.
    pub description: Vec<u8>,
    /// Callout information. The requester chose it.
    pub callout: SecretBytes,
    /// Name of the thread, for display. The requester chose it.
    pub comm: Vec<u8>,
    /// Path of the executable, for display. The requester chose it.
    pub exe: Vec<u8>,
}

/// An error for the requester, and how long the key stays negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    errno: i32,
    seconds: u32,
}

impl Rejection {
    /// `ENOKEY` for 5 seconds: there is nobody to answer.
    pub const NO_KEY: Self = Self {
        errno: libc::ENOKEY,
        seconds: 5,
    };

    /// Checks what `KEYCTL_REJECT` will accept: an errno of 1 to 4094 that is not one of the
    /// kernel's own restart codes (`keyctl_reject_key`). Seconds are brought into 1 to 60, because
    /// 0 would turn every error into `ENOKEY` and hours would block the requester's session.
    #[must_use]
    pub fn new(errno: i32, seconds: u32) -> Option<Self> {
        let restart = matches!(errno, 512 | 513 | 514 | 516);
        if !(1..4095).contains(&errno) || restart {
            return None;
        }
        Some(Self {
            errno,
            seconds: seconds.clamp(1, MAX_REJECT_SECONDS),
        })
    }

    /// The error `request_key(2)` returns.
    #[must_use]
    pub const fn errno(self) -> i32 {
        self.errno
    }

    /// Seconds the key stays negative, 1 to 60.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.seconds
    }
}

/// A message from `keyns-upcall` to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToDaemon {
    /// A request, with one descriptor.
    Request(Box<Request>),
    /// What became of the last answer.
    Outcome {
        /// 0: the answer took effect. Otherwise what the kernel said, or `ETIMEDOUT` and `EINTR`
        /// when `keyns-upcall` rejected the request for its deadline or a `SIGTERM`.
        errno: i32,
        /// Nothing more will be accepted for this request.
        settled: bool,
    },
}

/// A message from the daemon to `keyns-upcall`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToUpcall {
    /// The daemon does not speak the version of the request.
    Unsupported,
    /// The daemon will answer; the deadline counts from now.
    Accepted {
        /// The daemon's number for this request.
        request: u64,
        /// Milliseconds until `keyns-upcall` gives up, at most [`MAX_DEADLINE_MS`] after its start.
        deadline_ms: u32,
    },
    /// Give the key this payload.
    Instantiate(SecretBytes),
    /// Give the key the content of the memfd sent along.
    InstantiateFd {
        /// Its size in bytes, at most [`MAX_PAYLOAD`].
        length: u32,
    },
    /// Make the key negative.
    Reject(Rejection),
    /// Run the program that was there before.
    Original,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Another version; nothing after the first four bytes was looked at.
    Version(u16),
    /// No such message in this direction.
    Kind(u16),
    /// The message ends within a field.
    Truncated,
    /// Bytes follow the last field.
    Trailing,
    /// The named field is longer or larger than allowed.
    Range(&'static str),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(v) => write!(f, "protocol version {v}, but {VERSION} is spoken here"),
            Self::Kind(k) => write!(f, "message kind {k} is not known in this direction"),
            Self::Truncated => f.write_str("the message ends within a field"),
            Self::Trailing => f.write_str("bytes follow the last field"),
            Self::Range(field) => write!(f, "the field {field} is out of range"),
        }
    }
}

impl Error for WireError {}

const UNSUPPORTED: u16 = 0;
const REQUEST: u16 = 1;
const ACCEPTED: u16 = 2;
const INSTANTIATE: u16 = 3;
const INSTANTIATE_FD: u16 = 4;
const REJECT: u16 = 5;
const ORIGINAL: u16 = 6;
const OUTCOME: u16 = 7;

impl ToDaemon {
    /// The message as bytes.
    ///
    /// # Errors
    /// [`WireError::Range`] names the first field that is longer than the format allows.
    pub fn encode(&self) -> Result<SecretBytes, WireError> {
        match self {
            Self::Request(request) => request.encode(),
            Self::Outcome { errno, settled } => {
                let mut out = Writer::new(OUTCOME);
                out.u32(errno.cast_unsigned());
                out.u8(u8::from(*settled));
                Ok(out.finish())
            }
        }
    }

    /// Reads a message that came from `keyns-upcall`.
    ///
    /// # Errors
    /// Any [`WireError`]; never panics, whatever the bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (kind, mut input) = Reader::open(bytes)?;
        let message = match kind {
            REQUEST => Self::Request(Box::new(Request::decode(&mut input)?)),
            OUTCOME => {
                let errno = input.u32()?.cast_signed();
                let settled = match input.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(WireError::Range("settled")),
                };
                Self::Outcome { errno, settled }
            }
            other => return Err(WireError::Kind(other)),
        };
        input.end()?;
        Ok(message)
    }
}

impl ToUpcall {
    /// The message as bytes.
    ///
    /// # Errors
    /// [`WireError::Range`] for a payload over [`MAX_INLINE_PAYLOAD`] or [`MAX_PAYLOAD`].
    pub fn encode(&self) -> Result<SecretBytes, WireError> {
        let out = match self {
            Self::Unsupported => Writer::new(UNSUPPORTED),
            Self::Accepted {
                request,
                deadline_ms,
            } => {
                let mut out = Writer::new(ACCEPTED);
                out.u64(*request);
                out.u32(*deadline_ms);
                out
            }
            Self::Instantiate(payload) => {
                let mut out = Writer::with_room(INSTANTIATE, payload.len().saturating_add(8));
                out.bytes(payload.as_slice(), MAX_INLINE_PAYLOAD, "payload")?;
                out
            }
            Self::InstantiateFd { length } => {
                if *length as usize > MAX_PAYLOAD {
                    return Err(WireError::Range("length"));
                }
                let mut out = Writer::new(INSTANTIATE_FD);
                out.u32(*length);
                out
            }
            Self::Reject(rejection) => {
                let mut out = Writer::new(REJECT);
                out.u32(rejection.errno.cast_unsigned());
                out.u32(rejection.seconds);
                out
            }
            Self::Original => Writer::new(ORIGINAL),
        };
        Ok(out.finish())
    }

    /// Reads a message that came from the daemon.
    ///
    /// # Errors
    /// Any [`WireError`]; never panics, whatever the bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (kind, mut input) = Reader::open(bytes)?;
        let message = match kind {
            UNSUPPORTED => return Ok(Self::Unsupported),
            ACCEPTED => Self::Accepted {
                request: input.u64()?,
                deadline_ms: input.u32()?,
            },
            INSTANTIATE => Self::Instantiate(input.bytes(MAX_INLINE_PAYLOAD, "payload")?.into()),
            INSTANTIATE_FD => {
                let length = input.u32()?;
                if length as usize > MAX_PAYLOAD {
                    return Err(WireError::Range("length"));
                }
                Self::InstantiateFd { length }
            }
            REJECT => {
                let errno = input.u32()?.cast_signed();
                let seconds = input.u32()?;
                let rejection = Rejection::new(errno, seconds);
                Self::Reject(rejection.ok_or(WireError::Range("errno"))?)
            }
            ORIGINAL => Self::Original,
            other => return Err(WireError::Kind(other)),
        };
        input.end()?;
        Ok(message)
    }
}

impl Request {
    /// Bytes that suffice for the encoded message. Not simply the longest one: memory that is wiped
    /// costs a page fault for every page of it.
    fn room(&self) -> usize {
        const NUMBERS: usize = 192;
        let texts = [
            self.cgroup.len(),
            self.type_name.len(),
            self.description.len(),
            self.callout.len(),
            self.comm.len(),
            self.exe.len(),
        ];
        let levels = self.pid_ns.len() + self.user_ns.len();
        (NUMBERS + 8 * levels + texts.iter().sum::<usize>()).min(MAX_MESSAGE)
    }

    fn encode(&self) -> Result<SecretBytes, WireError> {
        // One allocation: callout information must not be left behind by a buffer that grew.
        let mut out = Writer::with_room(REQUEST, self.room());
        out.i32(self.target.raw());
        out.i32(self.auth.raw());
        out.u32(self.fsuid);
        out.u32(self.fsgid);
        out.i32(self.thread_keyring.raw());
        out.i32(self.process_keyring.raw());
        out.i32(self.session_keyring.raw());
        out.u32(self.attempt);
        out.u32(self.waited_ms);
        out.u32(self.tid);
        out.u32(self.tgid);
        out.u64(self.start_time);
        out.u8(match self.fd {
            RequesterFd::Thread => 1,
            RequesterFd::ProcDirectory => 2,
        });
        out.u8(u8::from(self.doubts.not_waiting) | u8::from(self.doubts.other_ids) << 1);
        for id in self.uids.iter().chain(&self.gids) {
            out.u32(*id);
        }
        out.u64(self.permitted);
        out.u64(self.net_ns);
        out.levels(&self.pid_ns, "pid_ns")?;
        out.levels(&self.user_ns, "user_ns")?;
        out.bytes(&self.cgroup, MAX_PATH, "cgroup")?;
        out.bytes(&self.type_name, MAX_TYPE, "type_name")?;
        out.bytes(&self.description, MAX_DESCRIPTION, "description")?;
        out.bytes(self.callout.as_slice(), MAX_CALLOUT, "callout")?;
        out.bytes(&self.comm, MAX_COMM, "comm")?;
        out.bytes(&self.exe, MAX_PATH, "exe")?;
        Ok(out.finish())
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            target: input.serial()?,
            auth: input.serial()?,
            fsuid: input.u32()?,
            fsgid: input.u32()?,
            thread_keyring: input.serial()?,
            process_keyring: input.serial()?,
            session_keyring: input.serial()?,
            attempt: input.u32()?,
            waited_ms: input.u32()?,
            tid: input.u32()?,
            tgid: input.u32()?,
            start_time: input.u64()?,
            fd: match input.u8()? {
                1 => RequesterFd::Thread,
                2 => RequesterFd::ProcDirectory,
                _ => return Err(WireError::Range("fd")),
            },
            doubts: match input.u8()? {
                bits @ 0..4 => Doubts {
                    not_waiting: bits & 1 != 0,
                    other_ids: bits & 2 != 0,
                },
                _ => return Err(WireError::Range("doubts")),
            },
            uids: input.ids()?,
            gids: input.ids()?,
            permitted: input.u64()?,
            net_ns: input.u64()?,
            pid_ns: input.levels("pid_ns")?,
            user_ns: input.levels("user_ns")?,
            cgroup: input.bytes(MAX_PATH, "cgroup")?.to_vec(),
            type_name: input.bytes(MAX_TYPE, "type_name")?.to_vec(),
            description: input.bytes(MAX_DESCRIPTION, "description")?.to_vec(),
            callout: input.bytes(MAX_CALLOUT, "callout")?.into(),
            comm: input.bytes(MAX_COMM, "comm")?.to_vec(),
            exe: input.bytes(MAX_PATH, "exe")?.to_vec(),
        })
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u16) -> Self {
        Self::with_room(kind, 24)
    }

    fn with_room(kind: u16, room: usize) -> Self {
        let mut out = Self(Vec::with_capacity(room));
        out.0.extend_from_slice(&VERSION.to_le_bytes());
        out.0.extend_from_slice(&kind.to_le_bytes());
        out
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn levels(&mut self, inodes: &[u64], field: &'static str) -> Result<(), WireError> {
        let count = u16::try_from(inodes.len()).map_err(|_| WireError::Range(field))?;
        if inodes.len() > MAX_LEVELS {
            return Err(WireError::Range(field));
        }
        self.0.extend_from_slice(&count.to_le_bytes());
        for inode in inodes {
            self.u64(*inode);
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8], most: usize, field: &'static str) -> Result<(), WireError> {
        let length = u32::try_from(bytes.len()).map_err(|_| WireError::Range(field))?;
        if bytes.len() > most {
            return Err(WireError::Range(field));
        }
        self.u32(length);
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> SecretBytes {
        SecretBytes::new(self.0)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The kind of a message of our version, and what follows; kind 0 passes in every version.
    fn open(bytes: &'a [u8]) -> Result<(u16, Self), WireError> {
        let mut input = Self(bytes);
        let version = u16::from_le_bytes(input.array()?);
        let kind = u16::from_le_bytes(input.array()?);
        if version != VERSION && kind != UNSUPPORTED {
            return Err(WireError::Version(version));
        }
        Ok((kind, input))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(WireError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        self.take(N)?.try_into().map_err(|_| WireError::Truncated)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn serial(&mut self) -> Result<KeySerial, WireError> {
        Ok(KeySerial::new(i32::from_le_bytes(self.array()?)))
    }

    fn ids(&mut self) -> Result<[u32; 4], WireError> {
        Ok([self.u32()?, self.u32()?, self.u32()?, self.u32()?])
    }

    fn levels(&mut self, field: &'static str) -> Result<Vec<u64>, WireError> {
        let count = usize::from(u16::from_le_bytes(self.array()?));
        if count > MAX_LEVELS {
            return Err(WireError::Range(field));
        }
        (0..count).map(|_| self.u64()).collect()
    }

    fn bytes(&mut self, most: usize, field: &'static str) -> Result<&'a [u8], WireError> {
        let length = self.u32()? as usize;
        if length > most {
            return Err(WireError::Range(field));
        }
        self.take(length)
    }

    fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(WireError::Trailing)
        }
    }
}

#[cfg(test)]
#[path = "upcall_wire_tests.rs"]
mod tests;

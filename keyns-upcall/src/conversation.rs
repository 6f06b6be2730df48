//! Asking the daemon, until there is an answer or the deadline.
//!
//! Who waits holds one of the kernel's 512 workers, and it is the daemon that says how many may. As
//! long as it says nothing, because it is dead or hangs, its word is replaced by *places*: whoever waits
//! for the daemon itself takes one or gives up. New requests have few, so that no container that goes on
//! asking meanwhile takes the workers of the host; requests that a daemon had let in find one as well,
//! because it never lets in more than there are.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use keyns_sys::helper_process::{self, monotonic_now};
use keyns_sys::upcall_socket::{self, Packet, UpcallSocket};
use keyns_sys::upcall_wire::{
    MAX_DEADLINE_MS, MAX_MESSAGE, Request, ToDaemon, ToUpcall, WireError,
};
use keyns_sys::waiting_place::{self, WaitingPlace};

use keyns_sys::request::Undecidable;
use keyns_sys::request::settle::{self, Given, Refusal, errno};

/// How long a daemon may take to accept, restarts included.
const ACCEPT: Duration = Duration::from_secs(10);
/// How long a reserved name waits for the daemon to take note of it.
const REPORT: Duration = Duration::from_secs(1);
/// How long a daemon that lives may take for its first word. Waiting longer needs a place.
const PROMPT: Duration = Duration::from_millis(500);
/// Places for requests that no daemon has seen.
const NEW: Range<u16> = 0..128;
/// More places, for requests that a daemon has let in; together as many as it ever lets in, 384.
const LET_IN: Range<u16> = 128..384;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

const TIMED_OUT: Refusal = Refusal(errno::ETIMEDOUT, 2);
const NO_PLACE: Refusal = Refusal(errno::EAGAIN, 1);
const TERMINATED: Refusal = Refusal(errno::ENOKEY, 1);
const RESERVED: Refusal = Refusal(errno::EPERM, 5);
const OVER_QUOTA: Refusal = Refusal(errno::EDQUOT, 5);
const OTHER_VERSION: Refusal = Refusal(errno::ENOKEY, 5);

/// How a request ends.
pub(crate) enum Ending {
    /// The original program is to serve it.
    Original,
    /// The target has its payload or its error.
    Settled,
    /// The target is to be rejected.
    Refuse(Refusal),
}

/// Why there is no answer on this connection.
enum Interruption {
    /// The daemon is gone, not there yet, or speaks no protocol: try again.
    Lost,
    /// The request is to end with this; the daemon is told the errno.
    End(Refusal, i32),
}

pub(crate) struct Conversation<'a> {
    request: Request,
    requester: BorrowedFd<'a>,
    socket: &'a Path,
    termination: OwnedFd,
    started: Duration,
    deadline: Duration,
    /// When the first word of the daemon that was asked is overdue.
    overdue: Duration,
    /// Whether any daemon has accepted the request.
    let_in: bool,
    place: Option<WaitingPlace>,
}

impl<'a> Conversation<'a> {
    /// From here on `SIGTERM` ends the request in order.
    ///
    /// # Errors
    /// [`Undecidable`] when the kernel lacks the memory for that.
    pub(crate) fn new(
        request: Request,
        requester: BorrowedFd<'a>,
        socket: &'a Path,
        started: Duration,
    ) -> Result<Self, Undecidable> {
        let termination = helper_process::catch_termination()?;
        let deadline = started + ACCEPT;
        Ok(Self {
            request,
            requester,
            socket,
            termination,
            started,
            deadline,
            overdue: deadline,
            let_in: false,
            place: None,
        })
    }

    /// Asks until the request is over.
    pub(crate) fn run(&mut self) -> Ending {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut accepted = false;
            if let Some(ending) = self.ask(&mut accepted) {
                return ending;
            }
            if accepted {
                pause = FIRST_PAUSE;
            }
            if !self.may_wait() {
                return Ending::Refuse(NO_PLACE);
            }
            if let Some(ending) = self.rest(pause) {
                return ending;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.request.attempt = self.request.attempt.saturating_add(1);
        }
    }

    /// Shows the daemon a request for a reserved name once; whatever it says, and if it says nothing
    /// at all, it is refused.
    pub(crate) fn report_forgery(&mut self) -> Ending {
        self.deadline = self.started + REPORT;
        if let Ok(socket) = self.connect() {
            while let Ok((ToUpcall::Accepted { .. }, _)) = self.next(&socket) {}
            return self.finish(&socket, RESERVED, errno::EPERM);
        }
        Ending::Refuse(RESERVED)
    }

    /// One connection; `None` when it was lost. `accepted` is set when the daemon accepts.
    fn ask(&mut self, accepted: &mut bool) -> Option<Ending> {
        let socket = self.connect().ok()?;
        loop {
            let (message, packet) = match self.next(&socket) {
                Ok(next) => next,
                Err(Interruption::Lost) => return None,
                Err(Interruption::End(refusal, errno)) => {
                    return Some(self.finish(&socket, refusal, errno));
                }
            };
            match message {
                ToUpcall::Accepted { deadline_ms, .. } => {
                    *accepted = true;
                    self.let_in = true;
                    // From here on the daemon's limits count, and others need the place more.
                    self.overdue = Duration::MAX;
                    self.place = None;
                    self.extend(deadline_ms);
                }
                ToUpcall::Original => return Some(Ending::Original),
                ToUpcall::Unsupported => {
                    return Some(self.finish(&socket, OTHER_VERSION, errno::EIO));
                }
                ToUpcall::Reject(rejection) => {
                    return Some(self.finish(&socket, rejection.into(), 0));
                }
                ToUpcall::Instantiate(payload) => {
                    if let Some(ending) = self.instantiate(&socket, payload.as_slice()) {
                        return Some(ending);
                    }
                }
                ToUpcall::InstantiateFd { length } => {
                    let payload = packet
                        .fd
                        .ok_or_else(|| io::ErrorKind::InvalidData.into())
                        .and_then(|fd| upcall_socket::read_sealed(fd.as_fd(), length as usize));
                    let payload = payload.ok()?;
                    if let Some(ending) = self.instantiate(&socket, payload.as_slice()) {
                        return Some(ending);
                    }
                }
            }
        }
    }

    fn connect(&mut self) -> io::Result<UpcallSocket> {
        let socket = UpcallSocket::connect(self.socket)?;
        let waited = monotonic_now().saturating_sub(self.started).as_millis();
        self.request.waited_ms = u32::try_from(waited).unwrap_or(u32::MAX);
        let message = ToDaemon::Request(Box::new(self.request.clone()));
        let bytes = message.encode().map_err(io::Error::other)?;
        socket.send(bytes.as_slice(), Some(self.requester))?;
        self.overdue = monotonic_now() + PROMPT;
        Ok(socket)
    }

    /// Takes a place, unless it has one. Any error is a no: how many wait is not known then.
    fn may_wait(&mut self) -> bool {
        let path = self.socket.with_file_name(waiting_place::FILE_NAME);
        let take = |places| WaitingPlace::take(&path, places).ok().flatten();
        if self.place.is_none() && self.let_in {
            self.place = take(LET_IN);
        }
        if self.place.is_none() {
            self.place = take(NEW);
        }
        self.place.is_some()
    }

    /// The next message, or why there is none. Ends nothing by itself: not every request ends with
    /// what interrupted it.
    fn next(&mut self, socket: &UpcallSocket) -> Result<(ToUpcall, Packet), Interruption> {
        loop {
            let now = monotonic_now();
            if now >= self.deadline {
                return Err(Interruption::End(TIMED_OUT, errno::ETIMEDOUT));
            }
            if now >= self.overdue {
                if !self.may_wait() {
                    return Err(Interruption::End(NO_PLACE, errno::EAGAIN));
                }
                self.overdue = Duration::MAX;
            }
            let left = self.deadline.min(self.overdue).saturating_sub(now);
            let ready =
                upcall_socket::wait_readable(Some(socket.as_fd()), self.termination.as_fd(), left);
            let ready = ready.map_err(|_| Interruption::Lost)?;
            if ready.second {
                return Err(Interruption::End(TERMINATED, errno::EINTR));
            }
            if !ready.first {
                continue;
            }
            let packet = match socket.receive(MAX_MESSAGE) {
                Ok(Some(packet)) => packet,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(None) | Err(_) => return Err(Interruption::Lost),
            };
            return match ToUpcall::decode(packet.bytes.as_slice()) {
                Ok(message) => Ok((message, packet)),
                Err(WireError::Version(_)) => Ok((ToUpcall::Unsupported, packet)),
                Err(_) => Err(Interruption::Lost),
            };
        }
    }

    /// Gives the target a payload; `None`: it was not taken, and the daemon may answer again.
    fn instantiate(&self, socket: &UpcallSocket, payload: &[u8]) -> Option<Ending> {
        let Request {
            target, type_name, ..
        } = &self.request;
        match settle::instantiate(*target, type_name, payload) {
            Given::Over(errno) => {
                self.tell(socket, errno, true);
                Some(Ending::Settled)
            }
            Given::Refused(errno::EDQUOT) => Some(self.finish(socket, OVER_QUOTA, errno::EDQUOT)),
            Given::Refused(errno) => {
                self.tell(socket, errno, false);
                None
            }
        }
    }

    /// Rejects at once, so that the daemon is told after the fact.
    fn finish(&self, socket: &UpcallSocket, refusal: Refusal, reason: i32) -> Ending {
        match settle::reject(self.request.target, refusal) {
            Ok(()) => {
                self.tell(socket, reason, true);
                Ending::Settled
            }
            Err(_) => Ending::Refuse(refusal),
        }
    }

    fn tell(&self, socket: &UpcallSocket, errno: i32, settled: bool) {
        // A daemon that is gone finds out by the end of the connection.
        if let Ok(bytes) = (ToDaemon::Outcome { errno, settled }).encode() {
            let _ = socket.send(bytes.as_slice(), None);
        }
    }

    fn extend(&mut self, deadline_ms: u32) {
        let last = self.started + Duration::from_millis(MAX_DEADLINE_MS.into());
        self.deadline = last.min(monotonic_now() + Duration::from_millis(deadline_ms.into()));
    }

    /// Waits before the next connection; `Some` when the request ends meanwhile.
    fn rest(&self, pause: Duration) -> Option<Ending> {
        let left = self.deadline.saturating_sub(monotonic_now());
        let ready = upcall_socket::wait_readable(None, self.termination.as_fd(), pause.min(left));
        if ready.is_ok_and(|r| r.second) {
            return Some(Ending::Refuse(TERMINATED));
        }
        (left <= pause).then_some(Ending::Refuse(TIMED_OUT))
    }
}

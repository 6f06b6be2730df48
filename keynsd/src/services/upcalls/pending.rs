//! The requests that wait, and the last ones that ended.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyns::engine::ContainerId;
use keyns_interfaces::upcalls::{Answered, LISTED_TEXT, UpcallInfo};
use keyns_interfaces::{Error, ErrorKind};
use keyns_sys::secret::SecretBytes;
use keyns_sys::upcall_wire::Rejection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::limits::Permit;

/// How many ended requests are remembered.
pub const HISTORY: usize = 256;
/// How many bytes of a requester's callout information the history keeps; the whole of 256 requests
/// would be 16 MiB that any denizen can fill.
const HISTORY_CALLOUT: usize = 4096;
/// Commands that may wait for one request; more than its answerers can have sent is an error.
pub const COMMANDS: usize = 16;

/// Number of a request, never reused by an instance.
pub type RequestId = u64;

/// What a request is to be answered with.
#[derive(Debug)]
pub enum Decision {
    /// Give the key this payload.
    Payload(SecretBytes),
    /// Make it negative.
    Reject(Rejection),
}

/// Where whoever sent a command waits for what became of it.
pub type Reply<T = Answered> = oneshot::Sender<Result<T, Error>>;

/// Whom a request may be given to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handlers {
    /// A queue, for a person.
    Queue(String),
    /// Agents of this name; empty: any.
    Agents(String),
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answerer {
    /// A person.
    Hand,
    /// The agent with this number.
    Agent(u64),
}

/// What may happen to a waiting request from outside.
#[derive(Debug)]
pub enum Command {
    /// An answer; what became of it goes back through `reply`.
    Answer {
        /// Who answers.
        from: Answerer,
        /// With what.
        decision: Decision,
        /// Where the answerer waits.
        reply: Reply,
    },
    /// Give the key a copy of the container's key of the same type and description.
    FromKeyring(Reply),
    /// What the key worker has for that.
    Granted {
        /// The payload, if the container was granted such a key.
        found: Result<Option<SecretBytes>, Error>,
        /// Where the answerer waits; without one it is for want of a rule.
        reply: Option<Reply>,
    },
    /// Somebody else is to have it.
    Route {
        /// Who.
        to: Handlers,
        /// When it is rejected from now on.
        deadline: Instant,
        /// Where the caller waits.
        reply: Reply<()>,
    },
    /// The agent with this number does not want it.
    NotMine(u64),
    /// The agent with this number is gone.
    AgentGone(u64),
    /// End it with this: its container is being killed, or its program asks again.
    End(Rejection),
}

/// Where a waiting request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// In a queue, or for an agent to come.
    Queued,
    /// With an agent.
    Offered,
}

impl Waiting {
    /// Its name in listings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Offered => "offered",
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The requester has its key.
    Answered,
    /// It got this errno.
    Rejected(i32),
    /// It waited too long.
    Expired,
    /// `keyns-upcall` went away, or somebody else completed the key.
    Gone,
}

impl End {
    /// Its name in listings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Rejected(_) => "rejected",
            Self::Expired => "expired",
            Self::Gone => "gone",
        }
    }

    /// Name of the event that tells of it.
    #[must_use]
    pub const fn event(self) -> &'static str {
        match self {
            Self::Answered => "upcall-answered",
            Self::Rejected(_) => "upcall-rejected",
            Self::Expired => "upcall-expired",
            Self::Gone => "upcall-gone",
        }
    }

    /// The errno the requester got, if it is known.
    #[must_use]
    pub const fn errno(self) -> Option<i32> {
        match self {
            Self::Answered => Some(0),
            Self::Rejected(errno) => Some(errno),
            Self::Expired => Some(super::errno::ETIMEDOUT),
            Self::Gone => None,
        }
    }
}

/// A waiting request.
#[derive(Debug)]
pub struct Entry {
    /// What is known about it. The fields that change are filled in by [`Entry::info`].
    pub facts: UpcallInfo,
    /// The requester's container, then those around it.
    pub lineage: Vec<ContainerId>,
    /// Serial of the authorisation key: the same request when it is sent again.
    pub auth: i32,
    /// The requesting thread and its start time.
    pub thread: (u32, u64),
    /// 1 for a request that no other one led to.
    pub depth: u32,
    /// Where it is.
    pub waiting: Waiting,
    /// Queue or agent that has it.
    pub handler: Option<String>,
    /// When it arrived.
    pub arrived: Instant,
    /// When it is rejected.
    pub deadline: Instant,
    /// What it counts against.
    pub permit: Permit,
    /// The way to its task.
    pub commands: mpsc::Sender<Command>,
}

impl Entry {
    /// The request as listings show it.
    #[must_use]
    pub fn info(&self, now: Instant) -> UpcallInfo {
        UpcallInfo {
            state: self.waiting.as_str().to_owned(),
            handler: self.handler.clone(),
            age_ms: millis(now.duration_since(self.arrived)),
            deadline_ms: Some(millis(self.deadline.duration_since(now))),
            ..self.facts.clone()
        }
    }

    /// The request as the history shows it.
    fn ended(self, end: End, now: Instant) -> (UpcallInfo, Permit) {
        let info = UpcallInfo {
            state: end.as_str().to_owned(),
            handler: self.handler,
            age_ms: millis(now.duration_since(self.arrived)),
            deadline_ms: None,
            outcome: end.errno(),
            ..self.facts
        };
        (info, self.permit)
    }
}

/// Whole milliseconds of a duration.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since the epoch.
#[must_use]
pub fn wall_clock_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, millis)
}

/// All waiting requests and the history.
#[derive(Debug, Default)]
pub struct Table {
    entries: BTreeMap<RequestId, Entry>,
    history: VecDeque<UpcallInfo>,
}

impl Table {
    /// Takes a request in.
    pub fn insert(&mut self, id: RequestId, entry: Entry) {
        self.entries.insert(id, entry);
    }

    /// A waiting request.
    pub fn get(&self, id: RequestId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// A waiting request, to note where it is.
    pub fn get_mut(&mut self, id: RequestId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// The way to the request of this authorisation key.
    pub fn by_auth(&self, auth: i32) -> Option<mpsc::Sender<Command>> {
        self.entries
            .values()
            .find(|e| e.auth == auth)
            .map(|e| e.commands.clone())
    }

    /// Whether this very thread waits for a request already. It can wait for one only, so a second
    /// one in its name was made by somebody who acts with its authority.
    pub fn holds_thread(&self, thread: (u32, u64)) -> bool {
        self.entries.values().any(|e| e.thread == thread)
    }

    /// The ways to all requests from a container and those inside it.
    pub fn of_container(&self, container: ContainerId) -> Vec<mpsc::Sender<Command>> {
        let inside = self
            .entries
            .values()
            .filter(|e| e.lineage.contains(&container));
        inside.map(|e| e.commands.clone()).collect()
    }

    /// Moves a request to the history. Returns how it ended, to be announced, and its permit, to be
    /// released.
    pub fn end(&mut self, id: RequestId, end: End, now: Instant) -> Option<(UpcallInfo, Permit)> {
        let (info, permit) = self.entries.remove(&id)?.ended(end, now);
        self.remember(info.clone());
        Some((info, permit))
    }

    /// Adds a request that never waited to the history.
    pub fn remember(&mut self, mut info: UpcallInfo) {
        info.callout.0.truncate(HISTORY_CALLOUT);
        info.callout.0.shrink_to_fit();
        self.history.truncate(HISTORY - 1);
        self.history.push_front(info);
    }

    /// The waiting requests, oldest first, as a [`Listing`](keyns_interfaces::upcalls::Listing) has them.
    pub fn list(&self, now: Instant) -> Vec<UpcallInfo> {
        self.entries.values().map(|e| listed(e.info(now))).collect()
    }

    /// The ended requests, newest first, at most `most`, in the same form.
    pub fn history(&self, most: usize) -> Vec<UpcallInfo> {
        let newest = self.history.iter().take(most).cloned();
        newest.map(listed).collect()
    }

    /// One request, waiting or ended.
    ///
    /// # Errors
    /// `NoSuchUpcall`.
    pub fn query(&self, id: RequestId, now: Instant) -> Result<UpcallInfo, Error> {
        if let Some(entry) = self.entries.get(&id) {
            return Ok(entry.info(now));
        }
        let ended = self.history.iter().find(|info| info.id == id);
        ended.cloned().ok_or_else(|| no_such_upcall(id))
    }

    /// The way to a waiting request.
    ///
    /// # Errors
    /// `WrongState` for one that ended, `NoSuchUpcall` for one nobody remembers.
    pub fn commands(&self, id: RequestId) -> Result<mpsc::Sender<Command>, Error> {
        if let Some(entry) = self.entries.get(&id) {
            return Ok(entry.commands.clone());
        }
        Err(self.not_waiting(id))
    }

    /// Why a request cannot be answered although somebody tries.
    #[must_use]
    pub fn not_waiting(&self, id: RequestId) -> Error {
        match self.history.iter().find(|info| info.id == id) {
            Some(info) => Error::new(
                ErrorKind::WrongState,
                format!("cannot answer upcall {id}: it has ended ({})", info.state),
            ),
            None => no_such_upcall(id),
        }
    }
}

/// A request without the end of its requester's texts.
fn listed(mut info: UpcallInfo) -> UpcallInfo {
    for text in [&mut info.description, &mut info.callout] {
        text.0.truncate(LISTED_TEXT);
    }
    info
}

fn no_such_upcall(id: RequestId) -> Error {
    Error::new(ErrorKind::NoSuchUpcall, format!("there is no upcall {id}"))
        .hint("list those that wait: keyctl-ns upcalls")
}

#[cfg(test)]
mod tests {
    use super::super::limits::{Limits, Quota};
    use super::super::rules::RuleBook;
    use super::super::testing::upcall_info;
    use super::*;
    use keyns_interfaces::frame::MAX_REPLY;
    use keyns_interfaces::upcalls::Listing;

    const WEB: ContainerId = ContainerId(1);
    const NESTED: ContainerId = ContainerId(2);

    fn entry(
        id: u64,
        lineage: &[ContainerId],
        limits: &mut Limits,
    ) -> (Entry, mpsc::Receiver<Command>) {
        let (commands, rx) = mpsc::channel(COMMANDS);
        let now = Instant::now();
        let quota = Quota::of(None, lineage, &RuleBook::default());
        let entry = Entry {
            facts: upcall_info(id, "user"),
            lineage: lineage.to_vec(),
            auth: 7,
            thread: (1, 2),
            depth: 1,
            waiting: Waiting::Queued,
            handler: Some("queue q".into()),
            arrived: now,
            deadline: now + Duration::from_secs(60),
            permit: limits.admit(quota, WEB, 0, false, now).unwrap(),
            commands,
        };
        (entry, rx)
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_request_can_be_queried_but_not_answered() {
        let (mut table, mut limits) = (Table::default(), Limits::default());
        let (e, _rx) = entry(5, &[WEB], &mut limits);
        table.insert(5, e);
        tokio::time::advance(Duration::from_millis(1500)).await;
        let info = table.query(5, Instant::now()).unwrap();
        assert_eq!(
            (info.age_ms, info.deadline_ms, info.outcome),
            (1500, Some(58_500), None)
        );
        assert_eq!(info.state, "queued");
        let (info, permit) = table.end(5, End::Rejected(13), Instant::now()).unwrap();
        limits.release(permit);
        assert_eq!((info.state.as_str(), info.outcome), ("rejected", Some(13)));
        assert_eq!(table.query(5, Instant::now()).unwrap(), info);
        assert_eq!(table.commands(5).unwrap_err().kind, ErrorKind::WrongState);
        assert_eq!(table.commands(6).unwrap_err().kind, ErrorKind::NoSuchUpcall);
        assert!(table.end(5, End::Gone, Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_has_the_requests_of_those_inside_it() {
        let (mut table, mut limits) = (Table::default(), Limits::default());
        let (outer, _a) = entry(1, &[WEB], &mut limits);
        let (inner, _b) = entry(2, &[NESTED, WEB], &mut limits);
        table.insert(1, outer);
        table.insert(2, inner);
        assert_eq!(table.of_container(WEB).len(), 2);
        assert_eq!(table.of_container(NESTED).len(), 1);
        assert!(table.holds_thread((1, 2)));
        assert!(!table.holds_thread((1, 3)));
    }

    #[test]
    fn the_history_keeps_the_last_256_newest_first() {
        let mut table = Table::default();
        for id in 0..300 {
            table.remember(upcall_info(id, "user"));
        }
        let history = table.history(1000);
        assert_eq!(history.len(), HISTORY);
        assert_eq!(history.first().map(|i| i.id), Some(299));
        assert_eq!(history.last().map(|i| i.id), Some(44));
        assert_eq!(table.history(0), []);
    }

    #[test]
    fn long_callout_information_does_not_fill_the_history() {
        let mut table = Table::default();
        let mut info = upcall_info(1, "user");
        info.callout = vec![b'x'; 65_536].into();
        table.remember(info);
        let kept = table.query(1, Instant::now()).unwrap();
        assert_eq!(kept.callout.bytes().len(), 4096);
    }

    #[test]
    fn a_listing_fits_into_a_reply_whatever_requesters_write() {
        let mut table = Table::default();
        for id in 0..256 {
            let mut info = upcall_info(id, &"x".repeat(31));
            // Six bytes each in JSON, as long as the kernel takes them.
            info.description = vec![1; 4095].into();
            info.callout = vec![1; 4095].into();
            info.requester.command = vec![1; 15].into();
            info.requester.container = Some("x".repeat(255));
            info.handler = Some("x".repeat(255));
            table.remember(info);
        }
        let one = || table.history(HISTORY).into_iter();
        // The waiting ones have the same form, and there are at most 384.
        let upcalls: Vec<_> = one().chain(one().take(128)).collect();
        let listing = Listing {
            upcalls,
            history: one().collect(),
        };
        let reply = serde_json::to_vec(&listing).unwrap();
        assert!(reply.len() < MAX_REPLY / 2, "{}", reply.len());
        let whole = table.query(7, Instant::now()).unwrap();
        assert_eq!(whole.description.bytes().len(), 4095);
    }
}

//! `org.keyns.Upcalls`: requests that need an answer, and the rules that route them.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::method::{Empty, method};
use crate::payload::Payload;
use crate::text::ByteText;

/// A request for a key, as the kernel passed it on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpcallInfo {
    /// Number of the request, never reused by this instance.
    pub id: u64,
    /// `queued`, `offered`, `answered`, `rejected`, `expired`, `gone`.
    pub state: String,
    /// Operation of the kernel: `create`.
    pub operation: String,
    /// Serial of the key to construct.
    pub key: i32,
    /// Type of that key.
    #[serde(rename = "type")]
    pub type_: String,
    /// Description of that key: text of the requester, proves nothing.
    pub description: ByteText,
    /// Callout information: text of the requester, proves nothing.
    pub callout: ByteText,
    /// Who asked, from kernel objects.
    pub requester: Requester,
    /// Serials of the requester's thread, process and session keyrings (0: none).
    pub keyrings: [i32; 3],
    /// Number of the rule that applies.
    pub rule: Option<u64>,
    /// Queue or agent that has it.
    pub handler: Option<String>,
    /// Milliseconds since the epoch when it arrived.
    pub time_ms: u64,
    /// Milliseconds it has waited, or took.
    pub age_ms: u64,
    /// Milliseconds left until it is rejected.
    pub deadline_ms: Option<u64>,
    /// Errno the requester got: 0 for success; absent while pending.
    pub outcome: Option<i32>,
}

/// Who asked. Everything but `command` comes from kernel objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Requester {
    /// Full name of the container.
    pub container: Option<String>,
    /// Thread id on the host.
    pub tid: u32,
    /// Process id on the host.
    pub pid: u32,
    /// File system uid, as a kernel uid.
    pub uid: u32,
    /// File system gid, as a kernel gid.
    pub gid: u32,
    /// The same uid as the container sees it (65534: not mapped).
    pub container_uid: u32,
    /// The same gid as the container sees it.
    pub container_gid: u32,
    /// The program's own name for itself: text of the requester, proves nothing.
    pub command: ByteText,
    /// The file it executes, as a path of its own mount namespace; empty where there is none.
    pub executable: ByteText,
    /// Its permitted capabilities, bits as in capabilities(7), which count in its user namespace.
    pub capabilities: u64,
    /// Whether thread and container were established from kernel objects.
    pub verified: bool,
}

/// Lists the pending requests.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Also the last ones that ended, newest first, at most this many (0 to 256).
    #[serde(default)]
    pub history: u32,
}
method!(List, "org.keyns.Upcalls.List" => Listing);

/// How many bytes of a description, and of callout information, a [`Listing`] has.
pub const LISTED_TEXT: usize = 512;

/// Requests, oldest first. Texts of requesters are cut to [`LISTED_TEXT`] bytes: they could be so many
/// and long that no reply had room for them. [`Query`] has the whole ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// Pending requests.
    pub upcalls: Vec<UpcallInfo>,
    /// Ended requests.
    pub history: Vec<UpcallInfo>,
}

/// Everything about one request (pending, or still in the history).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Number of the request.
    pub id: u64,
}
method!(Query, "org.keyns.Upcalls.Query" => Queried);

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Queried {
    /// The request.
    pub upcall: UpcallInfo,
}

/// An answer to a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Instantiate the key with this payload.
    Payload(Payload),
    /// Reject it.
    Reject(Rejection),
    /// Instantiate it with a copy of the container's key of the same type and description.
    #[serde(with = "crate::unit")]
    FromKeyring,
}

/// A negative answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Errno the requester gets, 1 to 4094.
    pub errno: i32,
    /// Seconds for which the kernel repeats it without asking again, 1 to 60.
    pub timeout: u32,
}

/// Answers a pending request by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Number of the request.
    pub id: u64,
    /// The answer.
    pub response: Response,
}
method!(Answer, "org.keyns.Upcalls.Answer" => Answered);

/// Gives a pending request to another queue, or to other agents, than the ones it is with.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reroute {
    /// Number of the request.
    pub id: u64,
    /// A queue or agents.
    pub target: Target,
    /// Milliseconds it may wait, counted from its arrival, 1,000 to 60,000. Default: as before, or as a
    /// rule with this target has by default if that is later.
    #[serde(default)]
    pub deadline_ms: Option<u32>,
}
method!(Reroute, "org.keyns.Upcalls.Reroute" => Queried);

/// What became of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Errno the requester got; 0: it has its key.
    pub outcome: i32,
    /// Milliseconds from request to answer.
    pub milliseconds: u64,
}

/// Where matching requests go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A named queue, answered by hand.
    Queue(String),
    /// Agents: those of this name, or any if empty.
    Agent(String),
    /// Rejected at once.
    Reject(Rejection),
}

/// An interception rule of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Number of the rule.
    pub id: u64,
    /// Full name of the container.
    pub container: String,
    /// Key type, or `*` for types no other rule of the container names.
    #[serde(rename = "type")]
    pub type_: String,
    /// Where matching requests go.
    pub target: Target,
    /// Milliseconds a request may wait, 1,000 to 60,000.
    pub deadline_ms: u32,
    /// Requests per second, sustained.
    pub rate: u32,
    /// Requests at once beyond the rate.
    pub burst: u32,
    /// Requests pending at once, 1 to 256.
    pub pending: u32,
}

/// Adds or replaces a rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intercept {
    /// Name or number of the container.
    pub container: String,
    /// Key type, or `*`.
    #[serde(rename = "type")]
    pub type_: String,
    /// Where matching requests go.
    pub target: Target,
    /// Milliseconds; default 60,000 for a queue, 10,000 for agents.
    #[serde(default)]
    pub deadline_ms: Option<u32>,
    /// Requests per second; default 20.
    #[serde(default)]
    pub rate: Option<u32>,
    /// Default twice the rate.
    #[serde(default)]
    pub burst: Option<u32>,
    /// Default 16.
    #[serde(default)]
    pub pending: Option<u32>,
}
method!(Intercept, "org.keyns.Upcalls.Intercept" => Intercepted);

/// The rule as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intercepted {
    /// The rule.
    pub rule: Rule,
    /// Whether it replaced one of the same container and type.
    pub replaced: bool,
}

/// Lists rules in the order they are tried.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRules {
    /// Name or number; absent: all containers.
    #[serde(default)]
    pub container: Option<String>,
}
method!(ListRules, "org.keyns.Upcalls.ListRules" => Rules);

/// Rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// The rules.
    pub rules: Vec<Rule>,
}

/// Removes a rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unintercept {
    /// Name or number of the container.
    pub container: String,
    /// Key type, or `*`.
    #[serde(rename = "type")]
    pub type_: String,
}
method!(Unintercept, "org.keyns.Upcalls.Unintercept" => Empty);

/// Streams requests as they arrive and end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {}
method!(Subscribe, "org.keyns.Upcalls.Subscribe" => stream Event);

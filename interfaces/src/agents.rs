//! `org.keyns.Agents`: programs that answer requests.

use serde::{Deserialize, Serialize};

use crate::method::{Empty, method};
use crate::payload::Payload;
use crate::upcalls::{Rejection, UpcallInfo};

/// Registers the caller as an agent. The stream is the registration: it ends with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    /// Name that rules refer to; several agents may share it.
    pub name: String,
    /// Key types it answers, or `*`.
    pub types: Vec<String>,
    /// Containers it serves (with those nested in them); empty: all.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Requests it works on at once, 1 to 16; default 4.
    #[serde(default)]
    pub max_in_flight: Option<u32>,
}
method!(Serve, "org.keyns.Agents.Serve" => stream ServeReply);

/// First the registration, then one request each. Delivery is acceptance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServeReply {
    /// In the first reply only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    /// In all further replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<UpcallInfo>,
}

/// An agent's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Number of the agent, never reused by this instance.
    pub agent: u64,
    /// 32 hex digits: proves on another connection that an answer comes from this agent.
    pub token: String,
}

/// Gives the requester its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// The agent's token.
    pub token: String,
    /// Number of the request.
    pub id: u64,
    /// Payload of the key.
    pub payload: Payload,
}
method!(Complete, "org.keyns.Agents.Complete" => crate::upcalls::Answered);

/// Rejects a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// The agent's token.
    pub token: String,
    /// Number of the request.
    pub id: u64,
    /// Errno and time.
    pub rejection: Rejection,
}
method!(Reject, "org.keyns.Agents.Reject" => crate::upcalls::Answered);

/// Passes a request on to the next candidate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotMine {
    /// The agent's token.
    pub token: String,
    /// Number of the request.
    pub id: u64,
}
method!(NotMine, "org.keyns.Agents.NotMine" => Empty);

/// Lists the agents.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {}
method!(List, "org.keyns.Agents.List" => Listing);

/// Agents, oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The agents.
    pub agents: Vec<AgentInfo>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Number.
    pub agent: u64,
    /// Name.
    pub name: String,
    /// Types it answers.
    pub types: Vec<String>,
    /// Containers it serves; empty: all.
    pub containers: Vec<String>,
    /// Process id of its connection.
    pub pid: u32,
    /// Uid of its connection.
    pub uid: u32,
    /// Requests it works on.
    pub in_flight: u32,
    /// Requests it completed or rejected.
    pub answered: u64,
    /// Requests it lost or let time out.
    pub failed: u64,
}

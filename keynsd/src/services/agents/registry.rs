//! The agents that are registered now, and which of them gets a request.
//!
//! A candidate answers the type, serves the requester's container or one around it, has the name
//! the rule asks for, is not the requester's own process and has room for the requester's container
//! (see [`turns`](super::turns)). Of several, the one that has been without a request for the longest
//! time gets it, so that equals share the work.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use keyns::engine::ContainerId;
use keyns_interfaces::agents::{AgentInfo, ServeReply};
use keyns_interfaces::upcalls::UpcallInfo;
use keyns_interfaces::{Error, ErrorKind};
use tokio::sync::{Notify, mpsc};

use super::process::Process;
use super::turns::{Places, Turns, Waiter};
use crate::authority::Caller;
use crate::services::upcalls::pending::{Command, RequestId};
use crate::services::upcalls::rules::WILDCARD;

/// Agents one uid may have.
pub const MAX_PER_UID: usize = 16;
/// Requests an agent works on at once, unless it says otherwise.
pub const DEFAULT_IN_FLIGHT: u32 = 4;
/// The most it may work on at once.
pub const MAX_IN_FLIGHT: u32 = 16;

/// Number of an agent, never reused by an instance.
pub type AgentId = u64;

/// What proves on another connection that an answer comes from an agent: 128 random bits.
#[derive(Clone, Copy)]
pub struct Token([u8; 16]);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// `System` when the kernel has no random numbers.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; 16];
        let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        if got == Ok(bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(Error::new(
            ErrorKind::System,
            "cannot make a token: the kernel gives no random bytes",
        ))
    }

    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16)
            .ok()
            .map(|bits| Self(bits.to_be_bytes()))
    }

    /// Compares in a time that does not depend on where the two differ.
    fn same(&self, other: &Self) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .fold(0, |acc, (a, b)| acc | (a ^ b))
            == 0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What an agent says of itself, checked.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Name that rules refer to.
    pub name: String,
    /// Key types it answers, or `*`.
    pub types: Vec<String>,
    /// Containers it serves, with those in them; empty: all.
    pub scope: Vec<(ContainerId, String)>,
    /// Requests it works on at once.
    pub max_in_flight: u32,
}

/// What a request wants of an agent.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The request.
    pub request: RequestId,
    /// Name of the agent; empty: any.
    pub name: &'a str,
    /// Key type.
    pub type_: &'a [u8],
    /// The requester's container, then those around it.
    pub lineage: &'a [ContainerId],
    /// The requester's process: never its own agent.
    pub process: u32,
    /// Agents that had their chance.
    pub tried: &'a [AgentId],
}

impl Wanted<'_> {
    /// The requester's own container.
    fn container(&self) -> ContainerId {
        self.lineage.first().copied().unwrap_or(ContainerId(0))
    }
}

/// Puts a request into an agent's stream; false if that is full or has ended.
pub type Stream = Box<dyn Fn(ServeReply) -> bool>;

/// What became of the search for an agent.
#[derive(Debug)]
pub enum Delivery {
    /// It has the request; delivery is acceptance.
    To(Slot),
    /// There is one, but it has enough to do.
    Busy,
    /// There is none.
    Nobody,
}

#[derive(Debug)]
struct InFlight {
    request: RequestId,
    container: ContainerId,
    commands: mpsc::Sender<Command>,
}

struct Agent {
    id: AgentId,
    offer: Offer,
    process: Process,
    uid: u32,
    token: Token,
    stream: Stream,
    in_flight: Vec<InFlight>,
    turns: Turns,
    /// Count of deliveries at its last one; 0: none yet.
    last_used: u64,
    answered: u64,
    failed: u64,
}

impl Agent {
    fn suits(&self, wanted: &Wanted<'_>) -> bool {
        let type_ = |t: &String| t == WILDCARD || t.as_bytes() == wanted.type_;
        (wanted.name.is_empty() || wanted.name == self.offer.name)
            && self.offer.types.iter().any(type_)
            && (self.offer.scope.is_empty()
                || self
                    .offer
                    .scope
                    .iter()
                    .any(|(id, _)| wanted.lineage.contains(id)))
            && self.process.pid() != wanted.process
            && !wanted.tried.contains(&self.id)
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < self.offer.max_in_flight as usize
    }

    fn has_room_for(&self, container: ContainerId, waiting: &[Waiter]) -> bool {
        let taken: Vec<ContainerId> = self.in_flight.iter().map(|f| f.container).collect();
        let places = Places {
            agent: self.id,
            most: self.offer.max_in_flight as usize,
            shared: self.offer.scope.len() != 1,
            taken: &taken,
            turns: &self.turns,
        };
        places.has_one_for(container, waiting)
    }

    fn label(&self) -> String {
        if self.offer.name.is_empty() {
            format!("agent {}", self.id)
        } else {
            format!("agent {} ({})", self.id, self.offer.name)
        }
    }
}

#[derive(Default)]
struct State {
    agents: Vec<Agent>,
    deliveries: u64,
    waiting: Vec<Waiter>,
}

impl State {
    /// A request waits no more; true: that may be what another one waited for.
    fn forget(&mut self, request: RequestId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|w| w.request != request);
        let Self {
            agents, waiting, ..
        } = self;
        let wanted = |a: &Agent| waiting.iter().any(|w| w.agents.contains(&a.id));
        waiting.len() < before && agents.iter().any(|a| a.has_room() && wanted(a))
    }
}

#[derive(Default)]
struct Shared {
    state: RefCell<State>,
    changed: Notify,
}

/// The agents of a daemon. Clones are the same registry.
#[derive(Clone, Default)]
pub struct Registry(Rc<Shared>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.list()).finish()
    }
}

impl Registry {
    /// Adds an agent. It is gone when the returned registration is dropped.
    ///
    /// # Errors
    /// `LimitReached` for the 17th agent of a uid.
    pub fn register(
        &self,
        id: AgentId,
        offer: Offer,
        process: Process,
        uid: u32,
        token: Token,
        stream: Stream,
    ) -> Result<Registered, Error> {
        let mut state = self.0.state.borrow_mut();
        if state.agents.iter().filter(|a| a.uid == uid).count() >= MAX_PER_UID {
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("uid {uid} has {MAX_PER_UID} agents, more are not allowed"),
            )
            .hint("keyctl-ns agent list shows them"));
        }
        state.agents.push(Agent {
            id,
            offer,
            process,
            uid,
            token,
            stream,
            in_flight: Vec::new(),
            turns: Turns::default(),
            last_used: 0,
            answered: 0,
            failed: 0,
        });
        drop(state);
        self.0.changed.notify_waiters();
        Ok(Registered {
            registry: self.clone(),
            id,
        })
    }

    /// Gives a request to the best candidate. `info` is made only if there is one. A request that
    /// found its agents busy counts among those that wait until it is delivered, finds none, or its
    /// [`Seeker`] is dropped.
    pub fn deliver(
        &self,
        wanted: &Wanted<'_>,
        commands: &mpsc::Sender<Command>,
        info: impl FnOnce(&str) -> Option<UpcallInfo>,
    ) -> Delivery {
        let mut state = self.0.state.borrow_mut();
        let delivery = self.choose(&mut state, wanted, commands, info);
        let others_may = if let Delivery::Busy = delivery {
            let suiting = state.agents.iter().filter(|agent| agent.suits(wanted));
            let agents = suiting.map(|agent| agent.id).collect();
            state.waiting.retain(|w| w.request != wanted.request);
            state.waiting.push(Waiter {
                request: wanted.request,
                container: wanted.container(),
                agents,
            });
            false
        } else {
            state.forget(wanted.request)
        };
        drop(state);
        if others_may {
            self.0.changed.notify_waiters();
        }
        delivery
    }

    fn choose(
        &self,
        state: &mut State,
        wanted: &Wanted<'_>,
        commands: &mpsc::Sender<Command>,
        info: impl FnOnce(&str) -> Option<UpcallInfo>,
    ) -> Delivery {
        let State {
            agents,
            deliveries,
            waiting,
        } = state;
        let container = wanted.container();
        let mut busy = false;
        let candidates = agents.iter_mut().filter(|agent| {
            let suits = agent.suits(wanted);
            busy |= suits;
            suits && agent.has_room_for(container, waiting)
        });
        let Some(agent) = candidates.min_by_key(|a| (a.last_used, a.id)) else {
            return if busy {
                Delivery::Busy
            } else {
                Delivery::Nobody
            };
        };
        let label = agent.label();
        let Some(info) = info(&label) else {
            // The request has ended.
            return Delivery::Nobody;
        };
        let reply = ServeReply {
            registration: None,
            request: Some(info),
        };
        if !(agent.stream)(reply) {
            // Its stream is ending; the registration goes with it in a moment.
            return Delivery::Busy;
        }
        *deliveries += 1;
        agent.last_used = *deliveries;
        agent.turns.served(container);
        agent.in_flight.push(InFlight {
            request: wanted.request,
            container,
            commands: commands.clone(),
        });
        Delivery::To(Slot {
            registry: self.clone(),
            agent: agent.id,
            label,
            request: wanted.request,
            result: Outcome::Released,
        })
    }

    /// Whether an agent could be given this, now or when it has done something else.
    #[must_use]
    pub fn has_one_for(&self, wanted: &Wanted<'_>) -> bool {
        let state = self.0.state.borrow();
        state.agents.iter().any(|agent| agent.suits(wanted))
    }

    /// What a request holds as long as it may look for an agent: dropped, it is in nobody's way.
    #[must_use]
    pub fn seeker(&self, request: RequestId) -> Seeker {
        Seeker {
            registry: self.clone(),
            request,
        }
    }

    /// The agent with this token, if `caller` is its process, and the way to a request it has.
    ///
    /// # Errors
    /// `NoSuchAgent` for an unknown token or another process. `Ok` with `None` when the agent does
    /// not have the request (any more).
    pub fn claim(
        &self,
        caller: &Caller,
        token: &str,
        request: RequestId,
    ) -> Result<(AgentId, Option<mpsc::Sender<Command>>), Error> {
        let unknown = || {
            Error::new(
                ErrorKind::NoSuchAgent,
                "no agent of this process has this token",
            )
            .hint("register again with org.keyns.Agents.Serve")
        };
        let token = Token::parse(token).ok_or_else(unknown)?;
        let state = self.0.state.borrow();
        let agent = state
            .agents
            .iter()
            .find(|a| a.token.same(&token))
            .ok_or_else(unknown)?;
        if !agent.process.is(caller) {
            return Err(unknown());
        }
        let flight = agent.in_flight.iter().find(|f| f.request == request);
        Ok((agent.id, flight.map(|f| f.commands.clone())))
    }

    /// Waits until an agent registers, leaves or finishes a request, or another request does not wait
    /// for one any more. To miss nothing, make and
    /// enable the future before looking for an agent.
    pub fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.0.changed.notified()
    }

    /// Agents that work on something, and on what.
    pub fn at_work(&self) -> Vec<(u32, Vec<RequestId>)> {
        let state = self.0.state.borrow();
        let working = state.agents.iter().filter(|a| !a.in_flight.is_empty());
        working
            .map(|a| {
                (
                    a.process.pid(),
                    a.in_flight.iter().map(|f| f.request).collect(),
                )
            })
            .collect()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.state.borrow().agents.len()
    }

    /// All agents, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<AgentInfo> {
        let state = self.0.state.borrow();
        let info = |a: &Agent| AgentInfo {
            agent: a.id,
            name: a.offer.name.clone(),
            types: a.offer.types.clone(),
            containers: a.offer.scope.iter().map(|(_, name)| name.clone()).collect(),
            pid: a.process.pid(),
            uid: a.uid,
            in_flight: u32::try_from(a.in_flight.len()).unwrap_or(u32::MAX),
            answered: a.answered,
            failed: a.failed,
        };
        state.agents.iter().map(info).collect()
    }

    fn release(&self, agent: AgentId, request: RequestId, result: Outcome) {
        let mut state = self.0.state.borrow_mut();
        if let Some(agent) = state.agents.iter_mut().find(|a| a.id == agent) {
            agent.in_flight.retain(|f| f.request != request);
            match result {
                Outcome::Answered => agent.answered += 1,
                Outcome::Failed => agent.failed += 1,
                Outcome::Released => {}
            }
        }
        drop(state);
        self.0.changed.notify_waiters();
    }

    fn remove(&self, id: AgentId) {
        let mut state = self.0.state.borrow_mut();
        let Some(at) = state.agents.iter().position(|a| a.id == id) else {
            return;
        };
        let gone = state.agents.remove(at);
        drop(state);
        for flight in gone.in_flight {
            // Full only if its answerers sent more than it can take: it will find out by time.
            let _ = flight.commands.try_send(Command::AgentGone(id));
        }
        self.0.changed.notify_waiters();
    }
}

/// A request that may wait for an agent; see [`Registry::seeker`].
#[derive(Debug)]
pub struct Seeker {
    registry: Registry,
    request: RequestId,
}

impl Drop for Seeker {
    fn drop(&mut self) {
        let others_may = self.registry.0.state.borrow_mut().forget(self.request);
        if others_may {
            self.registry.0.changed.notify_waiters();
        }
    }
}

/// An agent's registration: dropping it ends the agent.
#[derive(Debug)]
pub struct Registered {
    registry: Registry,
    id: AgentId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.remove(self.id);
    }
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Answered,
    Failed,
    Released,
}

/// A request in an agent's hands. Dropping it gives the agent room for another.
#[derive(Debug)]
pub struct Slot {
    registry: Registry,
    agent: AgentId,
    label: String,
    request: RequestId,
    result: Outcome,
}

impl Slot {
    /// The agent.
    #[must_use]
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// The agent, for people.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Ends it: the agent answered.
    pub fn answered(mut self) {
        self.result = Outcome::Answered;
    }

    /// Ends it: the agent lost it, took too long, or answered what the key's type refuses.
    pub fn failed(mut self) {
        self.result = Outcome::Failed;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.registry.release(self.agent, self.request, self.result);
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;

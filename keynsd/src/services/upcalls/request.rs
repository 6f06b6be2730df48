//! One request from its arrival to its end.
//!
//! A task of its own holds the connection to `keyns-upcall`, for whose end the requester waits.
//! Whatever happens to the request, an answer by hand or from an agent, an agent that goes away, the
//! end of its container, comes as a [`Command`]; so everything about one request is decided in one
//! place and in order, and what became of it is always what `keyns-upcall` said last.

use std::rc::Rc;
use std::time::Duration;

use keyns_interfaces::upcalls::{Answered, Target};
use keyns_interfaces::{Error, ErrorKind};
use keyns_sys::upcall_wire::{Rejection, Request, WireError};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::errno;
use super::peer::Peer;
use super::pending::{
    Answerer, Command, Decision, End, Handlers, Reply, RequestId, Waiting, millis,
};
use super::policy::Refusal;
use crate::daemon::Daemon;
use crate::services::agents::registry::{AgentId, Delivery, Slot, Wanted};
use crate::upcall_link::{LinkError, Outcome};

/// How long an agent may work on a request.
pub(super) const COMPLETE: Duration = Duration::from_secs(8);
/// How long a request waits for an agent to come when there is none: agents that lost a daemon
/// which was restarted need a moment to find the new one.
const AGENT_GRACE: Duration = Duration::from_secs(2);
/// A request that is answered sooner is not acknowledged first, which saves a packet.
const ACKNOWLEDGE: Duration = Duration::from_millis(20);
/// How much later than the daemon `keyns-upcall` gives up by itself.
const MARGIN: Duration = Duration::from_millis(250);

/// Where a request is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// As a rule says.
    Rule(Target),
    /// No rule: the container's own keyring, or nothing.
    Keyring,
    /// Nowhere.
    Refuse(Refusal),
}

/// Where a request is.
enum Place {
    /// It waits for a person.
    Queue,
    /// It waits for the key worker, which looks for what the container was granted.
    Keyring,
    /// It waits for an agent, at most until then; without a time, for one that is busy.
    Seeking(Option<Instant>),
    /// An agent has it, until then.
    With(Slot, Instant),
}

/// What became of an attempt to answer.
enum Attempt {
    /// The request is over; the answerer is told this.
    Over(End, Result<Answered, Error>),
    /// It goes on; the answerer is told why.
    Refused(Error),
}

/// The task of one request.
pub(super) struct Conversation {
    pub(super) daemon: Rc<Daemon>,
    pub(super) peer: Peer,
    pub(super) id: RequestId,
    pub(super) request: Box<Request>,
    pub(super) lineage: Vec<keyns::engine::ContainerId>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// The other end of `commands`, for agents and the key worker.
    pub(super) sender: mpsc::Sender<Command>,
    pub(super) arrived: Instant,
    pub(super) deadline: Instant,
}

impl Conversation {
    /// Sees the request to its end.
    pub(super) async fn run(mut self, route: Route) {
        let (end, reply) = match route {
            Route::Refuse(refusal) => (self.reject(refusal.rejection()).await, None),
            Route::Rule(Target::Reject(chosen)) => {
                let rejection = Rejection::new(chosen.errno, chosen.timeout);
                (
                    self.reject(rejection.unwrap_or(Rejection::NO_KEY)).await,
                    None,
                )
            }
            Route::Keyring => {
                self.look_up(None);
                self.wait(String::new(), Place::Keyring).await
            }
            Route::Rule(Target::Queue(_)) => self.wait(String::new(), Place::Queue).await,
            Route::Rule(Target::Agent(name)) => self.wait(name, Place::Seeking(None)).await,
        };
        self.daemon.upcalls.finish(&self.daemon, self.id, end);
        if let Some((reply, result)) = reply {
            // The answerer may have hung up; what it did stays done.
            let _ = reply.send(result);
        }
    }

    /// Waits for an answer, giving the request to one agent after the other unless it is in a
    /// queue.
    async fn wait(
        &mut self,
        mut agent: String,
        mut place: Place,
    ) -> (End, Option<(Reply, Result<Answered, Error>)>) {
        let agents = self.daemon.agents.registry().clone();
        let mut seeker = agents.seeker(self.id);
        let mut tried: Vec<AgentId> = Vec::new();
        let mut acknowledge = Some(match place {
            Place::Queue => Instant::now(),
            Place::Keyring | Place::Seeking(_) | Place::With(..) => Instant::now() + ACKNOWLEDGE,
        });
        loop {
            let changed = agents.changed();
            tokio::pin!(changed);
            if let Place::Seeking(until) = place {
                // Before looking, so that no agent that comes meanwhile is missed.
                changed.as_mut().enable();
                place = self.seek(&agent, &tried, until);
            }
            let own_time = match &place {
                Place::Queue | Place::Keyring | Place::Seeking(None) => self.deadline,
                Place::Seeking(Some(until)) | Place::With(_, until) => self.deadline.min(*until),
            };
            let wake = acknowledge.map_or(own_time, |at| at.min(own_time));
            let seeking = matches!(place, Place::Seeking(_));
            let command = tokio::select! {
                biased;
                Some(command) = self.commands.recv() => command,
                outcome = self.peer.closed() => return (unasked(outcome), None),
                () = changed, if seeking => continue,
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if now >= self.deadline {
                        let rejection = errno::rejection(errno::ETIMEDOUT, 2);
                        let end = self.reject(rejection).await;
                        return (if end == End::Gone { end } else { End::Expired }, None);
                    }
                    if acknowledge.is_some_and(|at| now >= at) {
                        acknowledge = None;
                        let left = self.deadline.duration_since(now);
                        if self.peer.accepted(self.id, left + MARGIN).await.is_err() {
                            return (End::Gone, None);
                        }
                    }
                    match place {
                        Place::Seeking(Some(until)) if now >= until => {
                            return (self.reject(Rejection::NO_KEY).await, None);
                        }
                        Place::With(slot, until) if now >= until => {
                            tried.push(slot.agent());
                            slot.failed();
                            place = self.seek_anew();
                        }
                        other => place = other,
                    }
                    continue;
                }
            };
            match command {
                Command::End(rejection) => return (self.reject(rejection).await, None),
                Command::NotMine(agent) | Command::AgentGone(agent) => {
                    place = match place {
                        Place::With(slot, _) if slot.agent() == agent => {
                            tried.push(agent);
                            self.seek_anew()
                        }
                        other => other,
                    };
                }
                Command::FromKeyring(reply) => self.look_up(Some(reply)),
                Command::Route {
                    to,
                    deadline,
                    reply,
                } => {
                    let routed = match to {
                        Handlers::Queue(name) => {
                            self.hand_over(Some(&name), deadline);
                            place = Place::Queue;
                            Ok(())
                        }
                        Handlers::Agents(name) if self.has_agent(&name) => {
                            self.hand_over(None, deadline);
                            agent = name;
                            tried.clear();
                            place = Place::Seeking(None);
                            Ok(())
                        }
                        Handlers::Agents(name) => Err(self.no_agent(&name)),
                    };
                    if routed.is_ok() {
                        // It waits for none of the former agents any more.
                        drop(std::mem::replace(&mut seeker, agents.seeker(self.id)));
                        // The program learns of the new deadline.
                        acknowledge = Some(Instant::now());
                    }
                    let _ = reply.send(routed);
                }
                // Routed elsewhere before the key worker came to it.
                Command::Granted { reply: None, .. } if !matches!(place, Place::Keyring) => {}
                Command::Granted { found, reply } => {
                    let attempt = match found {
                        Ok(Some(payload)) => self.attempt(Decision::Payload(payload)).await,
                        Ok(None) => Attempt::Refused(self.not_granted()),
                        Err(error) => Attempt::Refused(error),
                    };
                    match (attempt, reply) {
                        (Attempt::Over(end, result), reply) => {
                            return (end, reply.map(|reply| (reply, result)));
                        }
                        (Attempt::Refused(error), Some(reply)) => {
                            let _ = reply.send(Err(error));
                        }
                        (Attempt::Refused(_), None) => {
                            return (self.reject(Rejection::NO_KEY).await, None);
                        }
                    }
                }
                Command::Answer {
                    from,
                    decision,
                    reply,
                } => {
                    if let Answerer::Agent(agent) = from
                        && !matches!(&place, Place::With(slot, _) if slot.agent() == agent)
                    {
                        let _ = reply.send(Err(not_yours(self.id)));
                        continue;
                    }
                    match self.attempt(decision).await {
                        Attempt::Over(end, result) => {
                            if let (Answerer::Agent(_), Place::With(slot, _)) = (from, place) {
                                slot.answered();
                            }
                            return (end, Some((reply, result)));
                        }
                        Attempt::Refused(error) => {
                            let _ = reply.send(Err(error));
                            place = match (from, place) {
                                (Answerer::Agent(_), Place::With(slot, _)) => {
                                    tried.push(slot.agent());
                                    slot.failed();
                                    self.seek_anew()
                                }
                                (_, other) => other,
                            };
                        }
                    }
                }
            }
        }
    }

    /// Starts to look for the next agent.
    fn seek_anew(&self) -> Place {
        self.daemon
            .upcalls
            .moved(&self.daemon, self.id, Waiting::Queued, None);
        Place::Seeking(None)
    }

    /// Notes that a queue is to have the request from now on, or agents, and until when.
    fn hand_over(&mut self, queue: Option<&str>, deadline: Instant) {
        self.deadline = deadline;
        self.daemon
            .upcalls
            .rerouted(&self.daemon, self.id, queue, deadline);
    }

    fn wanted<'a>(&'a self, name: &'a str, tried: &'a [AgentId]) -> Wanted<'a> {
        Wanted {
            request: self.id,
            name,
            type_: &self.request.type_name,
            lineage: &self.lineage,
            process: self.request.tgid,
            tried,
        }
    }

    /// Whether an agent of this name is registered that takes such requests, busy or not.
    fn has_agent(&self, name: &str) -> bool {
        let wanted = self.wanted(name, &[]);
        self.daemon.agents.registry().has_one_for(&wanted)
    }

    /// Gives the request to an agent, if there is one.
    fn seek(&self, name: &str, tried: &[AgentId], until: Option<Instant>) -> Place {
        let now = Instant::now();
        let wanted = self.wanted(name, tried);
        let upcalls = &self.daemon.upcalls;
        let delivery = self
            .daemon
            .agents
            .registry()
            .deliver(&wanted, &self.sender, |agent| {
                upcalls.for_agent(self.id, agent)
            });
        match delivery {
            Delivery::To(slot) => {
                upcalls.moved(&self.daemon, self.id, Waiting::Offered, Some(slot.label()));
                Place::With(slot, now + COMPLETE)
            }
            Delivery::Busy => Place::Seeking(None),
            Delivery::Nobody => Place::Seeking(Some(until.unwrap_or(now + AGENT_GRACE))),
        }
    }

    /// Gives the kernel an answer and waits for what it says.
    async fn attempt(&self, decision: Decision) -> Attempt {
        let (sent, end) = match decision {
            Decision::Payload(payload) => (
                self.peer.instantiate(payload.as_slice()).await,
                End::Answered,
            ),
            Decision::Reject(rejection) => (
                self.peer.reject(rejection).await,
                End::Rejected(rejection.errno()),
            ),
        };
        let outcome = match sent {
            Ok(()) => self.peer.outcome().await,
            Err(LinkError::Wire(WireError::Range(_))) => {
                return Attempt::Refused(Error::new(
                    ErrorKind::TooLarge,
                    format!(
                        "cannot answer upcall {}: the payload is over 1 MiB",
                        self.id
                    ),
                ));
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Outcome {
                errno: 0,
                settled: true,
            }) => {
                let outcome = end.errno().unwrap_or(0);
                let milliseconds = millis(self.arrived.elapsed());
                Attempt::Over(
                    end,
                    Ok(Answered {
                        outcome,
                        milliseconds,
                    }),
                )
            }
            Ok(Outcome {
                errno,
                settled: true,
            }) => {
                let end = given_up(errno);
                Attempt::Over(end, Err(self.in_vain(end)))
            }
            Ok(Outcome {
                errno,
                settled: false,
            }) => Attempt::Refused(self.refused(errno)),
            Err(error) => {
                tracing::debug!(upcall = self.id, %error, "no outcome");
                Attempt::Over(End::Gone, Err(self.in_vain(End::Gone)))
            }
        }
    }

    /// Rejects the request.
    async fn reject(&self, rejection: Rejection) -> End {
        match self.attempt(Decision::Reject(rejection)).await {
            Attempt::Over(end, _) => end,
            // A rejection is never refused; should it be, nobody can tell what became of it.
            Attempt::Refused(_) => End::Gone,
        }
    }

    /// Looks for the container's key of this type and description, of whose payload the requester
    /// gets a copy. Its session keyring is not repaired: that takes the authority over the request,
    /// and a search of keyrings that the container can make as long as it likes.
    ///
    /// The key worker may be busy for seconds. What it finds comes back as a command, so that the end
    /// of the container, the deadline and the end of the program are heard meanwhile.
    fn look_up(&self, reply: Option<Reply>) {
        let daemon = Rc::clone(&self.daemon);
        let container = self.lineage.first().copied();
        let (type_, description) = (
            self.request.type_name.clone(),
            self.request.description.clone(),
        );
        let sender = self.sender.clone();
        spawn_local(async move {
            let found = match container {
                Some(id) => daemon.keys.payload_for(id, &type_, &description).await,
                None => Ok(None),
            };
            // Refused when the request has ended.
            let _ = sender.send(Command::Granted { found, reply }).await;
        });
    }

    fn no_agent(&self, name: &str) -> Error {
        let whom = match name {
            "" => "no agent".to_owned(),
            name => format!("no agent “{name}”"),
        };
        let type_ = keyns::text::escape(&self.request.type_name);
        let message = format!("cannot route upcall {}: {whom} would take it", self.id);
        Error::new(ErrorKind::NoSuchAgent, message)
            .cause(format!(
                "none that is registered answers type {type_} for its container"
            ))
            .hint("keyctl-ns agent list shows the agents; the request stays where it is")
    }

    fn not_granted(&self) -> Error {
        Error::new(
            ErrorKind::NoSuchKey,
            format!("the container has no readable key for upcall {}", self.id),
        )
        .hint("answer with a payload, or grant the key to the container first")
    }

    /// Why an answer came to nothing although the request is over.
    fn in_vain(&self, end: End) -> Error {
        if end == End::Rejected(errno::EDQUOT) {
            return Error::new(
                ErrorKind::QuotaExceeded,
                format!(
                    "cannot answer upcall {}: the requester's key quota is used up",
                    self.id
                ),
            )
            .errno(errno::EDQUOT);
        }
        Error::new(
            ErrorKind::WrongState,
            format!(
                "cannot answer upcall {}: it has ended ({})",
                self.id,
                end.as_str()
            ),
        )
    }

    /// Why the kernel did not take a payload; the request goes on.
    fn refused(&self, errno: i32) -> Error {
        let type_ = keyns::text::escape(&self.request.type_name);
        Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "cannot answer upcall {}: type {type_} refused the payload",
                self.id
            ),
        )
        .cause(std::io::Error::from_raw_os_error(errno).to_string())
        .hint(match errno {
            errno::EOPNOTSUPP => {
                "reject it: payloads of this type name another key, which no answer may reach"
            }
            _ => "answer it again: it still waits",
        })
        .errno(errno)
    }
}

/// What an error of `keyns-upcall` means for the request.
fn given_up(errno: i32) -> End {
    match errno {
        errno::ETIMEDOUT => End::Expired,
        errno::EDQUOT => End::Rejected(errno::EDQUOT),
        // A forged request, which it refuses without being asked.
        errno::EPERM => End::Rejected(errno::EPERM),
        // It was told to end and rejected with this.
        errno::EINTR => End::Rejected(errno::ENOKEY),
        // Somebody completed the key before.
        _ => End::Gone,
    }
}

/// What it means that `keyns-upcall` ended the request by itself.
fn unasked(outcome: Option<Outcome>) -> End {
    outcome.map_or(End::Gone, |outcome| given_up(outcome.errno))
}

/// Why an agent's answer is not taken.
pub(super) fn not_yours(id: RequestId) -> Error {
    Error::new(
        ErrorKind::WrongState,
        format!("cannot answer upcall {id}: it is not with this agent any more"),
    )
}

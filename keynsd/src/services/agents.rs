//! `org.keyns.Agents`: programs that answer requests.
//!
//! An agent is a connection that called `Serve`: its stream carries the requests, and its end, for
//! whatever reason, is the end of the agent. Answers come on other connections of the same process
//! with the agent's token. An agent gets texts, numbers and a deadline, never the authority over a
//! request, so it reaches no key of the requester.

pub mod process;
pub mod registry;
mod turns;

use std::io;
use std::rc::Rc;

use keyns_interfaces::agents::{
    Complete, List, Listing, NotMine, Registration, Reject, Serve, ServeReply,
};
use keyns_interfaces::upcalls::Answered;
use keyns_interfaces::{Empty, Error, ErrorKind};
use keyns_sys::secret::SecretBytes;
use tokio::sync::mpsc;

use self::process::Process;
use self::registry::{AgentId, DEFAULT_IN_FLIGHT, MAX_IN_FLIGHT, Offer, Registry, Token};
use super::containers::demand_alive;
use super::upcalls::pending::{Answerer, Command, Decision, RequestId};
use super::upcalls::rules::{check_label, check_rejection, check_type};
use crate::authority::Policy;
use crate::daemon::Daemon;
use crate::front::{Context, Reply, Router, StreamSender};
use crate::store::{Counter, Store};

/// Key types, and containers, that one agent may name.
const MAX_NAMED: usize = 64;

/// The agents of a daemon.
#[derive(Debug)]
pub struct Agents {
    registry: Registry,
    numbers: Counter,
}

impl Agents {
    /// No agents yet; numbers go on where an earlier run ended.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(store: &Store) -> io::Result<Self> {
        Ok(Self {
            registry: Registry::default(),
            numbers: store.counter("agent")?,
        })
    }

    /// Who is registered.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }
}

/// Adds the methods of the interface.
pub fn register(router: &mut Router<Daemon>) {
    router
        .stream(Policy::AnswersRequests, serve)
        .method(
            Policy::AnswersRequests,
            async |daemon: Rc<Daemon>, context, call: Complete| {
                let Complete { token, id, payload } = call;
                let decision = Decision::Payload(SecretBytes::from(payload.bytes()));
                answer(&daemon, &context, &token, id, decision)
                    .await
                    .map(Reply::from)
            },
        )
        .method(
            Policy::AnswersRequests,
            async |daemon: Rc<Daemon>, context, call: Reject| {
                let Reject {
                    token,
                    id,
                    rejection,
                } = call;
                let decision = Decision::Reject(check_rejection(rejection)?);
                answer(&daemon, &context, &token, id, decision)
                    .await
                    .map(Reply::from)
            },
        )
        .method(
            Policy::AnswersRequests,
            async |daemon: Rc<Daemon>, context, call: NotMine| {
                let (agent, commands) = claim(&daemon, &context, &call.token, call.id)?;
                let passed_on = commands.send(Command::NotMine(agent)).await;
                passed_on.map_err(|_| daemon.upcalls.not_waiting(call.id))?;
                Ok(Reply::from(Empty {}))
            },
        )
        .method(
            Policy::SeesOthersKeys,
            async |daemon: Rc<Daemon>, _: Context, _: List| {
                Ok(Reply::from(Listing {
                    agents: daemon.agents.registry.list(),
                }))
            },
        );
}

/// Registers an agent until its connection ends.
async fn serve(
    daemon: Rc<Daemon>,
    context: Context,
    call: Serve,
    sender: StreamSender<ServeReply>,
) -> Result<(), Error> {
    let offer = check(&daemon, call)?;
    let process = Process::of(&context.caller)?;
    let token = Token::random()?;
    let agent = daemon.agents.numbers.next().map_err(|error| {
        Error::new(ErrorKind::System, "cannot number the agent").cause(error.to_string())
    })?;
    let registration = Registration {
        agent,
        token: token.to_string(),
    };
    let first = ServeReply {
        registration: Some(registration),
        request: None,
    };
    // Before the registry knows it, so that no request comes first.
    if sender.send(first).await.is_err() {
        return Ok(());
    }
    let stream = move |reply: ServeReply| sender.try_send(reply).unwrap_or(false);
    let uid = context.caller.uid();
    let registry = daemon.agents.registry();
    let _registered = registry.register(agent, offer, process, uid, token, Box::new(stream))?;
    // Dropped here when the agent hangs up, which ends the registration.
    std::future::pending().await
}

fn check(daemon: &Daemon, call: Serve) -> Result<Offer, Error> {
    let Serve {
        name,
        types,
        containers,
        max_in_flight,
    } = call;
    check_label("an agent", &name, false)?;
    if types.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            "an agent answers at least one key type",
        )
        .hint("name the types, or * for all"));
    }
    if types.len() > MAX_NAMED || containers.len() > MAX_NAMED {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("an agent names at most {MAX_NAMED} types and {MAX_NAMED} containers"),
        ));
    }
    types.iter().try_for_each(|type_| check_type(type_))?;
    let max_in_flight = max_in_flight.unwrap_or(DEFAULT_IN_FLIGHT);
    if !(1..=MAX_IN_FLIGHT).contains(&max_in_flight) {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("an agent works on 1 to {MAX_IN_FLIGHT} requests at once, not {max_in_flight}"),
        ));
    }
    // By number from here on: whoever gets the name of a dead container is somebody else.
    let resolve = |name: &String| {
        let record = daemon.containers.resolve(name)?;
        demand_alive(&record, &format!("serve container “{}”", record.path))?;
        Ok((record.id, record.path.to_string()))
    };
    let scope = containers
        .iter()
        .map(resolve)
        .collect::<Result<_, Error>>()?;
    Ok(Offer {
        name,
        types,
        scope,
        max_in_flight,
    })
}

/// The agent that calls, and the way to a request it has.
fn claim(
    daemon: &Daemon,
    context: &Context,
    token: &str,
    id: RequestId,
) -> Result<(AgentId, mpsc::Sender<Command>), Error> {
    let (agent, commands) = daemon.agents.registry.claim(&context.caller, token, id)?;
    let commands = commands.ok_or_else(|| daemon.upcalls.not_with_agent(id))?;
    Ok((agent, commands))
}

async fn answer(
    daemon: &Daemon,
    context: &Context,
    token: &str,
    id: RequestId,
    decision: Decision,
) -> Result<Answered, Error> {
    let (agent, commands) = claim(daemon, context, token, id)?;
    daemon
        .upcalls
        .deliver(&commands, id, Answerer::Agent(agent), decision)
        .await
}

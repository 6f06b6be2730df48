//! Agents on the bus: objects of clients that answer requests.
//!
//! To the services such an agent is one like any other: a stream of requests, and answers with its
//! token. Here requests become calls of `org.keyns.Agent1` and their replies become those answers.

use std::rc::Rc;
use std::time::Duration;

use keyns_interfaces::agents::{Complete, NotMine, Reject, ServeReply};
use keyns_interfaces::frame::{Bytes, MAX_CALL};
use keyns_interfaces::upcalls::{Rejection, UpcallInfo};
use keyns_interfaces::{Error, ErrorKind, Method, Payload, bus};
use tokio::sync::Notify;
use zbus::OwnedObjectPath;
use zbus::message::Message;

use super::clients::Client;
use super::door::{self, Call, Door, Failure, Permitted};
use super::link::NoReply;
use super::row::{self, Prepared};
use super::value::record;
use crate::authority::{Caller, Questions};
use crate::front::call::{self, Begun, NoPermit, Streaming};
use crate::front::gate::Place;

/// Requests that wait to be passed on; the registry lets no more through at once.
const QUEUE: usize = 16;
/// Longer than any request waits for one agent.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves `RegisterAgent`.
pub(super) async fn register(
    door: &Rc<Door>,
    call: Call<'_>,
    permits: Vec<Permitted<'_>>,
    prepared: Prepared,
    place: Place,
) -> Option<Result<Message, Failure>> {
    let permit = permits.into_iter().next().ok_or_else(no_registration);
    let begun = permit.map_err(Failure::from).and_then(|permit| {
        let parameters = &prepared.parameters;
        door::begin(
            door,
            call.client,
            permit,
            parameters,
            Vec::new(),
            Some(QUEUE),
        )
    });
    let mut stream = match begun {
        Ok(Begun::Stream(stream)) => stream,
        Ok(Begun::Once(_)) => return Some(Err(no_registration().into())),
        Err(failure) => return Some(Err(failure)),
    };
    let first = tokio::select! {
        biased;
        first = stream.replies.recv() => first,
        result = &mut stream.running => {
            let error = result.err().unwrap_or_else(no_registration);
            return Some(Err(error.into()));
        }
        () = call.client.life.gone() => return None,
    };
    let Some(first) = first else {
        return Some(Err(no_registration().into()));
    };
    let registered = row::parameters::<ServeReply>(&first);
    let registration = match registered.map(|reply| reply.registration) {
        Ok(Some(registration)) => registration,
        Ok(None) => return Some(Err(no_registration().into())),
        Err(error) => return Some(Err(error.into())),
    };
    // The registry may still refuse: it does so at once.
    if let Some(Err(error)) = now(&mut stream).await {
        return Some(Err(error.into()));
    }
    let stop = Rc::new(Notify::new());
    call.client
        .agents
        .borrow_mut()
        .insert(registration.agent, Rc::clone(&stop));
    let agent = Rc::new(Agent {
        door: Rc::clone(door),
        client: Rc::clone(call.client),
        caller: Rc::clone(call.caller),
        object: prepared.object.unwrap_or_default(),
        token: registration.token,
    });
    let number = registration.agent;
    tokio::task::spawn_local(async move {
        agent.run(stream, &stop).await;
        agent.client.agents.borrow_mut().remove(&number);
        drop(place);
    });
    Some(call.reply(first))
}

/// What a stream's task has to say without waiting for anything.
async fn now(stream: &mut Streaming) -> Option<Result<(), Error>> {
    tokio::select! {
        biased;
        result = &mut stream.running => Some(result),
        () = std::future::ready(()) => None,
    }
}

fn no_registration() -> Error {
    Error::new(ErrorKind::System, "the agent was not registered")
}

/// Ends an agent of `client`.
pub(super) fn unregister(client: &Client, number: u64) -> Result<(), Error> {
    let agent = client.agents.borrow_mut().remove(&number);
    let stop = agent.ok_or_else(|| {
        Error::new(
            ErrorKind::NoSuchAgent,
            format!("agent {number} is none of this client’s"),
        )
    })?;
    stop.notify_one();
    Ok(())
}

struct Agent {
    door: Rc<Door>,
    client: Rc<Client>,
    caller: Rc<Caller>,
    object: OwnedObjectPath,
    token: String,
}

impl Agent {
    async fn run(self: &Rc<Self>, mut stream: Streaming, stop: &Notify) {
        loop {
            let reply = tokio::select! {
                reply = stream.replies.recv() => reply,
                _ = &mut stream.running => return,
                () = stop.notified() => return,
                () = self.client.life.gone() => return,
            };
            let Some(reply) = reply else { return };
            let Ok(ServeReply {
                request: Some(request),
                ..
            }) = row::parameters(&reply)
            else {
                continue;
            };
            let agent = Rc::clone(self);
            tokio::task::spawn_local(async move { agent.ask(request).await });
        }
    }

    /// Has one request answered.
    async fn ask(&self, request: UpcallInfo) {
        let id = request.id;
        let limit = request.deadline_ms.map_or(PATIENCE, Duration::from_millis);
        let call = Message::method_call(&self.object, "Instantiate")
            .destination(self.client.name.as_str())
            .interface(bus::AGENT)
            .with_flags(zbus::message::Flags::NO_AUTO_START)
            .build(&(id, record(&request)));
        let reply = self.door.link.call(call, limit).await;
        let token = self.token.clone();
        let done = match reply {
            Ok(reply) => match reply.body().deserialize::<Vec<u8>>() {
                Ok(payload) => {
                    let payload = Payload::new(payload);
                    self.tell(&Complete { token, id, payload }).await
                }
                Err(_) => self.tell(&NotMine { token, id }).await,
            },
            Err(NoReply::Failed { name, message, .. }) => match rejection(&name, &message) {
                Some(rejection) => {
                    self.tell(&Reject {
                        token,
                        id,
                        rejection,
                    })
                    .await
                }
                None => self.tell(&NotMine { token, id }).await,
            },
            // Its time is over; whoever gave it the request knows.
            Err(_) => Ok(()),
        };
        if let Err(failure) = done {
            tracing::debug!(
                client = self.client.name,
                id,
                ?failure,
                "an answer was refused"
            );
        }
    }

    /// Calls a method of the contract in the agent's name, judged like one it calls itself.
    async fn tell<M: Method>(&self, call: &M) -> Result<(), Failure> {
        let parameters = Bytes::encode(call, 2 * MAX_CALL).ok_or_else(|| {
            Error::new(ErrorKind::TooLarge, "the answer is larger than any payload")
        })?;
        let asked = call::authorise(&self.door.front, &self.caller, M::NAME, Questions::None);
        let permit = match asked.await {
            Ok(permit) => permit,
            Err(NoPermit::Denied(denied)) => return Err(denied.into()),
            Err(NoPermit::Unserved(_)) => return Err(no_registration().into()),
        };
        match door::begin(
            &self.door,
            &self.client,
            permit,
            &parameters,
            Vec::new(),
            None,
        )? {
            Begun::Once(once) => once.finish().await.map(drop).map_err(Failure::from),
            Begun::Stream(_) => Err(no_registration().into()),
        }
    }
}

/// How an agent rejects: the error of this name, with the error number and seconds as its text.
fn rejection(name: &str, message: &str) -> Option<Rejection> {
    if name.strip_prefix(bus::ERROR) != Some("Reject") {
        return None;
    }
    let (errno, timeout) = message.split_once(' ')?;
    Some(Rejection {
        errno: errno.parse().ok()?,
        timeout: timeout.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_rejection_rejects() {
        let of = |name, message| rejection(name, message).map(|r| (r.errno, r.timeout));
        assert_eq!(of("org.keyns.Error.Reject", "13 5"), Some((13, 5)));
        for (name, message) in [
            ("org.keyns.Error.NotMine", "13 5"),
            ("org.keyns.Error.Reject", ""),
            ("org.keyns.Error.Reject", "13"),
            ("org.keyns.Error.Reject", "13 -1"),
            ("Reject", "13 5"),
        ] {
            assert_eq!(of(name, message), None, "{name} {message}");
        }
    }
}

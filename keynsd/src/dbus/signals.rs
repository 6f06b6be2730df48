//! Signals: what happens, told to those who asked.
//!
//! A subscriber's events come out of the streams that varlink subscribers have, by the same decision
//! and with the same queues. Each signal goes to one client, so that nobody else can read it, and
//! none holds a payload. A client that has stopped reading would fill the memory of the bus, which
//! tells nobody: so it is asked for a sign of life after each [`WINDOW`] signals, and nothing more is
//! sent before it came.

use std::rc::Rc;
use std::time::Duration;

use keyns_interfaces::event::Event;
use keyns_interfaces::{Error, ErrorKind, bus};
use tokio::sync::Notify;
use zbus::OwnedObjectPath;
use zbus::message::Message;

use super::clients::Client;
use super::door::{self, Call, Door, Failure, Permitted};
use super::link::{Link, NoReply};
use super::methods::{container_path, exit, upcall_path};
use super::objects;
use super::value::{Record, record};
use crate::front::call::{Begun, Streaming};
use crate::front::context::Outgoing;
use crate::front::gate::Place;

/// Signals after which a sign of life is asked for.
const WINDOW: usize = 64;
/// How long a subscriber may take to give it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events that wait in a subscriber's stream; more wait in the queue of its topic.
const QUEUE: usize = 16;

/// Why a subscription ended.
enum End {
    /// The client wanted it, or is gone.
    Wanted,
    /// It does not read.
    Silent,
    /// A stream has ended.
    Cut,
}

/// Serves `Subscribe`; `permits` are for the three streams.
pub(super) fn subscribe(
    door: &Rc<Door>,
    call: &Call<'_>,
    permits: Vec<Permitted<'_>>,
    place: Place,
) -> Result<Message, Failure> {
    if call.client.subscription.borrow().is_some() {
        return call.empty();
    }
    let failed = || Failure::from(Error::new(ErrorKind::System, "cannot subscribe"));
    let streams = permits.into_iter().map(|permit| {
        match door::begin(door, call.client, permit, b"{}", Vec::new(), Some(QUEUE))? {
            Begun::Stream(stream) => Ok(stream),
            Begun::Once(_) => Err(failed()),
        }
    });
    let streams = streams.collect::<Result<Vec<_>, Failure>>()?;
    let [containers, keys, upcalls] = <[Streaming; 3]>::try_from(streams).map_err(|_| failed())?;
    let stop = Rc::new(Notify::new());
    call.client.subscription.replace(Some(Rc::clone(&stop)));
    let subscriber = Subscriber {
        link: Rc::clone(&door.link),
        client: Rc::clone(call.client),
        sent: 0,
    };
    tokio::task::spawn_local(async move {
        subscriber.run(containers, keys, upcalls, stop).await;
        drop(place);
    });
    call.empty()
}

struct Subscriber {
    link: Rc<Link>,
    client: Rc<Client>,
    sent: usize,
}

impl Subscriber {
    async fn run(
        mut self,
        mut containers: Streaming,
        mut keys: Streaming,
        mut upcalls: Streaming,
        stop: Rc<Notify>,
    ) {
        let client = Rc::clone(&self.client);
        let end = tokio::select! {
            () = stop.notified() => End::Wanted,
            () = client.life.gone() => End::Wanted,
            end = async {
                loop {
                    let event = tokio::select! {
                        event = next(&mut containers) => event,
                        event = next(&mut keys) => event,
                        event = next(&mut upcalls) => event,
                    };
                    let Some(event) = event else { break End::Cut };
                    for message in signals(&event, &self.client.name) {
                        if let Err(end) = self.send(message).await {
                            return end;
                        }
                    }
                }
            } => end,
        };
        if matches!(end, End::Wanted) {
            return;
        }
        client.unsubscribe();
        let reason = match end {
            End::Silent => "it did not answer to org.freedesktop.DBus.Peer.Ping",
            _ => "the daemon ended it",
        };
        tracing::info!(
            client = client.name,
            reason,
            "a subscriber gets no signals any more"
        );
        if let Ok(last) = signal(
            bus::PATH,
            bus::MANAGER,
            "SubscriptionEnded",
            &client.name,
            &reason,
        ) {
            self.link.send(last).await;
        }
    }

    async fn send(&mut self, message: zbus::Result<Message>) -> Result<(), End> {
        let Ok(message) = message else { return Ok(()) };
        if self.sent == WINDOW {
            let ping = Message::method_call("/", "Ping")
                .destination(self.client.name.as_str())
                .interface("org.freedesktop.DBus.Peer")
                .build(&());
            match self.link.call(ping, PATIENCE).await {
                // An error of its own is a sign of life as well.
                Ok(_) | Err(NoReply::Failed { by_bus: false, .. }) => {}
                Err(_) => return Err(End::Silent),
            }
            self.sent = 0;
        }
        self.sent += 1;
        self.link.send(message).await;
        Ok(())
    }
}

/// The next event of a stream; `None` at its end. Cancel safe.
async fn next(stream: &mut Streaming) -> Option<Event> {
    loop {
        let outgoing: Option<Outgoing> = tokio::select! {
            biased;
            outgoing = stream.replies.recv() => outgoing,
            _ = &mut stream.running => None,
        };
        let event: Event = super::row::parameters(&outgoing?).ok()?;
        if event.event != "subscribed" {
            return Some(event);
        }
    }
}

fn signal<B: serde::Serialize + zbus::DynamicType>(
    path: &str,
    interface: &str,
    member: &str,
    to: &str,
    body: &B,
) -> zbus::Result<Message> {
    Message::signal(path, interface, member)
        .destination(to)
        .build(body)
}

fn added(
    path: &OwnedObjectPath,
    interface: &str,
    properties: Record,
    to: &str,
) -> zbus::Result<Message> {
    let interfaces = std::collections::HashMap::from([(interface, properties)]);
    signal(
        bus::PATH,
        "org.freedesktop.DBus.ObjectManager",
        "InterfacesAdded",
        to,
        &(path, interfaces),
    )
}

fn removed(path: &OwnedObjectPath, interface: &str, to: &str) -> zbus::Result<Message> {
    signal(
        bus::PATH,
        "org.freedesktop.DBus.ObjectManager",
        "InterfacesRemoved",
        to,
        &(path, [interface].as_slice()),
    )
}

fn changed(
    path: &OwnedObjectPath,
    interface: &str,
    properties: Record,
    to: &str,
) -> zbus::Result<Message> {
    let none: [&str; 0] = [];
    signal(
        path.as_str(),
        "org.freedesktop.DBus.Properties",
        "PropertiesChanged",
        to,
        &(interface, properties, none.as_slice()),
    )
}

/// The signals that tell `to` of an event.
fn signals(event: &Event, to: &str) -> Vec<zbus::Result<Message>> {
    let mut all = Vec::with_capacity(2);
    if event.dropped > 0 {
        let lost = signal(bus::PATH, bus::MANAGER, "EventsLost", to, &event.dropped);
        all.push(lost);
    }
    if let Some(info) = &event.container {
        let path = container_path(info.id);
        let state = || objects::state_of_container(info);
        match event.event.as_str() {
            "container-created" => {
                all.push(added(
                    &path,
                    bus::CONTAINER,
                    objects::of_container(info),
                    to,
                ));
            }
            "container-removed" => all.push(removed(&path, bus::CONTAINER, to)),
            other => {
                all.push(changed(&path, bus::CONTAINER, state(), to));
                let at = path.as_str();
                match other {
                    "container-started" => {
                        let pid = info.init_pid.unwrap_or(0);
                        all.push(signal(at, bus::CONTAINER, "Started", to, &pid));
                    }
                    "container-dead" => {
                        let how = exit(info.exit);
                        all.push(signal(at, bus::CONTAINER, "Ended", to, &(how,)));
                    }
                    _ => {}
                }
            }
        }
    }
    if let Some(info) = &event.upcall {
        let path = upcall_path(info.id);
        match event.event.as_str() {
            "upcall-arrived" => all.push(added(&path, bus::UPCALL, objects::of_upcall(info), to)),
            "upcall-offered" | "upcall-rerouted" => {
                all.push(changed(
                    &path,
                    bus::UPCALL,
                    objects::state_of_upcall(info),
                    to,
                ));
            }
            _ => {
                let ended = (info.state.as_str(), info.outcome.unwrap_or(-1));
                all.push(signal(path.as_str(), bus::UPCALL, "Ended", to, &ended));
                all.push(removed(&path, bus::UPCALL, to));
            }
        }
    }
    if event.key.is_some() || event.grant.is_some() {
        let key = event.key.as_ref().map(record).unwrap_or_default();
        let grant = event.grant.as_ref().map(record).unwrap_or_default();
        let body = (event.event.as_str(), key, grant);
        all.push(signal(bus::PATH, bus::MANAGER, "KeyChanged", to, &body));
    }
    all
}

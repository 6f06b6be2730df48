//! The door on the system bus: `org.keyns`.
//!
//! It translates: each method of its interfaces is one of the contract (`methods`), reached by the
//! dispatch that varlink calls take, so it can do nothing else than the other door. All of it runs on
//! the daemon's one thread. Messages are taken from the connection as they are, without the object
//! server of the library, so that limits come before parsing and a read of a property takes no
//! detour.
//!
//! The bus may start after the daemon and may be restarted: the door then waits for it.

mod agents;
mod arrival;
mod clients;
mod door;
pub(crate) mod link;
mod memory;
mod methods;
mod objects;
mod row;
mod signals;
mod value;

use std::convert::Infallible;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use keyns_interfaces::bus;
use zbus::MessageStream;
use zbus::connection::Builder;
use zbus::export::futures_core::Stream;
use zbus::message::{Message, Type};

use self::door::Door;
use self::link::{BUS, Link, NoReply};
use crate::config::BusAddress;
use crate::daemon::Daemon;
use crate::front::Front;

/// Messages that wait to be looked at; those behind them stay with the bus.
const QUEUE: NonZeroUsize = NonZeroUsize::new(16).unwrap();
/// Pauses between two tries to reach the bus.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Methods of all interfaces: interface, name, signature of arguments and of results, methods of the
/// contract.
#[must_use]
pub fn methods() -> Vec<(
    &'static str,
    &'static str,
    String,
    String,
    &'static [&'static str],
)> {
    let rows = methods::rows().into_iter();
    rows.map(|row| {
        (
            row.interface,
            row.member,
            row.input,
            row.output,
            row.varlink,
        )
    })
    .collect()
}

/// Serves on the bus at `address`, as often as it comes back. Dropping the future ends it.
pub async fn serve(front: Rc<Front<Daemon>>, address: BusAddress) -> Infallible {
    let address = match address {
        BusAddress::None => return std::future::pending().await,
        BusAddress::System => std::env::var("DBUS_SYSTEM_BUS_ADDRESS")
            .unwrap_or_else(|_| "unix:path=/run/dbus/system_bus_socket".to_owned()),
        BusAddress::At(address) => address,
    };
    let (mut pause, mut told) = (PAUSES.0, false);
    loop {
        match connect(&address).await {
            Ok(Connected {
                stream,
                link,
                early,
            }) => {
                (pause, told) = (PAUSES.0, false);
                tracing::info!(name = bus::NAME, "on the bus");
                front.authority.polkit().through(Some(Rc::clone(&link)));
                let door = Door::new(Rc::clone(&front), link);
                run(&door, early, stream).await;
                front.authority.polkit().through(None);
                tracing::warn!("the bus is gone; waiting for it");
            }
            Err(error) => {
                if !told {
                    tracing::warn!(%error, "cannot serve on the bus; trying again");
                }
                told = true;
            }
        }
        match arrival::socket(&address) {
            // Nobody is there, which says nothing of how often to try.
            Some(socket) if !socket.exists() && arrival::of(&socket).await.is_ok() => {
                pause = PAUSES.0;
            }
            _ => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Why the bus cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot connect to {0}: {1}")]
    Connect(String, zbus::Error),
    #[error("the bus refuses: {0}")]
    Refused(#[from] NoReply),
    #[error("somebody else has the name {}", bus::NAME)]
    Taken,
}

/// A connection that has the name.
struct Connected {
    stream: MessageStream,
    link: Rc<Link>,
    /// What came while the bus was still being asked for it: once it is ours there may be calls.
    early: Vec<Message>,
}

async fn connect(address: &str) -> Result<Connected, Unusable> {
    let failed = |error| Unusable::Connect(address.to_owned(), error);
    let build = Builder::address(address).max_queued(QUEUE).build();
    let connection = tokio::time::timeout(link::PATIENCE, build)
        .await
        .map_err(|_| Unusable::Refused(NoReply::Late))?
        .map_err(failed)?;
    let mut stream = MessageStream::from(&connection);
    let link = Link::new(connection);
    let mut early = Vec::new();
    let setting_up = async {
        // Who leaves the bus.
        let rule = format!(
            "type='signal',sender='{BUS}',interface='{BUS}',member='NameOwnerChanged',arg2=''"
        );
        link.ask_bus("AddMatch", &rule.as_str()).await?;
        // 4: do not queue for it.
        let reply = link.ask_bus("RequestName", &(bus::NAME, 4_u32)).await?;
        match reply.body().deserialize::<u32>() {
            Ok(1 | 4) => Ok(()),
            _ => Err(Unusable::Taken),
        }
    };
    tokio::select! {
        done = setting_up => done?,
        () = async {
            while let Some(message) = next(&mut stream).await {
                match message.message_type() {
                    Type::MethodReturn | Type::Error => link.replied(message),
                    Type::MethodCall | Type::Signal => early.push(message),
                }
            }
        } => return Err(Unusable::Refused(NoReply::Gone)),
    }
    Ok(Connected {
        stream,
        link,
        early,
    })
}

async fn next(stream: &mut MessageStream) -> Option<Message> {
    let next = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await;
    next.and_then(Result::ok)
}

/// Serves one connection to its end.
async fn run(door: &Rc<Door>, early: Vec<Message>, mut stream: MessageStream) {
    let mut early = early.into_iter();
    loop {
        let message = match early.next() {
            Some(message) => message,
            None => match next(&mut stream).await {
                Some(message) => message,
                None => break,
            },
        };
        match message.message_type() {
            Type::MethodCall => door.call(message),
            Type::MethodReturn | Type::Error => door.link.replied(message),
            Type::Signal if lost_name(door, &message) => {
                tracing::warn!("somebody took the name on the bus");
                break;
            }
            Type::Signal => {}
        }
    }
    door.link.end();
    door.clients.all_gone();
}

/// Notes who has left the bus; whether our own name is lost.
fn lost_name(door: &Door, signal: &Message) -> bool {
    let header = signal.header();
    if header.sender().is_none_or(|name| name.as_str() != BUS) {
        return false;
    }
    let body = signal.body();
    match header.member().map_or("", |member| member.as_str()) {
        "NameOwnerChanged" => {
            if let Ok((name, _, "")) = body.deserialize::<(&str, &str, &str)>() {
                door.clients.gone(name);
            }
            false
        }
        "NameLost" => body
            .deserialize::<&str>()
            .is_ok_and(|name| name == bus::NAME),
        _ => false,
    }
}

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
mod clients;
mod door;
pub(crate) mod link;
mod memory;
mod methods;
mod objects;
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
            Ok((stream, link)) => {
                (pause, told) = (PAUSES.0, false);
                tracing::info!(name = bus::NAME, "on the bus");
                front.authority.polkit().through(Some(Rc::clone(&link)));
                let door = Door::new(Rc::clone(&front), link);
                run(&door, stream).await;
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
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
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

async fn connect(address: &str) -> Result<(MessageStream, Rc<Link>), Unusable> {
    let failed = |error| Unusable::Connect(address.to_owned(), error);
    let build = Builder::address(address).max_queued(QUEUE).build();
    let connection = tokio::time::timeout(link::PATIENCE, build)
        .await
        .map_err(|_| Unusable::Refused(NoReply::Late))?
        .map_err(failed)?;
    let mut stream = MessageStream::from(&connection);
    let link = Link::new(connection);
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
            // Calls cannot arrive before the name is ours; replies have to be passed on.
            while let Some(message) = next(&mut stream).await {
                if matches!(message.message_type(), Type::MethodReturn | Type::Error) {
                    link.replied(message);
                }
            }
        } => return Err(Unusable::Refused(NoReply::Gone)),
    }
    Ok((stream, link))
}

async fn next(stream: &mut MessageStream) -> Option<Message> {
    let next = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await;
    next.and_then(Result::ok)
}

/// Serves one connection to its end.
async fn run(door: &Rc<Door>, mut stream: MessageStream) {
    while let Some(message) = next(&mut stream).await {
        match message.message_type() {
            Type::MethodCall => door.call(message),
            Type::MethodReturn | Type::Error => door.link.replied(message),
            Type::Signal => {
                let header = message.header();
                let from_bus = header.sender().is_some_and(|name| name.as_str() == BUS);
                let member = header.member().map_or("", |member| member.as_str());
                let body = message.body();
                if from_bus
                    && member == "NameOwnerChanged"
                    && let Ok((name, _, "")) = body.deserialize::<(&str, &str, &str)>()
                {
                    door.clients.gone(name);
                } else if from_bus && member == "NameLost" {
                    tracing::warn!("somebody took the name on the bus");
                    break;
                }
            }
        }
    }
    door.link.end();
    door.clients.all_gone();
}

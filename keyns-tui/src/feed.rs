//! The daemon's events, on a thread of its own.
//!
//! It connects again by itself, each time after a longer pause. A daemon that is connected to but
//! does not answer a question now and then is reported as silent: nothing that it sent before can be
//! taken for what is.

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use keyctl_ns::daemon::{refused, runtime};
use keyns_interfaces::manager::{GetStatus, Status};
use keyns_interfaces::{Client, ClientError, Subscription};
use keyns_interfaces::{containers, keys, upcalls};

use crate::message::{Feed, Message};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often the daemon is asked whether it is there.
const PULSE: Duration = Duration::from_secs(5);
/// How long it may take to say so.
const PATIENCE: Duration = Duration::from_secs(3);

/// Starts the thread.
///
/// # Errors
/// When the kernel gives no thread.
pub fn start(addresses: Vec<PathBuf>, to: SyncSender<Message>) -> std::io::Result<()> {
    thread::Builder::new()
        .name("feed".to_owned())
        .spawn(move || {
            let Ok(runtime) = runtime() else { return };
            runtime.block_on(follow(&addresses, &Sink(to)));
        })?;
    Ok(())
}

struct Sink(SyncSender<Message>);

/// Nobody listens any more.
struct Ended;

impl Sink {
    /// A full channel holds the thread up, and with it the daemon, which then counts what it drops.
    fn send(&self, feed: Feed) -> Result<(), Ended> {
        self.0
            .send(Message::Feed(Box::new(feed)))
            .map_err(|_| Ended)
    }
}

async fn follow(addresses: &[PathBuf], sink: &Sink) {
    let mut pause = FIRST_PAUSE;
    let mut tells = true;
    loop {
        match session(addresses, sink, &mut pause, &mut tells).await {
            Ok(error) => {
                // One message for each time it went away, not for each time it was not there.
                if std::mem::take(&mut tells) && sink.send(Feed::Down(refused(error))).is_err() {
                    return;
                }
            }
            Err(Ended) => return,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn connect(addresses: &[PathBuf]) -> Result<Client, ClientError> {
    let mut failure = ClientError::Disconnected;
    for (at, path) in addresses.iter().enumerate() {
        match Client::connect(path as &Path).await {
            Ok(client) => return Ok(client.with_timeout(PATIENCE)),
            Err(error) if at == 0 => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

struct Streams {
    containers: Subscription<containers::Subscribe>,
    keys: Subscription<keys::Subscribe>,
    upcalls: Subscription<upcalls::Subscribe>,
    pulse: Client,
}

impl Streams {
    async fn open(addresses: &[PathBuf]) -> Result<(Self, Status), ClientError> {
        let mut pulse = connect(addresses).await?;
        let (status, _) = pulse.call(&GetStatus {}, Vec::new()).await?;
        let subscribe = containers::Subscribe {};
        let containers = connect(addresses).await?.subscribe(&subscribe).await?;
        let keys = connect(addresses)
            .await?
            .subscribe(&keys::Subscribe {})
            .await?;
        let upcalls = connect(addresses)
            .await?
            .subscribe(&upcalls::Subscribe {})
            .await?;
        let streams = Self {
            containers,
            keys,
            upcalls,
            pulse,
        };
        Ok((streams, status))
    }
}

/// One time from connecting to its end; returns why it ended.
async fn session(
    addresses: &[PathBuf],
    sink: &Sink,
    pause: &mut Duration,
    tells: &mut bool,
) -> Result<ClientError, Ended> {
    let (mut streams, status) = match Streams::open(addresses).await {
        Ok(opened) => opened,
        Err(error) => return Ok(error),
    };
    *pause = FIRST_PAUSE;
    *tells = true;
    sink.send(Feed::Up(status))?;
    loop {
        let next = tokio::time::timeout(PULSE, async {
            tokio::select! {
                event = streams.containers.next() => event,
                event = streams.keys.next() => event,
                event = streams.upcalls.next() => event,
            }
        });
        match next.await {
            Ok(Some(Ok(event))) => sink.send(Feed::Event(Box::new(event)))?,
            Ok(Some(Err(error))) => return Ok(error),
            Ok(None) => return Ok(ClientError::Disconnected),
            Err(_) => match streams.pulse.call(&GetStatus {}, Vec::new()).await {
                Ok((status, _)) => sink.send(Feed::Alive(status))?,
                Err(ClientError::TimedOut) => {
                    sink.send(Feed::Silent)?;
                    return Ok(ClientError::TimedOut);
                }
                Err(error) => return Ok(error),
            },
        }
    }
}

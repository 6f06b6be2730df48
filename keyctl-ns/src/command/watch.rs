//! `watch`

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use keyns_interfaces::event::Event;
use keyns_interfaces::{ClientError, Method, containers, keys, upcalls};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::daemon::{self, refused};
use crate::error::CommandError;
use crate::style;
use crate::view;

/// Show what happens to containers, keys and upcalls, as it happens
///
/// Runs until interrupted, or until the daemon ends.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// What to watch (default: everything)
    #[arg(value_enum, value_name = "TOPIC")]
    pub topics: Vec<Topic>,
}

/// Something that can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Topic {
    /// Containers and their processes
    Containers,
    /// Keys of containers and grants
    Keys,
    /// Key requests and their answers
    Upcalls,
}

/// Shows events until the daemon ends.
///
/// # Errors
/// What the daemon says; [`ErrorKind::Unreachable`](crate::error::ErrorKind::Unreachable) at its end.
pub fn run(context: &Context, args: &WatchArgs) -> Result<(), CommandError> {
    if args.topics.is_empty() {
        return follow(context, &[Topic::Containers, Topic::Keys, Topic::Upcalls]);
    }
    let mut topics = args.topics.clone();
    topics.dedup();
    follow(context, &topics)
}

/// Shows events of `topics` until the daemon ends.
///
/// # Errors
/// As [`run`].
pub fn follow(context: &Context, topics: &[Topic]) -> Result<(), CommandError> {
    daemon::runtime()?.block_on(async {
        let (sender, mut receiver) = mpsc::channel(64);
        for topic in topics {
            let (sender, sockets) = (sender.clone(), context.addresses());
            match topic {
                Topic::Containers => subscribe(sockets, containers::Subscribe {}, sender).await?,
                Topic::Keys => subscribe(sockets, keys::Subscribe {}, sender).await?,
                Topic::Upcalls => subscribe(sockets, upcalls::Subscribe {}, sender).await?,
            }
        }
        drop(sender);
        // Those that wait already are shown first, as requests that just arrived. An event of one of
        // them may come again: better twice than never.
        if topics == [Topic::Upcalls] {
            let mut client = daemon::connect(&context.addresses()).await?;
            let (listing, _) = client
                .call(&upcalls::List { history: 0 }, Vec::new())
                .await
                .map_err(refused)?;
            for upcall in listing.upcalls {
                context.ui.record(&waiting(upcall), show)?;
            }
        }
        while let Some(event) = receiver.recv().await {
            let event = event.map_err(refused)?;
            if context.ui.is_json() || event.event != "subscribed" {
                context.ui.record(&event, show)?;
            }
        }
        Ok(())
    })
}

async fn subscribe<M: Method<Reply = Event>>(
    sockets: Vec<PathBuf>,
    call: M,
    sender: mpsc::Sender<Result<Event, ClientError>>,
) -> Result<(), CommandError> {
    let client = daemon::connect(&sockets).await?;
    let mut events = client.subscribe(&call).await.map_err(refused)?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn waiting(upcall: upcalls::UpcallInfo) -> Event {
    Event {
        event: "upcall-waiting".to_owned(),
        time_ms: upcall.time_ms,
        dropped: 0,
        container: None,
        key: None,
        grant: None,
        upcall: Some(upcall),
    }
}

fn show(out: &mut dyn Write, event: &Event) -> io::Result<()> {
    let bold = style::HEADING;
    if event.dropped > 0 {
        writeln!(
            out,
            "({} events were lost: this end read too slowly)",
            event.dropped
        )?;
    }
    write!(
        out,
        "{}  {bold}{}{bold:#}",
        view::clock(event.time_ms),
        view::safe(&event.event)
    )?;
    if let Some(container) = &event.container {
        write!(
            out,
            "  container “{}” is {}",
            view::safe(&container.name),
            view::state(container.state)
        )?;
        if let Some(exit) = container.exit {
            write!(out, " ({})", view::exit(exit))?;
        }
    }
    if let Some(key) = &event.key {
        write!(out, "  key {} {}", key.serial, view::key_name(key))?;
        if let Some(container) = &key.container {
            write!(out, " of container “{}”", view::safe(container))?;
        }
    }
    if let Some(grant) = &event.grant {
        write!(
            out,
            "  {} for container “{}”",
            view::grant_rights(grant),
            view::safe(&grant.container)
        )?;
    }
    if let Some(upcall) = &event.upcall {
        write!(
            out,
            "  {} {} from {}: {}: {}",
            upcall.id,
            view::upcall_state(upcall),
            view::requester(&upcall.requester),
            view::safe(&upcall.type_),
            view::short(&upcall.description)
        )?;
        if upcall.outcome.is_some() {
            write!(out, "  after {}", view::milliseconds(upcall.age_ms))?;
        }
    }
    writeln!(out)
}

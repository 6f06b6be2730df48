//! `watch`

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum as _};
use keyns::spec::KeySpec;
use keyns_interfaces::event::Event;
use keyns_interfaces::{ClientError, Method, containers, keys, upcalls};
use tokio::sync::mpsc;

use super::watch_key;
use crate::context::Context;
use crate::daemon::{self, refused};
use crate::error::CommandError;
use crate::keyctl::notification;
use crate::style;
use crate::view;

/// Show what happens to containers, keys and upcalls, or to a key of your own, as it happens
///
/// Runs until interrupted. Topics are shown by the daemon, until it ends; a key of your own by the
/// kernel, until it is gone, if the kernel has notifications about keys. No key is written like a
/// topic: watch keys is about those of containers, watch %:keys about a keyring of that name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keyctl-ns watch
  keyctl-ns watch containers keys
  keyctl-ns watch -f ln @s")]
pub struct WatchArgs {
    /// What to watch: containers, keys, upcalls (default: all three), or one key of your own
    #[arg(value_name = "TOPIC|KEY", value_parser = what(), allow_negative_numbers = true)]
    pub what: Vec<What>,
    /// Of a key, show only these events: i instantiated, p updated, l linked, n unlinked, c cleared,
    /// r revoked, v invalidated, s attributes
    #[arg(long, short, value_name = "LETTERS", value_parser = watch_key::filter)]
    pub filter: Option<u32>,
}

/// What one word of the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something the daemon shows.
    Topic(Topic),
    /// A key the kernel shows.
    Key(KeySpec),
}

fn what() -> impl TypedValueParser<Value = What> {
    OsStringValueParser::new().try_map(|text: OsString| {
        let topic = text
            .to_str()
            .and_then(|word| Topic::from_str(word, false).ok());
        match topic {
            Some(topic) => Ok(What::Topic(topic)),
            None => KeySpec::from_os_str(&text).map(What::Key).map_err(|error| {
                format!("it is neither containers, keys, upcalls nor a key: {error}")
            }),
        }
    })
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

/// Shows events until the daemon ends, or the key is gone.
///
/// # Errors
/// What the daemon says; [`ErrorKind::Unreachable`](crate::error::ErrorKind::Unreachable) at its end.
/// What the kernel says of a key.
pub fn run(context: &Context, args: &WatchArgs) -> Result<(), CommandError> {
    if let [What::Key(key)] = args.what.as_slice() {
        let filter = args.filter.unwrap_or(notification::everything());
        return watch_key::follow(context, key, filter);
    }
    if args.filter.is_some() {
        return Err(CommandError::usage("cannot use --filter here")
            .cause("it chooses among the events of one key of your own"));
    }
    let mut topics = Vec::new();
    for what in &args.what {
        match what {
            What::Topic(topic) if topics.contains(topic) => {}
            What::Topic(topic) => topics.push(*topic),
            What::Key(key) => {
                return Err(
                    CommandError::usage(format!("cannot watch key {key} with others"))
                        .cause("the kernel shows one key, the daemon shows topics")
                        .hint(format!("keyctl-ns watch {key}")),
                );
            }
        }
    }
    if topics.is_empty() {
        topics = vec![Topic::Containers, Topic::Keys, Topic::Upcalls];
    }
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

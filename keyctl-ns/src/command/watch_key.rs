//! `watch KEY`, `watch_add`, `watch_rm`, `watch_sync`, `watch_session`: notifications of the kernel about keys.

use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use keyns::errno::KeyOp;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_sys::helper_process::Arguments;
use keyns_sys::process::{self, SingleThreaded};
use keyns_sys::watch_queue;
use rustix::event::{PollFd, PollFlags, poll};
use serde::Serialize;

use crate::args;
use crate::context::Context;
use crate::error::CommandError;
use crate::key;
use crate::keyctl;
use crate::keyctl::notification::{self, Notice, Record};
use crate::style;
use crate::view;

/// Have changes of a key reported to a notification queue
///
/// For programs that were started with such a queue, as keyctl watch_session starts them.
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns watch_add \"$KEYCTL_WATCH_FD\" %:build")]
pub struct WatchAddArgs {
    /// Number of the queue's descriptor
    #[arg(value_name = "FD", value_parser = descriptor)]
    pub fd: RawFd,
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

/// Have changes of a key no longer reported to a notification queue
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns watch_rm \"$KEYCTL_WATCH_FD\" %:build")]
pub struct WatchRmArgs {
    /// Number of the queue's descriptor
    #[arg(value_name = "FD", value_parser = descriptor)]
    pub fd: RawFd,
    /// The key, one of your own
    #[arg(value_parser = args::key(), allow_negative_numbers = true)]
    pub key: KeySpec,
}

/// Wait until everything in a notification queue has been read
#[derive(Debug, Args)]
#[command(after_help = "Example: keyctl-ns watch_sync \"$KEYCTL_WATCH_FD\"")]
pub struct WatchSyncArgs {
    /// Number of the queue's descriptor
    #[arg(value_name = "FD", value_parser = descriptor)]
    pub fd: RawFd,
}

/// Run a program in a session keyring whose changes are written to files
///
/// As keyctl watch_session, whose options it takes: -f LETTERS chooses events as with watch, -n NAME
/// names the session keyring. Events go to NOTIFYLOG, the ends of keys to GCLOG, both are appended to.
/// The program finds the queue at the descriptor FD (3 to 9) and its number in KEYCTL_WATCH_FD. What
/// this prints, and its exit code, are those of keyctl.
#[derive(Debug, Args)]
#[command(
    override_usage = "keyctl-ns watch_session [-f LETTERS] [-n NAME] NOTIFYLOG GCLOG FD PROGRAM [ARGUMENT]...",
    after_help = "Example: keyctl-ns watch_session events ends 5 make test"
)]
pub struct WatchSessionArgs {
    /// Options, files, descriptor, program and its arguments
    #[arg(
        value_name = "WORDS",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub words: Vec<OsString>,
}

/// Runs the program as `keyctl(1)` does, and returns its exit code.
///
/// # Errors
/// When the kernel has no notifications.
pub fn session(context: &Context, args: &WatchSessionArgs) -> Result<u8, CommandError> {
    let what = "cannot watch a session keyring";
    if context.ui.is_json() {
        return Err(CommandError::usage("cannot print JSON here")
            .cause("the output is that of the program"));
    }
    // Asked for here, because keyctl(1) would say it in its own way.
    watch_queue::pipe().map_err(|error| failed(what.to_owned(), &error))?;
    let single = SingleThreaded::prove().map_err(|error| CommandError::io(what, &error))?;
    // The program is to find signals as a shell would leave them.
    process::reset_signals(&single);
    let words = ["keyctl", "watch_session"].map(OsString::from);
    let words = words.iter().chain(&args.words);
    let words = words.map(|word| CString::new(word.as_bytes()));
    let words = words
        .collect::<Result<Vec<CString>, _>>()
        .map_err(|_| CommandError::usage(what).cause("an argument has a NUL byte"))?;
    let status = keyctl::run(Arguments::leak(words));
    Ok(u8::try_from(status & 0xff).unwrap_or(1))
}

/// Records the queue of `watch` holds.
const QUEUE_SIZE: u32 = 256;
/// The number of the watch that `watch` sets up.
const OWN_WATCH: u8 = 1;
/// That of watches added to the queue of somebody else, as keyctl(1) numbers them.
const ADDED_WATCH: i32 = 2;
const REMOVE: i32 = -1;
/// How long to wait before a queue is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

fn descriptor(text: &str) -> Result<RawFd, String> {
    text.parse()
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(|| "it is the number of an open descriptor".to_owned())
}

/// The letters of keyctl(1) for kinds of events, as the kernel numbers these.
///
/// # Errors
/// The letters there are.
pub fn filter(letters: &str) -> Result<u32, String> {
    notification::filter(letters.as_bytes()).map_err(|letter| {
        format!(
            "unknown letter “{}”; there are i instantiated, p updated, l linked, n unlinked, \
             c cleared, r revoked, v invalidated, s attributes",
            letter.escape_ascii()
        )
    })
}

/// Something that happened to a key, as JSON.
#[derive(Serialize)]
struct Event {
    event: &'static str,
    time_ms: u64,
    /// The key or keyring; absent where events were lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<u64>,
    /// The key that was linked into or taken out of the keyring.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<u32>,
}

/// Kinds of events in the order in which the kernel numbers them, and whether another key is concerned.
const KINDS: [(&str, bool); 8] = [
    ("instantiated", false),
    ("updated", false),
    ("linked", true),
    ("unlinked", true),
    ("cleared", false),
    ("revoked", false),
    ("invalidated", false),
    ("attributes-changed", false),
];

impl Event {
    /// None for records that are of no concern.
    fn of(record: &Record, time_ms: u64) -> Option<Self> {
        let (event, key, other) = match record.notice {
            Notice::Key { key, other } => {
                let (event, has_other) = KINDS.get(usize::from(record.subtype))?;
                (*event, Some(key.into()), has_other.then_some(other))
            }
            Notice::Removed { key } => ("gone", Some(key), None),
            Notice::Loss => ("events-lost", None, None),
            Notice::Other => return None,
        };
        Some(Self {
            event,
            time_ms,
            key,
            other,
        })
    }
}

fn show(out: &mut dyn Write, event: &Event) -> io::Result<()> {
    let bold = style::HEADING;
    let time = view::clock(event.time_ms);
    write!(out, "{time}  {bold}{}{bold:#}", event.event)?;
    if let Some(key) = event.key {
        write!(out, "  key {key}")?;
    }
    if let Some(other) = event.other {
        write!(out, "  key {other}")?;
    }
    writeln!(out)
}

/// Shows what happens to a key until it is gone.
///
/// # Errors
/// Why the kernel does not tell; what `KEYCTL_WATCH_KEY` says.
pub fn follow(context: &Context, spec: &KeySpec, filter: u32) -> Result<(), CommandError> {
    let what = || format!("cannot watch key {spec}");
    let serial = key::resolve_own(spec, "watch all keys of containers: keyctl-ns watch keys")?;
    let (read_end, write_end) = queue(filter).map_err(|error| failed(what(), &error))?;
    watch_queue::watch_key(serial, write_end.as_raw_fd(), OWN_WATCH.into())
        .map_err(|error| refused(serial, what(), &error))?;
    let mut buffer = [0; 4096];
    loop {
        let mut ready = [PollFd::new(&read_end, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(what(), &error.into())),
        }
        let size = match watch_queue::read(read_end.as_fd(), &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(failed(what(), &error)),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        let mut rest = buffer.get(..size).unwrap_or_default();
        while let Some(record) = notification::take(&mut rest).map_err(|_| {
            CommandError::failure(what()).cause("the kernel wrote a record that is none")
        })? {
            if let Some(event) = Event::of(&record, now) {
                context.ui.record(&event, show)?;
            }
            if matches!(record.notice, Notice::Removed { .. }) && record.watch_id() == OWN_WATCH {
                return Ok(());
            }
        }
    }
}

fn queue(filter: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = watch_queue::pipe()?;
    watch_queue::set_size(write_end.as_fd(), QUEUE_SIZE)?;
    watch_queue::set_filter(write_end.as_fd(), filter)?;
    Ok((read_end, write_end))
}

/// Adds a watch.
///
/// # Errors
/// What `KEYCTL_WATCH_KEY` says.
pub fn add(context: &Context, args: &WatchAddArgs) -> Result<(), CommandError> {
    change(context, args.fd, &args.key, ADDED_WATCH)
}

/// Removes a watch.
///
/// # Errors
/// What `KEYCTL_WATCH_KEY` says.
pub fn remove(context: &Context, args: &WatchRmArgs) -> Result<(), CommandError> {
    change(context, args.fd, &args.key, REMOVE)
}

#[derive(Serialize)]
struct Watch {
    serial: i32,
    fd: RawFd,
    watched: bool,
}

fn change(context: &Context, fd: RawFd, spec: &KeySpec, id: i32) -> Result<(), CommandError> {
    let serial = key::resolve_own(spec, "watch all keys of containers: keyctl-ns watch keys")?;
    let watched = id != REMOVE;
    watch_queue::watch_key(serial, fd, id).map_err(|error| {
        let what = if watched {
            format!("cannot watch key {spec}")
        } else {
            format!("cannot end the watch on key {spec}")
        };
        refused(serial, what, &error)
    })?;
    let watch = Watch {
        serial: serial.raw(),
        fd,
        watched,
    };
    context.ui.print(&watch, |out, watch| {
        let not = if watch.watched { "" } else { "not " };
        writeln!(out, "key {spec} is {not}watched by descriptor {fd}")
    })
}

#[derive(Serialize)]
struct Synced {
    fd: RawFd,
}

/// Waits until the queue is empty.
///
/// # Errors
/// When the descriptor is not open, or of something that is not read.
pub fn sync(context: &Context, args: &WatchSyncArgs) -> Result<(), CommandError> {
    const ENOTTY: i32 = 25;
    let what = || format!("cannot wait for descriptor {}", args.fd);
    match watch_queue::sync(args.fd) {
        // No released kernel has it.
        Err(error) if error.raw_os_error() != Some(ENOTTY) => return Err(failed(what(), &error)),
        _ => {}
    }
    while watch_queue::waiting(args.fd).map_err(|error| failed(what(), &error))? > 0 {
        std::thread::sleep(PAUSE);
    }
    context.ui.print(&Synced { fd: args.fd }, |_, _| Ok(()))
}

/// A queue that cannot be had.
fn failed(what: String, error: &io::Error) -> CommandError {
    let new = CommandError::io(what, error);
    match error.raw_os_error() {
        Some(65) => new
            .cause("this kernel has no notifications about keys (CONFIG_WATCH_QUEUE)")
            .hint("keyctl-ns supports notify; keyctl-ns watch keys shows those of containers"),
        Some(9) => new.cause("no such descriptor is open"),
        Some(25) => new.cause("it is no notification queue"),
        _ => new,
    }
}

/// A key that cannot be watched.
fn refused(serial: KeySerial, what: String, error: &io::Error) -> CommandError {
    let new = key::failed_on(serial, what, KeyOp::Describe, error);
    match error.raw_os_error() {
        Some(95) => new
            .cause("this kernel has no notifications about keys (CONFIG_KEY_NOTIFICATIONS)")
            .hint("keyctl-ns supports notify; keyctl-ns watch keys shows those of containers"),
        Some(9) => new.cause("no such descriptor is open"),
        Some(22) => new.cause("the descriptor is no notification queue"),
        Some(16) => new.cause("it is watched by this queue already"),
        // EBADSLT
        Some(57) => new.cause("it is not watched by this queue"),
        _ => new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(type_: u32, subtype: u8, rest: [u32; 2]) -> Record {
        let head = [type_ | u32::from(subtype) << 24, 16 | 1 << 8];
        let bytes: Vec<u8> = head
            .iter()
            .chain(&rest)
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        notification::take(&mut &bytes[..]).unwrap().unwrap()
    }

    #[test]
    fn every_kind_of_record_is_an_event() {
        let text = |record| {
            let mut text = Vec::new();
            show(&mut text, &Event::of(&record, 0).unwrap()).unwrap();
            let text = anstream::adapter::strip_bytes(&text).into_vec();
            let text = String::from_utf8(text).unwrap();
            text.split_once("  ").unwrap().1.trim().to_owned()
        };
        assert_eq!(text(record(1, 0, [7, 0])), "instantiated  key 7");
        assert_eq!(text(record(1, 2, [7, 8])), "linked  key 7  key 8");
        assert_eq!(text(record(1, 7, [7, 8])), "attributes-changed  key 7");
        assert_eq!(text(record(0, 0, [7, 0])), "gone  key 7");
        assert_eq!(text(record(0, 1, [0, 0])), "events-lost");
        assert!(Event::of(&record(1, 8, [7, 8]), 0).is_none());
        assert!(Event::of(&record(9, 0, [7, 8]), 0).is_none());
    }

    #[test]
    fn letters_and_descriptors_are_checked() {
        assert_eq!(filter("il"), Ok(0b101));
        assert!(filter("ix").unwrap_err().contains("unknown letter “x”"));
        assert_eq!(descriptor("3"), Ok(3));
        for text in ["", "-1", "x", "2147483648"] {
            assert!(descriptor(text).is_err(), "{text}");
        }
    }
}

//! The journal of systemd, which keeps fields (`journalctl KEYNS_CONTAINER=web`). Its protocol is a
//! datagram of lines `NAME=value`, where a value of several lines has its length before it.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where it listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// How long a journal that does not read may keep the thread that logs.
const PATIENCE: Duration = Duration::from_secs(1);
const IDENTIFIER: &str = "keynsd";

/// `MESSAGE_ID=` of what a program may want to wait for, by the name of the event. They are in
/// keynsd(8), and never change.
pub(super) const MESSAGE_IDS: [(&str, &str); 9] = [
    ("ready", "ea973edcc253480e812d0816fb373aa4"),
    ("stopping", "fade8c70c8dd43f5bc17d24b04e22664"),
    ("settings-read", "71fad98962dc4cb3889829868b3189af"),
    ("settings-mistaken", "6388af6c64df43caa86fd0e3d8298161"),
    ("container-created", "7b03aa7591464188aab3ac02370fdfac"),
    ("container-dead", "9a298dd2b9a34fdaa11884c16530b31b"),
    ("upcall-ended", "805d4f672dc5478b8512f08ecdc0085c"),
    ("upcalls-over-limit", "a0286ef99d3142e2aa44573ef526c4f9"),
    ("upcall-refused", "a65492edbbde4e4dab4cd9a9ccfd3341"),
];

/// Sends every event to the journal.
#[derive(Debug)]
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// The journal, if standard error leads there: then the same would be kept without fields.
    pub(super) fn find() -> Option<Self> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let error = rustix::fs::fstat(io::stderr()).ok()?;
        is_stream(&stream, error.st_dev, error.st_ino)
            .then(|| Self::open(Path::new(SOCKET)).ok())
            .flatten()
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }
}

/// Whether `JOURNAL_STREAM` (systemd.exec(5)) names this file.
fn is_stream(variable: &str, device: u64, inode: u64) -> bool {
    let parts = variable.split_once(':');
    parts.is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut message = Vec::new();
        put(&mut message, "MESSAGE", &(fields.message + &fields.text));
        let priority = match *metadata.level() {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            _ => "7",
        };
        put(&mut message, "PRIORITY", priority);
        put(&mut message, "SYSLOG_IDENTIFIER", IDENTIFIER);
        put(&mut message, "TARGET", metadata.target());
        if let Some((_, id)) = MESSAGE_IDS
            .iter()
            .find(|(name, _)| *name == metadata.name())
        {
            put(&mut message, "MESSAGE_ID", id);
        }
        for (name, value) in &fields.named {
            put(&mut message, &field_name(name), value);
        }
        // There is nowhere to say that it failed.
        let _ = self.0.send(&message);
    }
}

/// What an event says: its text, the fields in the text, and the fields by themselves.
#[derive(Default)]
struct Fields {
    message: String,
    text: String,
    named: Vec<(&'static str, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: String, shown: fmt::Arguments<'_>) {
        if field.name() == "message" {
            self.message = value;
            return;
        }
        let name = field.name().trim_start_matches("r#");
        let _ = write!(self.text, " {name}={shown}");
        self.named.push((name, value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned(), format_args!("{value:?}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"), format_args!("{value:?}"));
    }
}

/// The journal takes capitals, digits and underscores.
fn field_name(name: &str) -> String {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    format!("KEYNS_{}", name.chars().map(allowed).collect::<String>())
}

fn put(message: &mut Vec<u8>, name: &str, value: &str) {
    message.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        message.push(b'\n');
        message.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend_from_slice(std::ffi::OsStr::new(value).as_bytes());
    message.push(b'\n');
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn sent(log: impl FnOnce()) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let socket = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::open(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), log);
        socket.set_nonblocking(true).unwrap();
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn an_event_has_its_fields_and_its_kind() {
        let message = sent(|| {
            tracing::warn!(name: "upcall-ended", container = "web", upcall = 7, r#type = "user", "upcall answered");
        });
        let lines: Vec<&str> = message.lines().collect();
        for line in [
            "MESSAGE=upcall answered container=\"web\" upcall=7 type=\"user\"",
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=keynsd",
            "MESSAGE_ID=805d4f672dc5478b8512f08ecdc0085c",
            "KEYNS_CONTAINER=web",
            "KEYNS_UPCALL=7",
            "KEYNS_TYPE=user",
        ] {
            assert!(lines.contains(&line), "{line}\n{message}");
        }
    }

    #[test]
    fn a_line_in_a_value_is_no_field() {
        let message = sent(|| tracing::info!(why = "a\nMESSAGE_ID=0", "said"));
        // In the text it is escaped, and alone it has its length before it.
        assert!(
            message.contains("MESSAGE=said why=\"a\\nMESSAGE_ID=0\"\n"),
            "{message}"
        );
        assert!(
            message.contains("KEYNS_WHY\n\u{e}\0\0\0\0\0\0\0a\nMESSAGE_ID=0\n"),
            "{message:?}"
        );
    }

    #[test]
    fn the_stream_is_known_by_device_and_inode() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", ":", "", "8:1234:1", "x:y"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }

    #[test]
    fn the_manual_has_every_message_id_and_none_twice() {
        let page = include_str!("../../../man/src/keynsd.8");
        for (name, id) in MESSAGE_IDS {
            assert!(page.contains(id), "{name} {id}");
            assert_eq!(page.matches(id).count(), 1, "{name}");
        }
    }
}

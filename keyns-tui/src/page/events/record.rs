//! One event, reduced to what is shown of it: thousands of them are kept.

use keyctl_ns::view;
use keyns_interfaces::event::Event;

use crate::filter::{Field, Fields};
use crate::text;

/// Cells that any text of a record may take.
const TEXT: usize = 160;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something happened.
    Happened,
    /// What happened is not known. Shown whatever the filter is.
    Unknown,
}

/// A record. All texts are safe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What it is about.
    pub kind: Kind,
    /// The name of the event.
    pub name: String,
    /// It in a sentence.
    pub sentence: String,
    /// It in detail: a name, and what stands behind it.
    pub facts: Vec<(&'static str, String)>,
    fields: Vec<(Field, String)>,
}

impl Record {
    /// An event.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let mut new = Self::new(event.time_ms, Kind::Happened, &event.event);
        new.fields.push((Field::Event, new.name.clone()));
        new.container(event);
        new.key(event);
        new.upcall(event);
        new.sentence = text::fit(&new.sentence, TEXT);
        new
    }

    /// Events that were lost.
    #[must_use]
    pub fn lost(time_ms: u64, number: u64) -> Self {
        let mut new = Self::new(time_ms, Kind::Unknown, "lost");
        let events = if number == 1 { "event" } else { "events" };
        new.sentence = format!("{number} {events} lost: they came faster than they were read");
        new
    }

    /// Something about the daemon itself.
    #[must_use]
    pub fn of_daemon(time_ms: u64, name: &str, sentence: &str) -> Self {
        let mut new = Self::new(time_ms, Kind::Unknown, name);
        new.sentence = text::fit(sentence, TEXT);
        new
    }

    fn new(time_ms: u64, kind: Kind, name: &str) -> Self {
        Self {
            time_ms,
            kind,
            name: text::line(name, 32),
            sentence: String::new(),
            facts: Vec::new(),
            fields: Vec::new(),
        }
    }

    fn fact(&mut self, name: &'static str, value: String) {
        self.facts.push((name, text::fit(&value, TEXT)));
    }

    fn field(&mut self, field: Field, bytes: &[u8]) {
        let kept = bytes.get(..TEXT).unwrap_or(bytes);
        let kept = String::from_utf8_lossy(kept).into_owned();
        self.fields.push((field, kept));
    }

    fn container(&mut self, event: &Event) {
        let Some(container) = &event.container else {
            return;
        };
        let name = text::line(&container.name, TEXT);
        let state = view::state(container.state);
        let exit = container.exit.map(view::exit);
        self.sentence = match &exit {
            Some(exit) => format!("“{name}” is {state} ({exit})"),
            None => format!("“{name}” is {state}"),
        };
        self.fact("container", format!("{name}, number {}", container.id));
        self.fact("state", state.to_owned());
        self.fact("namespaces", view::namespaces(&container.namespaces));
        if let Some(pid) = container.init_pid {
            self.fact("first pid", pid.to_string());
        }
        if let Some(exit) = exit {
            self.fact("exit", exit);
        }
        self.field(Field::Container, container.name.as_bytes());
        self.field(Field::State, state.as_bytes());
    }

    fn key(&mut self, event: &Event) {
        if let Some(key) = &event.key {
            let type_ = text::line(&key.type_, 31);
            let description = text::line(key.description.bytes(), TEXT);
            self.sentence = format!("{} {type_}: {description}", key.serial);
            self.fact("key", key.serial.to_string());
            self.fact("type", type_);
            self.fact("description", description);
            self.fact("owner", format!("uid {}, gid {}", key.uid, key.gid));
            self.fact("mask", view::mask(key.mask));
            self.field(Field::Serial, key.serial.to_string().as_bytes());
            self.field(Field::Type, key.type_.as_bytes());
            self.field(Field::Description, key.description.bytes());
            self.field(Field::Owner, key.uid.to_string().as_bytes());
            if let Some(container) = &key.container {
                let name = text::line(container, TEXT);
                self.sentence = format!("“{name}” {}", self.sentence);
                self.fact("container", name);
                self.field(Field::Container, container.as_bytes());
            }
        }
        if let Some(grant) = &event.grant {
            let name = text::line(&grant.container, TEXT);
            let rights = view::grant_rights(grant);
            self.sentence = format!("{rights} for “{name}” on {}", self.sentence);
            self.fact("rights", rights);
            self.fact("granted to", name);
            self.field(Field::Container, grant.container.as_bytes());
        }
    }

    fn upcall(&mut self, event: &Event) {
        let Some(info) = &event.upcall else { return };
        let by = &info.requester;
        let container = by.container.as_deref().unwrap_or("host");
        let program = text::line(by.command.bytes(), 16);
        let type_ = text::line(&info.type_, 31);
        let description = text::line(info.description.bytes(), TEXT);
        let name = text::line(container, TEXT);
        let doubt = if by.verified { "" } else { " (not verified)" };
        let end = match info.outcome {
            Some(0) => format!(" after {}", view::milliseconds(info.age_ms)),
            Some(errno) => format!(
                " with {} after {}",
                view::outcome(errno),
                view::milliseconds(info.age_ms)
            ),
            None => String::new(),
        };
        self.sentence = format!(
            "{} {type_}: {description} of {name}: {program}{doubt}{end}",
            info.id
        );
        self.fact("request", info.id.to_string());
        self.fact("type", type_);
        self.fact("description", description);
        let verified = if by.verified {
            "verified"
        } else {
            "NOT VERIFIED"
        };
        let who = format!(
            "{name}: {program}, pid {}, uid {}, {verified}",
            by.pid, by.uid
        );
        self.fact("requester", who);
        if let Some(handler) = &info.handler {
            self.fact("handler", text::line(handler, TEXT));
            self.field(Field::Handler, handler.as_bytes());
        }
        if let Some(errno) = info.outcome {
            self.fact("outcome", view::outcome(errno));
            self.fact("took", view::milliseconds(info.age_ms));
        }
        self.field(Field::Serial, info.id.to_string().as_bytes());
        self.field(Field::Type, info.type_.as_bytes());
        self.field(Field::Description, info.description.bytes());
        self.field(Field::Container, container.as_bytes());
        self.field(Field::Owner, by.uid.to_string().as_bytes());
        self.field(Field::Program, by.command.bytes());
        self.field(Field::State, view::upcall_state(info).as_bytes());
    }
}

impl Fields for Record {
    fn each(&self, tell: &mut dyn FnMut(Field, &str)) {
        for (field, text) in &self.fields {
            tell(*field, text);
        }
    }
}

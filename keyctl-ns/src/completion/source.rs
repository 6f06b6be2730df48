//! Which values an argument takes.
//!
//! An argument says what it takes by the type its values are parsed into, so most of them need not
//! be told apart one by one, and a new command has completion without having asked for it. Only
//! arguments that are plain text or numbers are known by their names.

use std::any::TypeId;
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ValueHint};
use clap_complete::engine::CompletionCandidate;
use keyns::errno::Errno;
use keyns::name::ContainerPath;
use keyns::rights::Rights;
use keyns::spec::KeySpec;
use keyns::subject::Subject;
use keyns_interfaces::containers::Root;
use keyns_interfaces::keys::KeyInfo;
use keyns_interfaces::upcalls::Rejection;

use super::live::{self, Live};
use super::word;
use crate::args::{NAMESPACES, Namespaces, SIGNALS};

/// In place of values: names of files.
pub(super) const FILES: &str = ":files";
/// In place of values: names of commands.
pub(super) const COMMANDS: &str = ":commands";

/// Keyrings of every process, by the names they have on the command line.
const SPECIAL: [(&str, &str); 5] = [
    ("@s", "session keyring"),
    ("@u", "user keyring"),
    ("@us", "user session keyring"),
    ("@p", "process keyring"),
    ("@t", "thread keyring"),
];

/// Types that a stock kernel has. Others are found where keys of them are.
const TYPES: [(&str, &str); 8] = [
    ("user", "any payload, readable"),
    ("logon", "any payload, readable by the kernel only"),
    ("keyring", "holds other keys"),
    ("big_key", "up to 1 MiB"),
    ("encrypted", "made by the kernel, encrypted outside"),
    ("trusted", "made by the kernel, sealed by a TPM"),
    ("asymmetric", "a public or private key"),
    ("dns_resolver", "the result of a look-up"),
];

/// Errors that requests are rejected with, the usual ones.
const ERRORS: [Errno; 6] = [
    Errno::ENOKEY,
    Errno::EACCES,
    Errno::EPERM,
    Errno::EAGAIN,
    Errno::EKEYREJECTED,
    Errno::EKEYEXPIRED,
];

/// Where the values of an argument come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Keys,
    Keyrings,
    Containers,
    /// What `move` takes: keyrings, or containers.
    Places,
    Subjects,
    Rights,
    Types,
    Requests,
    /// A request by number, or the key that it is to make.
    RequestsAndKeys,
    Agents,
    Instances,
    /// A time and an error.
    TimeAndError,
    Errors,
    Namespaces,
    Roots,
    Signals,
    Files,
    Commands,
}

impl Source {
    /// The source of an argument's values; `None` if nothing can be said about them.
    pub(super) fn of(arg: &Arg) -> Option<Self> {
        let hint = arg.get_value_hint();
        if hint == ValueHint::CommandWithArguments {
            return Some(Self::Commands);
        }
        let parser = arg.get_value_parser();
        let takes = |type_: TypeId| ValueParser::type_id(parser) == type_;
        let name = arg.get_id().as_str();
        if takes(TypeId::of::<KeySpec>()) {
            return Some(match name {
                "request" => Self::RequestsAndKeys,
                "keyring" | "into" => Self::Keyrings,
                _ => Self::Keys,
            });
        }
        // The name of a container that does not exist yet is nobody's to guess.
        if takes(TypeId::of::<ContainerPath>()) {
            return (name != "name").then_some(Self::Containers);
        }
        for (type_, source) in [
            (TypeId::of::<Subject>(), Self::Subjects),
            (TypeId::of::<Rights>(), Self::Rights),
            (TypeId::of::<Rejection>(), Self::Errors),
            (TypeId::of::<Errno>(), Self::Errors),
            (TypeId::of::<Namespaces>(), Self::Namespaces),
            (TypeId::of::<Root>(), Self::Roots),
            (TypeId::of::<PathBuf>(), Self::Files),
        ] {
            if takes(type_) {
                return Some(source);
            }
        }
        let value = arg.get_value_names().and_then(|names| names.first());
        match (name, value.map(|name| name.as_str())) {
            (_, Some(value)) if value.starts_with("FILE") => Some(Self::Files),
            ("type" | "types", _) => Some(Self::Types),
            ("keyring", _) => Some(Self::Keyrings),
            ("from" | "to", Some("FROM" | "TO")) => Some(Self::Places),
            ("id", _) => Some(Self::Requests),
            ("agent", _) => Some(Self::Agents),
            ("instance", _) => Some(Self::Instances),
            ("signal", _) => Some(Self::Signals),
            ("reject", _) => Some(Self::TimeAndError),
            _ => None,
        }
    }

    /// The values that begin with `current`, for the argument's value number `at`.
    pub(super) fn values(self, at: usize, current: &str, live: &Live) -> Vec<CompletionCandidate> {
        let mut values = Values::new(current);
        match self {
            Self::Keys => values.keys(live),
            Self::Containers => values.containers("", "", live),
            Self::Keyrings => values.keyrings(),
            Self::Places => {
                values.keyrings();
                values.containers("", "", live);
            }
            Self::Subjects => {
                values.fixed(&[
                    ("possessor", "whoever holds the key in a keyring"),
                    ("owner", "the key's user"),
                    ("group", "the key's group"),
                    ("everyone", "all processes"),
                ]);
                // Not one of its containers before it is clear that one is meant.
                if "container:".starts_with(current) && current.len() < "container:".len() {
                    values.add("container:", "the processes of a container");
                } else {
                    values.containers("container:", "", live);
                }
            }
            Self::Rights => values.joined(&Rights::NAMED.map(|(_, name, _)| name)),
            Self::Namespaces => values.joined(&NAMESPACES.map(|(_, name)| name)),
            Self::Types => values.types(),
            Self::Requests => values.requests(live),
            Self::RequestsAndKeys => {
                values.requests(live);
                values.keys(live);
            }
            Self::Agents => {
                for agent in live.agents() {
                    let types = word::remark(agent.types.join(", ").as_bytes());
                    values.add(&agent.name, &format!("serves {types}"));
                }
            }
            Self::Instances => {
                for name in live::instances() {
                    values.add(&name, "");
                }
            }
            Self::Errors => values.errors(),
            Self::TimeAndError if at == 1 => values.errors(),
            Self::TimeAndError => {}
            Self::Roots => {
                values.fixed(&[
                    ("empty", "nothing in it"),
                    ("usr", "the host's /usr, read-only"),
                    ("copy", "the host's mounts, read-only"),
                ]);
                values.mark(FILES);
            }
            Self::Signals => {
                for (name, _) in SIGNALS {
                    values.add(name, "");
                }
            }
            Self::Files => values.mark(FILES),
            Self::Commands => values.mark(if at == 0 { COMMANDS } else { FILES }),
        }
        values.found
    }
}

/// Values as they are collected: plain words that begin with what is there already.
struct Values<'a> {
    current: &'a str,
    found: Vec<CompletionCandidate>,
}

impl<'a> Values<'a> {
    fn new(current: &'a str) -> Self {
        Self {
            current,
            found: Vec::new(),
        }
    }

    fn add(&mut self, value: &str, remark: &str) {
        if value.starts_with(self.current) && word::plain(value.as_bytes()).is_some() {
            let remark = (!remark.is_empty()).then(|| remark.to_owned().into());
            self.found
                .push(CompletionCandidate::new(value).help(remark));
        }
    }

    fn mark(&mut self, mark: &str) {
        self.found.push(CompletionCandidate::new(mark));
    }

    fn fixed(&mut self, values: &[(&str, &str)]) {
        for (value, remark) in values {
            self.add(value, remark);
        }
    }

    /// Names joined by commas, each of them once.
    fn joined(&mut self, names: &[&str]) {
        let (before, _) = match self.current.rsplit_once(',') {
            Some((before, last)) => (format!("{before},"), last),
            None => (String::new(), self.current),
        };
        let given: Vec<&str> = before.split(',').collect();
        for name in names.iter().filter(|name| !given.contains(name)) {
            self.add(&format!("{before}{name}"), "");
        }
    }

    fn containers(&mut self, before: &str, after: &str, live: &Live) {
        let begins_so = |name: &str| name.bytes().all(|b| !matches!(b, b'@' | b'%' | b'-'));
        if self.current.len() > before.len() && !begins_so(self.current) {
            return;
        }
        for (name, remark) in live.containers() {
            self.add(&format!("{before}{name}{after}"), &remark);
        }
    }

    /// Keys in every form in which a key can be written.
    fn keys(&mut self, live: &Live) {
        if let Some((container, _)) = self.current.split_once('/') {
            if container.parse::<ContainerPath>().is_ok() {
                for key in live.keys_of(container) {
                    self.key_of(container, &key);
                }
            }
            return;
        }
        self.fixed(&SPECIAL);
        // A number was begun, or nothing at all.
        let by_serial = self.current.starts_with(|c: char| c.is_ascii_digit());
        for (serial, key) in live::own_keys() {
            let type_and_name = [&key.type_[..], b":", &key.description].concat();
            let name = [b"%", &type_and_name[..]].concat();
            match word::plain(&name).filter(|_| !by_serial) {
                Some(name) => self.add(name, &serial.to_string()),
                None => self.add(&serial.to_string(), &word::remark(&type_and_name)),
            }
        }
        self.containers("", "/", live);
    }

    fn key_of(&mut self, container: &str, key: &KeyInfo) {
        let name = [key.type_.as_bytes(), b":", key.description.bytes()].concat();
        let full = [container.as_bytes(), b"/", &name[..]].concat();
        match word::plain(&full) {
            Some(full) => self.add(full, &format!("{} {}", key.origin, key.serial)),
            None => self.add(&format!("{container}/{}", key.serial), &word::remark(&name)),
        }
    }

    /// The caller's own keyrings.
    fn keyrings(&mut self) {
        self.fixed(&SPECIAL);
        for (serial, key) in live::own_keys() {
            if key.is_keyring() {
                let name = [b"%:", &key.description[..]].concat();
                match word::plain(&name) {
                    Some(name) => self.add(name, &serial.to_string()),
                    None => self.add(&serial.to_string(), &word::remark(&key.description)),
                }
            }
        }
    }

    fn types(&mut self) {
        self.fixed(&TYPES);
        let known = TYPES.map(|(name, _)| name);
        let mut others: Vec<Vec<u8>> = live::own_keys()
            .into_iter()
            .map(|(_, key)| key.type_)
            .filter(|type_| !known.iter().any(|name| name.as_bytes() == type_))
            .collect();
        others.sort();
        others.dedup();
        for type_ in others {
            self.add(&String::from_utf8_lossy(&type_), "");
        }
    }

    fn requests(&mut self, live: &Live) {
        for request in live.requests() {
            let from = request.requester.container.unwrap_or_default();
            let name = word::remark(request.description.bytes());
            let remark = format!("{from}  {}: {name}", request.type_);
            self.add(&request.id.to_string(), &remark);
        }
    }

    fn errors(&mut self) {
        for error in ERRORS {
            self.add(error.name().unwrap_or_default(), "");
        }
    }
}

//! From what was typed to a key the daemon holds.

use keyns::engine::container::ContainerId;
use keyns::engine::keyring::{Home, KeyFacts};
use keyns::spec::{ContainerKey, KeyName, KeySpec};
use keyns::text;
use keyns_interfaces::{ByteText, Error, ErrorKind};
use keyns_sys::KeySerial;

use super::KeyBook;
use super::record::Source;
use crate::daemon::Daemon;

/// A key as typed, for messages.
pub(super) fn shown(key: &ByteText) -> String {
    format!("key “{}”", text::escape(key.bytes()))
}

pub(super) fn no_such_key(key: &ByteText) -> Error {
    // As it was typed: the part before the first `/`.
    let list = match key.bytes().iter().position(|&b| b == b'/') {
        Some(end) => {
            let container = key.bytes().get(..end).unwrap_or_default();
            format!("keyctl-ns list --container {}", text::escape(container))
        }
        None => "keyctl-ns list --all".to_owned(),
    };
    Error::new(ErrorKind::NoSuchKey, format!("there is no {}", shown(key)))
        .hint(format!("list the keys: {list}"))
}

/// A key as a caller names it.
pub(super) enum Wanted {
    /// One of the book.
    Known(KeySerial),
    /// A number the book does not have: perhaps in the caller's drop keyring.
    Unknown(KeySerial),
}

impl KeyBook {
    /// Finds the key that `key` names.
    ///
    /// # Errors
    /// `InvalidArgument` for a text that names no key or one only the caller's own process can find;
    /// `NoSuchContainer`; `NoSuchKey`.
    pub(super) fn wanted(&self, daemon: &Daemon, key: &ByteText) -> Result<Wanted, Error> {
        let malformed = |cause: String| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("{} is malformed", shown(key)),
            )
            .cause(cause)
        };
        let elsewhere = "only the caller's own process can look there; name the key by its serial";
        match KeySpec::from_bytes(key.bytes()).map_err(|error| malformed(error.to_string()))? {
            KeySpec::Serial(serial) if serial.is_special() => Err(malformed(elsewhere.into())),
            KeySpec::Named(_) => Err(malformed(elsewhere.into())),
            KeySpec::Serial(serial) => Ok(match self.sources.borrow().contains_key(&serial) {
                true => Wanted::Known(serial),
                false => Wanted::Unknown(serial),
            }),
            KeySpec::InContainer {
                container,
                key: within,
            } => {
                let id = daemon.containers.resolve(&container.to_string())?.id;
                self.within(id, &within)
                    .map(Wanted::Known)
                    .ok_or_else(|| no_such_key(key))
            }
        }
    }

    /// Same for methods to which only keys of the book matter.
    pub(super) fn known(&self, daemon: &Daemon, key: &ByteText) -> Result<Source, Error> {
        match self.wanted(daemon, key)? {
            Wanted::Known(serial) => self.source(serial).ok_or_else(|| no_such_key(key)),
            Wanted::Unknown(_) => Err(no_such_key(key)),
        }
    }

    /// Same for methods that act on keys of containers only, not on lent ones.
    pub(super) fn stored(
        &self,
        daemon: &Daemon,
        key: &ByteText,
    ) -> Result<(Source, ContainerId), Error> {
        let source = self.known(daemon, key)?;
        match source.key.home {
            Home::Store(id) => Ok((source, id)),
            Home::Lent => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{} belongs to its lender", shown(key)),
            )
            .cause("keyns copies a lent key and does nothing else with it")
            .hint(
                "act on it by its serial, as its owner; to take a grant back: keyctl-ns ungrant",
            )),
        }
    }

    pub(super) fn source(&self, serial: KeySerial) -> Option<Source> {
        self.sources.borrow().get(&serial).cloned()
    }

    /// A key of the container: in its store first, then among those granted to it.
    fn within(&self, id: ContainerId, key: &ContainerKey) -> Option<KeySerial> {
        let sources = self.sources.borrow();
        let find = |belongs: &dyn Fn(&Source) -> bool| {
            sources
                .values()
                .find(|source| belongs(source))
                .map(Source::serial)
        };
        find(&|source| {
            source.key.home == Home::Store(id)
                && match key {
                    ContainerKey::Named(name) => is_named(&source.key.facts, name),
                    ContainerKey::Serial(serial) => source.serial() == *serial,
                }
        })
        .or_else(|| {
            find(&|source| {
                source.grant_to(id).is_some_and(|grant| match key {
                    ContainerKey::Named(name) => is_named(&source.key.facts, name),
                    ContainerKey::Serial(serial) => [source.serial(), grant.copy].contains(serial),
                })
            })
        })
    }
}

fn is_named(facts: &KeyFacts, name: &KeyName) -> bool {
    facts.is(name.type_(), name.description())
}

//! Keys of containers' stores: added, updated, read, invalidated, moved.

use std::rc::Rc;

use keyns::engine::container::{ContainerRecord, State};
use keyns::engine::keyring::store::now;
use keyns::engine::keyring::{CopyPlan, Home, KeyError, KeyRef};
use keyns::spec::KeyName;
use keyns::text;
use keyns_interfaces::keys::{Add, Invalidate, KeyInfo, Move, Read, Update};
use keyns_interfaces::{Error, ErrorKind, Payload};
use keyns_sys::KeySerial;
use keyns_sys::key::MAX_PAYLOAD;
use keyns_sys::secret::SecretBytes;

use super::KeyBook;
use super::describe::key_info;
use super::failure::key_error;
use super::record::Source;
use super::resolve::shown;
use crate::daemon::Daemon;
use crate::events::{Topic, event};

/// Largest payload of the type `user` and those built on it (`user_preparse` in the kernel).
const MAX_USER_PAYLOAD: usize = 32_767;

const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const ENODEV: i32 = 19;

/// Refuses a container whose life is over.
pub(super) fn demand_living(record: &ContainerRecord, what: &str) -> Result<(), Error> {
    match record.state {
        State::Created | State::Running => Ok(()),
        State::Dying | State::Dead => Err(Error::new(
            ErrorKind::WrongState,
            format!("cannot {what}: container “{}” is dead", record.path),
        )),
    }
}

fn secret(payload: &Payload) -> SecretBytes {
    SecretBytes::from(payload.bytes())
}

fn demand_size(type_: &[u8], payload: &Payload, what: &str) -> Result<(), Error> {
    // The other types judge for themselves what is too little (`user_preparse` in the kernel).
    let (least, most) = match type_ {
        b"user" | b"logon" => (1, MAX_USER_PAYLOAD),
        _ => (0, MAX_PAYLOAD),
    };
    let length = payload.bytes().len();
    let kind = match length {
        _ if length < least => ErrorKind::InvalidArgument,
        _ if length > most => ErrorKind::TooLarge,
        _ => return Ok(()),
    };
    Err(Error::new(kind, format!("cannot {what}")).cause(format!(
        "a payload of type “{}” has {least} to {most} bytes, this one has {length}",
        text::escape(type_),
    )))
}

impl KeyBook {
    pub(super) async fn add(&self, daemon: &Rc<Daemon>, call: Add) -> Result<KeyInfo, Error> {
        let record = daemon.containers.resolve(&call.container)?;
        let name = format!(
            "{}:{}",
            text::escape(call.type_.as_bytes()),
            text::escape(call.description.bytes())
        );
        let what = format!("add key “{name}” to container “{}”", record.path);
        demand_living(&record, &what)?;
        let refused = |cause: String| {
            Error::new(ErrorKind::InvalidArgument, format!("cannot {what}")).cause(cause)
        };
        let named = KeyName::new(call.type_.as_bytes(), call.description.bytes())
            .map_err(|error| refused(error.to_string()))?;
        demand_size(call.type_.as_bytes(), &call.payload, &what)?;
        if call.timeout == Some(0) {
            return Err(refused(
                "a time-out is at least one second; leave it out for none".into(),
            ));
        }
        let deadline = call
            .timeout
            .map(|seconds| now().saturating_add(seconds.into()));
        let _turn = self.turn.lock().await;
        let (id, payload) = (record.id, secret(&call.payload));
        let facts = self
            .work(move |keys| keys.add(id, named.type_(), named.description(), &payload, deadline))
            .await
            .map_err(|error| match error.errno() {
                Some(EPERM) => {
                    refused("types that begin with “.” are the kernel's own".into()).errno(EPERM)
                }
                Some(ENODEV) => refused("this kernel has no such key type".into()).errno(ENODEV),
                // `logon_vet_description` in the kernel; the payload was judged above.
                Some(EINVAL) if call.type_ == "logon" => {
                    refused("the description of a logon key is SERVICE:NAME".into()).errno(EINVAL)
                }
                Some(EINVAL) => {
                    refused("the key type refuses this description or payload".into()).errno(EINVAL)
                }
                _ => key_error(what.clone(), &error),
            })?;
        // One of that name that expired; its copies expired with it.
        let former: Vec<KeySerial> = {
            let sources = self.sources.borrow();
            let same = |s: &&Source| {
                s.key.home == Home::Store(id) && s.key.facts.is(&facts.type_, &facts.description)
            };
            sources.values().filter(same).map(Source::serial).collect()
        };
        for serial in former {
            self.sources.borrow_mut().remove(&serial);
            self.forget(serial);
        }
        let key = KeyRef {
            home: Home::Store(id),
            facts,
        };
        let source = Source {
            key: key.clone(),
            deadline,
            grants: Vec::new(),
        };
        let serial = source.serial();
        if let Some(record) = daemon.containers.get(id) {
            demand_living(&record, &what)?;
        }
        self.sources.borrow_mut().insert(serial, source.clone());
        if let Err(error) = self.persist(serial, &what) {
            self.sources.borrow_mut().remove(&serial);
            let undone = self.work(move |keys| keys.invalidate(&key)).await;
            undone.map_err(|error| key_error("remove the key again", &error))?;
            return Err(error);
        }
        let info = key_info(daemon, &source);
        announce(daemon, "key-added", &info);
        Ok(info)
    }

    pub(super) async fn update(&self, daemon: &Rc<Daemon>, call: Update) -> Result<KeyInfo, Error> {
        let what = format!("update {}", shown(&call.key));
        let _turn = self.turn.lock().await;
        let (source, _) = self.stored(daemon, &call.key)?;
        demand_size(source.key.facts.type_.as_bytes(), &call.payload, &what)?;
        let (key, deadline, payload) = (source.key.clone(), source.deadline, secret(&call.payload));
        self.work(move |keys| keys.update(&key, &payload, deadline))
            .await
            .map_err(|error| match error.errno() {
                Some(EINVAL) => Error::new(ErrorKind::InvalidArgument, format!("cannot {what}"))
                    .cause("the key type refuses this payload")
                    .errno(EINVAL),
                _ => key_error(what.clone(), &error),
            })?;
        // The caller may count on the new payload inside once this returns.
        self.look_after(daemon, vec![source.serial()]).await;
        let source = self.source(source.serial()).unwrap_or(source);
        let info = key_info(daemon, &source);
        announce(daemon, "key-updated", &info);
        let trouble = self.troubles.borrow().get(&source.serial()).cloned();
        if let Some(trouble) = trouble {
            let message = format!("{} is updated, but not everywhere", shown(&call.key));
            return Err(Error::new(ErrorKind::System, message)
                .cause(trouble)
                .hint("keynsd tries again once a second"));
        }
        Ok(info)
    }

    pub(super) async fn read(&self, daemon: &Rc<Daemon>, call: Read) -> Result<Payload, Error> {
        const EOPNOTSUPP: i32 = 95;
        let what = format!("read {}", shown(&call.key));
        let (source, _) = self.stored(daemon, &call.key)?;
        let payload = self
            .work(move |keys| keys.read(&source.key))
            .await
            .map_err(|error| match error.errno() {
                Some(EOPNOTSUPP) => Error::new(ErrorKind::Unsupported, format!("cannot {what}"))
                    .cause("the kernel gives no payload of this key type out")
                    .errno(EOPNOTSUPP),
                _ => key_error(what, &error),
            })?;
        Ok(Payload::new(payload.as_slice().to_vec()))
    }

    pub(super) async fn invalidate(
        &self,
        daemon: &Rc<Daemon>,
        call: Invalidate,
    ) -> Result<(), Error> {
        let what = format!("invalidate {}", shown(&call.key));
        let _turn = self.turn.lock().await;
        let (source, _) = self.stored(daemon, &call.key)?;
        let copies: Vec<_> = source
            .grants
            .iter()
            .map(|g| (g.container, g.copy))
            .collect();
        let key = source.key.clone();
        self.work(move |keys| {
            remove_copies(keys, copies)?;
            match keys.invalidate(&key) {
                // Dead already: what was wanted.
                Err(KeyError::Gone { .. }) => Ok(()),
                other => other,
            }
        })
        .await
        .map_err(|error| key_error(what, &error))?;
        self.sources.borrow_mut().remove(&source.serial());
        self.forget(source.serial());
        announce(daemon, "key-invalidated", &key_info(daemon, &source));
        Ok(())
    }

    pub(super) async fn move_key(&self, daemon: &Rc<Daemon>, call: Move) -> Result<KeyInfo, Error> {
        let to = daemon.containers.resolve(&call.to)?;
        let what = format!("move {} to container “{}”", shown(&call.key), to.path);
        demand_living(&to, &what)?;
        let _turn = self.turn.lock().await;
        let (source, from) = self.stored(daemon, &call.key)?;
        if from == to.id {
            return Err(
                Error::new(ErrorKind::InvalidArgument, format!("cannot {what}"))
                    .cause("it is there already"),
            );
        }
        let (id, replace, serial) = (to.id, call.replace, source.serial());
        let displaced = self
            .sources
            .borrow()
            .values()
            .find(|other| {
                let facts = &source.key.facts;
                other.key.home == Home::Store(id)
                    && other.key.facts.is(&facts.type_, &facts.description)
            })
            .cloned();
        let mut ended: Vec<(_, KeySerial)> = source
            .grants
            .iter()
            .filter(|grant| grant.container == from)
            .map(|grant| (grant.container, grant.copy))
            .collect();
        if replace {
            ended.extend(
                displaced
                    .iter()
                    .flat_map(|d| d.grants.iter().map(|g| (g.container, g.copy))),
            );
        }
        let key = source.key.clone();
        let facts = self
            .work(move |keys| {
                let facts = keys.move_to(&key, id, replace)?;
                remove_copies(keys, ended)?;
                Ok(facts)
            })
            .await
            .map_err(|error| match error {
                KeyError::Exists => key_error(what.clone(), &error).hint("replace it: --force"),
                _ => key_error(what.clone(), &error),
            })?;
        if let Some(displaced) = displaced {
            self.sources.borrow_mut().remove(&displaced.serial());
            self.forget(displaced.serial());
            announce(daemon, "key-gone", &key_info(daemon, &displaced));
        }
        let mut moved = source;
        moved.key = KeyRef {
            home: Home::Store(id),
            facts,
        };
        moved.grants.retain(|grant| grant.container != from);
        self.sources.borrow_mut().insert(serial, moved.clone());
        self.persist(serial, &what)?;
        let info = key_info(daemon, &moved);
        announce(daemon, "key-moved", &info);
        Ok(info)
    }

    /// Adds the network namespace to plans of types whose keys are found only there.
    pub(super) fn complete(&self, daemon: &Daemon, type_: &std::ffi::CStr, plan: &mut CopyPlan) {
        if !CopyPlan::needs_network(type_) {
            return;
        }
        let lineage = daemon.containers.lineage(plan.container);
        match daemon.engine.net_namespace(&lineage) {
            Ok(network) => plan.network = network.map(Into::into),
            Err(error) => {
                tracing::warn!(container_id = plan.container.0, %error, "its network namespace is lost");
            }
        }
    }
}

pub(super) fn remove_copies(
    keys: &mut keyns::engine::keyring::Keys,
    copies: Vec<(keyns::engine::container::ContainerId, KeySerial)>,
) -> Result<(), KeyError> {
    copies.into_iter().try_for_each(
        |(container, copy)| match keys.remove_copy(container, copy) {
            Ok(_) | Err(KeyError::NoContainer(_)) => Ok(()),
            Err(error) => Err(error),
        },
    )
}

pub(super) fn announce(daemon: &Daemon, what: &str, key: &KeyInfo) {
    let mut happened = event(what);
    happened.key = Some(key.clone());
    daemon.bus.publish(Topic::Keys, happened);
}

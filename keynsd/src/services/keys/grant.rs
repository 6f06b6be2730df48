//! Granting and taking back.

use std::rc::Rc;

use keyns::acl::MAX_ENTRIES;
use keyns::engine::Engine;
use keyns::engine::container::ContainerRecord;
use keyns::engine::keyring::store::now;
use keyns::engine::keyring::{Home, KeyRef};
use keyns::expression::{Expression, Refusal, copy_mask};
use keyns::rights::Rights;
use keyns::text;
use keyns_interfaces::keys::{GrantTo, Granted, Ungrant, Ungranted};
use keyns_interfaces::{Error, ErrorKind};
use keyns_sys::KeySerial;

use super::KeyBook;
use super::describe::{grant_info, key_info, names};
use super::failure::key_error;
use super::record::{Granting, Source};
use super::resolve::{Wanted, no_such_key, shown};
use super::stored::demand_living;
use crate::daemon::Daemon;
use crate::events::{Topic, event};
use crate::front::Context;

/// What an ungrant cannot undo.
const OUT_OF_REACH: &str = "What a process of the container has read already, or the kernel uses \
                            already (a mount, a connection), is not taken back.";

fn rights(names: &[String], what: &str) -> Result<Rights, Error> {
    names
        .iter()
        .try_fold(Rights::NONE, |set, name| match name.parse::<Rights>() {
            Ok(right) => Ok(set | right),
            Err(error) => Err(
                Error::new(ErrorKind::InvalidArgument, format!("cannot {what}"))
                    .cause(error.to_string()),
            ),
        })
}

/// The bits that give what is asked for, or why there are none.
fn express(engine: &dyn Engine, call: &GrantTo, what: &str) -> Result<(Rights, Expression), Error> {
    let requested = rights(&call.rights, what)?;
    if requested.is_empty() {
        return Err(
            Error::new(ErrorKind::InvalidArgument, format!("cannot {what}"))
                .cause("no right is asked for"),
        );
    }
    let accepted = rights(&call.accept_implied, what)?;
    match engine.express(requested, accepted) {
        Ok(expression) => Ok((requested, expression)),
        Err(Refusal::Implied(implied)) => {
            let accept = names(implied | (accepted - requested)).join(",");
            Err(
                Error::new(ErrorKind::ImpliedRights, format!("cannot {what}"))
                    .cause(format!(
                        "on this kernel a container that may {} a key may also {} it (engine: {})",
                        verbs(requested),
                        verbs(implied),
                        engine.name()
                    ))
                    .hint(format!(
                        "accept the extra rights: --accept-implied {accept}"
                    ))
                    .rights(names(implied)),
            )
        }
        Err(Refusal::Impossible(rights)) => Err(Error::new(
            ErrorKind::NotEnforceable,
            format!("cannot {what}"),
        )
        .cause(format!(
            "no permission mask of this kernel gives a container {} on a key",
            join(names(rights))
        ))
        .hint("leave these rights out")
        .rights(names(rights))),
    }
}

/// What someone with these rights may do with a key: “read and invalidate”.
fn verbs(rights: Rights) -> String {
    let verb = |right: String| match right.as_str() {
        "inval" => "invalidate".to_owned(),
        _ => right,
    };
    join(names(rights).into_iter().map(verb).collect())
}

fn join(mut words: Vec<String>) -> String {
    match words.pop() {
        Some(last) if !words.is_empty() => format!("{} and {last}", words.join(", ")),
        last => last.unwrap_or_default(),
    }
}

impl KeyBook {
    pub(super) async fn grant(
        &self,
        daemon: &Rc<Daemon>,
        context: &Context,
        call: GrantTo,
    ) -> Result<Granted, Error> {
        let record = daemon.containers.resolve(&call.container)?;
        let asked = call.rights.join(",");
        let what = format!(
            "grant {} on {} to container “{}”",
            text::escape(asked.as_bytes()),
            shown(&call.key),
            record.path
        );
        demand_living(&record, &what)?;
        let refused = |kind, cause: &str| Error::new(kind, format!("cannot {what}")).cause(cause);
        // Nothing is touched, not even the key looked for, before it is known that the rights can be.
        let (requested, expression) = express(&*daemon.engine, &call, &what)?;
        if call.duration == Some(0) {
            let cause = "a grant lasts at least one second; leave the duration out for no end";
            return Err(refused(ErrorKind::InvalidArgument, cause));
        }
        let _turn = self.turn.lock().await;
        let (mut source, borrowed) = match self.wanted(daemon, &call.key)? {
            Wanted::Known(serial) => (
                self.source(serial).ok_or_else(|| no_such_key(&call.key))?,
                false,
            ),
            Wanted::Unknown(serial) => {
                let open = self.drop_of(context.connection).ok_or_else(|| {
                    no_such_key(&call.key)
                        .cause("keyns holds no such key, and none was lent with this call")
                })?;
                let lent = self
                    .work(move |keys| keys.take_lent(open, serial))
                    .await
                    .map_err(|error| key_error(what.clone(), &error))?;
                let key = KeyRef {
                    home: Home::Lent,
                    facts: lent.facts,
                };
                (
                    Source {
                        key,
                        deadline: lent.end.deadline(now()),
                        grants: Vec::new(),
                    },
                    true,
                )
            }
        };
        let grant = Granting {
            container: record.id,
            requested,
            kernel: expression.kernel,
            implied: expression.implied,
            bits: expression.bits,
            deadline: call
                .duration
                .map(|seconds| now().saturating_add(seconds.into())),
            copy: KeySerial::NONE,
            mask: copy_mask(expression.bits).raw(),
        };
        let result = self
            .apply(daemon, &record, &mut source, grant, call.dry_run, &what)
            .await;
        if borrowed && (result.is_err() || call.dry_run) {
            let serial = source.serial();
            let back = self.work(move |keys| keys.give_back(serial)).await;
            back.map_err(|error| key_error("give the key back", &error))?;
        }
        let grant = result?;
        if !call.dry_run {
            let mut happened = event("key-granted");
            happened.key = Some(key_info(daemon, &source));
            happened.grant = Some(grant_info(daemon, &source, &grant));
            daemon.bus.publish(Topic::Keys, happened);
            self.granted.notify_one();
        }
        Ok(Granted {
            grant: grant_info(daemon, &source, &grant),
            key: key_info(daemon, &source),
            applied: !call.dry_run,
        })
    }

    /// Makes the copy, replaces a former grant to the same container, and enters it into the book.
    async fn apply(
        &self,
        daemon: &Rc<Daemon>,
        record: &ContainerRecord,
        source: &mut Source,
        mut grant: Granting,
        dry_run: bool,
        what: &str,
    ) -> Result<Granting, Error> {
        let refused = |kind, cause: &str| Error::new(kind, format!("cannot {what}")).cause(cause);
        let facts = &source.key.facts;
        let taken = self.sources.borrow().values().any(|other| {
            other.serial() != facts.serial
                && other.grant_to(record.id).is_some()
                && other.key.facts.is(&facts.type_, &facts.description)
        });
        if taken {
            let cause = "the container has a copy of another key of this type and description";
            return Err(refused(ErrorKind::AlreadyExists, cause)
                .hint("take that grant back first: keyctl-ns ungrant"));
        }
        let former = source.grant_to(record.id).map(|grant| grant.copy);
        if former.is_none() && source.grants.len() >= MAX_ENTRIES {
            let cause = format!("it is granted to {MAX_ENTRIES} containers already");
            return Err(refused(ErrorKind::LimitReached, &cause));
        }
        let key = source.key.clone();
        if dry_run {
            self.work(move |keys| keys.check_copyable(&key))
                .await
                .map_err(|error| key_error(what, &error))?;
            return Ok(grant);
        }
        let mut plan = source.plan(&grant);
        self.complete(daemon, &source.key.facts.type_, &mut plan);
        let container = record.id;
        let copy = self
            .work(move |keys| {
                let copy = keys.project(&key, &plan)?;
                // A denizen that was allowed to link the former copy elsewhere still has it.
                if let Some(former) = former {
                    keys.remove_copy(container, former)?;
                }
                Ok((copy, keys.keyrings(container)?))
            })
            .await;
        let (copy, keyrings) = copy.map_err(|error| key_error(what, &error))?;
        (grant.copy, grant.mask) = (copy.serial, copy.mask);
        source.grants.retain(|other| other.container != container);
        source.grants.push(grant.clone());
        let serial = source.serial();
        // The container, or the one whose store the key is in, may have ended meanwhile.
        let living = |id| {
            daemon
                .containers
                .get(id)
                .is_some_and(|record| demand_living(&record, what).is_ok())
        };
        let homeless = matches!(source.key.home, Home::Store(id) if !living(id));
        let stored = if !living(container) || homeless {
            Err(refused(
                ErrorKind::WrongState,
                "a container of it has ended meanwhile",
            ))
        } else {
            self.sources.borrow_mut().insert(serial, source.clone());
            self.persist(serial, what)
        };
        if let Err(error) = stored {
            source.grants.retain(|other| other.container != container);
            if homeless || source.is_idle_loan() {
                self.sources.borrow_mut().remove(&serial);
                self.forget(serial);
            } else {
                self.sources.borrow_mut().insert(serial, source.clone());
            }
            let undone = self.work(move |keys| {
                super::stored::remove_copies(keys, vec![(container, copy.serial)])
            });
            undone
                .await
                .map_err(|error| key_error("remove the copy again", &error))?;
            return Err(error);
        }
        self.note_keyrings(daemon, container, keyrings);
        Ok(grant)
    }

    pub(super) async fn ungrant(
        &self,
        daemon: &Rc<Daemon>,
        call: Ungrant,
    ) -> Result<Ungranted, Error> {
        let record = daemon.containers.resolve(&call.container)?;
        let what = format!(
            "take {} back from container “{}”",
            shown(&call.key),
            record.path
        );
        let _turn = self.turn.lock().await;
        let mut source = self.known(daemon, &call.key)?;
        let Some(grant) = source.grant_to(record.id).cloned() else {
            return Err(Error::new(ErrorKind::NoSuchKey, format!("cannot {what}"))
                .cause("it is not granted to this container")
                .hint(format!(
                    "see who has it: keyctl-ns acl {}",
                    text::escape(call.key.bytes())
                )));
        };
        let (container, copy) = (record.id, grant.copy);
        let copy_removed = self
            .work(move |keys| keys.remove_copy(container, copy))
            .await
            .map_err(|error| key_error(what.clone(), &error))?;
        source.grants.retain(|other| other.container != container);
        let given_back = self.settle(&source, &what).await?;
        let mut happened = event("key-ungranted");
        happened.key = Some(key_info(daemon, &source));
        happened.grant = Some(grant_info(daemon, &source, &grant));
        daemon.bus.publish(Topic::Keys, happened);
        Ok(Ungranted {
            copy_removed,
            given_back,
            note: OUT_OF_REACH.to_owned(),
        })
    }

    /// Enters a source that lost grants into the book; a lent key without any is given back.
    pub(super) async fn settle(&self, source: &Source, what: &str) -> Result<bool, Error> {
        let serial = source.serial();
        if !source.is_idle_loan() {
            // Gone from the book: its container ended meanwhile.
            if let Some(known) = self.sources.borrow_mut().get_mut(&serial) {
                known.grants.clone_from(&source.grants);
            }
            self.persist(serial, what)?;
            return Ok(false);
        }
        self.sources.borrow_mut().remove(&serial);
        self.forget(serial);
        self.work(move |keys| keys.give_back(serial))
            .await
            .map_err(|error| key_error(what, &error))
    }
}

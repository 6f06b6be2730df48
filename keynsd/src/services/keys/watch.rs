//! Looking after grants: copies follow their sources and are there.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use keyns::engine::container::{ContainerId, ContainerKeyrings};
use keyns::engine::keyring::lending::followed;
use keyns::engine::keyring::store::now;
use keyns::engine::keyring::{CopyState, Home, KeyError, SourceState, Tended};
use keyns_sys::KeySerial;

use super::KeyBook;
use super::describe::{grant_info, key_info};
use super::record::Source;
use super::stored::announce;
use crate::daemon::Daemon;
use crate::events::{Topic, event};

/// Between two looks at all granted keys, if they cost little.
const INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval, whatever it costs.
const MAX_INTERVAL: Duration = Duration::from_secs(60);
/// A round may take one part in so many of the interval.
const SHARE: u32 = 100;
/// Sources looked at in one go of the key worker; between two goes other work gets its turn.
const SLICE: usize = 32;
/// Between two looks at when lent keys expire, which takes reading all of `/proc/keys`.
const EXPIRIES: Duration = Duration::from_secs(30);

type Outcome = (KeySerial, Result<Tended, KeyError>);

impl KeyBook {
    /// Looks after the grants as long as the daemon runs. Without any it sleeps until there is one.
    pub async fn run(daemon: Rc<Daemon>) {
        let book = &daemon.keys;
        let mut expiries = Instant::now();
        let mut interval = INTERVAL;
        loop {
            if !book.has_grants() {
                book.granted.notified().await;
                interval = INTERVAL;
                continue;
            }
            book.interval_ms
                .set(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
            tokio::time::sleep(interval).await;
            if expiries.elapsed() >= EXPIRIES {
                expiries = Instant::now();
                book.follow_expiries().await;
            }
            let granted: Vec<KeySerial> = {
                let sources = book.sources.borrow();
                sources
                    .values()
                    .filter(|s| !s.grants.is_empty())
                    .map(Source::serial)
                    .collect()
            };
            let mut spent = Duration::ZERO;
            for slice in granted.chunks(SLICE) {
                let _turn = book.turn.lock().await;
                spent += book.look_after(&daemon, slice.to_vec()).await;
            }
            interval = (spent * SHARE).clamp(INTERVAL, MAX_INTERVAL);
        }
    }

    /// Brings the copies of these sources in order; the caller has the turn. Returns the time the
    /// key worker took.
    pub(super) async fn look_after(
        &self,
        daemon: &Rc<Daemon>,
        serials: Vec<KeySerial>,
    ) -> Duration {
        let mut jobs = Vec::new();
        for source in serials.iter().filter_map(|serial| self.source(*serial)) {
            let copies: Vec<_> = source
                .grants
                .iter()
                .map(|grant| {
                    let mut plan = source.plan(grant);
                    self.complete(daemon, &source.key.facts.type_, &mut plan);
                    (plan, grant.copy)
                })
                .collect();
            jobs.push((source.key.clone(), copies));
        }
        let tended = self
            .work(move |keys| {
                let begun = Instant::now();
                let mut keyrings: Vec<(ContainerId, ContainerKeyrings)> = Vec::new();
                let mut outcomes: Vec<Outcome> = Vec::new();
                let mut looked_at = BTreeSet::new();
                for (key, copies) in &jobs {
                    let tended = keys.tend(key, copies, &mut looked_at);
                    if let Ok(tended) = &tended {
                        for (state, (plan, _)) in tended.copies.iter().zip(copies) {
                            if let (CopyState::Renewed(_), Ok(now)) =
                                (state, keys.keyrings(plan.container))
                            {
                                keyrings.push((plan.container, now));
                            }
                        }
                    }
                    outcomes.push((key.facts.serial, tended));
                }
                Ok((begun.elapsed(), outcomes, keyrings))
            })
            .await;
        match tended {
            Ok((spent, outcomes, keyrings)) => {
                for (container, now) in keyrings {
                    self.note_keyrings(daemon, container, now);
                }
                for (serial, tended) in outcomes {
                    self.note(daemon, serial, tended).await;
                }
                spent
            }
            Err(error) => {
                tracing::warn!(%error, "granted keys cannot be looked after");
                Duration::ZERO
            }
        }
    }

    /// Writes down what became of one source.
    async fn note(&self, daemon: &Rc<Daemon>, serial: KeySerial, tended: Result<Tended, KeyError>) {
        let Some(mut source) = self.source(serial) else {
            return;
        };
        let tended = match tended {
            Ok(tended) => tended,
            Err(error) => {
                self.trouble(serial, &[format!("it cannot be looked at: {error}")]);
                return;
            }
        };
        let failures: Vec<String> = tended
            .copies
            .iter()
            .zip(&source.grants)
            .filter_map(|(state, grant)| match state {
                CopyState::Failed(error) => {
                    let id = grant.container;
                    let path = daemon
                        .containers
                        .get(id)
                        .map(|record| record.path.to_string());
                    let name = path.unwrap_or_else(|| id.to_string());
                    Some(format!(
                        "its copy in container “{name}” is out of order: {error}"
                    ))
                }
                _ => None,
            })
            .collect();
        self.trouble(serial, &failures);
        if let SourceState::Gone(why) = tended.source {
            tracing::info!(
                key = serial.raw(),
                why,
                "a granted key is gone, and its copies with it"
            );
            self.sources.borrow_mut().remove(&serial);
            self.troubles.borrow_mut().remove(&serial);
            self.forget(serial);
            if source.key.home == Home::Lent
                && let Err(error) = self.work(move |keys| keys.give_back(serial)).await
            {
                tracing::warn!(key = serial.raw(), %error, "the slot of a lent key is left");
            }
            announce(daemon, "key-gone", &key_info(daemon, &source));
            return;
        }
        let mut changed = false;
        let mut happened = Vec::new();
        let before = source.grants.clone();
        for (grant, state) in before.into_iter().zip(tended.copies) {
            let name = match state {
                CopyState::Kept => continue,
                CopyState::Updated => "copy-updated",
                CopyState::Renewed(copy) => {
                    changed = true;
                    for known in source
                        .grants
                        .iter_mut()
                        .filter(|g| g.container == grant.container)
                    {
                        known.copy = copy;
                    }
                    "copy-renewed"
                }
                CopyState::Ended => {
                    changed = true;
                    source
                        .grants
                        .retain(|known| known.container != grant.container);
                    "key-ungranted"
                }
                CopyState::Failed(_) => continue,
            };
            happened.push((name, grant));
        }
        if changed && let Err(error) = self.settle(&source, "store what became of a grant").await {
            tracing::warn!(
                key = serial.raw(),
                cause = error.cause.as_deref(),
                "{error}"
            );
        }
        let info = key_info(daemon, &source);
        for (name, grant) in happened {
            let grant = source.grant_to(grant.container).cloned().unwrap_or(grant);
            let mut told = event(name);
            told.key = Some(info.clone());
            told.grant = Some(grant_info(daemon, &source, &grant));
            daemon.bus.publish(Topic::Keys, told);
        }
    }

    /// Writes down what is wrong with a source's copies, and logs it once.
    fn trouble(&self, serial: KeySerial, failures: &[String]) {
        let mut troubles = self.troubles.borrow_mut();
        if failures.is_empty() {
            troubles.remove(&serial);
            return;
        }
        let now = failures.join("; ");
        if troubles.get(&serial) != Some(&now) {
            tracing::warn!(key = serial.raw(), trouble = now, "a grant is not in order");
            troubles.insert(serial, now);
        }
    }

    /// A container keyring that was rebuilt has another serial.
    pub(super) fn note_keyrings(&self, daemon: &Daemon, id: ContainerId, now: ContainerKeyrings) {
        if daemon
            .containers
            .get(id)
            .is_none_or(|record| record.keyrings == now)
        {
            return;
        }
        daemon
            .containers
            .change(id, |entry| entry.record.keyrings = now);
        if let Some(record) = daemon.containers.get(id)
            && let Err(error) = self.store.put("containers", &id.to_string(), &record)
        {
            tracing::warn!(container_id = id.0, %error, "its new keyring is not stored");
        }
    }

    /// Lets copies of lent keys expire with them: their owners may set time-outs at any time. What is
    /// seen here ends no grant, only the key itself can.
    async fn follow_expiries(&self) {
        let _turn = self.turn.lock().await;
        if !self
            .sources
            .borrow()
            .values()
            .any(|source| source.key.home == Home::Lent)
        {
            return;
        }
        let lent = match self.work(|keys| keys.lent()).await {
            Ok(lent) => lent,
            Err(error) => {
                tracing::warn!(%error, "the expiry of lent keys is not known");
                return;
            }
        };
        let mut changes = Vec::new();
        let mut changed = Vec::new();
        for key in lent {
            let serial = key.facts.serial;
            let mut sources = self.sources.borrow_mut();
            let Some(source) = sources.get_mut(&serial) else {
                continue;
            };
            let deadline = followed(source.deadline, key.end, now());
            if source.deadline == deadline {
                continue;
            }
            source.deadline = deadline;
            for grant in &source.grants {
                changes.push((grant.container, grant.copy, source.deadline_of(grant)));
            }
            changed.push(serial);
        }
        for serial in changed {
            if let Err(error) = self.persist(serial, "store when a lent key expires") {
                tracing::warn!(
                    key = serial.raw(),
                    cause = error.cause.as_deref(),
                    "{error}"
                );
            }
        }
        let applied = self
            .work(move |keys| {
                for (container, copy, deadline) in changes {
                    match keys.set_copy_deadline(container, copy, deadline) {
                        // Looked after in a moment.
                        Ok(())
                        | Err(
                            KeyError::Gone { .. } | KeyError::Expired | KeyError::NoContainer(_),
                        ) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })
            .await;
        if let Err(error) = applied {
            tracing::warn!(%error, "copies do not expire with their keys");
        }
    }
}

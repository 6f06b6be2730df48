//! Keeping copies like their sources, and there at all.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use keyns_sys::secret::SecretBytes;
use keyns_sys::{KeySerial, key};

use super::error::KeyError;
use super::projection::{CopyPlan, Copying};
use super::registry::{Keys, acting_as};
use super::store::{KeyRef, is_too_long, now, set_deadline};
use crate::engine::container::ContainerId;

/// Hashes of the payloads that copies were last given, keyed by this process alone. Never payloads.
#[derive(Debug, Default)]
pub(super) struct PayloadMemory {
    hasher: RandomState,
    seen: HashMap<KeySerial, u64>,
}

impl PayloadMemory {
    pub(super) fn remember(&mut self, source: KeySerial, payload: &SecretBytes) {
        self.seen
            .insert(source, self.hasher.hash_one(payload.as_slice()));
    }

    pub(super) fn forget(&mut self, source: KeySerial) {
        self.seen.remove(&source);
    }

    /// After a restart nothing is known, so everything counts as changed.
    fn knows(&self, source: KeySerial, payload: &SecretBytes) -> bool {
        self.seen.get(&source) == Some(&self.hasher.hash_one(payload.as_slice()))
    }
}

/// What became of a source.
#[derive(Debug)]
pub enum SourceState {
    /// It is there.
    Alive,
    /// It is not, or cannot be read any more; its copies were invalidated.
    Gone(String),
}

/// What became of a copy.
#[derive(Debug)]
pub enum CopyState {
    /// It is as it should be.
    Kept,
    /// It was given the source's new payload.
    Updated,
    /// It was missing, or its type cannot be updated, and was made anew with this serial.
    Renewed(KeySerial),
    /// Its deadline has passed, or its source is gone.
    Ended,
    /// It could not be brought in order; it is tried again.
    Failed(KeyError),
}

/// The result of [`Keys::tend`].
#[derive(Debug)]
pub struct Tended {
    /// The source.
    pub source: SourceState,
    /// Its copies, in the order given.
    pub copies: Vec<CopyState>,
}

impl Keys {
    /// Compares a source with what its copies were last given and brings them in order: updates
    /// them, makes those anew that a denizen invalidated, and ends them with their source.
    ///
    /// Containers whose keyrings were looked at are noted in `looked_at` and not looked at again, so
    /// that many sources cost little: use one set for one round.
    ///
    /// # Errors
    /// The source could not be looked at for a reason that says nothing about it.
    pub fn tend(
        &mut self,
        source: &KeyRef,
        copies: &[(CopyPlan, KeySerial)],
        looked_at: &mut BTreeSet<ContainerId>,
    ) -> Result<Tended, KeyError> {
        let payload = match self.read_source(source) {
            Ok(payload) => payload,
            // Whoever took the right to read it away wants no more copies either.
            Err(
                error @ (KeyError::Gone { .. }
                | KeyError::NotCopyable(_)
                | KeyError::NoContainer(_)),
            ) => {
                self.memory.forget(source.facts.serial);
                for (plan, serial) in copies {
                    match self.remove_copy(plan.container, *serial) {
                        Ok(_) | Err(KeyError::NoContainer(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                let ended = copies.iter().map(|_| CopyState::Ended).collect();
                return Ok(Tended {
                    source: SourceState::Gone(error.to_string()),
                    copies: ended,
                });
            }
            Err(error) => return Err(error),
        };
        let changed = !self.memory.knows(source.facts.serial, &payload);
        let mut complete = true;
        let mut states = Vec::with_capacity(copies.len());
        for (plan, serial) in copies {
            let state = self
                .tend_copy(source, &payload, changed, plan, *serial, looked_at)
                .unwrap_or_else(CopyState::Failed);
            complete &= !matches!(state, CopyState::Failed(_));
            states.push(state);
        }
        if complete {
            self.memory.remember(source.facts.serial, &payload);
        } else {
            self.memory.forget(source.facts.serial);
        }
        Ok(Tended {
            source: SourceState::Alive,
            copies: states,
        })
    }

    fn tend_copy(
        &mut self,
        source: &KeyRef,
        payload: &SecretBytes,
        changed: bool,
        plan: &CopyPlan,
        serial: KeySerial,
        looked_at: &mut BTreeSet<ContainerId>,
    ) -> Result<CopyState, KeyError> {
        if plan.deadline.is_some_and(|deadline| deadline <= now()) {
            self.remove_copy(plan.container, serial)?;
            return Ok(CopyState::Ended);
        }
        if !looked_at.contains(&plan.container) {
            self.heal(plan.container)?;
            looked_at.insert(plan.container);
        }
        let alive = self.copy_lives(plan.container, serial, Some(&source.facts))?;
        if alive && !changed {
            return Ok(CopyState::Kept);
        }
        if alive && Copying::of(&source.facts.type_)? == Copying::Plain {
            let owner = self.ring(plan.container)?.owner;
            let _acting = acting_as(owner)?;
            match key::update(serial, payload.as_slice()) {
                Ok(()) => {
                    // UPDATE makes keys of some types live for ever.
                    set_deadline(serial, plan.deadline)?;
                    return Ok(CopyState::Updated);
                }
                // More than UPDATE takes: the copy is replaced.
                Err(error) if is_too_long(&error, payload) => {}
                Err(error) => return Err(KeyError::charging(owner, "update a copy")(error)),
            }
        }
        let copy = self.copy(source, payload, plan)?;
        // A denizen that was allowed to link the former copy elsewhere may still have it.
        self.remove_copy(plan.container, serial)?;
        Ok(CopyState::Renewed(copy.serial))
    }
}

//! Keeping copies like their sources, and there at all.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use keyns_sys::secret::SecretBytes;
use keyns_sys::{KeySerial, key};

use super::error::KeyError;
use super::projection::{CopyPlan, Copying};
use super::registry::{Keys, acting_as};
use super::store::{Deadline, KeyRef, is_too_long, now, set_deadline};
use crate::engine::container::ContainerId;

/// Hashes payloads with a key that this process alone has: the ledger keeps of each copy what it was
/// last given, never the payload.
#[derive(Debug, Default)]
pub(super) struct PayloadHasher(RandomState);

impl PayloadHasher {
    pub(super) fn hash(&self, payload: &SecretBytes) -> u64 {
        self.0.hash_one(payload.as_slice())
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
    /// It is as it should be, or waits until it is known when its source ends.
    Kept,
    /// It was given the source's new payload.
    Updated,
    /// It was missing, or its type cannot be updated, and was made anew with this serial.
    Renewed(KeySerial),
    /// The grant's end has come, or its source is gone.
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
    /// Compares a source with what each of its copies was last given and brings them in order: updates
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
                for (plan, serial) in copies {
                    match self.remove_copy_of(plan.container, *serial, &source.facts) {
                        Ok(()) | Err(KeyError::NoContainer(_)) => {}
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
        let hash = self.hasher.hash(&payload);
        let mut states = Vec::with_capacity(copies.len());
        for (plan, serial) in copies {
            let state = self
                .tend_copy(source, (&payload, hash), plan, *serial, looked_at)
                .unwrap_or_else(CopyState::Failed);
            states.push(state);
        }
        Ok(Tended {
            source: SourceState::Alive,
            copies: states,
        })
    }

    fn tend_copy(
        &mut self,
        source: &KeyRef,
        (payload, hash): (&SecretBytes, u64),
        plan: &CopyPlan,
        serial: KeySerial,
        looked_at: &mut BTreeSet<ContainerId>,
    ) -> Result<CopyState, KeyError> {
        let over = |end: Option<Deadline>| end.is_some_and(|end| end <= now());
        if over(plan.ends) {
            self.remove_copy_of(plan.container, serial, &source.facts)?;
            return Ok(CopyState::Ended);
        }
        if !looked_at.contains(&plan.container) {
            self.heal(plan.container)?;
            looked_at.insert(plan.container);
        }
        if over(plan.source_ends) {
            // The copy must not outlive its source. But that lives: its owner prolonged it, or it has
            // less than a second left. Only its own end ends the grant.
            self.remove_copy_of(plan.container, serial, &source.facts)?;
            return Ok(CopyState::Kept);
        }
        let alive = self.copy_lives(plan.container, serial, Some(&source.facts))?;
        let ledger = &self.ring(plan.container)?.ledger;
        if alive && ledger.was_given(serial, hash) {
            return Ok(CopyState::Kept);
        }
        if alive && Copying::of(&source.facts.type_)? == Copying::Plain {
            let owner = self.ring(plan.container)?.owner;
            let _acting = acting_as(owner)?;
            match key::update(serial, payload.as_slice()) {
                Ok(()) => {
                    // UPDATE makes keys of some types live for ever.
                    set_deadline(serial, plan.deadline())?;
                    if let Some(ring) = self.rings.get_mut(&plan.container) {
                        ring.ledger.note_given(serial, hash);
                    }
                    return Ok(CopyState::Updated);
                }
                // More than UPDATE takes: the copy is replaced.
                Err(error) if is_too_long(&error, payload) => {}
                Err(error) => return Err(KeyError::charging(owner, "update a copy")(error)),
            }
        }
        let copy = self.copy(source, payload, plan)?;
        // A denizen that was allowed to link the former copy elsewhere may still have it.
        self.remove_copy_of(plan.container, serial, &source.facts)?;
        Ok(CopyState::Renewed(copy.serial))
    }
}

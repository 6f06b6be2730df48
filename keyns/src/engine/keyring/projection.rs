//! Projection: a container's copy of a granted key.
//!
//! Linking the manager's own key into the container keyring would give denizens the manager's
//! possessor rights, and any of them could invalidate it. A copy has rights of its own. It is made
//! complete in the worker's thread keyring and linked only then: at no instant can a denizen find
//! it with the mask or without the time-out it is to have.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use keyns_sys::secret::SecretBytes;
use keyns_sys::{KeySerial, key};
use rustix::io::Errno;

use super::error::KeyError;
use super::list;
use super::possession::{ActingAs, Grasp, in_network};
use super::registry::{Keys, acting_as};
use super::store::{Deadline, Home, KeyRef, set_deadline};
use crate::engine::container::ContainerId;
use crate::expression::copy_mask;
use crate::mask::Bits;
use crate::rights::Rights;

/// What a copy is to be.
#[derive(Debug, Clone)]
pub struct CopyPlan {
    /// The container it is for.
    pub container: ContainerId,
    /// What denizens may do, who possess it.
    pub bits: Bits,
    /// What they may do where the kernel keeps lists of rights, which can tell more apart.
    pub rights: Rights,
    /// When its source ends, as far as that is known. The copy expires then too.
    pub source_ends: Option<Deadline>,
    /// When it ends whatever becomes of its source.
    pub ends: Option<Deadline>,
    /// The network namespace the container's processes are in, if it is not the host's.
    pub network: Option<Arc<OwnedFd>>,
}

impl CopyPlan {
    /// When the copy expires.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        match (self.source_ends, self.ends) {
            (Some(source), Some(grant)) => Some(source.min(grant)),
            (source, grant) => source.or(grant),
        }
    }

    /// Whether keys of this type are found only from the network namespace they were added in
    /// (`KEY_TYPE_NET_DOMAIN`).
    #[must_use]
    pub fn needs_network(type_: &CStr) -> bool {
        matches!(type_.to_bytes(), b"rxrpc" | b"rxrpc_s" | b"dns_resolver")
    }
}

/// A copy as made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// Its serial.
    pub serial: KeySerial,
    /// Its mask.
    pub mask: u32,
}

/// How keys of a type are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// By what READ gives; UPDATE takes the same.
    Plain,
    /// By what READ gives; a change needs a new key.
    Replaced,
    /// Loaded from the encrypted blob that READ gives; the master key must be within reach.
    Loaded,
    /// READ leaves out the final NUL that `add_key` demands.
    Terminated,
}

impl Copying {
    /// The table of types; whatever is not in it cannot be copied faithfully.
    pub(super) fn of(type_: &CStr) -> Result<Self, KeyError> {
        match type_.to_bytes() {
            b"user" | b"big_key" => Ok(Self::Plain),
            b"rxrpc" | b"rxrpc_s" => Ok(Self::Replaced),
            b"encrypted" => Ok(Self::Loaded),
            b"dns_resolver" => Ok(Self::Terminated),
            b"keyring" => Err(KeyError::NotCopyable(
                "keyrings cannot be granted to containers".into(),
            )),
            b"logon" | b"asymmetric" | b"ceph" | b"psk" => Err(KeyError::NotCopyable(format!(
                "keys of type “{}” cannot be read, and keyns keeps no payloads",
                type_.to_string_lossy()
            ))),
            _ => Err(KeyError::NotCopyable(format!(
                "keyns does not know how to copy keys of type “{}”",
                type_.to_string_lossy()
            ))),
        }
    }

    fn encode(self, payload: &SecretBytes) -> SecretBytes {
        let read = payload.as_slice();
        let (before, after): (&[u8], &[u8]) = match self {
            Self::Plain | Self::Replaced => return payload.clone(),
            Self::Loaded => (b"load ", b""),
            Self::Terminated => (b"", b"\0"),
        };
        // Allocated at once: a vector that grows would leave unwiped bytes behind.
        let mut encoded = Vec::with_capacity(before.len() + read.len() + after.len());
        encoded.extend_from_slice(before);
        encoded.extend_from_slice(read);
        encoded.extend_from_slice(after);
        SecretBytes::new(encoded)
    }
}

impl Keys {
    /// Checks that a copy could be made, without making one.
    ///
    /// # Errors
    /// [`KeyError::NotCopyable`], [`KeyError::Gone`].
    pub fn check_copyable(&self, source: &KeyRef) -> Result<(), KeyError> {
        Copying::of(&source.facts.type_)?;
        self.read_source(source).map(drop)
    }

    /// Copies a key into a container keyring, where it replaces a key of the same type and
    /// description.
    ///
    /// # Errors
    /// [`KeyError::NotCopyable`], [`KeyError::Gone`], [`KeyError::Quota`] of the keyring's owner,
    /// [`KeyError::NoContainer`], [`KeyError::Expired`].
    pub fn project(&mut self, source: &KeyRef, plan: &CopyPlan) -> Result<Copy, KeyError> {
        Copying::of(&source.facts.type_)?;
        let payload = self.read_source(source)?;
        self.heal(plan.container)?;
        self.copy(source, &payload, plan)
    }

    pub(super) fn read_source(&self, source: &KeyRef) -> Result<SecretBytes, KeyError> {
        self.read(source)
            .map_err(|error| match error.errno().map(Errno::from_raw_os_error) {
                Some(Errno::OPNOTSUPP) => {
                    KeyError::NotCopyable("its payload cannot be read".into())
                }
                Some(Errno::ACCESS) => {
                    KeyError::NotCopyable("its possessor may not search it".into())
                }
                _ => error,
            })
    }

    /// Makes the copy of a payload; the container keyring lives.
    pub(super) fn copy(
        &mut self,
        source: &KeyRef,
        payload: &SecretBytes,
        plan: &CopyPlan,
    ) -> Result<Copy, KeyError> {
        let copying = Copying::of(&source.facts.type_)?;
        let (id, deadline) = (plan.container, plan.deadline());
        let ring = self.ring(id)?;
        let (container, owner) = (ring.container, ring.owner);
        let what = "copy a key into a container keyring";
        // An encrypted key is loaded with its master key, which may lie in the same store.
        let beside = match source.home {
            Home::Store(id) => vec![self.ring(id)?.store],
            Home::Lent => Vec::new(),
        };
        let _grasp = Grasp::of(&beside).map_err(KeyError::of(what))?;
        let acting = ActingAs::owner(owner).map_err(KeyError::of(what))?;
        let (type_, description) = (&source.facts.type_, &source.facts.description);
        let network = plan
            .network
            .as_ref()
            .filter(|_| CopyPlan::needs_network(type_));
        let encoded = copying.encode(payload);
        let serial = in_network(network.map(|fd| fd.as_fd()), || {
            key::add_key(type_, description, encoded.as_slice(), KeySerial::THREAD)
        })
        .map_err(|error| match (copying, Errno::from_io_error(&error)) {
            (Copying::Loaded, Some(Errno::NOKEY | Errno::ACCESS | Errno::KEYREVOKED)) => {
                KeyError::NotCopyable("its master key is not within the daemon's reach".into())
            }
            _ => KeyError::charging(owner, what)(error),
        })?;
        drop(acting);
        let ring = self.rings.get_mut(&id).ok_or(KeyError::NoContainer(id.0))?;
        // As long as it has the mask it was made with, its possessor may link it where uid 0 may write.
        ring.ledger
            .enter(serial, type_, description)
            .map_err(KeyError::charging(0, what))?;
        let mask = copy_mask(plan.bits).raw();
        let finished = (|| {
            let _acting = acting_as(owner)?;
            key::set_perm(serial, mask).map_err(KeyError::of(what))?;
            if let Some(objects) = &self.options.objects {
                list::limit(objects, id, serial, plan.rights).map_err(KeyError::of(what))?;
            }
            set_deadline(serial, deadline)?;
            key::link(serial, container).map_err(KeyError::charging(owner, what))
        })();
        if let Err(error) = finished {
            self.remove_copy(id, serial)?;
            return Err(error);
        }
        let hash = self.hasher.hash(payload);
        if let Some(ring) = self.rings.get_mut(&id) {
            ring.ledger.note_given(serial, hash);
        }
        Ok(Copy { serial, mask })
    }

    /// Changes when a copy expires.
    ///
    /// # Errors
    /// [`KeyError::Gone`]; [`KeyError::Expired`]; the kernel's.
    pub fn set_copy_deadline(
        &mut self,
        container: ContainerId,
        serial: KeySerial,
        deadline: Option<Deadline>,
    ) -> Result<(), KeyError> {
        if !self.copy_lives(container, serial, None)? {
            return Err(KeyError::Gone {
                serial,
                why: "it was invalidated or has expired",
            });
        }
        let _acting = acting_as(self.ring(container)?.owner)?;
        set_deadline(serial, deadline)
    }
}

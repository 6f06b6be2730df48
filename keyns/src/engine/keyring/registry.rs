//! The registry: where the engine's keyrings hang, and how they are found again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use keyns_sys::{KeySerial, key};
use rustix::io::Errno;
use rustix::process::{Uid, getuid};
use rustix::thread::set_thread_res_uid;

use super::container::Ring;
use super::error::KeyError;
use super::facts::KeyFacts;
use super::lending::Drop;
use super::masks;
use super::possession::{ActingAs, Grasp};
use super::refresh::PayloadHasher;
use super::shelter::Shelter;
use super::worker::WorkerOptions;
use crate::engine::container::ContainerId;
use crate::engine::error::EngineError;

/// How long the kernel may take to collect the service uid's keyrings, if an instance was removed just
/// before: until then it finds what is none any more (`look_up_user_keyrings`).
const COLLECTED: Duration = Duration::from_secs(2);

/// Everything the engine keeps in keyrings. Lives on the key worker's thread.
#[derive(Debug)]
pub struct Keys {
    pub(super) shelter: Shelter,
    pub(super) registry: KeySerial,
    pub(super) lent: KeySerial,
    pub(super) drops: KeySerial,
    /// Where the kernel queues requests; `NONE` where it cannot.
    pub(super) requests: KeySerial,
    pub(super) rings: BTreeMap<ContainerId, Ring>,
    /// Slots of lent keys, by the serial of the key.
    pub(super) slots: BTreeMap<KeySerial, KeySerial>,
    /// Open drop keyrings.
    pub(super) open_drops: BTreeMap<KeySerial, Drop>,
    /// Numbers the drop keyrings and session slots made by this worker.
    pub(super) counter: u64,
    pub(super) hasher: PayloadHasher,
    pub(super) options: WorkerOptions,
}

impl Keys {
    /// Finds or creates this instance's registry in the service uid's keyring and learns what it
    /// holds. The calling thread gets a session keyring of its own, which stays empty.
    pub(super) fn start(shelter: Shelter, options: WorkerOptions) -> Result<Self, KeyError> {
        key::join_session_keyring(None)
            .map_err(KeyError::of("join a session keyring of its own"))?;
        // The thread keyring too, while it is uid 0 whom it is charged to.
        key::clear(KeySerial::THREAD).map_err(KeyError::of("make a thread keyring"))?;
        let none = KeySerial::NONE;
        let mut keys = Self {
            shelter,
            registry: none,
            lent: none,
            drops: none,
            requests: none,
            rings: BTreeMap::new(),
            slots: BTreeMap::new(),
            open_drops: BTreeMap::new(),
            counter: 0,
            hasher: PayloadHasher::default(),
            options,
        };
        let locked = lock(&keys.options.lock)?;
        keys.registry = keys.find_registry()?;
        drop(locked);
        keys.lent = keys.child(keys.registry, "lent", masks::CLOSED)?;
        keys.drops = keys.child(keys.registry, "drops", masks::CLOSED)?;
        if keys
            .options
            .objects
            .as_ref()
            .is_some_and(|o| o.intercepts())
        {
            keys.requests = keys.child(keys.registry, "requests", masks::SLOT)?;
        }
        // Their connections died with the former daemon.
        key::clear(keys.drops).map_err(KeyError::of("clear the drop keyrings"))?;
        keys.learn_lent()?;
        keys.learn_containers()?;
        Ok(keys)
    }

    /// The service uid's keyring is reached by its special name only: linking it would make the
    /// kernel look for cycles in everything that denizens built below.
    fn find_registry(&mut self) -> Result<KeySerial, KeyError> {
        let name = format!("keyns:{}", self.options.instance);
        let uid = self.options.service_uid;
        let what = "look into the service uid's keyring";
        let until = Instant::now() + COLLECTED;
        let found = loop {
            match as_service(uid, || children(KeySerial::USER)) {
                Err(error)
                    if error.raw_os_error() == Some(Errno::NOKEY.raw_os_error())
                        && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                other => break other.map_err(KeyError::of(what))?,
            }
        };
        if let Some(facts) = named(found, &name) {
            return Ok(facts.serial);
        }
        let newborn = self.shelter.create(&name)?;
        let adopted = as_service(uid, || adopt(newborn, KeySerial::USER, 0, masks::CLOSED));
        self.shelter.release()?;
        adopted.map_err(KeyError::charging(uid, "create the registry"))?;
        Ok(newborn)
    }

    /// The keyring `description` of uid 0 in `parent`, created if there is none.
    pub(super) fn child(
        &mut self,
        parent: KeySerial,
        description: &str,
        mask: u32,
    ) -> Result<KeySerial, KeyError> {
        let found = children(parent).map_err(KeyError::of(format!(
            "read the keyring that holds “{description}”"
        )))?;
        match named(found, description) {
            Some(facts) => Ok(facts.serial),
            None => self.create(description, parent, 0, mask),
        }
    }

    /// Creates a keyring in the shelter and links it into `parent`, which must be writable.
    ///
    /// It gets its owner and mask while only the worker can reach it.
    pub(super) fn create(
        &mut self,
        description: &str,
        parent: KeySerial,
        owner: u32,
        mask: u32,
    ) -> Result<KeySerial, KeyError> {
        let newborn = self.shelter.create(description)?;
        let adopted = adopt(newborn, parent, owner, mask);
        self.shelter.release()?;
        adopted.map_err(KeyError::charging(
            owner,
            format!("set up the keyring “{description}”"),
        ))?;
        Ok(newborn)
    }

    /// Removes the registry of this instance, and with it everything below, once no container is
    /// left; if no other instance uses it, the service uid's keyrings too.
    ///
    /// # Errors
    /// A container is left, or the kernel refuses.
    pub fn remove_instance(&mut self) -> Result<(), KeyError> {
        if let Some(id) = self.rings.keys().next() {
            let reason = format!("container {id} still has its keyrings");
            return Err(EngineError::Refused(reason).into());
        }
        let _locked = lock(&self.options.lock)?;
        key::clear(self.registry).map_err(KeyError::of("clear the registry"))?;
        as_service(self.options.service_uid, || {
            key::unlink(self.registry, KeySerial::USER)?;
            if !key::read_keyring(KeySerial::USER)?.is_empty() {
                return Ok(());
            }
            // Each look-up by a special name would create both anew, hence the serials first; and
            // the links, since only their possessor may invalidate them.
            let user = key::get_keyring_id(KeySerial::USER, true)?;
            let session = key::get_keyring_id(KeySerial::USER_SESSION, true)?;
            key::link(KeySerial::USER, KeySerial::SESSION)?;
            key::link(KeySerial::USER_SESSION, KeySerial::SESSION)?;
            key::invalidate(session)?;
            key::invalidate(user)
        })
        .map_err(KeyError::of("remove the registry"))?;
        self.registry = KeySerial::NONE;
        Ok(())
    }

    /// A name for a keyring that is made more than once: unique within the boot, since a worker with
    /// the same process id would have to meet its predecessor's counter too.
    pub(super) fn unique(&mut self, what: &str) -> String {
        self.counter += 1;
        format!("{what}:{}.{}", std::process::id(), self.counter)
    }

    /// Process id of the running name shelter, if it was needed already.
    #[must_use]
    pub fn shelter_pid(&self) -> Option<u32> {
        self.shelter.pid()
    }
}

/// The keyring of uid 0 with that description.
fn named(found: Vec<KeyFacts>, description: &str) -> Option<KeyFacts> {
    found.into_iter().find(|facts| {
        facts.is_keyring()
            && facts.uid == 0
            && facts.description.as_bytes() == description.as_bytes()
    })
}

/// What `parent` holds and the worker may view.
pub(super) fn children(parent: KeySerial) -> io::Result<Vec<KeyFacts>> {
    let serials = key::read_keyring(parent)?;
    // A key that died since, or one that nobody lets us view, is none of ours.
    Ok(serials
        .into_iter()
        .filter_map(|serial| KeyFacts::of(serial).ok())
        .collect())
}

fn adopt(newborn: KeySerial, parent: KeySerial, owner: u32, mask: u32) -> io::Result<()> {
    key::link(newborn, KeySerial::THREAD)?;
    let result = (|| {
        if owner != 0 {
            key::chown(newborn, Some(owner), None)?;
        }
        key::link(newborn, parent)?;
        key::set_perm(newborn, mask)
    })();
    key::unlink(newborn, KeySerial::THREAD)?;
    result
}

/// Runs `work` with the real uid of the service, by which the kernel chooses the user keyring.
///
/// Only the calling thread changes, and only its real uid: effective uid and capabilities stay.
fn as_service<R>(uid: u32, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    switch(uid)?;
    let result = work();
    // A worker with a foreign real uid would resolve @u wrongly for ever.
    if switch(0).is_err() {
        std::process::abort();
    }
    result
}

fn switch(real: u32) -> io::Result<()> {
    set_thread_res_uid(Uid::from_raw(real), Uid::ROOT, Uid::ROOT)?;
    if getuid().as_raw() == real {
        Ok(())
    } else {
        Err(rustix::io::Errno::PERM.into())
    }
}

/// Takes the lock under which instances create and remove their registries; closing it unlocks.
fn lock(path: &Path) -> Result<File, KeyError> {
    crate::engine::shared::lock(path).map_err(KeyError::of(format!("lock {}", path.display())))
}

/// Possesses `keyrings` as `owner` for one operation.
pub(super) fn hold(owner: u32, keyrings: &[KeySerial]) -> Result<(Grasp, ActingAs), KeyError> {
    let grasp = Grasp::of(keyrings).map_err(KeyError::of("take hold of a keyring"))?;
    Ok((grasp, acting_as(owner)?))
}

/// Acts as `owner` for one operation on what gives its owner rights.
pub(super) fn acting_as(owner: u32) -> Result<ActingAs, KeyError> {
    ActingAs::owner(owner).map_err(KeyError::of("act as the keyring's owner"))
}

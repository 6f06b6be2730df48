//! Keys of containers, lent keys, and grants: `org.keyns.Keys`.
//!
//! A *source* is a key the daemon holds: one added to a container's store, or one lent by its owner.
//! A *grant* gives a container a copy of it with a mask of its own. The kernel holds keys and
//! payloads; the book here says what was asked for and by when it ends, and is stored, so that after
//! a restart anything in the kernel that the book does not know is taken back.

mod describe;
mod failure;
mod grant;
mod lend;
mod methods;
mod record;
mod resolve;
mod restore;
mod stored;
mod watch;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use keyns::engine::container::ContainerId;
use keyns::engine::keyring::store::now;
use keyns::engine::keyring::{Home, KeyError, Keys};
use keyns::engine::{Engine, EngineError};
use keyns::rights::Rights;
use keyns_interfaces::Error;
use keyns_sys::KeySerial;
use keyns_sys::secret::SecretBytes;
use tokio::sync::{Mutex, Notify};

use self::failure::key_error;
use self::record::Source;
use crate::daemon::store_error;
use crate::front::ConnectionId;
use crate::store::Store;

pub use self::methods::register;
pub use self::restore::restore;

const KIND: &str = "keys";

/// What the daemon knows of keys and grants.
#[derive(Debug)]
pub struct KeyBook {
    engine: Arc<dyn Engine>,
    store: Store,
    sources: RefCell<BTreeMap<KeySerial, Source>>,
    /// Drop keyrings by the connection they end with.
    drops: RefCell<HashMap<ConnectionId, KeySerial>>,
    /// What is wrong with the copies of a source at present.
    troubles: RefCell<BTreeMap<KeySerial, String>>,
    /// Held while keys or grants are changed, so that what was decided still holds when it is done.
    turn: Mutex<()>,
    /// Notified when there may be grants to look after.
    granted: Notify,
    interval_ms: Cell<u64>,
}

impl KeyBook {
    /// An empty book; [`Self::restore`] fills it.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, store: Store) -> Self {
        Self {
            engine,
            store,
            sources: RefCell::default(),
            drops: RefCell::default(),
            troubles: RefCell::default(),
            turn: Mutex::new(()),
            granted: Notify::new(),
            interval_ms: Cell::new(0),
        }
    }

    /// Milliseconds between two looks at granted keys; 0: there are none.
    #[must_use]
    pub fn poll_interval_ms(&self) -> u64 {
        if self.has_grants() {
            self.interval_ms.get()
        } else {
            0
        }
    }

    /// Runs `work` on the key worker's thread without blocking this one.
    async fn work<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keys) -> Result<R, KeyError> + Send + 'static,
    ) -> Result<R, KeyError> {
        let engine = Arc::clone(&self.engine);
        match tokio::task::spawn_blocking(move || engine.keys().call(work)).await {
            Ok(result) => result,
            Err(_) => Err(EngineError::Refused("the daemon is ending".into()).into()),
        }
    }

    /// A container is ending: its keys go, and every grant to it. Its own keyrings are removed by the
    /// engine; copies of its keys in other containers, and lent keys that nobody is granted any more,
    /// go in the background.
    pub fn container_gone(&self, id: ContainerId) {
        let (mut copies, mut lent) = (Vec::new(), Vec::new());
        self.sources.borrow_mut().retain(|serial, source| {
            if source.key.home == Home::Store(id) {
                copies.extend(
                    source
                        .grants
                        .iter()
                        .map(|grant| (grant.container, grant.copy)),
                );
                self.forget(*serial);
                return false;
            }
            let before = source.grants.len();
            source.grants.retain(|grant| grant.container != id);
            if source.grants.len() == before {
                return true;
            }
            if source.is_idle_loan() {
                lent.push(*serial);
                self.forget(*serial);
                return false;
            }
            if let Err(error) = self.write(source) {
                tracing::warn!(key = serial.raw(), %error, "the end of a grant is not stored");
            }
            true
        });
        copies.retain(|(container, _)| *container != id);
        if copies.is_empty() && lent.is_empty() {
            return;
        }
        let engine = Arc::clone(&self.engine);
        tokio::task::spawn_blocking(move || {
            let result = engine.keys().call(move |keys| {
                for (container, copy) in copies {
                    match keys.remove_copy(container, copy) {
                        Ok(_) | Err(KeyError::NoContainer(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                lent.into_iter()
                    .try_for_each(|serial| keys.give_back(serial).map(drop))
            });
            if let Err(error) = result {
                tracing::warn!(container_id = id.0, %error, "keys of a dead container are left");
            }
        });
    }

    /// The payload a container was granted under this type and description, if it may find and read
    /// it; for requests of denizens that lost their container keyring.
    ///
    /// # Errors
    /// The key worker's.
    pub async fn payload_for(
        &self,
        container: ContainerId,
        type_: &[u8],
        description: &[u8],
    ) -> Result<Option<SecretBytes>, Error> {
        let key = self.sources.borrow().values().find_map(|source| {
            let facts = &source.key.facts;
            let named =
                facts.type_.as_bytes() == type_ && facts.description.as_bytes() == description;
            let grant = source
                .grants
                .iter()
                .find(|grant| grant.container == container)?;
            let readable = grant.kernel.contains(Rights::SEARCH | Rights::READ);
            // Whether the key itself has expired is known when it is read.
            let valid = grant.deadline.is_none_or(|deadline| deadline > now());
            (named && readable && valid).then(|| source.key.clone())
        });
        let Some(key) = key else { return Ok(None) };
        match self.work(move |keys| keys.read(&key)).await {
            Ok(payload) => Ok(Some(payload)),
            Err(KeyError::Gone { .. }) => Ok(None),
            Err(error) => Err(key_error("read a granted key", &error)),
        }
    }

    fn write(&self, source: &Source) -> std::io::Result<()> {
        self.store
            .put(KIND, &source.key.facts.serial.to_string(), source)
    }

    /// Stores a source of the book; `what` completes "cannot …".
    fn persist(&self, serial: KeySerial, what: &str) -> Result<(), Error> {
        match self.sources.borrow().get(&serial) {
            Some(source) => self.write(source).map_err(store_error(what)),
            None => Ok(()),
        }
    }

    /// Removes a source from the store. What stays there by mistake is dropped at the next start,
    /// when the kernel does not have the key any more.
    fn forget(&self, serial: KeySerial) {
        if let Err(error) = self.store.delete(KIND, &serial.to_string()) {
            tracing::warn!(key = serial.raw(), %error, "a key that is gone is still stored");
        }
    }

    fn has_grants(&self) -> bool {
        self.sources
            .borrow()
            .values()
            .any(|source| !source.grants.is_empty())
    }
}

//! Comparing the book with the kernel after a restart.

use std::collections::BTreeSet;
use std::rc::Rc;

use keyns::engine::keyring::{Home, KeyError, KeyRef};
use keyns_interfaces::Error;

use super::failure::key_error;
use super::record::Source;
use super::stored::demand_living;
use super::{KIND, KeyBook};
use crate::daemon::{Daemon, store_error};

/// Restores the book and looks after its grants from then on.
///
/// # Errors
/// Those of [`KeyBook::restore`].
pub async fn restore(daemon: &Rc<Daemon>) -> Result<(), Error> {
    daemon.keys.restore(daemon).await?;
    tokio::task::spawn_local(KeyBook::run(Rc::clone(daemon)));
    Ok(())
}

impl KeyBook {
    /// Loads the book; the containers are restored already. Keys that died meanwhile are dropped from
    /// it, and whatever the kernel has but the book does not is taken back: the daemon was killed
    /// between doing and writing, and nobody was told that it was done. Then the copies are brought
    /// in order.
    ///
    /// # Errors
    /// The store's, the key worker's.
    pub async fn restore(&self, daemon: &Rc<Daemon>) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let loaded: Vec<(String, Source)> = self
            .store
            .load(KIND)
            .map_err(store_error("load the keys and grants"))?;
        let refs: Vec<KeyRef> = loaded
            .iter()
            .map(|(_, source)| source.key.clone())
            .collect();
        let alive: BTreeSet<_> = self
            .work(move |keys| {
                let mut alive = BTreeSet::new();
                for key in refs {
                    match keys.describe(&key) {
                        Ok(facts) => {
                            alive.insert(facts.serial);
                        }
                        Err(KeyError::Gone { .. } | KeyError::NoContainer(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(alive)
            })
            .await
            .map_err(|error| key_error("find the keys again", &error))?;
        let mut dead = Vec::new();
        for (_, mut source) in loaded {
            let living = |id| {
                daemon
                    .containers
                    .get(id)
                    .is_some_and(|r| demand_living(&r, "").is_ok())
            };
            source.grants.retain(|grant| living(grant.container));
            let serial = source.serial();
            if alive.contains(&serial) && !source.is_idle_loan() {
                self.sources.borrow_mut().insert(serial, source);
            } else {
                dead.extend(
                    source
                        .grants
                        .iter()
                        .map(|grant| (grant.container, grant.copy)),
                );
                self.forget(serial);
            }
        }
        let (mut stored, mut lent, mut copies) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for source in self.sources.borrow().values() {
            match source.key.home {
                Home::Store(_) => stored.insert(source.serial()),
                Home::Lent => lent.insert(source.serial()),
            };
            copies.extend(source.grants.iter().map(|grant| grant.copy));
        }
        self.work(move |keys| {
            super::stored::remove_copies(keys, dead)?;
            for id in keys.containers() {
                for copy in keys.given(id)? {
                    if !copies.contains(&copy) {
                        keys.remove_copy(id, copy)?;
                    }
                }
                for facts in keys
                    .stored(id)?
                    .into_iter()
                    .filter(|key| !stored.contains(&key.serial))
                {
                    keys.invalidate(&KeyRef {
                        home: Home::Store(id),
                        facts,
                    })?;
                }
            }
            let unknown = keys
                .loans()
                .into_iter()
                .filter(|serial| !lent.contains(serial));
            unknown
                .collect::<Vec<_>>()
                .into_iter()
                .try_for_each(|serial| keys.give_back(serial).map(drop))
        })
        .await
        .map_err(|error| key_error("tidy up the keyrings", &error))?;
        let all = self.sources.borrow().keys().copied().collect();
        self.look_after(daemon, all).await;
        self.granted.notify_one();
        Ok(())
    }
}

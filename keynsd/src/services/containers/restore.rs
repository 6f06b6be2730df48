//! Finding the containers again after a restart of the daemon.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use keyns::engine::EngineError;
use keyns::engine::container::{ContainerId, ContainerRecord, ExitStatus, State};
use keyns_interfaces::Error;

use super::end::end_in_background;
use super::lease;
use super::life::persist;
use super::parking;
use super::start::watch;
use crate::daemon::{Daemon, store_error};

/// Compares the containers of the store with what the kernel has; `handed` is what a service manager has
/// kept of them.
///
/// # Errors
/// When the kernel cannot be read; a container that cannot be found again is ended instead.
pub async fn restore(
    daemon: &Rc<Daemon>,
    mut records: Vec<ContainerRecord>,
    handed: BTreeMap<ContainerId, OwnedFd>,
) -> Result<(), Error> {
    records.sort_by_key(|record| record.id);
    parking::take_back(daemon, &records, handed);
    let mut spoiled = BTreeMap::new();
    for record in &mut records {
        if record.state == State::Created {
            // Registered, but perhaps never released; a first process that runs is found below.
            let id = record.id;
            let what = "look for a first process";
            let looked = daemon.blocking(what, move |engine| {
                Ok::<_, EngineError>(engine.watch(id).is_ok_and(|(all, _)| !all.is_empty()))
            });
            if !looked.await? {
                let mut lost = record.clone();
                // Those it is nested in are older.
                let ancestors = daemon.containers.ancestors(record);
                let found = daemon
                    .blocking("remove a process that never ran", move |e| {
                        e.forget_first(&mut lost, &ancestors).map(|()| lost)
                    })
                    .await
                    .and_then(|found| keep(daemon, record, &found).map(|()| found));
                match found {
                    Ok(found) => {
                        if found.object != record.object {
                            parking::forget(daemon, record.id);
                        }
                        *record = found;
                    }
                    // One container must not keep the daemon from the others.
                    Err(error) => {
                        spoiled.insert(record.id, error);
                    }
                }
            }
        }
        let cgroup = daemon
            .engine
            .cgroup_path(record)
            .into_os_string()
            .into_encoded_bytes();
        daemon.containers.insert(record.clone(), cgroup);
    }
    records.retain(|record| record.state != State::Dead);
    let known = records.clone();
    for error in daemon
        .blocking("tidy up", move |engine| engine.reconcile(&known))
        .await?
    {
        tracing::warn!(%error, "something is left of a former container");
    }
    for record in records {
        let resumed = match spoiled.remove(&record.id) {
            Some(error) => Err(error),
            None => resume(daemon, &record).await,
        };
        if let Err(error) = resumed {
            tracing::warn!(
                container_id = record.id.0,
                cause = error.cause.as_deref(),
                "{error}"
            );
            end_in_background(daemon, record.id, ExitStatus::Unknown);
        }
    }
    Ok(())
}

/// Stores a container that is not as it was.
fn keep(daemon: &Daemon, former: &ContainerRecord, found: &ContainerRecord) -> Result<(), Error> {
    if former == found {
        return Ok(());
    }
    let what = "store a container without its first process";
    let stored = daemon.store.put("containers", &found.id.to_string(), found);
    stored.map_err(store_error(what))
}

async fn resume(daemon: &Rc<Daemon>, record: &ContainerRecord) -> Result<(), Error> {
    let id = record.id;
    let looked_at = record.clone();
    let intact = daemon.blocking("look at the container", move |engine| {
        Ok::<_, EngineError>(engine.intact(&looked_at))
    });
    if record.state == State::Dying || !intact.await? {
        end_in_background(daemon, id, ExitStatus::Unknown);
        return Ok(());
    }
    if record.kill_on_close {
        match lease::reopen(daemon, id) {
            Ok(reader) => lease::watch(daemon, id, reader),
            Err(error) => {
                tracing::warn!(container_id = id.0, %error, "the lease is lost");
                end_in_background(daemon, id, ExitStatus::Unknown);
                return Ok(());
            }
        }
    }
    parking::park(daemon, record);
    match record.state {
        State::Running => {
            watch(daemon, id).await;
            Ok(())
        }
        State::Created => {
            let what = "look for a first process";
            let found = daemon.blocking(what, move |engine| {
                Ok::<_, EngineError>(engine.watch(id).ok())
            });
            if let Some((processes, _)) = found.await?
                && let Some(first) = processes.iter().find(|state| state.process == 1)
            {
                let pid = first.pid;
                daemon.containers.change(id, |entry| {
                    entry.record.state = State::Running;
                    entry.record.init = Some(pid);
                });
                persist(daemon, id, "store that the container runs")?;
                watch(daemon, id).await;
            }
            Ok(())
        }
        State::Dying | State::Dead => Ok(()),
    }
}

//! The end of a container.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use keyns::engine::container::{ContainerId, ContainerRecord, ExitStatus, State};
use keyns_interfaces::containers::Killed;
use keyns_interfaces::{Error, ErrorKind};

use super::info::exit_status;
use super::lease;
use super::life::{announce, persist};
use super::parking;
use crate::daemon::Daemon;

/// How long the processes of a container may take to end.
const KILL_PATIENCE: Duration = Duration::from_secs(20);
/// When a container that does not end is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Dead containers that are remembered.
const DEAD_KEPT: usize = 64;
/// How long the monitor may take to report how the first process ended.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// Ends a container and those nested in it: rejects their pending requests first, since a process
/// that waits for one cannot be killed; then kills, waits until nothing is left, and removes what
/// the container had. Ending a container that ends already waits for that.
///
/// A process that does not end, whatever it waits for in the kernel, keeps the container dying with
/// all it has, its routes above all; the daemon goes on trying.
///
/// `exit` is what is known of how the first process ended.
///
/// # Errors
/// `TimedOut` when a process is left.
pub fn end(
    daemon: &Rc<Daemon>,
    id: ContainerId,
    exit: ExitStatus,
) -> Pin<Box<dyn Future<Output = Result<Killed, Error>>>> {
    let daemon = Rc::clone(daemon);
    Box::pin(async move {
        let begun = Instant::now();
        let rejected = end_tree(&daemon, id, exit).await?;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Killed {
            upcalls_rejected: rejected,
            milliseconds,
        })
    })
}

/// Same in the background, again and again until nothing is left.
pub(super) fn end_in_background(daemon: &Rc<Daemon>, id: ContainerId, exit: ExitStatus) {
    let daemon = Rc::clone(daemon);
    tokio::task::spawn_local(async move {
        while let Err(error) = end(&daemon, id, exit).await {
            tracing::warn!(
                container_id = id.0,
                cause = error.cause.as_deref(),
                "{error}"
            );
            tokio::time::sleep(RETRY).await;
        }
    });
}

async fn end_tree(daemon: &Rc<Daemon>, id: ContainerId, exit: ExitStatus) -> Result<u64, Error> {
    let Some(lock) = daemon.containers.with(id, |entry| Rc::clone(&entry.lock)) else {
        return Ok(0);
    };
    // From here on requests of its processes are rejected at once, those that wait for the lock of
    // a process being started included.
    let dying = daemon.containers.change(id, |entry| {
        let alive = matches!(entry.record.state, State::Created | State::Running);
        if alive {
            entry.record.state = State::Dying;
        }
        alive
    });
    if dying == Some(true)
        && let Err(error) = persist(daemon, id, "store that the container dies")
    {
        tracing::error!(
            container_id = id.0,
            cause = error.cause.as_deref(),
            "{error}"
        );
    }
    let _ending = lock.lock().await;
    if daemon
        .containers
        .get(id)
        .is_none_or(|record| record.state == State::Dead)
    {
        return Ok(0);
    }
    let mut rejected = daemon.upcalls.reject_container(id).await;
    // A nested one that is just being made is either there then, or finds this one dying.
    let children = {
        let _creating = daemon.containers.creation.lock().await;
        daemon.containers.children(id)
    };
    for child in children {
        rejected += Box::pin(end_tree(daemon, child.id, ExitStatus::Unknown)).await?;
    }
    take_apart(daemon, id, exit).await?;
    Ok(rejected)
}

async fn take_apart(daemon: &Rc<Daemon>, id: ContainerId, exit: ExitStatus) -> Result<(), Error> {
    let Some(record) = daemon.containers.get(id) else {
        return Ok(());
    };
    let path = record.path.to_string();
    kill_all(daemon, &record).await?;
    let exit = match exit {
        ExitStatus::Unknown => first_exit(daemon, id).await,
        known => known,
    };
    daemon.keys.container_gone(id);
    daemon.upcalls.container_gone(id);
    let removed = {
        let record = record.clone();
        daemon
            .blocking(format!("remove container “{path}”"), move |e| {
                e.destroy(&record)
            })
            .await
    };
    if let Err(error) = removed {
        // Nothing runs; what could not be removed is tried again at the next start.
        tracing::error!(
            container_id = id.0,
            cause = error.cause.as_deref(),
            "{error}"
        );
    }
    parking::forget(daemon, id);
    if record.kill_on_close {
        lease::revoke(daemon, id);
    }
    daemon.containers.change(id, |entry| {
        entry.record.state = State::Dead;
        entry.record.exit = entry.record.init.map(|_| exit);
        for process in entry.processes.values_mut() {
            process.exit.get_or_insert(exit_status(ExitStatus::Unknown));
        }
    });
    if let Err(error) = persist(daemon, id, "store that the container is dead") {
        tracing::error!(
            container_id = id.0,
            cause = error.cause.as_deref(),
            "{error}"
        );
    }
    announce(daemon, "container-dead", id);
    forget_oldest_dead(daemon);
    Ok(())
}

/// Kills without holding a thread: a process may take long to end.
async fn kill_all(daemon: &Rc<Daemon>, record: &ContainerRecord) -> Result<(), Error> {
    let deadline = tokio::time::Instant::now() + KILL_PATIENCE;
    let what = format!("kill container “{}”", record.path);
    let mut pause = Duration::from_micros(250);
    loop {
        let record = record.clone();
        let left = daemon
            .blocking(what.clone(), move |engine| engine.kill(&record))
            .await?;
        if !left {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Error::new(ErrorKind::TimedOut, format!("cannot {what}"))
                .cause("a process does not end; it waits for something in the kernel")
                .hint("the container stays dying, and the daemon goes on trying"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Dead containers are kept for their exit status, the last ones only.
fn forget_oldest_dead(daemon: &Daemon) {
    let dead = daemon
        .containers
        .map(|record| (record.state == State::Dead).then_some(record.id));
    for id in dead.iter().take(dead.len().saturating_sub(DEAD_KEPT)) {
        if let Err(error) = daemon.store.delete("containers", &id.to_string()) {
            tracing::warn!(container_id = id.0, %error, "a dead container stays stored");
        }
        daemon.containers.remove(*id);
    }
}

/// How the first process ended, as soon as its monitor says so.
async fn first_exit(daemon: &Rc<Daemon>, id: ContainerId) -> ExitStatus {
    use keyns_interfaces::containers::ExitStatus as Shown;

    let deadline = tokio::time::Instant::now() + STATUS_PATIENCE;
    loop {
        let Some((changed, first)) = daemon.containers.with(id, |entry| {
            let first = entry.processes.get(&1).map(|process| process.exit);
            (Rc::clone(&entry.changed), first)
        }) else {
            return ExitStatus::Unknown;
        };
        let notified = changed.notified();
        match first {
            // Nothing was ever started.
            None => return ExitStatus::Unknown,
            Some(Some(Shown::Exited(code))) => return ExitStatus::Exited(code),
            Some(Some(Shown::Killed(signal))) => return ExitStatus::Killed(signal),
            Some(Some(Shown::Unknown)) => return ExitStatus::Unknown,
            Some(None) => {}
        }
        if tokio::time::timeout_at(deadline, notified).await.is_err() {
            return ExitStatus::Unknown;
        }
    }
}

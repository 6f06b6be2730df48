//! The end of a container.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use keyns::engine::container::{ContainerId, ExitStatus, State};
use keyns_interfaces::containers::Killed;

use super::info::exit_status;
use super::lease;
use super::life::{announce, persist};
use crate::daemon::Daemon;

/// How long the monitor may take to report how the first process ended.
const STATUS_PATIENCE: Duration = Duration::from_secs(2);

/// Ends a container and those nested in it: rejects their pending requests first, since a process
/// that waits for one cannot be killed; then kills, waits until nothing is left, and removes what
/// the container had. Ending a container that ends already waits for that.
///
/// `exit` is what is known of how the first process ended.
pub fn end(
    daemon: &Rc<Daemon>,
    id: ContainerId,
    exit: ExitStatus,
) -> Pin<Box<dyn Future<Output = Killed>>> {
    let daemon = Rc::clone(daemon);
    Box::pin(async move {
        let begun = Instant::now();
        let rejected = end_tree(&daemon, id, exit).await;
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Killed { upcalls_rejected: rejected, milliseconds }
    })
}

async fn end_tree(daemon: &Rc<Daemon>, id: ContainerId, exit: ExitStatus) -> u64 {
    let Some(lock) = daemon.containers.with(id, |entry| Rc::clone(&entry.lock)) else { return 0 };
    // From here on requests of its processes are rejected at once, those that wait for the lock of
    // a process being started included.
    let dying = daemon.containers.change(id, |entry| {
        let alive = matches!(entry.record.state, State::Created | State::Running);
        if alive {
            entry.record.state = State::Dying;
        }
        alive
    });
    if dying == Some(true) {
        if let Err(error) = persist(daemon, id, "store that the container dies") {
            tracing::error!(container = id.0, "{error}");
        }
    }
    let _ending = lock.lock().await;
    if daemon.containers.get(id).is_none_or(|record| record.state == State::Dead) {
        return 0;
    }
    let mut rejected = daemon.upcalls.reject_container(id).await;
    for child in daemon.containers.children(id) {
        rejected += Box::pin(end_tree(daemon, child.id, ExitStatus::Unknown)).await;
    }
    take_apart(daemon, id, exit).await;
    rejected
}

async fn take_apart(daemon: &Rc<Daemon>, id: ContainerId, exit: ExitStatus) {
    let Some(record) = daemon.containers.get(id) else { return };
    let complain = |error: keyns_interfaces::Error| {
        tracing::error!(container = id.0, cause = error.cause.as_deref(), "{}", error.message);
    };
    let path = record.path.to_string();
    let killed = {
        let record = record.clone();
        daemon.blocking(format!("kill container “{path}”"), move |e| e.kill(&record)).await
    };
    if let Err(error) = killed {
        complain(error);
    }
    let exit = match exit {
        ExitStatus::Unknown => first_exit(daemon, id).await,
        known => known,
    };
    daemon.keys.container_gone(id);
    daemon.upcalls.container_gone(id);
    let removed = {
        let record = record.clone();
        daemon.blocking(format!("remove container “{path}”"), move |e| e.destroy(&record)).await
    };
    if let Err(error) = removed {
        complain(error);
    }
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
        complain(error);
    }
    announce(daemon, "container-dead", id);
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

//! The methods of `org.keyns.Containers`.

use std::rc::Rc;

use keyns::engine::container::{ContainerRecord, ExitStatus, State};
use keyns_interfaces::containers::{
    Create, Created, Ended, Exec, GetKeyring, Keyring, Kill, Killed, List, Listing, OpenProcess,
    Opened, Remove, Run, Show, Shown, Started, Subscribe, Wait,
};
use keyns_interfaces::{Empty, Error, ErrorKind};

use super::end::{end, end_in_background};
use super::info::container_info;
use super::life::{announce, create};
use super::pidfd;
use super::start::run;
use crate::authority::Policy;
use crate::daemon::{Daemon, store_error};
use crate::events::Topic;
use crate::front::{Context, Reply, Router};

/// Adds the methods of `org.keyns.Containers`.
pub fn register(router: &mut Router<Daemon>) {
    use Policy::{ChangesKeysOrContainers as Changes, SeesOthersKeys as Sees};

    router
        .method(Changes, on_create)
        .method(Sees, on_list)
        .method(Sees, on_show)
        .method(Sees, on_keyring)
        .method(Changes, on_run)
        .method(Changes, on_exec)
        .method(Changes, on_open)
        .wait(Sees, on_wait)
        .method(Changes, on_kill)
        .method(Changes, on_remove)
        .stream::<Subscribe, _, _>(Sees, |daemon, _, _, sender| async move {
            daemon.bus.forward(Topic::Containers, sender).await
        });
}

async fn on_create(daemon: Rc<Daemon>, _: Context, call: Create) -> Result<Reply<Created>, Error> {
    let (record, lease) = create(&daemon, call).await?;
    let container = container_info(&daemon.containers, &record);
    Ok(Reply::with_fds(
        Created { container },
        lease.into_iter().collect(),
    ))
}

async fn on_list(daemon: Rc<Daemon>, _: Context, call: List) -> Result<Reply<Listing>, Error> {
    let table = &daemon.containers;
    let shown = |state| call.dead || state != State::Dead;
    let containers = table.map(|record| shown(record.state).then(|| container_info(table, record)));
    Ok(Listing { containers }.into())
}

async fn on_show(daemon: Rc<Daemon>, _: Context, call: Show) -> Result<Reply<Shown>, Error> {
    let record = daemon.containers.resolve(&call.container)?;
    let processes = daemon
        .containers
        .with(record.id, |entry| {
            entry.processes.values().cloned().collect()
        })
        .unwrap_or_default();
    let keys = daemon.keys.keys_of(&daemon, record.id).await?;
    let rules = daemon.upcalls.rules_of(&daemon, record.id);
    let container = container_info(&daemon.containers, &record);
    Ok(Shown {
        container,
        processes,
        keys,
        rules,
    }
    .into())
}

async fn on_keyring(
    daemon: Rc<Daemon>,
    _: Context,
    call: GetKeyring,
) -> Result<Reply<Keyring>, Error> {
    let record = daemon.containers.resolve(&call.container)?;
    demand_not_dead(&record, "show the keyring of")?;
    let (keyring, keys) = daemon.keys.container_keyring(&daemon, &record).await?;
    Ok(Keyring { keyring, keys }.into())
}

async fn on_run(daemon: Rc<Daemon>, cx: Context, call: Run) -> Result<Reply<Started>, Error> {
    let (started, terminal) = run(&daemon, call, true, cx.fds).await?;
    Ok(Reply::with_fds(started, terminal.into_iter().collect()))
}

async fn on_exec(daemon: Rc<Daemon>, cx: Context, call: Exec) -> Result<Reply<Started>, Error> {
    let (started, terminal) = run(&daemon, call.0, false, cx.fds).await?;
    Ok(Reply::with_fds(started, terminal.into_iter().collect()))
}

async fn on_open(
    daemon: Rc<Daemon>,
    _: Context,
    call: OpenProcess,
) -> Result<Reply<Opened>, Error> {
    let record = daemon.containers.resolve(&call.container)?;
    let number = call.process.unwrap_or(1);
    let (opened, pidfd) = pidfd::open(&daemon, &record, number)?;
    Ok(Reply::with_fds(opened, vec![pidfd]))
}

async fn on_wait(daemon: Rc<Daemon>, _: Context, call: Wait) -> Result<Reply<Ended>, Error> {
    let record = daemon.containers.resolve(&call.container)?;
    let number = call.process.unwrap_or(1);
    loop {
        let missing = || {
            Error::new(
                ErrorKind::NoSuchProcess,
                format!(
                    "there is no process {number} in container “{}”",
                    record.path
                ),
            )
            .hint(format!(
                "list them: keyctl-ns container show {}",
                record.path
            ))
        };
        let (changed, exit, state) = daemon
            .containers
            .with(record.id, |entry| {
                let exit = entry.processes.get(&number).map(|process| process.exit);
                (Rc::clone(&entry.changed), exit, entry.record.state)
            })
            .ok_or_else(missing)?;
        let notified = changed.notified();
        match exit {
            Some(Some(exit)) => return Ok(Ended { exit }.into()),
            Some(None) => {}
            // Waiting for a first process that is still to come makes sense, for others not.
            None if number == 1 && state == State::Created => {}
            None => return Err(missing()),
        }
        notified.await;
    }
}

async fn on_kill(daemon: Rc<Daemon>, _: Context, call: Kill) -> Result<Reply<Killed>, Error> {
    let record = daemon.containers.resolve(&call.container)?;
    demand_not_dead(&record, "kill")?;
    let Some(signal) = call.signal else {
        if call.process.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "cannot kill one process of container “{}” without a signal",
                    record.path
                ),
            )
            .hint("name the signal, e.g. --signal KILL"));
        }
        return match end(&daemon, record.id, ExitStatus::Unknown).await {
            Ok(killed) => Ok(killed.into()),
            Err(error) => {
                end_in_background(&daemon, record.id, ExitStatus::Unknown);
                Err(error)
            }
        };
    };
    if !(1..=64).contains(&signal) {
        let message = format!("cannot send signal {signal} to container “{}”", record.path);
        return Err(Error::new(ErrorKind::InvalidArgument, message)
            .cause("a signal is a number from 1 to 64"));
    }
    let process = call.process.unwrap_or(1);
    let lives = daemon.containers.with(record.id, |entry| {
        entry
            .processes
            .get(&process)
            .is_some_and(|process| process.exit.is_none())
    });
    if lives != Some(true) {
        return Err(Error::new(
            ErrorKind::NoSuchProcess,
            format!(
                "cannot send signal {signal} to process {process} of “{}”",
                record.path
            ),
        )
        .cause("it was never started or has ended")
        .hint(format!(
            "list them: keyctl-ns container show {}",
            record.path
        )));
    }
    let what = format!(
        "send signal {signal} to process {process} of “{}”",
        record.path
    );
    let begun = std::time::Instant::now();
    daemon
        .blocking(what, move |engine| {
            engine.signal(record.id, process, signal)
        })
        .await?;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Killed {
        upcalls_rejected: 0,
        milliseconds,
    }
    .into())
}

async fn on_remove(daemon: Rc<Daemon>, _: Context, call: Remove) -> Result<Reply<Empty>, Error> {
    let record = daemon.containers.resolve(&call.container)?;
    match record.state {
        State::Running | State::Dying => {
            return Err(Error::new(
                ErrorKind::WrongState,
                format!("cannot remove container “{}”", record.path),
            )
            .cause("it still runs")
            .hint(format!(
                "kill it first: keyctl-ns container kill {}",
                record.path
            )));
        }
        State::Created => {
            end(&daemon, record.id, ExitStatus::Unknown).await?;
        }
        State::Dead => {}
    }
    let what = format!("remove container “{}”", record.path);
    daemon
        .store
        .delete("containers", &record.id.to_string())
        .map_err(store_error(&what))?;
    announce(&daemon, "container-removed", record.id);
    daemon.containers.remove(record.id);
    Ok(Empty {}.into())
}

fn demand_not_dead(record: &ContainerRecord, verb: &str) -> Result<(), Error> {
    if record.state == State::Dead {
        return Err(Error::new(
            ErrorKind::WrongState,
            format!("cannot {verb} container “{}”", record.path),
        )
        .cause("it is dead already"));
    }
    Ok(())
}

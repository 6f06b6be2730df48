//! Starting processes in containers, and watching them end.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use keyns::engine::container::{ContainerId, ContainerRecord, State};
use keyns::engine::mainline::channel::Channel;
use keyns::engine::mainline::engine::next_exit;
use keyns::engine::mainline::monitor::ProcessState;
use keyns::engine::mainline::{Prepared, RunSpec};
use keyns_interfaces::containers::{ProcessInfo, Run, Started};
use keyns_interfaces::{ByteText, Error, ErrorKind};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::end::end;
use super::info::exit_status;
use super::life::{announce, demand_alive, persist};
use crate::daemon::Daemon;

/// Bytes of a command line with its environment.
const MAX_COMMAND: usize = 128 * 1024;
/// Processes started in one container and remembered.
const MAX_PROCESSES: usize = 4_096;

const DEFAULT_PATH: &[u8] = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts the first process of a container, or a further one.
pub(super) async fn run(
    daemon: &Rc<Daemon>,
    call: Run,
    first: bool,
    fds: Vec<OwnedFd>,
) -> Result<(Started, Option<OwnedFd>), Error> {
    let record = daemon.containers.resolve(&call.container)?;
    let id = record.id;
    let what = format!("start a process in container “{}”", record.path);
    let invalid = |why: &str| {
        Error::new(ErrorKind::InvalidArgument, format!("cannot {what}")).cause(why)
    };
    let program = call.command.first().filter(|name| !name.bytes().is_empty());
    if program.is_none() {
        return Err(invalid("no program is named").hint("name one after “--”"));
    }
    let texts = || call.command.iter().chain(&call.environment);
    if texts().any(|text| text.bytes().contains(&0)) {
        return Err(invalid("an argument contains a NUL byte"));
    }
    if texts().map(|text| text.bytes().len() + 1).sum::<usize>() > MAX_COMMAND {
        return Err(Error::new(ErrorKind::TooLarge, format!("cannot {what}"))
            .cause(format!("command and environment are over {MAX_COMMAND} bytes")));
    }
    if call.environment.iter().any(|text| !text.bytes().contains(&b'=')) {
        return Err(invalid("an environment string is not of the form NAME=value"));
    }
    let expected = if call.terminal { 0 } else { 3 } + usize::from(call.program_passed);
    if fds.len() != expected {
        return Err(invalid(&format!("{expected} descriptors must be passed, not {}", fds.len())));
    }
    let lock = daemon
        .containers
        .with(id, |entry| Rc::clone(&entry.lock))
        .ok_or_else(|| Error::new(ErrorKind::NoSuchContainer, format!("cannot {what}")))?;
    let _starting = lock.lock().await;
    let record = demand_startable(daemon, id, first, &what)?;
    let number = daemon
        .containers
        .with(id, |entry| entry.processes.keys().last().map_or(1, |last| last + 1))
        .unwrap_or(1);
    if number as usize > MAX_PROCESSES {
        return Err(Error::new(ErrorKind::LimitReached, format!("cannot {what}"))
            .cause(format!("{MAX_PROCESSES} processes were started in it already")));
    }
    let spec = RunSpec {
        process: number,
        command: bytes(&call.command),
        environment: environment(&call),
        uid: call.uid,
        gid: call.gid,
        terminal: call.terminal,
        program_passed: call.program_passed,
    };
    let lineage = daemon.containers.lineage(id);
    let prepared = daemon
        .blocking(what.clone(), move |engine| {
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            engine.prepare(&lineage, &spec, &fds)
        })
        .await?;
    let (prepared, pid) = release(daemon, record, prepared, &what).await?;
    daemon.containers.change(id, |entry| {
        // The monitor may have reported its end already.
        let exit = entry.processes.get(&number).and_then(|process| process.exit);
        let command = call.command.clone();
        entry.processes.insert(number, ProcessInfo { process: number, pid, command, exit });
        if first {
            entry.record.init = Some(pid);
            // A kill that came meanwhile waits for the lock held here.
            if entry.record.state == State::Created {
                entry.record.state = State::Running;
            }
        }
    });
    if first {
        persist(daemon, id, &what)?;
        announce(daemon, "container-started", id);
        watch(daemon, id).await?;
    }
    Ok((Started { process: number, pid }, prepared.terminal))
}

/// Makes a waiting process known to the routing table and the store, and lets it go.
async fn release(
    daemon: &Rc<Daemon>,
    mut record: ContainerRecord,
    prepared: Prepared,
    what: &str,
) -> Result<(Prepared, u32), Error> {
    let id = record.id;
    let pid = prepared.pid;
    let namespace = prepared.pid_namespace;
    let register = move |engine: &keyns::engine::mainline::Mainline| {
        engine.register(&mut record, &prepared).map(|()| (record, prepared))
    };
    let (record, prepared) = daemon.blocking(what, register).await?;
    daemon.containers.change(id, |entry| entry.record.pins = record.pins.clone());
    persist(daemon, id, what)?;
    let released = daemon
        .blocking(what, move |engine| match engine.release(&prepared) {
            Ok(()) => Ok(Ok(prepared)),
            Err(error) => {
                // It never ran: the container is as it was.
                let mut record = record;
                engine.unregister(&mut record, namespace).map(|()| Err((record, error)))
            }
        })
        .await?;
    match released {
        Ok(prepared) => Ok((prepared, pid)),
        Err((record, error)) => {
            daemon.containers.change(id, |entry| entry.record.pins = record.pins);
            persist(daemon, id, what)?;
            let not_found = error.errno() == Some(rustix::io::Errno::NOENT.raw_os_error());
            let error = crate::daemon::engine_error(what, &error);
            Err(if not_found {
                error.hint("the path is looked up inside the container; --program FILE passes one of the host")
            } else {
                error
            })
        }
    }
}

fn demand_startable(
    daemon: &Daemon,
    id: ContainerId,
    first: bool,
    what: &str,
) -> Result<ContainerRecord, Error> {
    let record = daemon
        .containers
        .get(id)
        .ok_or_else(|| Error::new(ErrorKind::NoSuchContainer, format!("cannot {what}")))?;
    demand_alive(&record, what)?;
    let wrong = |cause: &str, verb: &str| {
        Error::new(ErrorKind::WrongState, format!("cannot {what}"))
            .cause(cause)
            .hint(format!("keyctl-ns container {verb} {}", record.path))
    };
    match (first, record.state) {
        (true, State::Running) => Err(wrong("its first process runs already", "exec")),
        (false, State::Created) => Err(wrong("its first process was not started yet", "run")),
        _ => Ok(record),
    }
}

fn bytes(texts: &[ByteText]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.bytes().to_vec()).collect()
}

fn environment(call: &Run) -> Vec<Vec<u8>> {
    let mut environment = bytes(&call.environment);
    let home: &[u8] = if call.uid == 0 { b"HOME=/root" } else { b"HOME=/" };
    for (name, default) in [(&b"PATH="[..], DEFAULT_PATH), (b"HOME=", home)] {
        if !environment.iter().any(|variable| variable.starts_with(name)) {
            environment.push(default.to_vec());
        }
    }
    environment
}

/// Follows the ends of a container's processes; the end of the first one ends the container.
pub(super) async fn watch(daemon: &Rc<Daemon>, id: ContainerId) -> Result<(), Error> {
    let what = "watch the container’s processes";
    let (processes, channel) = daemon.blocking(what, move |engine| engine.watch(id)).await?;
    for state in processes {
        note(daemon, id, &state);
    }
    let daemon = Rc::clone(daemon);
    tokio::task::spawn_local(async move {
        if let Err(error) = follow(&daemon, id, channel).await {
            tracing::debug!(container = id.0, %error, "the monitor is gone");
        }
        let alive = daemon.containers.get(id).is_some_and(|r| r.state == State::Running);
        if alive {
            // Without its monitor nobody learns how processes end; what runs may go on.
            let mut pause = tokio::time::interval(std::time::Duration::from_secs(1));
            while daemon
                .containers
                .get(id)
                .is_some_and(|r| r.state == State::Running && daemon.engine.populated(&r))
            {
                pause.tick().await;
            }
            end(&daemon, id, keyns::engine::ExitStatus::Unknown).await;
        }
    });
    Ok(())
}

async fn follow(daemon: &Rc<Daemon>, id: ContainerId, channel: Channel) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&channel, true)?;
    // Tokio wakes for it as for any Unix socket; messages are read from the channel itself.
    let twin = std::os::unix::net::UnixStream::from(channel.as_fd().try_clone_to_owned()?);
    let socket = UnixStream::from_std(twin)?;
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || next_exit(&channel)) {
            Ok(state) => note(daemon, id, &state),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn note(daemon: &Rc<Daemon>, id: ContainerId, state: &ProcessState) {
    daemon.containers.change(id, |entry| {
        let process = entry.processes.entry(state.process).or_insert_with(|| ProcessInfo {
            process: state.process,
            pid: state.pid,
            // Started under a former daemon, which did not store the command.
            command: Vec::new(),
            exit: None,
        });
        process.exit = state.exit.map(exit_status);
    });
    if let (1, Some(exit)) = (state.process, state.exit) {
        let daemon = Rc::clone(daemon);
        tokio::task::spawn_local(async move { end(&daemon, id, exit).await });
    }
}

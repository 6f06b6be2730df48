//! Starting processes in containers, and watching them end.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use keyns::engine::container::{ContainerId, ContainerRecord, ExitStatus, Namespace, State};
use keyns::engine::process::{ProcessState, RunSpec};
use keyns::engine::{Engine, EngineError, Exits, Prepared};
use keyns_interfaces::containers::{ProcessInfo, Run, Started};
use keyns_interfaces::{ByteText, Error, ErrorKind};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::end::end_in_background;
use super::info::exit_status;
use super::life::{announce, demand_alive, persist};
use super::parking;
use crate::daemon::{Daemon, engine_error};
use crate::readiness::readable;

/// Bytes of a command line with its environment.
const MAX_COMMAND: usize = 128 * 1024;
/// Processes started in one container that live at once.
const MAX_PROCESSES: usize = 1_024;
/// How often a container is looked at that has lost its monitor.
const WITHOUT_MONITOR: Duration = Duration::from_secs(1);

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
    let invalid =
        |why: &str| Error::new(ErrorKind::InvalidArgument, format!("cannot {what}")).cause(why);
    let program = call.command.first().filter(|name| !name.bytes().is_empty());
    if program.is_none() {
        return Err(invalid("no program is named").hint("name one after “--”"));
    }
    let texts = || call.command.iter().chain(&call.environment);
    if texts().any(|text| text.bytes().contains(&0)) {
        return Err(invalid("an argument contains a NUL byte"));
    }
    if texts().map(|text| text.bytes().len() + 1).sum::<usize>() > MAX_COMMAND {
        return Err(
            Error::new(ErrorKind::TooLarge, format!("cannot {what}")).cause(format!(
                "command and environment are over {MAX_COMMAND} bytes"
            )),
        );
    }
    if call
        .environment
        .iter()
        .any(|text| !text.bytes().contains(&b'='))
    {
        return Err(invalid(
            "an environment string is not of the form NAME=value",
        ));
    }
    let expected = if call.terminal { 0 } else { 3 } + usize::from(call.program_passed);
    if fds.len() != expected {
        return Err(invalid(&format!(
            "{expected} descriptors must be passed, not {}",
            fds.len()
        )));
    }
    let lock = daemon
        .containers
        .with(id, |entry| Rc::clone(&entry.lock))
        .ok_or_else(|| Error::new(ErrorKind::NoSuchContainer, format!("cannot {what}")))?;
    let _starting = lock.lock().await;
    let record = demand_startable(daemon, id, first, &what)?;
    let (number, living) = daemon
        .containers
        .with(id, |entry| {
            // The first one is the first, also where its monitor took the memory of it along.
            let last = entry.processes.keys().last().copied();
            let number = last.unwrap_or(if first { 0 } else { 1 }) + 1;
            (
                number,
                entry
                    .processes
                    .values()
                    .filter(|p| p.exit.is_none())
                    .count(),
            )
        })
        .unwrap_or((1, 0));
    if living >= MAX_PROCESSES {
        return Err(
            Error::new(ErrorKind::LimitReached, format!("cannot {what}")).cause(format!(
                "{MAX_PROCESSES} processes that were started in it still live"
            )),
        );
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
        .await;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            if first {
                let again = |engine: &dyn Engine, record: &mut _, ancestors: &[_]| {
                    engine.forget_first(record, ancestors)
                };
                return Err(as_before(daemon, record, &what, again, error).await);
            }
            return Err(error);
        }
    };
    let (prepared, pid) = release(daemon, record, prepared, &what).await?;
    daemon.containers.change(id, |entry| {
        // The monitor may have reported its end already.
        let exit = entry
            .processes
            .get(&number)
            .and_then(|process| process.exit);
        let command = call.command.clone();
        entry.processes.insert(
            number,
            ProcessInfo {
                process: number,
                pid,
                command,
                exit,
            },
        );
        entry.forget_old_processes();
        if first {
            entry.record.init = Some(pid);
            // A kill that came meanwhile waits for the lock held here.
            if entry.record.state == State::Created {
                entry.record.state = State::Running;
            }
        }
    });
    if first {
        // It runs: whatever fails from here on is no failure to start it.
        if let Err(error) = persist(daemon, id, &what) {
            tracing::error!(
                container_id = id.0,
                cause = error.cause.as_deref(),
                "{error}"
            );
        }
        announce(daemon, "container-started", id);
        watch(daemon, id).await;
    }
    Ok((
        Started {
            process: number,
            pid,
        },
        prepared.terminal,
    ))
}

/// Makes a waiting process known to the routing table and the store, and lets it go. Where that
/// fails it never ran, and the container is as it was.
async fn release(
    daemon: &Rc<Daemon>,
    mut record: ContainerRecord,
    prepared: Prepared,
    what: &str,
) -> Result<(Prepared, u32), Error> {
    let id = record.id;
    let pid = prepared.pid;
    let namespaces = prepared.namespaces.clone();
    let register = {
        let mut record = record.clone();
        move |engine: &dyn Engine| {
            let done = engine.register(&mut record, &prepared);
            Ok::<_, EngineError>((done, record, prepared))
        }
    };
    let (registered, known, prepared) = daemon.blocking(what, register).await?;
    record = known;
    daemon
        .containers
        .change(id, |entry| entry.record.pins = record.pins.clone());
    let stored = registered
        .map_err(|error| engine_error(what, &error))
        .and_then(|()| persist(daemon, id, what));
    let error = match stored {
        // Its monitor discards it.
        Err(error) => {
            drop(prepared);
            error
        }
        Ok(()) => {
            let go = move |_: &dyn Engine| {
                let done = prepared.release();
                Ok::<_, EngineError>((done, prepared))
            };
            let (released, prepared) = daemon.blocking(what, go).await?;
            match released {
                Ok(()) => return Ok((prepared, pid)),
                Err(error) => not_released(what, &error),
            }
        }
    };
    let again = move |engine: &dyn Engine, record: &mut ContainerRecord, ancestors: &[_]| {
        engine.unregister(record, ancestors, &namespaces)
    };
    Err(as_before(daemon, record, what, again, error).await)
}

/// Has the engine make a container as it was before its first process, which never ran, or another
/// process of which the engine has made nothing known. One for which that fails can never have a
/// process, and ends, which is added to why the process never ran.
async fn as_before(
    daemon: &Rc<Daemon>,
    mut record: ContainerRecord,
    what: &str,
    again: impl FnOnce(&dyn Engine, &mut ContainerRecord, &[ContainerRecord]) -> Result<(), EngineError>
    + Send
    + 'static,
    why: Error,
) -> Error {
    let id = record.id;
    let (before, was) = (record.object, record.state);
    let ancestors = daemon.containers.ancestors(&record);
    let restored = daemon
        .blocking(what, move |engine| {
            again(engine, &mut record, &ancestors).map(|()| record)
        })
        .await
        .and_then(|record| {
            if record.object != before {
                parking::renew(daemon, &record);
            }
            daemon.containers.change(id, |entry| {
                entry.record.pins = record.pins;
                entry.record.object = record.object;
            });
            persist(daemon, id, what)
        });
    if let Err(error) = restored {
        tracing::error!(
            container_id = id.0,
            cause = error.cause.as_deref(),
            "{error}"
        );
        if was == State::Created {
            end_in_background(daemon, id, ExitStatus::Unknown);
            return why.hint("the container has ended with it: create it again");
        }
    }
    why
}

fn not_released(what: &str, error: &EngineError) -> Error {
    let not_found = error.errno() == Some(rustix::io::Errno::NOENT.raw_os_error());
    let error = engine_error(what, error);
    if not_found {
        error.hint(
            "the path is looked up inside the container; --program FILE passes one of the host",
        )
    } else {
        error
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
        _ => {
            let ancestors = daemon.containers.ancestors(&record);
            let mut around = ancestors.into_iter();
            match around.find(|record| record.namespaces.contains(&Namespace::Pid)) {
                // Its PID namespace comes to be with its first process.
                Some(parent) if parent.state == State::Created => {
                    Err(engine_error(what, &EngineError::NotStarted(parent.path)))
                }
                _ => Ok(record),
            }
        }
    }
}

fn bytes(texts: &[ByteText]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.bytes().to_vec()).collect()
}

fn environment(call: &Run) -> Vec<Vec<u8>> {
    let mut environment = bytes(&call.environment);
    let home: &[u8] = if call.uid == 0 {
        b"HOME=/root"
    } else {
        b"HOME=/"
    };
    for (name, default) in [(&b"PATH="[..], DEFAULT_PATH), (b"HOME=", home)] {
        if !environment
            .iter()
            .any(|variable| variable.starts_with(name))
        {
            environment.push(default.to_vec());
        }
    }
    environment
}

/// Follows the ends of a container's processes; the end of the first one ends the container.
///
/// Without its monitor nobody learns how processes end, but what runs may go on: the container
/// ends when nothing is left in it. Another monitor, which the next process may come with, is followed
/// as well. It does not know of the first process, so where the kernel knows containers, the end of
/// that is looked for there.
pub(super) async fn watch(daemon: &Rc<Daemon>, id: ContainerId) {
    let watched = monitored(daemon, id).await.inspect_err(|error| {
        tracing::warn!(
            container_id = id.0,
            cause = error.cause.as_deref(),
            "{error}"
        );
    });
    let mut exits = watched.ok();
    let daemon = Rc::clone(daemon);
    tokio::task::spawn_local(async move {
        loop {
            if let Some(exits) = exits.take() {
                let followed = follow(&daemon, id, exits);
                tokio::pin!(followed);
                tokio::select! {
                    ended = &mut followed => if let Err(error) = ended {
                        tracing::debug!(container_id = id.0, %error, "the monitor is gone");
                    },
                    () = dead(&daemon, id) => {
                        // Its monitor is about to say how, if it is the one that knows.
                        let _ = tokio::time::timeout(WITHOUT_MONITOR, followed).await;
                        break;
                    }
                }
            }
            if !populated(&daemon, id).await {
                break;
            }
            tokio::time::sleep(WITHOUT_MONITOR).await;
            exits = monitored(&daemon, id).await.ok();
        }
        let Some(record) = daemon.containers.get(id).filter(runs) else {
            return;
        };
        let asked = daemon.blocking("ask how the container ended", move |engine| {
            Ok::<_, EngineError>(engine.end(&record))
        });
        let exit = asked.await.ok().flatten().unwrap_or(ExitStatus::Unknown);
        end_in_background(&daemon, id, exit);
    });
}

fn runs(record: &ContainerRecord) -> bool {
    record.state == State::Running
}

/// Whether a container runs and has a process.
async fn populated(daemon: &Rc<Daemon>, id: ContainerId) -> bool {
    let Some(record) = daemon.containers.get(id).filter(runs) else {
        return false;
    };
    let look = daemon.blocking("look into the container", move |engine| {
        Ok::<_, EngineError>(engine.populated(&record))
    });
    // In doubt it has, and is looked at again.
    look.await.unwrap_or(true)
}

/// Returns when the kernel's own container is dead; never where it has none.
async fn dead(daemon: &Rc<Daemon>, id: ContainerId) {
    let descriptor = daemon
        .containers
        .get(id)
        .and_then(|record| daemon.engine.descriptor(&record));
    let hung_up = match descriptor {
        // As it does when the container is dead.
        Some(descriptor) => readable(descriptor).await.is_ok(),
        None => false,
    };
    if !hung_up {
        std::future::pending().await
    }
}

/// What a container's monitor knows already, noted, and what it will report.
async fn monitored(daemon: &Rc<Daemon>, id: ContainerId) -> Result<Exits, Error> {
    let what = "watch the container’s processes";
    let (processes, exits) = daemon
        .blocking(what, move |engine| engine.watch(id))
        .await?;
    for state in processes {
        note(daemon, id, &state);
    }
    Ok(exits)
}

async fn follow(daemon: &Rc<Daemon>, id: ContainerId, exits: Exits) -> std::io::Result<()> {
    rustix::io::ioctl_fionbio(&exits, true)?;
    // Tokio wakes for it as for any Unix socket; messages are read from the original.
    let twin = std::os::unix::net::UnixStream::from(exits.as_fd().try_clone_to_owned()?);
    let socket = UnixStream::from_std(twin)?;
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || exits.next()) {
            Ok(state) => note(daemon, id, &state),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn note(daemon: &Rc<Daemon>, id: ContainerId, state: &ProcessState) {
    daemon.containers.change(id, |entry| {
        let process = entry
            .processes
            .entry(state.process)
            .or_insert_with(|| ProcessInfo {
                process: state.process,
                pid: state.pid,
                // Started under a former daemon, which did not store the command.
                command: Vec::new(),
                exit: None,
            });
        process.exit = state.exit.map(exit_status);
    });
    if let (1, Some(exit)) = (state.process, state.exit) {
        end_in_background(daemon, id, exit);
    }
}

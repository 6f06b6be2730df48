//! What a killed test leaves: instances of the engine under names of [`crate::unique`], whose
//! process is gone, and entries of the routing table that a test wrote by itself. Found by name, so
//! that neither a daemon of this machine nor a test that runs is touched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use keyns::engine::keyring::SERVICE_UID;
use keyns::engine::paths::{Paths, SHARED};
use keyns::engine::{EngineChoice, EngineError, Options};
use keyns::key_users;
use keyns::routing::{DIRECTORY, RoutingError, RoutingTable};
use rustix::process::{Pid, Signal, kill_process};

/// Removes everything that tests which are gone have left, and returns the names of their instances.
///
/// # Errors
/// The first thing that cannot be removed; what is left can be tried again.
pub fn remove(programs: &Path) -> Result<Vec<String>, EngineError> {
    let mut removed = Vec::new();
    for name in instances()? {
        let (Some(pid), Ok(paths)) = (maker(&name), Paths::new(&name)) else {
            continue;
        };
        if Path::new("/proc").join(pid.to_string()).exists() {
            continue;
        }
        if !paths.runtime().exists() && !paths.state().exists() {
            withdraw(&name)
                .map_err(|e| EngineError::system("mend the routing table")(io::Error::other(e)))?;
            removed.push(name);
            continue;
        }
        end_monitors(&paths).map_err(EngineError::system("end the monitors"))?;
        for service_uid in service_uids(pid).map_err(EngineError::system("read key users"))? {
            let options = Options {
                paths: paths.clone(),
                helpers: programs.to_owned(),
                service_uid,
                foreign: Vec::new(),
            };
            let engine = EngineChoice::Auto.start(options, &[])?;
            engine.reconcile(&[])?;
            engine.dissolve()?;
        }
        for directory in [paths.runtime(), paths.state()] {
            match fs::remove_dir_all(&directory) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let operation = format!("remove {}", directory.display());
                    return Err(EngineError::system(operation)(e));
                }
                _ => {}
            }
        }
        removed.push(name);
    }
    Ok(removed)
}

/// Names of all instances that have a runtime directory, or a container in the routing table.
fn instances() -> Result<BTreeSet<String>, EngineError> {
    let failed = || EngineError::system("list instances");
    let mut names = BTreeSet::new();
    let entries = match fs::read_dir(SHARED) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(names),
        other => other.map_err(failed())?,
    };
    for entry in entries {
        let entry = entry.map_err(failed())?;
        if entry.file_type().map_err(failed())?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    let routed = routed().map_err(|error| failed()(io::Error::other(error)))?;
    names.extend(routed);
    Ok(names)
}

/// Names of the instances that the routing table knows.
fn routed() -> Result<Vec<String>, RoutingError> {
    let directory = Path::new(DIRECTORY);
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let entries = RoutingTable::open(directory)?.entries()?;
    Ok(entries
        .into_iter()
        .filter_map(|entry| Some(entry.content.ok()?.instance))
        .collect())
}

/// Takes an instance out of the routing table.
fn withdraw(instance: &str) -> Result<(), RoutingError> {
    let table = RoutingTable::open(Path::new(DIRECTORY))?;
    table.withdraw_instance(instance)?;
    table.remove_if_empty();
    Ok(())
}

/// The process that made the name, if it was made by [`crate::unique`].
fn maker(instance: &str) -> Option<u32> {
    let mut parts = instance.rsplitn(3, '-');
    let _count: u32 = parts.next()?.parse().ok()?;
    let pid = parts.next()?.parse().ok()?;
    parts.next().map(|_what| pid)
}

/// The uids under which the process `pid` may have made a registry.
fn service_uids(pid: u32) -> io::Result<Vec<u32>> {
    let users = fs::read_to_string("/proc/key-users")?;
    let range = crate::service_uids_of(pid);
    let mut uids: Vec<u32> = key_users::lines(&users)
        .map(|user| user.uid)
        .filter(|uid| range.contains(uid))
        .collect();
    uids.push(SERVICE_UID);
    Ok(uids)
}

/// Kills the monitors of an instance: a monitor waits for its daemon, which will not come.
fn end_monitors(paths: &Paths) -> io::Result<()> {
    let directory = paths.runtime().join("monitor");
    let prefix = format!("{}/", directory.display());
    // `ADDRESS: REFERENCES PROTOCOL FLAGS TYPE STATE INODE PATH`
    let sockets = fs::read_to_string("/proc/net/unix")?;
    let links: BTreeSet<String> = sockets
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let inode = columns.nth(6)?;
            columns
                .next()?
                .starts_with(&prefix)
                .then(|| format!("socket:[{inode}]"))
        })
        .collect();
    for process in fs::read_dir("/proc")?.flatten() {
        let name = process.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|n| n.parse().ok())
            .and_then(Pid::from_raw)
        else {
            continue;
        };
        // A process that ends meanwhile holds nothing.
        let holds = fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| {
                fs::read_link(fd.path())
                    .is_ok_and(|to| to.to_str().is_some_and(|to| links.contains(to)))
            });
        if holds {
            match kill_process(pid, Signal::KILL) {
                Err(e) if e != rustix::io::Errno::SRCH => return Err(e.into()),
                _ => {}
            }
        }
    }
    Ok(())
}

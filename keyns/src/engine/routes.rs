//! A container's entries in the routing table.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt as _;

use super::cgroup::Cgroups;
use super::container::{ContainerId, ContainerRecord, Namespace};
use super::error::EngineError;
use super::paths::Paths;
use crate::routing::{RoutingEntry, RoutingError, RoutingKey, RoutingTable};

/// The namespaces that identify the container's processes; the cgroup, if it has neither. And, where
/// its processes are not confined to ids of their own, that they are not.
fn keys(paths: &Paths, cgroups: &Cgroups, record: &ContainerRecord) -> Vec<RoutingKey> {
    let pinned = |kind: Namespace| record.pins.get(kind.file()).copied();
    let mut keys = Vec::new();
    if record.ids.is_none() {
        keys.push(RoutingKey::AnyId {
            instance: paths.instance().to_owned(),
            container: record.id.0,
        });
    }
    keys.extend(pinned(Namespace::User).map(RoutingKey::User));
    keys.extend(pinned(Namespace::Pid).map(RoutingKey::Pid));
    let identified = [Namespace::User, Namespace::Pid];
    if !identified
        .iter()
        .any(|kind| record.namespaces.contains(kind))
    {
        let path = cgroups
            .kernel_path(&record.cgroup)
            .into_os_string()
            .into_vec();
        keys.push(RoutingKey::Cgroup(path));
    }
    keys
}

fn entry(paths: &Paths, record: &ContainerRecord, key: &RoutingKey) -> RoutingEntry {
    RoutingEntry {
        instance: paths.instance().to_owned(),
        container: record.id.0,
        socket: paths.upcall(),
        cgroup: match key {
            RoutingKey::Cgroup(path) => Some(path.clone()),
            RoutingKey::Pid(_) | RoutingKey::User(_) | RoutingKey::AnyId { .. } => None,
        },
    }
}

/// Publishes every entry the container has by now.
pub(super) fn publish(
    table: &RoutingTable,
    paths: &Paths,
    cgroups: &Cgroups,
    record: &ContainerRecord,
) -> Result<(), RoutingError> {
    for key in keys(paths, cgroups, record) {
        table.claim(&key, &entry(paths, record, &key))?;
    }
    Ok(())
}

/// Withdraws every entry of the container.
pub(super) fn withdraw(
    table: &RoutingTable,
    paths: &Paths,
    cgroups: &Cgroups,
    record: &ContainerRecord,
) -> Result<(), RoutingError> {
    for key in keys(paths, cgroups, record) {
        table.withdraw(&key, &entry(paths, record, &key))?;
    }
    Ok(())
}

/// Withdraws the entries of namespaces whose first process never ran, by the name of their pins.
pub(super) fn withdraw_namespaces(
    table: &RoutingTable,
    paths: &Paths,
    record: &ContainerRecord,
    namespaces: &BTreeMap<String, u64>,
) -> Result<(), RoutingError> {
    let inode = |kind: Namespace| namespaces.get(kind.file()).copied();
    let keys = [
        inode(Namespace::User).map(RoutingKey::User),
        inode(Namespace::Pid).map(RoutingKey::Pid),
    ];
    keys.iter()
        .flatten()
        .try_for_each(|key| table.withdraw(key, &entry(paths, record, key)))
}

/// Removes the instance's entries of containers that are not in `keep`, and publishes those of
/// `records` again.
pub(super) fn reconcile(
    table: &RoutingTable,
    paths: &Paths,
    cgroups: &Cgroups,
    records: &[ContainerRecord],
    keep: &[ContainerId],
) -> Result<(), RoutingError> {
    for listed in table.entries()? {
        let Ok(entry) = listed.content else { continue };
        let known = keep.iter().any(|id| id.0 == entry.container);
        if entry.instance == paths.instance() && !known {
            table.withdraw_container(&entry.instance, entry.container)?;
        }
    }
    for record in records {
        publish(table, paths, cgroups, record)?;
    }
    Ok(())
}

impl From<RoutingError> for EngineError {
    fn from(error: RoutingError) -> Self {
        match error {
            RoutingError::Io {
                action,
                path,
                source,
            } => Self::System {
                operation: format!("{action} {}", path.display()),
                source,
            },
            other => Self::Refused(other.to_string()),
        }
    }
}

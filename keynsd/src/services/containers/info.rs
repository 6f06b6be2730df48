//! Containers as the contract shows them.

use keyns::engine::container as engine;
use keyns_interfaces::ByteText;
use keyns_interfaces::containers::{ContainerInfo, ExitStatus, Namespace, Root, State};

use super::table::ContainerTable;

/// A container as clients see it.
#[must_use]
pub fn container_info(table: &ContainerTable, record: &engine::ContainerRecord) -> ContainerInfo {
    let own_mounts = record.namespaces.contains(&engine::Namespace::Mount);
    ContainerInfo {
        id: record.id.0,
        name: record.path.to_string(),
        parent: record.parent.map(|id| id.0),
        state: match record.state {
            engine::State::Created => State::Created,
            engine::State::Running => State::Running,
            engine::State::Dying => State::Dying,
            engine::State::Dead => State::Dead,
        },
        namespaces: record.namespaces.iter().copied().map(namespace).collect(),
        root: own_mounts.then(|| root(&record.root)),
        uid_base: record.ids.map(|ids| ids.base),
        uid_count: record.ids.map(|ids| ids.count),
        keyring: (record.state != engine::State::Dead).then_some(record.keyrings.container),
        init_pid: record
            .init
            .filter(|_| record.state == engine::State::Running),
        exit: record.exit.map(exit_status),
        created: record.created,
        kill_on_close: record.kill_on_close,
        caveats: caveats(table, record),
    }
}

fn caveats(table: &ContainerTable, record: &engine::ContainerRecord) -> Vec<String> {
    use engine::Namespace as N;

    let mut caveats = Vec::new();
    let has = |kind| record.namespaces.contains(&kind);
    if table.ids(record.id).is_none() {
        caveats.push(
            "no isolation of keys or mounts: root in it is root of the host (no user namespace)"
                .to_owned(),
        );
        if !has(N::Pid) {
            caveats.push(
                "membership is advisory: root in it can leave its cgroup (no user or PID namespace)"
                    .to_owned(),
            );
        }
    }
    if has(N::Mount) && record.root == engine::Root::Copy {
        caveats.push("its mounts are a copy of the host’s, readable like those".to_owned());
    }
    if !has(N::Net) {
        caveats.push(
            "it shares a network namespace, and with it keys that are tagged by network".to_owned(),
        );
    }
    caveats
}

pub(super) fn namespace(kind: engine::Namespace) -> Namespace {
    match kind {
        engine::Namespace::User => Namespace::User,
        engine::Namespace::Pid => Namespace::Pid,
        engine::Namespace::Mount => Namespace::Mount,
        engine::Namespace::Net => Namespace::Net,
        engine::Namespace::Ipc => Namespace::Ipc,
        engine::Namespace::Uts => Namespace::Uts,
        engine::Namespace::Cgroup => Namespace::Cgroup,
    }
}

pub(super) fn engine_namespace(kind: Namespace) -> engine::Namespace {
    match kind {
        Namespace::User => engine::Namespace::User,
        Namespace::Pid => engine::Namespace::Pid,
        Namespace::Mount => engine::Namespace::Mount,
        Namespace::Net => engine::Namespace::Net,
        Namespace::Ipc => engine::Namespace::Ipc,
        Namespace::Uts => engine::Namespace::Uts,
        Namespace::Cgroup => engine::Namespace::Cgroup,
    }
}

fn root(root: &engine::Root) -> Root {
    use std::os::unix::ffi::OsStrExt as _;

    match root {
        engine::Root::Empty => Root::Empty,
        engine::Root::Usr => Root::Usr,
        engine::Root::Dir(path) => Root::Dir(ByteText::from(path.as_os_str().as_bytes())),
        engine::Root::Copy => Root::Copy,
    }
}

pub(super) fn engine_root(root: Root) -> engine::Root {
    use std::os::unix::ffi::OsStringExt as _;

    match root {
        Root::Empty => engine::Root::Empty,
        Root::Usr => engine::Root::Usr,
        Root::Dir(path) => engine::Root::Dir(std::ffi::OsString::from_vec(path.0).into()),
        Root::Copy => engine::Root::Copy,
    }
}

pub(super) fn exit_status(exit: engine::ExitStatus) -> ExitStatus {
    match exit {
        engine::ExitStatus::Exited(code) => ExitStatus::Exited(code),
        engine::ExitStatus::Killed(signal) => ExitStatus::Killed(signal),
        engine::ExitStatus::Unknown => ExitStatus::Unknown,
    }
}

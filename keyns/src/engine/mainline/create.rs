//! Making a container.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::build::{self, BuildRequest, ContainerPlan, Passed};
use super::super::container::{
    ContainerKeyrings, ContainerRecord, ContainerSpec, IdRange, Namespace, Root, State, nearest,
};
use super::super::contract::Engine as _;
use super::super::error::EngineError;
use super::super::keyring::container::owner_for;
use super::super::{cgroup, ids, routes};
use super::engine::Mainline;

/// How long helpers that were killed may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

impl Mainline {
    pub(super) fn make(
        &self,
        spec: &ContainerSpec,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<ContainerRecord, EngineError> {
        let mut record = self.draft(spec, lineage);
        match self.assemble(&mut record, lineage, taken) {
            Ok(()) => Ok(record),
            Err(error) => {
                self.abandon(&record);
                // Best effort: what is left is removed at the next start.
                let _ = self.destroy(&record);
                Err(error)
            }
        }
    }

    /// Ends what still works on a container that is not made after all: nothing can be removed before.
    pub(in crate::engine) fn abandon(&self, record: &ContainerRecord) {
        let _ = cgroup::kill(&record.cgroup, ENDED_WITHIN);
    }

    /// The record of a container of which nothing is made yet.
    pub(in crate::engine) fn draft(
        &self,
        spec: &ContainerSpec,
        lineage: &[ContainerRecord],
    ) -> ContainerRecord {
        ContainerRecord {
            id: spec.id,
            path: spec.path.clone(),
            parent: lineage.first().map(|parent| parent.id),
            namespaces: spec.namespaces.clone(),
            root: spec.root.clone(),
            ids: None,
            keyrings: ContainerKeyrings {
                container: 0,
                owner: 0,
                store: 0,
                sessions: 0,
            },
            cgroup: self
                .cgroups
                .directory(lineage.first().map(|p| p.cgroup.as_path()), spec.id),
            pins: BTreeMap::new(),
            state: State::Created,
            init: None,
            exit: None,
            created: SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |d| d.as_secs()),
            kill_on_close: spec.kill_on_close,
            object: None,
        }
    }

    fn assemble(
        &self,
        record: &mut ContainerRecord,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<(), EngineError> {
        let passed = Passed {
            directory: root_directory(record)?,
            parent: None,
        };
        let plan = self.lay_out(record, lineage, taken)?;
        (record.pins, _) = build::run(&self.stage, &BuildRequest::Container(plan), &passed)?;
        self.publish(record)
    }

    /// Gives a container what it has besides its namespaces: ids, keyrings, a cgroup, a place for
    /// pins; and says how those are to be built.
    pub(in crate::engine) fn lay_out(
        &self,
        record: &mut ContainerRecord,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<ContainerPlan, EngineError> {
        let parent_user = self.parent_user(lineage);
        if record.namespaces.contains(&Namespace::User) {
            record.ids = Some(self.take_ids(record, parent_user.as_ref(), taken)?);
        }
        let ids = record.ids.or(parent_user.as_ref().map(|(ids, _)| *ids));
        let owner = owner_for(record.id, ids);
        let id = record.id;
        record.keyrings = self
            .keys
            .call(move |keys| keys.create_container(id, owner))?;
        for directory in [&record.cgroup, &self.paths.container_pins(record.id)] {
            fs::create_dir(directory)
                .map_err(EngineError::system(format!("make {}", directory.display())))?;
        }
        // Those nested in a container count there.
        if lineage.is_empty() {
            self.cgroups
                .limit(&record.cgroup)
                .map_err(EngineError::system(
                    "limit the number of the container's processes",
                ))?;
        }
        Ok(self.plan(record, lineage))
    }

    /// How the namespaces of a container are to be built.
    pub(in crate::engine) fn plan(
        &self,
        record: &ContainerRecord,
        lineage: &[ContainerRecord],
    ) -> ContainerPlan {
        ContainerPlan {
            host_name: record.path.name().to_string(),
            namespaces: record.namespaces.clone(),
            root: record.root.clone(),
            ids: record.ids,
            parent_user: self.parent_user(lineage),
            parent_mount: nearest(lineage, Namespace::Mount)
                .map(|r| self.pin_path(r, Namespace::Mount)),
            seed: self.paths.seed(),
            cgroup: record.cgroup.clone(),
            pins: self.paths.container_pins(record.id),
            object: false,
        }
    }

    /// Leads requests of the container's processes to the daemon.
    pub(in crate::engine) fn publish(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        routes::publish(&self.routing, &self.paths, &self.cgroups, record)?;
        Ok(())
    }

    /// Ids and user namespace of the nearest container around one that has its own.
    pub(in crate::engine) fn parent_user(
        &self,
        lineage: &[ContainerRecord],
    ) -> Option<(IdRange, PathBuf)> {
        let owner = nearest(lineage, Namespace::User)?;
        Some((owner.ids?, self.pin_path(owner, Namespace::User)))
    }

    fn take_ids(
        &self,
        record: &ContainerRecord,
        parent: Option<&(IdRange, PathBuf)>,
        taken: &[IdRange],
    ) -> Result<IdRange, EngineError> {
        let Some((parent, _)) = parent else {
            return self
                .ids
                .take(&record.id.to_string())
                .map_err(EngineError::system(
                    "take a range of user ids (all ranges are in use or still own keys)",
                ));
        };
        (0..ids::NESTED_LIMIT)
            .filter_map(|slot| ids::nested_slice(*parent, slot))
            .filter(|slice| !taken.iter().any(|other| other.base == slice.base))
            .find(|slice| !ids::own_keys(*slice).unwrap_or(true))
            .ok_or_else(|| {
                EngineError::Refused(format!(
                    "a container shares its ids with at most {} nested ones with a user namespace, \
                     each of which gets one sixteenth of them",
                    ids::NESTED_LIMIT
                ))
            })
    }
}

/// Opens a container's root directory, if it has one of the host's.
pub(in crate::engine) fn root_directory(
    record: &ContainerRecord,
) -> Result<Option<OwnedFd>, EngineError> {
    match &record.root {
        Root::Dir(path) if record.namespaces.contains(&Namespace::Mount) => {
            open_root_directory(path).map(Some)
        }
        _ => Ok(None),
    }
}

/// Opens a container's root directory once, so that what is checked is what is used.
fn open_root_directory(path: &Path) -> Result<OwnedFd, EngineError> {
    use rustix::fs::{Mode, OFlags};

    let shown = path.display();
    let system = |what: &str| EngineError::system(format!("{what} {shown}"));
    if !path.is_absolute() {
        return Err(EngineError::Refused(format!(
            "the root directory {shown} is not absolute"
        )));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOTDIR) => {
            return Err(EngineError::Refused(format!("{shown} is not a directory")));
        }
        other => other.map_err(|e| system("open")(e.into()))?,
    };
    let target = rustix::fs::fstat(&directory).map_err(|e| system("look at")(e.into()))?;
    let host = rustix::fs::stat("/").map_err(|e| system("look at")(e.into()))?;
    if (target.st_dev, target.st_ino) == (host.st_dev, host.st_ino) {
        return Err(EngineError::Refused(
            "the host's own root directory cannot be a container's".into(),
        ));
    }
    Ok(directory)
}

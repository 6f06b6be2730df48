//! The engine itself: containers from the pieces in this folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keyns_sys::waiting_place;

use super::super::build::{self, BuildRequest, Passed};
use super::super::cgroup::{self, Cgroups};
use super::super::choice::Options;
use super::super::container::{
    ContainerId, ContainerRecord, ContainerSpec, ExitStatus, IdRange, Namespace, nearest,
};
use super::super::contract::Engine;
use super::super::error::EngineError;
use super::super::ids::IdPool;
use super::super::keyring::{KeyWorker, WorkerOptions};
use super::super::monitors::{Exits, Monitors, Prepared};
use super::super::objects::Objects;
use super::super::paths::{Paths, SHARED, make_directory};
use super::super::process::{ProcessState, RunSpec};
use super::super::program::SealedProgram;
use super::super::requests::{RequestQueue, Sink};
use super::super::{pin, routes, shared};
use super::features;
use crate::expression::{Expression, Object, Place, Refusal};
use crate::feature::FeatureRow;
use crate::probe::KernelFacts;
use crate::rights::Rights;
use crate::routing::{DIRECTORY, RoutingTable};

/// How long what a killed daemon left may take to end.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(2);

/// The engine for stock kernels.
#[derive(Debug)]
pub(in crate::engine) struct Mainline {
    pub(in crate::engine) paths: Paths,
    pub(in crate::engine) keys: KeyWorker,
    pub(super) ids: IdPool,
    pub(super) cgroups: Cgroups,
    pub(super) routing: RoutingTable,
    pub(in crate::engine) stage: SealedProgram,
    pub(in crate::engine) monitors: Monitors,
    foreign: Vec<PathBuf>,
}

impl Mainline {
    /// Starts the engine: checks the machine, mounts the pin directory, gains possession of the
    /// registry.
    ///
    /// # Errors
    /// A sentence for everything this machine lacks.
    pub(in crate::engine) fn start(options: Options) -> Result<Self, EngineError> {
        Self::start_with(options, None)
    }

    /// Same for an engine that has container objects and leaves the rest to this one.
    pub(in crate::engine) fn start_with(
        options: Options,
        objects: Option<Arc<Objects>>,
    ) -> Result<Self, EngineError> {
        let paths = options.paths;
        let mount = crate::probe::cgroup2_mount()
            .map_err(EngineError::system("find the cgroup2 file system"))?
            .ok_or_else(|| {
                EngineError::Refused(
                    "keyns needs cgroup2, and no cgroup2 file system is mounted".into(),
                )
            })?;
        let directory = |path: &Path| {
            make_directory(path).map_err(EngineError::system(format!("make {}", path.display())))
        };
        let (ids, routing) = {
            // An instance that leaves may be about to remove what it believes nobody needs.
            let _held = shared::lock(&Path::new(SHARED).join("lock"))
                .map_err(EngineError::system("lock /run/keyns"))?;
            for path in [&paths.runtime(), &paths.runtime().join("monitor")] {
                directory(path)?;
            }
            let ids =
                IdPool::open(paths.instance()).map_err(EngineError::system("open the id pool"))?;
            (ids, RoutingTable::open(Path::new(DIRECTORY))?)
        };
        let cgroups = Cgroups::open(mount, paths.instance())
            .map_err(EngineError::system("make the instance's cgroup"))?;
        pin::prepare(&paths.pins()).map_err(EngineError::system("mount the pin directory"))?;
        let program = |name: &str| {
            SealedProgram::load(&options.helpers.join(name)).map_err(EngineError::system(format!(
                "load {}",
                options.helpers.join(name).display()
            )))
        };
        let stage = program("keyns-stage")?;
        prepare_seed(&stage, &paths.seed())?;
        let mut worker = WorkerOptions::new(paths.instance(), Path::new(SHARED).join("lock"));
        worker.service_uid = options.service_uid;
        worker.objects = objects;
        let keys = KeyWorker::start(program("keyns-shelter")?, worker)?;
        Ok(Self {
            keys,
            ids,
            routing,
            stage,
            monitors: Monitors::new(paths.clone(), program("keyns-monitor")?, cgroups.monitors()),
            cgroups,
            paths,
            foreign: options.foreign,
        })
    }

    /// Takes back what a start that failed has made, as far as nothing of the instance is in it.
    pub(in crate::engine) fn withdraw(paths: &Paths) {
        // None of these calls removes what is in use; the first that fails has found such a thing.
        let _ = (|| {
            if let Some(mount) = crate::probe::cgroup2_mount()? {
                Cgroups::remove_unused(&mount, paths.instance())?;
            }
            pin::dissolve(&paths.pins())?;
            let runtime = paths.runtime();
            for directory in [&runtime.join("monitor"), &runtime] {
                if *directory == runtime {
                    let places = runtime.join(waiting_place::FILE_NAME);
                    match fs::remove_file(places) {
                        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                        _ => fs::remove_file(runtime.join("lock"))?,
                    }
                }
                match fs::remove_dir(directory) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            shared::retire(Path::new(SHARED))
        })();
    }

    pub(in crate::engine) fn pin_path(&self, record: &ContainerRecord, kind: Namespace) -> PathBuf {
        self.paths.container_pins(record.id).join(kind.file())
    }
}

impl Engine for Mainline {
    fn name(&self) -> &'static str {
        "mainline"
    }

    fn features(&self, facts: &KernelFacts) -> Vec<FeatureRow> {
        features::rows(facts)
    }

    fn keys(&self) -> &KeyWorker {
        &self.keys
    }

    fn express(&self, requested: Rights, accepted: Rights) -> Result<Expression, Refusal> {
        Place::container(Object::Key, false).check(requested, accepted)
    }

    fn create(
        &self,
        spec: &ContainerSpec,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<ContainerRecord, EngineError> {
        self.make(spec, lineage, taken)
    }

    fn prepare(
        &self,
        lineage: &[ContainerRecord],
        run: &RunSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Prepared, EngineError> {
        self.start_process(lineage, run, fds)
    }

    fn register(
        &self,
        record: &mut ContainerRecord,
        prepared: &Prepared,
    ) -> Result<(), EngineError> {
        if !prepared.namespaces.is_empty() {
            record.pins.extend(prepared.namespaces.clone());
            routes::publish(&self.routing, &self.paths, &self.cgroups, record)?;
        }
        Ok(())
    }

    fn unregister(
        &self,
        record: &mut ContainerRecord,
        _: &[ContainerRecord],
        namespaces: &BTreeMap<String, u64>,
    ) -> Result<(), EngineError> {
        record.pins.retain(|name, _| !namespaces.contains_key(name));
        routes::withdraw_namespaces(&self.routing, &self.paths, record, namespaces)?;
        Ok(())
    }

    fn forget_first(
        &self,
        record: &mut ContainerRecord,
        _: &[ContainerRecord],
    ) -> Result<(), EngineError> {
        if record.pins.remove(Namespace::Pid.file()).is_none() {
            return Ok(());
        }
        let pin = self.pin_path(record, Namespace::Pid);
        if let Ok(found) = fs::metadata(&pin) {
            let inode = BTreeMap::from([(Namespace::Pid.file().to_owned(), found.ino())]);
            routes::withdraw_namespaces(&self.routing, &self.paths, record, &inode)?;
        }
        pin::unpin(&pin).map_err(EngineError::system("remove a PID namespace's pin"))
    }

    fn requests(&self, _: Sink) -> Result<Option<RequestQueue>, EngineError> {
        Ok(None)
    }

    fn signal(&self, id: ContainerId, process: u64, signal: i32) -> Result<(), EngineError> {
        self.monitors.signal(id, process, signal)
    }

    fn watch(&self, id: ContainerId) -> Result<(Vec<ProcessState>, Exits), EngineError> {
        self.monitors.watch(id)
    }

    fn reconcile(&self, records: &[ContainerRecord]) -> Result<Vec<EngineError>, EngineError> {
        let known = |id: &str| records.iter().any(|r| r.id.to_string() == id);
        let mut left = Vec::new();
        let mut keep: Vec<ContainerId> = records.iter().map(|r| r.id).collect();
        let mut ranges: Vec<IdRange> = records.iter().filter_map(|r| r.ids).collect();
        let mut alive = false;
        for directory in self
            .cgroups
            .leftovers()
            .map_err(EngineError::system("list cgroups"))?
        {
            let name = directory
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if known(&name) {
                continue;
            }
            let removed = cgroup::kill(&directory, LEFTOVER_PATIENCE)
                .and_then(|()| cgroup::remove(&directory));
            if let Err(error) = removed {
                // What still runs there keeps its pins, ids, keyrings and routes.
                alive = true;
                keep.extend(name.parse().ok().map(ContainerId));
                left.push(EngineError::system(format!("remove cgroup {name}"))(error));
            }
        }
        let kept = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            keep.iter().any(|id| id.to_string() == name)
        };
        let mut remove = |path: &Path, remove: fn(&Path) -> io::Result<()>| {
            if !kept(path)
                && let Err(error) = remove(path)
            {
                left.push(EngineError::system(format!("remove {}", path.display()))(
                    error,
                ));
            }
        };
        for pins in pin::of_containers(&self.paths.pins()).unwrap_or_default() {
            remove(&pins, pin::unpin_all);
        }
        for directory in ["monitor", "lease"].map(|name| self.paths.runtime().join(name)) {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                remove(&entry.path(), |path| fs::remove_file(path));
            }
        }
        if alive {
            ranges.extend(
                self.ids
                    .taken()
                    .map_err(EngineError::system("read the id pool"))?,
            );
        }
        let reconciled = self
            .ids
            .reconcile(&ranges)
            .map_err(EngineError::system("reconcile the id pool"));
        left.extend(reconciled.err());
        let routed = routes::reconcile(&self.routing, &self.paths, &self.cgroups, records, &keep);
        left.extend(routed.err().map(EngineError::from));
        let gone = self.keys.call(move |keys| {
            Ok(keys
                .containers()
                .into_iter()
                .filter(|id| !keep.contains(id))
                .collect::<Vec<_>>())
        })?;
        for id in gone {
            let destroyed = self.keys.call(move |keys| keys.destroy_container(id));
            left.extend(destroyed.err().map(EngineError::from));
        }
        Ok(left)
    }

    fn kill(&self, record: &ContainerRecord) -> Result<bool, EngineError> {
        cgroup::kill_now(&record.cgroup).map_err(EngineError::system(format!(
            "kill container “{}”",
            record.path
        )))
    }

    fn destroy(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        if self.populated(record) {
            return Err(EngineError::Refused(format!(
                "a process is left in container “{}”",
                record.path
            )));
        }
        let mut first = Ok(());
        let mut note = |result: Result<(), EngineError>| {
            if first.is_ok() {
                first = result;
            }
        };
        let socket = self.paths.monitor(record.id);
        if socket.exists() {
            note(self.monitors.dismiss(record.id));
            note(
                fs::remove_file(&socket)
                    .map_err(EngineError::system("remove the monitor's socket")),
            );
        }
        note(
            routes::withdraw(&self.routing, &self.paths, &self.cgroups, record)
                .map_err(EngineError::from),
        );
        note(cgroup::remove(&record.cgroup).map_err(EngineError::system("remove the cgroup")));
        let id = record.id;
        note(
            self.keys
                .call(move |keys| keys.destroy_container(id))
                .map_err(EngineError::from),
        );
        note(
            pin::unpin_all(&self.paths.container_pins(record.id))
                .map_err(EngineError::system("remove the pins")),
        );
        // Part of the ids of a container around is no range of the pool, and gives nothing back.
        if let Some(ids) = record.ids {
            note(
                self.ids
                    .give_back(ids)
                    .map_err(EngineError::system("give the ids back")),
            );
        }
        first
    }

    fn intact(&self, record: &ContainerRecord) -> bool {
        pin::intact(&self.paths.container_pins(record.id), &record.pins) && record.cgroup.is_dir()
    }

    fn populated(&self, record: &ContainerRecord) -> bool {
        cgroup::populated(&record.cgroup).unwrap_or(false)
    }

    fn end(&self, _: &ContainerRecord) -> Option<ExitStatus> {
        None
    }

    fn descriptor(&self, _: &ContainerRecord) -> Option<OwnedFd> {
        None
    }

    fn take_back(&self, _: &ContainerRecord, _: OwnedFd) -> Result<(), EngineError> {
        let why = "the engine “mainline” keeps no container by a descriptor";
        Err(EngineError::Refused(why.into()))
    }

    fn cgroup_path(&self, record: &ContainerRecord) -> PathBuf {
        self.cgroups.kernel_path(&record.cgroup)
    }

    fn net_namespace(&self, lineage: &[ContainerRecord]) -> io::Result<Option<OwnedFd>> {
        nearest(lineage, Namespace::Net)
            .map(|r| fs::File::open(self.pin_path(r, Namespace::Net)).map(OwnedFd::from))
            .transpose()
    }

    fn dissolve(&self) -> Result<(), EngineError> {
        self.keys.call(|keys| keys.remove_instance())?;
        self.cgroups
            .remove()
            .map_err(EngineError::system("remove the instance's cgroup"))?;
        pin::dissolve(&self.paths.pins())
            .map_err(EngineError::system("unmount the pin directory"))?;
        let runtime = self.paths.runtime();
        empty(&runtime, &self.foreign)
            .map_err(EngineError::system(format!("remove {}", runtime.display())))?;
        shared::retire(Path::new(SHARED)).map_err(EngineError::system("remove /run/keyns"))
    }

    fn is_unused(&self) -> bool {
        let no_pins = pin::of_containers(&self.paths.pins()).is_ok_and(|pins| pins.is_empty());
        no_pins
            && self
                .cgroups
                .leftovers()
                .is_ok_and(|groups| groups.is_empty())
    }
}

/// Removes a directory and all in it but `foreign` files, for which it stays.
fn empty(directory: &Path, foreign: &[PathBuf]) -> io::Result<()> {
    let mut stays = false;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if foreign.contains(&path) {
            stays = true;
        } else if fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    if stays {
        return Ok(());
    }
    fs::remove_dir(directory)
}

/// Makes the seed, unless a daemon that was killed has left it.
fn prepare_seed(stage: &SealedProgram, seed: &Path) -> Result<(), EngineError> {
    if pin::is_mount_point(seed).unwrap_or(false) {
        return Ok(());
    }
    // A file without its mount, from a daemon that was killed in between.
    pin::unpin(seed).map_err(EngineError::system("remove half a seed"))?;
    build::run(
        stage,
        &BuildRequest::Seed(seed.to_owned()),
        &Passed::default(),
    )
    .map(drop)
}

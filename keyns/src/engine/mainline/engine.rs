//! The engine itself: containers from the pieces in this folder.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyns_sys::waiting_place;

use super::super::container::{ContainerId, ContainerRecord, IdRange, Namespace};
use super::super::error::EngineError;
use super::build::BuildRequest;
use super::cgroup::{self, Cgroups};
use super::create::run_builder;
use super::ids::IdPool;
use super::keyring::{KeyError, KeyWorker, WorkerOptions};
use super::paths::{Paths, SHARED};
use super::program::SealedProgram;
use super::{pin, routes, shared};
use crate::routing::{DIRECTORY, RoutingError, RoutingTable};

/// How long a helper or a monitor may take for one step.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How long what a killed daemon left may take to end.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(2);

/// What the engine is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Paths of the instance.
    pub paths: Paths,
    /// Directory of the helper programs `keyns-stage`, `keyns-monitor`, `keyns-shelter`.
    pub helpers: PathBuf,
    /// Uid whose user keyring holds the registry.
    pub service_uid: u32,
}

/// The engine for stock kernels.
#[derive(Debug)]
pub struct Mainline {
    /// Paths of the instance.
    pub paths: Paths,
    /// The thread that possesses the keyrings of all containers.
    pub keys: KeyWorker,
    pub(super) ids: IdPool,
    pub(super) cgroups: Cgroups,
    pub(super) routing: RoutingTable,
    pub(super) stage: SealedProgram,
    pub(super) monitor: SealedProgram,
}

impl Mainline {
    /// Starts the engine: checks the machine, mounts the pin directory, gains possession of the
    /// registry.
    ///
    /// # Errors
    /// A sentence for everything this machine lacks.
    pub fn start(options: Options) -> Result<Self, EngineError> {
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
        let keys = KeyWorker::start(program("keyns-shelter")?, worker)?;
        Ok(Self {
            keys,
            ids,
            routing,
            cgroups,
            stage,
            monitor: program("keyns-monitor")?,
            paths,
        })
    }

    /// Removes what belongs to no container of `records`: remains of a daemon that was killed while
    /// it made or removed one. Returns what could not be removed, which the next start tries again:
    /// one leftover must not keep the daemon from its containers.
    ///
    /// # Errors
    /// When the directories cannot be listed.
    pub fn reconcile(&self, records: &[ContainerRecord]) -> Result<Vec<EngineError>, EngineError> {
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

    /// Kills every process of the container and those nested in it; true: one is left yet.
    ///
    /// # Errors
    /// Those of writing `cgroup.kill`.
    pub fn kill(&self, record: &ContainerRecord) -> Result<bool, EngineError> {
        cgroup::kill_now(&record.cgroup).map_err(EngineError::system(format!(
            "kill container “{}”",
            record.path
        )))
    }

    /// Removes everything of a container in which nothing runs.
    ///
    /// # Errors
    /// When something runs in it: its routes and ids must not be given away then. Else the first
    /// thing that cannot be removed; the rest is removed all the same.
    pub fn destroy(&self, record: &ContainerRecord) -> Result<(), EngineError> {
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
            note(self.dismiss_monitor(record.id));
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
        // A nested container's ids go back with its parent's.
        if let (Some(ids), None) = (record.ids, record.parent) {
            note(
                self.ids
                    .give_back(ids)
                    .map_err(EngineError::system("give the ids back")),
            );
        }
        first
    }

    /// Whether the namespaces of a stored container are still the ones it had.
    #[must_use]
    pub fn intact(&self, record: &ContainerRecord) -> bool {
        pin::intact(&self.paths.container_pins(record.id), &record.pins) && record.cgroup.is_dir()
    }

    /// Whether a process is left in the container.
    #[must_use]
    pub fn populated(&self, record: &ContainerRecord) -> bool {
        cgroup::populated(&record.cgroup).unwrap_or(false)
    }

    /// The cgroup path of a container as `/proc/PID/cgroup` shows it.
    #[must_use]
    pub fn cgroup_path(&self, record: &ContainerRecord) -> PathBuf {
        self.cgroups.kernel_path(&record.cgroup)
    }

    /// Opens the nearest network namespace of its own in a container's lineage.
    ///
    /// # Errors
    /// `open(2)`.
    pub fn net_namespace(&self, lineage: &[ContainerRecord]) -> io::Result<Option<OwnedFd>> {
        nearest(lineage, Namespace::Net)
            .map(|r| fs::File::open(self.pin_path(r, Namespace::Net)).map(OwnedFd::from))
            .transpose()
    }

    /// Gives everything back when no container is left: pins, cgroup, registry, directories.
    ///
    /// # Errors
    /// The first thing that cannot be removed.
    pub fn dissolve(&self) -> Result<(), EngineError> {
        self.keys.call(|keys| keys.remove_instance())?;
        self.cgroups
            .remove()
            .map_err(EngineError::system("remove the instance's cgroup"))?;
        pin::dissolve(&self.paths.pins())
            .map_err(EngineError::system("unmount the pin directory"))?;
        let runtime = self.paths.runtime();
        fs::remove_dir_all(&runtime)
            .map_err(EngineError::system(format!("remove {}", runtime.display())))?;
        shared::retire(Path::new(SHARED)).map_err(EngineError::system("remove /run/keyns"))
    }

    /// Whether the kernel has no container of the instance: no cgroup and no pin. In doubt it has.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        let no_pins = pin::of_containers(&self.paths.pins()).is_ok_and(|pins| pins.is_empty());
        no_pins
            && self
                .cgroups
                .leftovers()
                .is_ok_and(|groups| groups.is_empty())
    }

    /// Takes back what a start that failed has made, as far as nothing of the instance is in it.
    pub fn withdraw(paths: &Paths) {
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

    pub(super) fn pin_path(&self, record: &ContainerRecord, kind: Namespace) -> PathBuf {
        self.paths.container_pins(record.id).join(kind.file())
    }
}

/// Makes the seed, unless a daemon that was killed has left it.
fn prepare_seed(stage: &SealedProgram, seed: &Path) -> Result<(), EngineError> {
    if pin::is_mount_point(seed).unwrap_or(false) {
        return Ok(());
    }
    // A file without its mount, from a daemon that was killed in between.
    pin::unpin(seed).map_err(EngineError::system("remove half a seed"))?;
    run_builder(stage, &BuildRequest::Seed(seed.to_owned()), None).map(drop)
}

pub(super) fn nearest(lineage: &[ContainerRecord], kind: Namespace) -> Option<&ContainerRecord> {
    lineage
        .iter()
        .find(|record| record.namespaces.contains(&kind))
}

pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    // Others may pass through to the varlink socket, not look.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
}

impl From<KeyError> for EngineError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Engine(error) => error,
            KeyError::Quota { .. } => Self::Quota(error.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
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

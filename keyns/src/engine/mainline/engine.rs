//! The engine itself: containers from the pieces in this folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::super::container::{
    ContainerId, ContainerKeyrings, ContainerRecord, ContainerSpec, IdRange, Namespace, Root, State,
};
use super::super::error::EngineError;
use super::build::{BuildReply, BuildRequest, STAGE_PIN};
use super::cgroup::{self, Cgroups};
use super::channel::Channel;
use super::enter::StartPlan;
use super::ids::{self, IdPool};
use super::keyring::{KeyError, KeyWorker, WorkerOptions, container::owner_for};
use super::monitor::{Answer, Command, ProcessState};
use super::paths::{Paths, SHARED};
use super::program::SealedProgram;
use super::{features, pin, routes, shared};
use crate::feature::FeatureRow;
use crate::routing::{DIRECTORY, RoutingError, RoutingTable};

/// How long a helper or a monitor may take for one step.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a monitor may refuse to quit.
const QUIT_PATIENCE: Duration = Duration::from_secs(2);

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
    ids: IdPool,
    cgroups: Cgroups,
    routing: RoutingTable,
    stage: SealedProgram,
    monitor: SealedProgram,
}

/// A process to be started in a container.
#[derive(Clone, Debug)]
pub struct RunSpec {
    /// Its number within the container; 1 is the first process.
    pub process: u64,
    /// Program and arguments.
    pub command: Vec<Vec<u8>>,
    /// `NAME=value` strings.
    pub environment: Vec<Vec<u8>>,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Whether it gets a terminal of the container.
    pub terminal: bool,
    /// Whether the last descriptor is the program.
    pub program_passed: bool,
}

/// A process that waits inside its container until it is released; dropped, it is killed.
#[derive(Debug)]
pub struct Prepared {
    channel: Channel,
    /// Its id on the host.
    pub pid: u32,
    /// Inode of the PID namespace it is process 1 of.
    pub pid_namespace: Option<u64>,
    /// Master of its terminal.
    pub terminal: Option<OwnedFd>,
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
        let mut worker = WorkerOptions::new(paths.instance(), Path::new(SHARED).join("lock"));
        worker.service_uid = options.service_uid;
        let keys = KeyWorker::start(program("keyns-shelter")?, worker)?;
        Ok(Self {
            keys,
            ids,
            routing,
            cgroups,
            stage: program("keyns-stage")?,
            monitor: program("keyns-monitor")?,
            paths,
        })
    }

    /// What the engine offers on this kernel, and who enforces it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn features(&self) -> Result<Vec<FeatureRow>, EngineError> {
        features::rows().map_err(EngineError::system("look at the kernel's features"))
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
        for (parent, remove) in [
            (
                self.paths.pins(),
                pin::unpin_all as fn(&Path) -> io::Result<()>,
            ),
            (self.paths.runtime().join("monitor"), |p| fs::remove_file(p)),
            (self.paths.runtime().join("lease"), |p| fs::remove_file(p)),
        ] {
            for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if keep.iter().any(|id| id.to_string() == name) {
                    continue;
                }
                if let Err(error) = remove(&entry.path()) {
                    let what = format!("remove {}", entry.path().display());
                    left.push(EngineError::system(what)(error));
                }
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

    /// Makes a container. `lineage` is its parent, its parent's parent and so on; `taken` are the
    /// id ranges of its parent's other children.
    ///
    /// # Errors
    /// What failed. What was made is removed again; if that fails too, at the next start.
    pub fn create(
        &self,
        spec: &ContainerSpec,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<ContainerRecord, EngineError> {
        let mut record = ContainerRecord {
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
        };
        match self.assemble(&mut record, lineage, taken) {
            Ok(()) => Ok(record),
            Err(error) => {
                // Best effort: what is left is removed at the next start.
                let _ = self.destroy(&record);
                Err(error)
            }
        }
    }

    fn assemble(
        &self,
        record: &mut ContainerRecord,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<(), EngineError> {
        let own_mounts = record.namespaces.contains(&Namespace::Mount);
        let directory = match &record.root {
            Root::Dir(path) if own_mounts => Some(open_root_directory(path)?),
            _ => None,
        };
        let parent_user = nearest(lineage, Namespace::User)
            .and_then(|r| Some((r.ids?, self.pin_path(r, Namespace::User))));
        if record.namespaces.contains(&Namespace::User) {
            record.ids = Some(self.take_ids(record, parent_user.as_ref(), taken)?);
        }
        let ids = record.ids.or(parent_user.as_ref().map(|(ids, _)| *ids));
        let owner = owner_for(record.id, ids);
        let id = record.id;
        record.keyrings = self
            .keys
            .call(move |keys| keys.create_container(id, owner))?;
        let pins = self.paths.container_pins(record.id);
        for directory in [&record.cgroup, &pins] {
            fs::create_dir(directory)
                .map_err(EngineError::system(format!("make {}", directory.display())))?;
        }
        let request = BuildRequest {
            host_name: record.path.name().to_string(),
            namespaces: record.namespaces.clone(),
            root: record.root.clone(),
            ids: record.ids,
            parent_user,
            parent_mount: nearest(lineage, Namespace::Mount)
                .map(|r| self.pin_path(r, Namespace::Mount)),
            cgroup: record.cgroup.clone(),
            pins,
        };
        record.pins = self.run_builder(&request, directory.as_ref())?;
        routes::publish(&self.routing, &self.paths, &self.cgroups, record)?;
        Ok(())
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

    fn run_builder(
        &self,
        request: &BuildRequest,
        directory: Option<&OwnedFd>,
    ) -> Result<BTreeMap<String, u64>, EngineError> {
        let helper = |reason: String| EngineError::Helper {
            operation: "build the container".into(),
            reason,
        };
        let (ours, theirs) = Channel::pair().map_err(EngineError::system("make a socket pair"))?;
        ours.set_timeout(Some(PATIENCE))
            .map_err(EngineError::system("set a time-out"))?;
        let mut child = self
            .stage
            .start(&[], &theirs)
            .map_err(EngineError::system("start keyns-stage"))?;
        drop(theirs);
        let fds: Vec<_> = directory.iter().map(|fd| fd.as_fd()).collect();
        let reply = ours.call::<_, BuildReply>(request, &fds);
        if reply.is_err() {
            let _ = child.kill();
        }
        let _ = child.wait();
        match reply {
            Ok((Ok(pins), _)) => Ok(pins),
            Ok((Err(failure), _)) => Err(failure.into()),
            Err(error) => Err(helper(error.to_string())),
        }
    }

    /// Forks a process into the container, which waits there. `lineage` begins with the container.
    ///
    /// # Errors
    /// What failed; no process is left then.
    pub fn prepare(
        &self,
        lineage: &[ContainerRecord],
        run: &RunSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Prepared, EngineError> {
        let [record, ancestors @ ..] = lineage else {
            return Err(EngineError::Refused("no container".into()));
        };
        let ids = lineage.iter().find_map(|r| r.ids);
        let outside = |id: u32, what: &str| match ids {
            None => Ok(id),
            Some(range) => range.outside(id).ok_or_else(|| {
                EngineError::Refused(format!(
                    "{what} {id} does not exist in container “{}”, which has ids 0 to {}",
                    record.path,
                    range.count - 1
                ))
            }),
        };
        let first = run.process == 1;
        let own_pid = record.namespaces.contains(&Namespace::Pid);
        let new_pid = own_pid && first;
        let mut enter = Vec::new();
        for kind in Namespace::ALL {
            let from = if kind == Namespace::Pid && new_pid {
                ancestors
            } else {
                lineage
            };
            if let Some(owner) = nearest(from, kind) {
                enter.push((kind, self.pin_path(owner, kind)));
            }
        }
        let pins = self.paths.container_pins(record.id);
        let own_mounts = record.namespaces.contains(&Namespace::Mount);
        let procfs_into = (new_pid && own_mounts).then(|| {
            let staged = record.pins.contains_key(STAGE_PIN);
            pins.join(if staged {
                STAGE_PIN
            } else {
                Namespace::Mount.file()
            })
        });
        let kernel_uid = outside(run.uid, "user")?;
        outside(run.gid, "group")?;
        let id = record.id;
        let session = self
            .keys
            .call(move |keys| keys.prepare_session(id, kernel_uid))?;
        let plan = StartPlan {
            process: run.process,
            enter,
            new_pid_namespace: new_pid.then(|| pins.join(Namespace::Pid.file())),
            procfs_into,
            cgroup: record.cgroup.clone(),
            session,
            uid: run.uid,
            gid: run.gid,
            command: run.command.clone(),
            environment: run.environment.clone(),
            terminal: run.terminal,
            program_passed: run.program_passed,
        };
        if first {
            self.start_monitor(record.id)?;
        }
        let channel = self.connect(record.id)?;
        let (answer, mut received) = channel
            .call::<_, Answer>(&Command::Prepare(Box::new(plan)), fds)
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Prepared { pid, pid_namespace } => Ok(Prepared {
                channel,
                pid,
                pid_namespace,
                terminal: received.pop(),
            }),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(nonsense(&other)),
        }
    }

    /// Enters a process that is prepared into the routing table, so that its requests are known
    /// from the first on.
    ///
    /// # Errors
    /// Those of writing the table.
    pub fn register(
        &self,
        record: &mut ContainerRecord,
        prepared: &Prepared,
    ) -> Result<(), EngineError> {
        if let Some(inode) = prepared.pid_namespace {
            record.pins.insert(Namespace::Pid.file().to_owned(), inode);
            routes::publish(&self.routing, &self.paths, &self.cgroups, record)?;
        }
        Ok(())
    }

    /// Undoes [`Self::register`] for a process that could not be released.
    ///
    /// # Errors
    /// Those of writing the table.
    pub fn unregister(
        &self,
        record: &mut ContainerRecord,
        prepared_namespace: Option<u64>,
    ) -> Result<(), EngineError> {
        if let Some(inode) = prepared_namespace {
            record.pins.remove(Namespace::Pid.file());
            routes::withdraw_pid(&self.routing, &self.paths, record, inode)?;
        }
        Ok(())
    }

    /// Removes what is left of a first process that was registered by a daemon which died before
    /// it released it.
    ///
    /// # Errors
    /// Those of removing its pin.
    pub fn forget_first(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        let pin = self.pin_path(record, Namespace::Pid);
        if let Ok(found) = fs::metadata(&pin) {
            use std::os::unix::fs::MetadataExt as _;
            routes::withdraw_pid(&self.routing, &self.paths, record, found.ino())?;
        }
        pin::unpin(&pin).map_err(EngineError::system("remove a PID namespace's pin"))
    }

    /// Lets a prepared process execute its program.
    ///
    /// # Errors
    /// The error of executing the program; the process is gone then.
    pub fn release(&self, prepared: &Prepared) -> Result<(), EngineError> {
        let (answer, _) = prepared
            .channel
            .call::<_, Answer>(&Command::Release, &[])
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Done => Ok(()),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(nonsense(&other)),
        }
    }

    /// Sends a signal to a process started in the container.
    ///
    /// # Errors
    /// `ESRCH` when it ended or never was; `EINVAL` for an unknown signal.
    pub fn signal(&self, id: ContainerId, process: u64, signal: i32) -> Result<(), EngineError> {
        let (answer, _) = self
            .connect(id)?
            .call::<_, Answer>(&Command::Signal { process, signal }, &[])
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Done => Ok(()),
            Answer::Failed(failure) => Err(failure.into()),
            other => Err(nonsense(&other)),
        }
    }

    /// The processes of a container, and a descriptor on which [`next_exit`] reports each end.
    ///
    /// # Errors
    /// When the monitor is gone.
    pub fn watch(&self, id: ContainerId) -> Result<(Vec<ProcessState>, Channel), EngineError> {
        let channel = self.connect(id)?;
        let (answer, _) = channel
            .call::<_, Answer>(&Command::Watch, &[])
            .map_err(EngineError::system("talk to the container's monitor"))?;
        match answer {
            Answer::Processes(processes) => Ok((processes, channel)),
            other => Err(nonsense(&other)),
        }
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

    /// Ends a container's monitor. Its processes are gone from the cgroup a moment before it can
    /// wait for them, so it may refuse at first.
    fn dismiss_monitor(&self, id: ContainerId) -> Result<(), EngineError> {
        let deadline = Instant::now() + QUIT_PATIENCE;
        loop {
            let Ok(channel) = self.connect(id) else {
                return Ok(());
            };
            match channel.call::<_, Answer>(&Command::Quit, &[]) {
                Ok((Answer::Done, _)) => return Ok(()),
                Ok((Answer::Failed(failure), _)) if Instant::now() >= deadline => {
                    return Err(failure.into());
                }
                Ok(_) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => {
                    return Err(EngineError::system("dismiss the container's monitor")(
                        error,
                    ));
                }
            }
        }
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

    fn pin_path(&self, record: &ContainerRecord, kind: Namespace) -> PathBuf {
        self.paths.container_pins(record.id).join(kind.file())
    }

    fn connect(&self, id: ContainerId) -> Result<Channel, EngineError> {
        let channel = Channel::connect(&self.paths.monitor(id))
            .map_err(EngineError::system("reach the container's monitor"))?;
        channel
            .set_timeout(Some(PATIENCE))
            .map_err(EngineError::system("set a time-out"))?;
        Ok(channel)
    }

    fn start_monitor(&self, id: ContainerId) -> Result<(), EngineError> {
        let path = self.paths.monitor(id);
        if Channel::connect(&path).is_ok() {
            // It survived a daemon that was killed before it started the first process.
            return Ok(());
        }
        let _ = fs::remove_file(&path);
        let listener =
            Channel::listen(&path).map_err(EngineError::system("make the monitor's socket"))?;
        let mut child = self
            .monitor
            .start(
                &[&self.cgroups.monitors().to_string_lossy(), &id.to_string()],
                &listener,
            )
            .map_err(EngineError::system("start keyns-monitor"))?;
        // The process started forks the monitor and ends.
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            other => Err(EngineError::Helper {
                operation: "watch over the container".into(),
                reason: format!("{other:?}"),
            }),
        }
    }
}

/// Reads the next end of a process from a descriptor of [`Mainline::watch`].
///
/// # Errors
/// `UnexpectedEof` when the monitor is gone.
pub fn next_exit(channel: &Channel) -> io::Result<ProcessState> {
    channel.receive().map(|(state, _)| state)
}

fn nearest(lineage: &[ContainerRecord], kind: Namespace) -> Option<&ContainerRecord> {
    lineage
        .iter()
        .find(|record| record.namespaces.contains(&kind))
}

fn nonsense(answer: &Answer) -> EngineError {
    EngineError::Helper {
        operation: "watch over the container".into(),
        reason: format!("unexpected answer {answer:?}"),
    }
}

pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;

    // Others may pass through to the varlink socket, not look.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
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

impl From<KeyError> for EngineError {
    fn from(error: KeyError) -> Self {
        match error.errno() {
            Some(errno) => Self::System {
                operation: error.to_string(),
                source: io::Error::from_raw_os_error(errno),
            },
            None => Self::Refused(error.to_string()),
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

/// Lets a descriptor of the engine be polled.
impl AsFd for Prepared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

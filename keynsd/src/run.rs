//! The daemon from start to stop.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use keyns::engine::container::{ContainerId, ContainerRecord, ExitStatus, State};
use keyns::engine::{Engine, Options};
use keyns::feature::FeatureRow;
use keyns::probe::KernelFacts;
use nix::sys::resource::Resource;
use rustix::fs::FlockOperation;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;

use crate::config::{Config, Mistake, Settings, Sources};
use crate::daemon::Daemon;
use crate::dbus;
use crate::events::Bus;
use crate::front::{self, Front, LiveLimits, Router, ServiceInfo, Sockets};
use crate::log::Log;
use crate::service_manager::{Environment, Handed, ListenerSource, Manager, Role};
use crate::services::agents::Agents;
use crate::services::containers::{self, ContainerTable};
use crate::services::keys::{self, KeyBook};
use crate::services::upcalls::{self, Upcalls};
use crate::services::{agents, manager};
use crate::store::Store;
use crate::upcall_link::UpcallListener;

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine or process lacks something.
    #[error("{0}")]
    Refused(String),
    /// A system call failed.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The engine could not start.
    #[error(transparent)]
    Engine(#[from] keyns::engine::EngineError),
    /// A service could not find its objects again.
    #[error("{} ({})", .0.message, .0.cause.as_deref().unwrap_or("no cause is known"))]
    Service(#[from] keyns_interfaces::Error),
}

/// The programs that the engine starts.
const HELPERS: [&str; 3] = ["keyns-stage", "keyns-monitor", "keyns-shelter"];

fn system(operation: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { operation, source }
}

/// Runs the daemon until it is told to stop (SIGTERM, SIGINT); SIGHUP has it read `sources` again.
///
/// Containers live on without it, unless it is transient: then they end with it and nothing of the
/// instance stays.
///
/// # Errors
/// [`StartError`]; after the start nothing ends the daemon but a signal.
pub fn run(
    config: Config,
    settings: Settings,
    sources: Sources,
    log: Log,
) -> Result<(), StartError> {
    let facts = KernelFacts::probe().map_err(system("look at this machine"))?;
    facts
        .check()
        .map_err(|lacking| StartError::Refused(lacking.to_string()))?;
    // Payloads pass through this process: no core file, no ptrace by others of its uid.
    nix::sys::prctl::set_dumpable(false).map_err(|e| system("become undumpable")(e.into()))?;
    nix::sys::resource::getrlimit(Resource::RLIMIT_CORE)
        .and_then(|(_, hard)| nix::sys::resource::setrlimit(Resource::RLIMIT_CORE, 0, hard))
        .map_err(|e| system("forbid core files")(e.into()))?;
    // Before any other thread exists: none of them possesses what the starter possessed.
    keyns_sys::key::join_session_keyring(None).map_err(system(
        "leave the session keyring of whoever started the daemon",
    ))?;
    front::raise_descriptor_limit().map_err(system("raise the limit of open files"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Ending a container may take one of them for seconds.
        .max_blocking_threads(32)
        .build()
        .map_err(system("start the event loop"))?;
    let environment = Environment::of_process();
    let manager = Manager::find(&environment);
    let handed =
        Handed::take(&environment, &config.paths, &manager).map_err(StartError::Refused)?;
    let reloader = Reloader {
        sources,
        log,
        limits: settings.connections.clone().into(),
        settings,
        manager,
    };
    LocalSet::new().block_on(&runtime, serve(config, &facts, reloader, handed))
}

async fn serve(
    config: Config,
    facts: &KernelFacts,
    reloader: Reloader,
    mut handed: Handed,
) -> Result<(), StartError> {
    demand_helpers(&config)?;
    let lock = lock_instance(&config)?;
    // Before there is anything to be left by a signal that nobody expects.
    let mut hangup = signal(SignalKind::hangup()).map_err(system("catch signals"))?;
    let manager = reloader.manager.clone();
    let containers = handed.containers();
    let listeners = ListenerSources::choose(&config, &manager, handed);
    let (store, stored, engine) = begin(&config, listeners.foreign(&config))
        .inspect_err(|_| config.engine.withdraw(&config.paths))?;
    let features = engine.features(facts);
    let found = Found { stored, containers };
    let daemon = restore(config, features, store, found, manager.clone(), &engine)
        .await
        .inspect_err(|_| {
            // Whatever cannot be read may be about containers that live: then all of it stays.
            if engine.is_unused()
                && let Err(error) = engine.dissolve()
            {
                tracing::warn!(%error, "cannot remove the instance again");
            }
        })?;

    let mut terminate = signal(SignalKind::terminate()).map_err(system("catch signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("catch signals"))?;
    daemon.upcalls.set_totals(reloader.settings.requests);
    let (sockets, upcalls) = listeners.open(&daemon.config, &manager)?;
    Upcalls::take_queued(Rc::clone(&daemon)).await?;
    let front = Front::new(router(&daemon), reloader.limits.clone());
    tracing::info!(name: "ready", instance = daemon.config.paths.instance(), "ready");
    manager.ready(&status(&daemon));
    // Also while it stops: a process that waits for a request cannot be killed with its container.
    tokio::task::spawn_local(Upcalls::run(Rc::clone(&daemon), upcalls));
    tokio::select! {
        never = dbus::serve(Rc::clone(&front), daemon.config.bus.clone()) => match never {},
        never = front.serve(sockets) => match never {},
        never = manager.show_life() => match never {},
        never = reloader.serve(&daemon, &mut hangup) => match never {},
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    manager.stopping();
    stop(&daemon, lock).await;
    Ok(())
}

/// The daemon's state in one line, for the service manager.
fn status(daemon: &Daemon) -> String {
    let engine = daemon.engine.name();
    match daemon.containers.living() {
        0 => format!("engine {engine}, no container"),
        1 => format!("engine {engine}, 1 container"),
        count => format!("engine {engine}, {count} containers"),
    }
}

/// Reads the settings again when it is told to.
struct Reloader {
    sources: Sources,
    /// Those that count, or would with the next start.
    settings: Settings,
    limits: LiveLimits,
    log: Log,
    manager: Manager,
}

impl Reloader {
    async fn serve(mut self, daemon: &Daemon, hangup: &mut Signal) -> Infallible {
        loop {
            if hangup.recv().await.is_none() {
                return std::future::pending().await;
            }
            self.manager.reloading();
            let outcome = self.reload(daemon);
            self.manager.ready(&match outcome {
                Ok(()) => status(daemon),
                Err(mistake) => format!("settings are as before, for a mistake: {mistake}"),
            });
        }
    }

    fn reload(&mut self, daemon: &Daemon) -> Result<(), Mistake> {
        let settings = Settings::read(&self.sources).inspect_err(|mistake| {
            tracing::error!(name: "settings-mistaken", %mistake, "the settings are as before");
        })?;
        self.log.set(&settings.log);
        self.limits.set(settings.connections.clone());
        daemon.upcalls.set_totals(settings.requests);
        if settings.engine != self.settings.engine
            || settings.service_uid != self.settings.service_uid
        {
            tracing::warn!("engine and service-uid are changed by the next start");
        }
        tracing::info!(name: "settings-read", "read the settings");
        self.settings = settings;
        Ok(())
    }
}

/// Where each listening socket comes from, in the order of [`Role::ALL`].
struct ListenerSources([ListenerSource; 3]);

impl ListenerSources {
    fn choose(config: &Config, manager: &Manager, mut handed: Handed) -> Self {
        Self(Role::ALL.map(|role| match handed.listener(role) {
            Some(socket) => ListenerSource::Given(socket),
            // What is transient leaves nothing behind.
            None if manager.keeps() && !config.transient => ListenerSource::Kept,
            None => ListenerSource::Own,
        }))
    }

    /// The files of those that are not the daemon's own.
    fn foreign(&self, config: &Config) -> Vec<PathBuf> {
        let all = Role::ALL.into_iter().zip(&self.0);
        all.filter(|(_, source)| !matches!(source, ListenerSource::Own))
            .map(|(role, _)| role.path(&config.paths))
            .collect()
    }

    /// Opens them, and gives to the manager what it is to keep.
    fn open(
        self,
        config: &Config,
        manager: &Manager,
    ) -> Result<(Sockets, UpcallListener), StartError> {
        let kept = Role::ALL.into_iter().zip(&self.0);
        let kept: Vec<Role> = kept
            .filter(|(_, source)| matches!(source, ListenerSource::Kept))
            .map(|(role, _)| role)
            .collect();
        let [main, admin, upcall] = self.0;
        let upcalls = UpcallListener::open(&config.paths.upcall(), upcall)
            .map_err(system("make the upcall socket"))?;
        let sockets = Sockets::open(&config.paths.runtime(), main, admin)
            .map_err(system("make the varlink sockets"))?;
        for role in kept {
            let socket = match role {
                Role::Varlink => sockets.main(),
                Role::Admin => sockets.admin(),
                Role::Upcall => upcalls.as_fd(),
            };
            manager.keep_listener(role, socket);
        }
        Ok((sockets, upcalls))
    }
}

/// All methods of the daemon, each with its policy.
#[must_use]
pub fn router(daemon: &Rc<Daemon>) -> Router<Daemon> {
    let mut router = Router::new(
        Rc::clone(daemon),
        ServiceInfo {
            vendor: "keyns".into(),
            product: "keynsd".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            url: String::new(),
        },
    );
    manager::register(&mut router);
    containers::register(&mut router);
    keys::register(&mut router);
    upcalls::register(&mut router);
    agents::register(&mut router);
    router
}

/// What a former daemon has left of its containers.
struct Found {
    stored: Vec<ContainerRecord>,
    /// With the service manager.
    containers: BTreeMap<ContainerId, OwnedFd>,
}

/// A daemon that knows its containers, grants and rules again.
async fn restore(
    config: Config,
    features: Vec<FeatureRow>,
    store: Store,
    found: Found,
    manager: Manager,
    engine: &Arc<dyn Engine>,
) -> Result<Rc<Daemon>, StartError> {
    let daemon = Rc::new(Daemon {
        bus: Bus::default(),
        container_ids: store
            .counter("container")
            .map_err(system("read the state"))?,
        containers: ContainerTable::default(),
        keys: Rc::new(KeyBook::new(Arc::clone(engine), store.clone())),
        upcalls: Upcalls::open(&store).map_err(system("read the rules"))?,
        agents: Agents::open(&store).map_err(system("read the state"))?,
        manager,
        engine: Arc::clone(engine),
        store,
        config,
        features,
    });
    containers::restore(&daemon, found.stored, found.containers).await?;
    // Grants to containers that ended are dropped, so the containers come first.
    keys::restore(&daemon).await?;
    daemon.upcalls.restore(&daemon);
    Ok(daemon)
}

/// The state, the containers in it, and the engine that can work on those.
type Begun = (Store, Vec<ContainerRecord>, Arc<dyn Engine>);

/// Opens the state and starts the engine.
fn begin(config: &Config, foreign: Vec<PathBuf>) -> Result<Begun, StartError> {
    let store = Store::open(&config.paths.state()).map_err(system("open the state directory"))?;
    let stored: Vec<(String, ContainerRecord)> = store
        .load("containers")
        .map_err(system("load the containers"))?;
    let stored: Vec<_> = stored.into_iter().map(|(_, record)| record).collect();
    let options = Options {
        paths: config.paths.clone(),
        helpers: config.helpers.clone(),
        service_uid: config.service_uid,
        foreign,
    };
    let started = config.engine.start(options, &stored);
    match started {
        Ok(engine) => Ok((store, stored, engine)),
        Err(error) => {
            // Removed only if this start has made it: what others stored may be all they have.
            store.withdraw();
            Err(error.into())
        }
    }
}

fn demand_helpers(config: &Config) -> Result<(), StartError> {
    for name in HELPERS {
        let program = config.helpers.join(name);
        if !program.is_file() {
            return Err(StartError::Refused(format!(
                "there is no program {}; say with --helpers which directory holds it",
                program.display()
            )));
        }
    }
    Ok(())
}

/// One daemon an instance.
fn lock_instance(config: &Config) -> Result<File, StartError> {
    let directory = config.paths.runtime();
    // Others may pass through to the varlink socket, not look.
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(&directory)
        .map_err(system("make the runtime directory"))?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(directory.join("lock"))
        .map_err(system("open the instance's lock"))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        StartError::Refused(format!(
            "instance “{}” has a daemon already; choose another with --instance",
            config.paths.instance()
        ))
    })?;
    Ok(file)
}

async fn stop(daemon: &Rc<Daemon>, lock: File) {
    tracing::info!(name: "stopping", "stopping");
    if daemon.config.transient {
        for record in daemon.containers.all() {
            if record.state != State::Dead
                && let Err(error) = containers::end(daemon, record.id, ExitStatus::Unknown).await
            {
                tracing::error!(cause = error.cause.as_deref(), "{error}");
            }
        }
    }
    if daemon.containers.living() > 0 {
        return;
    }
    // Nothing runs that would need it: the machine becomes as it was.
    if let Err(error) = daemon
        .blocking("remove the instance", |engine| engine.dissolve())
        .await
    {
        tracing::warn!(cause = error.cause.as_deref(), "{}", error.message);
        return;
    }
    if daemon.config.transient
        && let Err(error) = daemon.store.remove()
    {
        tracing::warn!(%error, "cannot remove the state directory");
    }
    drop(lock);
}

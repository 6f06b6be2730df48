//! The engine itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use keyns_sys::container;
use keyns_sys::container_abi::{ContainerAbi, Feature};
use rustix::io::Errno;

use super::super::choice::Options;
use super::super::container::{
    ContainerId, ContainerRecord, ContainerSpec, ExitStatus, IdRange, Namespace, State,
};
use super::super::contract::Engine;
use super::super::error::EngineError;
use super::super::keyring::KeyWorker;
use super::super::mainline::Mainline;
use super::super::monitors::{Exits, Prepared};
use super::super::object::ObjectPlan;
use super::super::objects::{self, Objects};
use super::super::process::{ProcessState, RunSpec};
use super::super::requests::{RequestQueue, Sink};
use super::features;
use crate::expression::{Expression, Refusal};
use crate::feature::FeatureRow;
use crate::probe::KernelFacts;
use crate::rights::Rights;

/// What the kernel must have.
const NEEDED: [Feature; 4] = [
    Feature::Containers,
    Feature::Mounts,
    Feature::KeyAcls,
    Feature::ContainerKeyring,
];

const SIGKILL: i32 = 9;

/// The engine for kernels with container objects.
#[derive(Debug)]
pub(in crate::engine) struct Patched {
    /// What such a kernel needs of the engine for stock kernels.
    pub(super) stock: Mainline,
    pub(super) objects: Arc<Objects>,
}

impl Patched {
    /// Whether the running kernel has what the engine needs.
    ///
    /// # Errors
    /// One sentence that says what it lacks.
    pub(in crate::engine) fn check() -> Result<ContainerAbi, EngineError> {
        let lacks = |what: &str, how: &str| {
            EngineError::Refused(format!(
                "the engine “patched” needs a kernel with {what}, and this one has {how}"
            ))
        };
        let abi = ContainerAbi::read()
            .map_err(EngineError::system(
                "read what the kernel says of containers",
            ))?
            .ok_or_else(|| lacks(&Feature::Containers.to_string(), "none"))?;
        match NEEDED.into_iter().find(|feature| !abi.has(*feature)) {
            Some(missing) => Err(lacks(&missing.to_string(), "none, or not all of it")),
            None => Ok(abi),
        }
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// Those of [`Self::check`] and of the engine for stock kernels.
    pub(in crate::engine) fn start(options: Options) -> Result<Self, EngineError> {
        let objects = Arc::new(Objects::new(Self::check()?));
        let stock = Mainline::start_with(options, Some(Arc::clone(&objects)))?;
        Ok(Self { stock, objects })
    }

    /// The object of a container: known, or fetched from the monitor that keeps it.
    pub(super) fn object(&self, record: &ContainerRecord) -> Result<Arc<OwnedFd>, EngineError> {
        if let Ok(object) = self.objects.get(record.id) {
            return Ok(object);
        }
        let object = self.stock.monitors.fetch(record.id)?;
        let identity = objects::identity(&object)
            .map_err(EngineError::system("ask for a container’s number"))?;
        if record.object != Some(identity.number) {
            return Err(EngineError::Refused(format!(
                "the monitor of container “{}” keeps another container",
                record.path
            )));
        }
        Ok(self.objects.put(record.id, object))
    }

    /// Gives a container whose monitor was killed another one, if its object is known. What the former
    /// one has started goes on without.
    fn watch_over(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        let Ok(object) = self.objects.get(record.id) else {
            return Ok(());
        };
        // A daemon that died in between has left one that keeps nothing.
        if self.stock.monitors.fetch(record.id).is_ok() {
            return Ok(());
        }
        if self.stock.monitors.is_gone(record.id) {
            self.stock.monitors.start(record.id)?;
        }
        self.stock.monitors.hold(record.id, object.as_fd())
    }

    /// Whether the kernel still has a process in the container.
    fn drained(&self, object: &OwnedFd) -> io::Result<bool> {
        match container::ended(self.objects.abi(), object.as_fd(), true) {
            Ok(end) => Ok(end.is_some()),
            // Nothing was ever started in it.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => Ok(true),
            Err(error) => Err(error),
        }
    }

    pub(super) fn kill_object(&self, object: &OwnedFd) -> io::Result<()> {
        match container::kill(self.objects.abi(), object.as_fd(), SIGKILL, true) {
            // No process was there.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(()),
            other => other,
        }
    }
}

impl Engine for Patched {
    fn name(&self) -> &'static str {
        "patched"
    }

    fn features(&self, facts: &KernelFacts) -> Vec<FeatureRow> {
        features::rows(facts)
    }

    fn keys(&self) -> &KeyWorker {
        &self.stock.keys
    }

    fn express(&self, requested: Rights, accepted: Rights) -> Result<Expression, Refusal> {
        Expression::of_list(requested, accepted)
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
        let mut plan = self.stock.start_plan(lineage, run)?;
        let [record, ancestors @ ..] = lineage else {
            return Err(EngineError::Refused("no container".into()));
        };
        let keyring = keyns_sys::container_key::own_container_keyring(self.objects.abi());
        let keyring = keyring.map_or(0, |keyring| keyring.raw());
        plan.enter.clear();
        let has = |kind| record.namespaces.contains(&kind);
        plan.object = Some(if run.process == 1 {
            let pin = |kind: &Namespace| (*kind, self.stock.pin_path(record, *kind));
            ObjectPlan {
                keyring,
                ids: record.ids.filter(|_| has(Namespace::User)),
                parent_user: self.stock.parent_user(ancestors),
                pins: record.namespaces.iter().map(pin).collect(),
                host_name: has(Namespace::Uts).then(|| record.path.name().to_string()),
                loopback: has(Namespace::Net),
            }
        } else {
            ObjectPlan {
                keyring,
                ..ObjectPlan::default()
            }
        });
        self.watch_over(record)?;
        self.stock.monitors.prepare(record.id, plan, fds)
    }

    fn register(
        &self,
        record: &mut ContainerRecord,
        prepared: &Prepared,
    ) -> Result<(), EngineError> {
        self.stock.register(record, prepared)
    }

    fn unregister(
        &self,
        record: &mut ContainerRecord,
        ancestors: &[ContainerRecord],
        namespaces: &BTreeMap<String, u64>,
    ) -> Result<(), EngineError> {
        self.stock.unregister(record, ancestors, namespaces)?;
        self.renew(record, ancestors)
    }

    fn forget_first(
        &self,
        record: &mut ContainerRecord,
        ancestors: &[ContainerRecord],
    ) -> Result<(), EngineError> {
        self.renew(record, ancestors)
    }

    fn requests(&self, sink: Sink) -> Result<Option<RequestQueue>, EngineError> {
        if !self.objects.intercepts() {
            return Ok(None);
        }
        let queue = self.stock.keys.call(|keys| Ok(keys.requests()))?;
        RequestQueue::start(*self.objects.abi(), queue, sink).map(Some)
    }

    fn signal(&self, id: ContainerId, process: u64, signal: i32) -> Result<(), EngineError> {
        self.stock.signal(id, process, signal)
    }

    fn watch(&self, id: ContainerId) -> Result<(Vec<ProcessState>, Exits), EngineError> {
        self.stock.watch(id)
    }

    fn kill(&self, record: &ContainerRecord) -> Result<bool, EngineError> {
        let what = || format!("kill container “{}”", record.path);
        if let Ok(object) = self.object(record) {
            self.kill_object(&object)
                .map_err(EngineError::system(what()))?;
            if !self.drained(&object).map_err(EngineError::system(what()))? {
                return Ok(true);
            }
        }
        // Whoever lost its monitor, and with it the object, is still in the cgroup.
        self.stock.kill(record)
    }

    fn destroy(&self, record: &ContainerRecord) -> Result<(), EngineError> {
        if let Ok(object) = self.object(record) {
            if !self
                .drained(&object)
                .map_err(EngineError::system("look into the container"))?
            {
                return Err(EngineError::Refused(format!(
                    "a process is left in container “{}”",
                    record.path
                )));
            }
            // Its name is free from now on.
            self.kill_object(&object)
                .map_err(EngineError::system("end the kernel’s container"))?;
        }
        self.objects.forget(record.id);
        self.stock.destroy(record)
    }

    fn end(&self, record: &ContainerRecord) -> Option<ExitStatus> {
        let object = self.object(record).ok()?;
        let end = container::ended(self.objects.abi(), object.as_fd(), false);
        Some(match end.ok()?? {
            container::End::Exited(code) => ExitStatus::Exited(code),
            container::End::Killed(signal) => ExitStatus::Killed(signal),
        })
    }

    fn populated(&self, record: &ContainerRecord) -> bool {
        let in_object = self
            .object(record)
            .is_ok_and(|object| self.drained(&object).is_ok_and(|drained| !drained));
        in_object || self.stock.populated(record)
    }

    fn intact(&self, record: &ContainerRecord) -> bool {
        // A monitor that was killed has taken the object along, if nobody else keeps it; its processes
        // live on.
        let known = self.object(record).is_ok();
        (known || record.state == State::Running) && self.stock.intact(record)
    }

    fn descriptor(&self, record: &ContainerRecord) -> Option<OwnedFd> {
        self.objects.get(record.id).ok()?.try_clone().ok()
    }

    fn take_back(&self, record: &ContainerRecord, descriptor: OwnedFd) -> Result<(), EngineError> {
        let refused = |why: String| Err(EngineError::Refused(why));
        let Ok(identity) = objects::identity(&descriptor) else {
            return refused("it is no container".into());
        };
        if record.object != Some(identity.number) {
            return refused(format!(
                "it is the kernel’s container {}, and “{}” is another",
                identity.number, record.path
            ));
        }
        let name = record.path.name().to_string();
        if identity.name != name {
            return refused(format!(
                "the kernel has it under another name than “{name}”"
            ));
        }
        self.objects.put(record.id, descriptor);
        Ok(())
    }

    fn cgroup_path(&self, record: &ContainerRecord) -> PathBuf {
        self.stock.cgroup_path(record)
    }

    fn net_namespace(&self, lineage: &[ContainerRecord]) -> io::Result<Option<OwnedFd>> {
        self.stock.net_namespace(lineage)
    }

    fn reconcile(&self, records: &[ContainerRecord]) -> Result<Vec<EngineError>, EngineError> {
        // A daemon that was killed while it made a container has left a monitor that waits for it.
        let known = |id: ContainerId| records.iter().any(|record| record.id == id);
        let mut left = Vec::new();
        let sockets = self.stock.paths.runtime().join("monitor");
        for socket in fs::read_dir(sockets).into_iter().flatten().flatten() {
            let id = socket
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(id) = id.map(ContainerId).filter(|id| !known(*id)) {
                left.extend(self.stock.monitors.dismiss(id).err());
            }
        }
        left.extend(self.stock.reconcile(records)?);
        Ok(left)
    }

    fn is_unused(&self) -> bool {
        self.stock.is_unused()
    }

    fn dissolve(&self) -> Result<(), EngineError> {
        self.stock.dissolve()
    }
}

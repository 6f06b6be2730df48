//! Making a container of the kernel.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use keyns_sys::container;
use rustix::io::Errno;

use super::super::build::{self, BuildRequest, ContainerPlan, Passed};
use super::super::container::{ContainerRecord, ContainerSpec, IdRange, State};
use super::super::contract::Engine as _;
use super::super::error::EngineError;
use super::super::mainline::create::root_directory;
use super::super::objects;
use super::super::pin;
use super::engine::Patched;

/// How long a monitor may take to end a process that is not released.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

impl Patched {
    pub(super) fn make(
        &self,
        spec: &ContainerSpec,
        lineage: &[ContainerRecord],
        taken: &[IdRange],
    ) -> Result<ContainerRecord, EngineError> {
        let parent = lineage.first().map(|parent| self.parent(parent));
        let parent = parent.transpose()?;
        let mut record = self.stock.draft(spec, lineage);
        match self.assemble(&mut record, lineage, parent, taken) {
            Ok(()) => Ok(record),
            Err(error) => {
                self.stock.abandon(&record);
                // Best effort: what is left is removed at the next start.
                let _ = self.destroy(&record);
                Err(error)
            }
        }
    }

    /// The object in which another one is to be made, which takes a process in there for a moment:
    /// it would be the first one where there is none. Nor is one enough that waits for its release: the
    /// object dies with it if it is not released.
    fn parent(&self, record: &ContainerRecord) -> Result<OwnedFd, EngineError> {
        if record.state == State::Created {
            return Err(EngineError::NotStarted(record.path.clone()));
        }
        let object = self.object(record)?;
        match container::ended(self.objects.abi(), object.as_fd(), false) {
            Ok(None) => object.try_clone().map_err(EngineError::system(
                "copy the descriptor of the container around",
            )),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => {
                Err(EngineError::NotStarted(record.path.clone()))
            }
            Ok(Some(_)) => Err(EngineError::Refused(format!(
                "container “{}” has ended just now",
                record.path
            ))),
            Err(error) => Err(EngineError::system(
                "ask whether the container around lives",
            )(error)),
        }
    }

    fn assemble(
        &self,
        record: &mut ContainerRecord,
        lineage: &[ContainerRecord],
        parent: Option<OwnedFd>,
        taken: &[IdRange],
    ) -> Result<(), EngineError> {
        let plan = self.stock.lay_out(record, lineage, taken)?;
        self.build(record, plan, parent)?;
        let id = record.id;
        self.stock.keys.call(move |keys| keys.attach(id))?;
        self.stock.publish(record)
    }

    /// Makes the object and gives it to its monitor.
    fn build(
        &self,
        record: &mut ContainerRecord,
        mut plan: ContainerPlan,
        parent: Option<OwnedFd>,
    ) -> Result<(), EngineError> {
        // One that is made anew may have lost the one it had.
        self.stock.monitors.start(record.id)?;
        plan.object = true;
        let directory = root_directory(record)?;
        let passed = Passed { directory, parent };
        let request = BuildRequest::Container(plan);
        let built = build::run(&self.stock.stage, &request, &passed);
        let (pins, object) = built?;
        let object = object.ok_or_else(|| EngineError::Helper {
            operation: "make a container".into(),
            reason: "it sent no descriptor".into(),
        })?;
        let identity = objects::identity(&object)
            .map_err(EngineError::system("ask for the container’s number"))?;
        // It may come from a process that was in view of a container.
        if identity.name != record.path.name().to_string() {
            return Err(EngineError::Helper {
                operation: "make a container".into(),
                reason: "it sent another one".into(),
            });
        }
        self.stock.monitors.hold(record.id, object.as_fd())?;
        record.pins = pins;
        record.object = Some(identity.number);
        self.objects.put(record.id, object);
        Ok(())
    }

    /// Makes the object of a container anew if it died with a first process that never ran: such a
    /// container is as if nothing had been tried.
    pub(super) fn renew(
        &self,
        record: &mut ContainerRecord,
        ancestors: &[ContainerRecord],
    ) -> Result<(), EngineError> {
        // One that nobody keeps any more is gone as well.
        if let Ok(object) = self.object(record)
            && !self.is_spent(record, &object)?
        {
            return Ok(());
        }
        // A daemon that died while it made another one has left that with the monitor alone.
        if let Ok(twin) = self.stock.monitors.fetch(record.id) {
            self.kill_object(&twin)
                .map_err(EngineError::system("end the kernel’s container"))?;
        }
        let parent = ancestors.first().map(|parent| self.parent(parent));
        let parent = parent.transpose()?;
        self.objects.forget(record.id);
        self.stock.unregister(record, ancestors, &BTreeMap::new())?;
        let pins = self.stock.paths.container_pins(record.id);
        pin::unpin_all(&pins)
            .and_then(|()| std::fs::create_dir(&pins))
            .map_err(EngineError::system(
                "remove the pins of a process that never ran",
            ))?;
        let plan = self.stock.plan(record, ancestors);
        self.build(record, plan, parent)?;
        let id = record.id;
        self.stock.keys.call(move |keys| keys.attach_again(id))?;
        self.stock.publish(record)
    }

    /// Whether an object can have no first process any more. One that never ran is being ended, but may
    /// not have ended yet.
    fn is_spent(&self, record: &ContainerRecord, object: &OwnedFd) -> Result<bool, EngineError> {
        let deadline = Instant::now() + ENDED_WITHIN;
        loop {
            match container::ended(self.objects.abi(), object.as_fd(), false) {
                Ok(Some(_)) => return Ok(true),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => {
                    return Ok(false);
                }
                Err(error) => {
                    return Err(EngineError::system("ask how a container ended")(error));
                }
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(None) => {
                    return Err(EngineError::Refused(format!(
                        "the first process of container “{}” does not end",
                        record.path
                    )));
                }
            }
        }
    }
}

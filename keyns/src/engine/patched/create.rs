//! Making a container of the kernel.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use keyns_sys::container;
use rustix::io::Errno;

use super::super::build::{self, BuildRequest, ContainerPlan, Passed};
use super::super::container::{ContainerRecord, ContainerSpec, IdRange};
use super::super::contract::Engine as _;
use super::super::error::EngineError;
use super::super::mainline::create::root_directory;
use super::super::objects;
use super::super::pin;
use super::engine::Patched;

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
                // Best effort: what is left is removed at the next start.
                let _ = self.destroy(&record);
                Err(error)
            }
        }
    }

    /// The object in which another one is to be made, which takes a process in there for a moment:
    /// it would be the first one where there is none.
    fn parent(&self, record: &ContainerRecord) -> Result<OwnedFd, EngineError> {
        let object = self.object(record)?;
        match container::ended(self.objects.abi(), object.as_fd(), false) {
            Ok(None) => object.try_clone().map_err(EngineError::system(
                "copy the descriptor of the container around",
            )),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => {
                Err(EngineError::NotStarted(record.path.clone()))
            }
            Ok(Some(_)) => Err(EngineError::Refused(format!(
                "container “{}” has ended",
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
        let (pins, object) = built.map_err(|error| match error.errno() {
            Some(errno) if Errno::from_raw_os_error(errno) == Errno::EXIST => {
                EngineError::Refused(format!(
                    "the kernel has a container “{}” already, which is not of this daemon",
                    record.path.name()
                ))
            }
            _ => error,
        })?;
        let object = object.ok_or_else(|| EngineError::Helper {
            operation: "make a container".into(),
            reason: "it sent no descriptor".into(),
        })?;
        let number = objects::number(&object)
            .map_err(EngineError::system("ask for the container’s number"))?;
        self.stock.monitors.hold(record.id, object.as_fd())?;
        record.pins = pins;
        record.object = Some(number);
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
        let object = self.object(record)?;
        match container::ended(self.objects.abi(), object.as_fd(), false) {
            Ok(Some(_)) => {}
            // It waits for its first process yet, or that one runs.
            Ok(None) => return Ok(()),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::CHILD) => return Ok(()),
            Err(error) => {
                return Err(EngineError::system("ask how a container ended")(error));
            }
        }
        drop(object);
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
}

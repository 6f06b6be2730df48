//! What a process started in a container is told.

use std::os::fd::BorrowedFd;

use super::super::build::STAGE_PIN;
use super::super::container::{ContainerRecord, Namespace, nearest};
use super::super::enter::StartPlan;
use super::super::error::EngineError;
use super::super::monitors::Prepared;
use super::super::process::RunSpec;
use super::engine::Mainline;

impl Mainline {
    pub(super) fn start_process(
        &self,
        lineage: &[ContainerRecord],
        run: &RunSpec,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Prepared, EngineError> {
        let mut plan = self.start_plan(lineage, run)?;
        let record = lineage.first().ok_or_else(no_container)?;
        let (id, kernel_uid) = (record.id, outside(lineage, run.uid, "user")?);
        let session = self
            .keys
            .call(move |keys| keys.prepare_session(id, kernel_uid))?;
        plan.session = Some(session);
        if run.process == 1 {
            self.monitors.start(record.id)?;
        }
        self.monitors.prepare(record.id, plan, fds)
    }

    /// What every engine tells of a process: all but its keyrings.
    pub(in crate::engine) fn start_plan(
        &self,
        lineage: &[ContainerRecord],
        run: &RunSpec,
    ) -> Result<StartPlan, EngineError> {
        let [record, ancestors @ ..] = lineage else {
            return Err(no_container());
        };
        outside(lineage, run.uid, "user")?;
        outside(lineage, run.gid, "group")?;
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
        Ok(StartPlan {
            process: run.process,
            enter,
            new_pid_namespace: new_pid.then(|| pins.join(Namespace::Pid.file())),
            procfs_into,
            cgroup: record.cgroup.clone(),
            session: None,
            object: None,
            uid: run.uid,
            gid: run.gid,
            command: run.command.clone(),
            environment: run.environment.clone(),
            terminal: run.terminal,
            program_passed: run.program_passed,
        })
    }
}

fn no_container() -> EngineError {
    EngineError::Refused("no container".into())
}

/// The kernel's id for an id inside the first container of a lineage.
fn outside(lineage: &[ContainerRecord], id: u32, what: &str) -> Result<u32, EngineError> {
    let (Some(record), Some(range)) = (lineage.first(), lineage.iter().find_map(|r| r.ids)) else {
        return Ok(id);
    };
    range.outside(id).ok_or_else(|| {
        EngineError::Refused(format!(
            "{what} {id} does not exist in container “{}”, which has ids 0 to {}",
            record.path,
            range.count - 1
        ))
    })
}

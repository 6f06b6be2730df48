//! A second copy of what the kernel's containers are kept by, with the service manager. The first one is
//! that of a container's monitor, and goes when that is killed.
//!
//! Only kernels with container objects have such descriptors.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use keyns::engine::container::{ContainerId, ContainerRecord, State};

use crate::daemon::Daemon;
use crate::service_manager::container_name;

/// Has the manager keep a container, unless it does.
pub(super) fn park(daemon: &Daemon, record: &ContainerRecord) {
    let name = container_name(record.id);
    // What is transient leaves nothing behind. A store that is full is said.
    if daemon.config.transient || !daemon.manager.has_store() || daemon.manager.has(&name) {
        return;
    }
    if let Some(descriptor) = daemon.engine.descriptor(record) {
        daemon.manager.keep(&name, descriptor.as_fd());
    }
}

/// Has it keep a container no longer.
pub(super) fn forget(daemon: &Daemon, id: ContainerId) {
    let name = container_name(id);
    if daemon.manager.has(&name) {
        daemon.manager.forget(&name);
    }
}

/// Same, and keep what the kernel has instead of it now.
pub(super) fn renew(daemon: &Daemon, record: &ContainerRecord) {
    forget(daemon, record.id);
    park(daemon, record);
}

/// Gives the engine what the manager has handed over, and has it forget what is no container of these.
pub(super) fn take_back(
    daemon: &Daemon,
    records: &[ContainerRecord],
    handed: BTreeMap<ContainerId, OwnedFd>,
) {
    for (id, descriptor) in handed {
        let record = records
            .iter()
            .find(|record| record.id == id && record.state != State::Dead);
        let taken = match record {
            Some(record) => daemon
                .engine
                .take_back(record, descriptor)
                .map_err(|error| error.to_string()),
            None => Err("there is no such container any more".to_owned()),
        };
        if let Err(why) = taken {
            let name = container_name(id);
            tracing::warn!(
                name,
                why,
                "closed a descriptor that the service manager handed over"
            );
            // Otherwise it would come again with every start.
            daemon.manager.forget(&name);
        }
    }
}

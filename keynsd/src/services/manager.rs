//! `org.keyns.Manager`: the daemon itself.

use std::rc::Rc;

use keyns_interfaces::manager::{Feature, Features, GetFeatures, GetStatus, Status};

use crate::authority::Policy;
use crate::daemon::Daemon;
use crate::front::Router;

/// Adds the methods of `org.keyns.Manager`.
pub fn register(router: &mut Router<Daemon>) {
    router
        .method::<GetStatus, _, _>(Policy::Anyone, |daemon, _, _| async move {
            Ok(status(&daemon).into())
        })
        .method::<GetFeatures, _, _>(Policy::Anyone, |daemon, _, _| async move {
            let features = daemon
                .features
                .iter()
                .map(|row| Feature {
                    name: row.name.clone(),
                    enforcer: row.enforcer.to_string(),
                    detail: row.detail.clone(),
                })
                .collect();
            Ok(Features { features }.into())
        });
}

fn status(daemon: &Rc<Daemon>) -> Status {
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        engine: daemon.engine.name().into(),
        instance: daemon.config.paths.instance().into(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        pid: std::process::id(),
        containers: daemon.containers.living() as u64,
        pending_upcalls: daemon.upcalls.pending().into(),
        agents: daemon.agents.registry().count() as u64,
        poll_interval_ms: daemon.keys.poll_interval_ms(),
    }
}

//! Creating containers, and storing and announcing what changes.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use keyns::engine::container::{
    ContainerId, ContainerRecord, ContainerSpec, IdRange, Namespace, Root, State,
};
use keyns::name::ContainerPath;
use keyns::text;
use keyns_interfaces::containers::Create;
use keyns_interfaces::{Error, ErrorKind};

use super::info::{container_info, engine_namespace, engine_root};
use super::lease;
use super::parking;
use crate::daemon::{Daemon, store_error};
use crate::events::{self, Topic};

/// Containers of one instance that are not dead.
const MAX_CONTAINERS: usize = 4_096;

/// Creates a container; with `kill_on_close` also its lease.
pub(super) async fn create(
    daemon: &Rc<Daemon>,
    call: Create,
) -> Result<(ContainerRecord, Option<OwnedFd>), Error> {
    let shown = text::escape(call.name.as_bytes());
    let what = format!("create container “{shown}”");
    let invalid =
        |why: String| Error::new(ErrorKind::InvalidArgument, format!("cannot {what}")).cause(why);
    let path = ContainerPath::from_bytes(call.name.as_bytes())
        .map_err(|flaw| invalid(flaw.to_string()))?;
    if path.name().as_str().bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid(
            "a name of digits only would be taken for a number".into(),
        ));
    }
    let namespaces: BTreeSet<_> = call
        .namespaces
        .iter()
        .copied()
        .map(engine_namespace)
        .collect();
    let root = engine_root(call.root);
    if root != Root::Empty && !namespaces.contains(&Namespace::Mount) {
        return Err(invalid("a root directory needs a mount namespace".into())
            .hint("add “mount” to the namespaces"));
    }
    if daemon.containers.living() >= MAX_CONTAINERS {
        return Err(
            Error::new(ErrorKind::LimitReached, format!("cannot {what}"))
                .cause(format!("there are {MAX_CONTAINERS} containers already"))
                .hint("kill some: keyctl-ns container kill NAME"),
        );
    }
    let parent = match path.parent() {
        None => None,
        Some(parent) => {
            let parent = daemon.containers.resolve(&parent.to_string())?;
            demand_alive(&parent, &what)?;
            Some(parent)
        }
    };
    // Two requests for one name, or for two children of one parent, meet here.
    let _creating = daemon.containers.creation.lock().await;
    if daemon.containers.resolve(&path.to_string()).is_ok() {
        return Err(
            Error::new(ErrorKind::AlreadyExists, format!("cannot {what}"))
                .cause("a living container has this name")
                .hint(format!("kill it first: keyctl-ns container kill {path}")),
        );
    }
    let id = daemon.container_ids.next().map_err(store_error(&what))?;
    let spec = ContainerSpec {
        id: ContainerId(id),
        path,
        namespaces,
        root,
        kill_on_close: call.kill_on_close,
    };
    let lineage = parent
        .as_ref()
        .map_or_else(Vec::new, |p| daemon.containers.lineage(p.id));
    let taken: Vec<IdRange> = user_namespace_owner(&lineage)
        .map(|owner| descendants_ids(daemon, owner))
        .unwrap_or_default();
    let record = daemon
        .blocking(what.clone(), move |engine| {
            engine.create(&spec, &lineage, &taken)
        })
        .await?;
    if let Some(parent) = &parent
        && let Err(error) = daemon
            .containers
            .get(parent.id)
            .ok_or_else(|| Error::new(ErrorKind::NoSuchContainer, format!("cannot {what}")))
            .and_then(|parent| demand_alive(&parent, &what))
    {
        // It was killed meanwhile.
        discard(daemon, record).await;
        return Err(error);
    }
    let lease = match record
        .kill_on_close
        .then(|| lease::grant(daemon, record.id))
        .transpose()
    {
        Ok(lease) => lease,
        Err(error) => {
            discard(daemon, record).await;
            return Err(Error::new(ErrorKind::System, format!("cannot {what}"))
                .cause(format!("the lease cannot be made: {error}")));
        }
    };
    if let Err(error) = daemon
        .store
        .put("containers", &record.id.to_string(), &record)
    {
        discard(daemon, record).await;
        return Err(store_error(&what)(error));
    }
    let cgroup = daemon
        .engine
        .cgroup_path(&record)
        .into_os_string()
        .into_encoded_bytes();
    daemon.containers.insert(record.clone(), cgroup);
    parking::park(daemon, &record);
    if let Some((reader, writer)) = lease {
        lease::watch(daemon, record.id, reader);
        announce(daemon, "container-created", record.id);
        return Ok((record, Some(writer)));
    }
    announce(daemon, "container-created", record.id);
    Ok((record, None))
}

async fn discard(daemon: &Rc<Daemon>, record: ContainerRecord) {
    let what = "remove what was made of the container";
    lease::revoke(daemon, record.id);
    if let Err(error) = daemon
        .blocking(what, move |engine| engine.destroy(&record))
        .await
    {
        tracing::warn!(cause = error.cause.as_deref(), "{}", error.message);
    }
}

/// The nearest container of a lineage with ids of its own; those nested in it share them.
fn user_namespace_owner(lineage: &[ContainerRecord]) -> Option<ContainerId> {
    lineage.iter().find(|r| r.ids.is_some()).map(|r| r.id)
}

fn descendants_ids(daemon: &Daemon, owner: ContainerId) -> Vec<IdRange> {
    daemon
        .containers
        .all()
        .iter()
        .filter(|r| r.state != State::Dead && r.id != owner)
        .filter(|r| {
            let lineage = daemon.containers.lineage(r.id);
            lineage
                .get(1..)
                .is_some_and(|above| user_namespace_owner(above) == Some(owner))
        })
        .filter_map(|r| r.ids)
        .collect()
}

/// Refuses a container that is being killed or dead.
pub(in crate::services) fn demand_alive(record: &ContainerRecord, what: &str) -> Result<(), Error> {
    match record.state {
        State::Created | State::Running => Ok(()),
        State::Dying | State::Dead => {
            Err(Error::new(ErrorKind::WrongState, format!("cannot {what}"))
                .cause(format!("container “{}” is dead", record.path))
                .hint(format!(
                    "create it again: keyctl-ns container create {}",
                    record.path
                )))
        }
    }
}

/// Stores a container's present record.
pub(super) fn persist(daemon: &Daemon, id: ContainerId, what: &str) -> Result<(), Error> {
    let Some(record) = daemon.containers.get(id) else {
        return Ok(());
    };
    daemon
        .store
        .put("containers", &id.to_string(), &record)
        .map_err(store_error(what))
}

/// Tells the subscribers.
pub(super) fn announce(daemon: &Daemon, what: &str, id: ContainerId) {
    let mut event = events::event(what);
    event.container = daemon
        .containers
        .get(id)
        .map(|record| container_info(&daemon.containers, &record));
    if let Some(info) = &event.container {
        // A macro each, because their names are those of kinds of messages.
        match what {
            "container-created" => tracing::info!(
                name: "container-created",
                container = info.name,
                container_id = id.0,
                "container created"
            ),
            "container-dead" => tracing::info!(
                name: "container-dead",
                container = info.name,
                container_id = id.0,
                "container dead"
            ),
            _ => {}
        }
    }
    daemon.bus.publish(Topic::Containers, event);
}

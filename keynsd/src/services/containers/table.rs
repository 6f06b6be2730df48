//! The containers there are.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use keyns::engine::container::{ContainerId, ContainerRecord, IdRange, Namespace, State};
use keyns::engine::process::ENDED_KEPT;
use keyns::name::ContainerPath;
use keyns::text;
use keyns_interfaces::containers::ProcessInfo;
use keyns_interfaces::{Error, ErrorKind};
use tokio::sync::{Mutex, Notify};

/// One container as the daemon has it in memory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: ContainerRecord,
    pub(crate) processes: BTreeMap<u64, ProcessInfo>,
    /// Held while the container is started or ended.
    pub(crate) lock: Rc<Mutex<()>>,
    /// Notified when state or a process changes.
    pub(crate) changed: Rc<Notify>,
}

impl Entry {
    /// Keeps the first process, the living and the last that ended, as the monitor does.
    pub(crate) fn forget_old_processes(&mut self) {
        let ended = |(number, process): (&u64, &ProcessInfo)| {
            (process.exit.is_some() && *number != 1).then_some(*number)
        };
        let ended: Vec<u64> = self.processes.iter().filter_map(ended).collect();
        for number in ended.iter().take(ended.len().saturating_sub(ENDED_KEPT)) {
            self.processes.remove(number);
        }
    }
}

/// All containers of the instance, the dead ones that were not removed included.
#[derive(Debug, Default)]
pub struct ContainerTable {
    entries: RefCell<BTreeMap<ContainerId, Entry>>,
    names: RefCell<HashMap<String, ContainerId>>,
    /// Pinned PID and user namespaces by inode.
    namespaces: RefCell<HashMap<(Namespace, u64), ContainerId>>,
    /// Cgroup paths, for containers with neither namespace.
    cgroups: RefCell<HashMap<Vec<u8>, ContainerId>>,
    /// Held while a container is made.
    pub(crate) creation: Mutex<()>,
}

impl ContainerTable {
    /// The container of a name or number that a user typed; dead ones only by number.
    ///
    /// # Errors
    /// `InvalidArgument` for what cannot be a name, `NoSuchContainer`.
    pub fn resolve(&self, name: &str) -> Result<ContainerRecord, Error> {
        let found = if let Ok(number) = name.parse::<u64>() {
            self.get(ContainerId(number))
        } else {
            let path = ContainerPath::from_bytes(name.as_bytes()).map_err(|flaw| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "“{}” is not a container’s name",
                        text::escape(name.as_bytes())
                    ),
                )
                .cause(flaw.to_string())
            })?;
            let id = self.names.borrow().get(&path.to_string()).copied();
            id.and_then(|id| self.get(id))
        };
        found.ok_or_else(|| {
            let missing = Error::new(
                ErrorKind::NoSuchContainer,
                format!("there is no container “{}”", text::escape(name.as_bytes())),
            );
            match self.last_dead(name) {
                Some(id) => missing
                    .cause(format!(
                        "the last one of this name is dead, its number is {id}"
                    ))
                    .hint(format!("see how it ended: keyctl-ns container show {id}")),
                None => missing.hint("list the containers: keyctl-ns container list"),
            }
        })
    }

    /// The youngest dead container that had this name and was not removed.
    fn last_dead(&self, name: &str) -> Option<ContainerId> {
        let entries = self.entries.borrow();
        let mut records = entries.values().rev().map(|entry| &entry.record);
        records
            .find(|r| r.state == State::Dead && r.path.to_string() == name)
            .map(|r| r.id)
    }

    /// The container with this number, dead or alive.
    #[must_use]
    pub fn get(&self, id: ContainerId) -> Option<ContainerRecord> {
        self.entries
            .borrow()
            .get(&id)
            .map(|entry| entry.record.clone())
    }

    /// All containers in order of creation.
    #[must_use]
    pub fn all(&self) -> Vec<ContainerRecord> {
        self.entries
            .borrow()
            .values()
            .map(|entry| entry.record.clone())
            .collect()
    }

    /// What `look` makes of each container, in order of creation.
    pub fn map<R>(&self, look: impl FnMut(&ContainerRecord) -> Option<R>) -> Vec<R> {
        let entries = self.entries.borrow();
        entries
            .values()
            .map(|entry| &entry.record)
            .filter_map(look)
            .collect()
    }

    /// Number of containers that are not dead.
    #[must_use]
    pub fn living(&self) -> usize {
        self.names.borrow().len()
    }

    /// A container, its parent, its parent's parent and so on.
    #[must_use]
    pub fn lineage(&self, id: ContainerId) -> Vec<ContainerRecord> {
        let entries = self.entries.borrow();
        let mut lineage = Vec::new();
        let mut next = Some(id);
        while let Some(entry) = next.and_then(|id| entries.get(&id)) {
            next = entry.record.parent;
            lineage.push(entry.record.clone());
        }
        lineage
    }

    /// A container's parent, its parent's parent and so on.
    #[must_use]
    pub fn ancestors(&self, record: &ContainerRecord) -> Vec<ContainerRecord> {
        record
            .parent
            .map_or_else(Vec::new, |parent| self.lineage(parent))
    }

    /// The living children of a container.
    #[must_use]
    pub fn children(&self, id: ContainerId) -> Vec<ContainerRecord> {
        self.entries
            .borrow()
            .values()
            .filter(|e| e.record.parent == Some(id) && e.record.state != State::Dead)
            .map(|e| e.record.clone())
            .collect()
    }

    /// The container that is this object of the kernel.
    #[must_use]
    pub fn of_object(&self, number: u64) -> Option<ContainerRecord> {
        let entries = self.entries.borrow();
        let mut records = entries.values().map(|entry| &entry.record);
        records.find(|r| r.object == Some(number)).cloned()
    }

    /// The innermost container of a process, by its PID and user namespaces (innermost first) and
    /// its cgroup (as `/proc/PID/cgroup` shows it).
    #[must_use]
    pub fn locate(
        &self,
        pid_chain: &[u64],
        user_chain: &[u64],
        cgroup: &[u8],
    ) -> Option<ContainerRecord> {
        let namespaces = self.namespaces.borrow();
        let first = |kind, chain: &[u64]| {
            chain
                .iter()
                .find_map(|inode| namespaces.get(&(kind, *inode)).copied())
        };
        let by_cgroup = || {
            let cgroups = self.cgroups.borrow();
            let mut path = cgroup;
            while !path.is_empty() {
                if let Some(id) = cgroups.get(path) {
                    return Some(*id);
                }
                path = path
                    .iter()
                    .rposition(|b| *b == b'/')
                    .and_then(|end| path.get(..end))?;
            }
            None
        };
        [
            first(Namespace::Pid, pid_chain),
            first(Namespace::User, user_chain),
            by_cgroup(),
        ]
        .into_iter()
        .flatten()
        .filter_map(|id| self.get(id))
        .max_by_key(|record| record.path.depth())
    }

    /// The kernel ids a container's denizens may have, its own or an ancestor's.
    #[must_use]
    pub fn ids(&self, id: ContainerId) -> Option<IdRange> {
        let entries = self.entries.borrow();
        let around = |entry: &&Entry| entries.get(&entry.record.parent?);
        std::iter::successors(entries.get(&id), around).find_map(|entry| entry.record.ids)
    }

    pub(crate) fn insert(&self, record: ContainerRecord, cgroup_path: Vec<u8>) {
        if record.state != State::Dead {
            self.names
                .borrow_mut()
                .insert(record.path.to_string(), record.id);
            let kinds = [Namespace::User, Namespace::Pid];
            if !kinds.iter().any(|kind| record.namespaces.contains(kind)) {
                self.cgroups.borrow_mut().insert(cgroup_path, record.id);
            }
        }
        self.index(&record);
        let entry = Entry {
            record: record.clone(),
            processes: BTreeMap::new(),
            lock: Rc::default(),
            changed: Rc::default(),
        };
        self.entries.borrow_mut().insert(record.id, entry);
    }

    fn index(&self, record: &ContainerRecord) {
        let mut namespaces = self.namespaces.borrow_mut();
        namespaces.retain(|_, id| *id != record.id);
        if record.state == State::Dead {
            return;
        }
        for kind in [Namespace::User, Namespace::Pid] {
            if let Some(inode) = record.pins.get(kind.file()) {
                namespaces.insert((kind, *inode), record.id);
            }
        }
    }

    /// Changes a container and wakes who waits for that; `None` when it was removed meanwhile.
    pub(crate) fn change<R>(
        &self,
        id: ContainerId,
        change: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        let (result, before, record, changed) = {
            let mut entries = self.entries.borrow_mut();
            let entry = entries.get_mut(&id)?;
            let before = (entry.record.state, entry.record.pins.clone());
            let result = change(entry);
            (
                result,
                before,
                entry.record.clone(),
                Rc::clone(&entry.changed),
            )
        };
        if before != (record.state, record.pins.clone()) {
            self.index(&record);
            if record.state == State::Dead {
                self.names.borrow_mut().retain(|_, named| *named != id);
                self.cgroups.borrow_mut().retain(|_, named| *named != id);
            }
        }
        changed.notify_waiters();
        Some(result)
    }

    pub(crate) fn with<R>(&self, id: ContainerId, look: impl FnOnce(&Entry) -> R) -> Option<R> {
        self.entries.borrow().get(&id).map(look)
    }

    pub(crate) fn remove(&self, id: ContainerId) {
        if let Some(entry) = self.entries.borrow_mut().remove(&id) {
            entry.changed.notify_waiters();
        }
        self.names.borrow_mut().retain(|_, named| *named != id);
        self.namespaces.borrow_mut().retain(|_, named| *named != id);
        self.cgroups.borrow_mut().retain(|_, named| *named != id);
    }
}

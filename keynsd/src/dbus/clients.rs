//! Who calls: the clients on the bus, by unique name.
//!
//! Unique names are never given again while a bus lives, so what the bus once said about one stays
//! true until it leaves.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::rc::Rc;

use keyns_interfaces::{Error, ErrorKind};
use tokio::sync::{Notify, OnceCell};
use zbus::Variant;

use super::link::Link;
use crate::authority::Caller;
use crate::front::ConnectionId;
use crate::front::context::Life;

/// Calls of one client that may be under way.
pub(super) const MAX_CALLS: usize = 64;
/// Calls of all clients that may be under way.
pub(super) const MAX_ALL_CALLS: usize = 512;

/// A client on the bus.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) id: ConnectionId,
    pub(super) life: Rc<Life>,
    caller: OnceCell<Rc<Caller>>,
    calls: Cell<usize>,
    /// Ends its subscription.
    pub(super) subscription: RefCell<Option<Rc<Notify>>>,
    /// Ends its agents, by number.
    pub(super) agents: RefCell<HashMap<u64, Rc<Notify>>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // No call of it is running any more: each has held it.
        self.life.end();
    }
}

impl Client {
    /// Who it is, if that was found out already.
    pub(super) fn known(&self) -> Option<&Rc<Caller>> {
        self.caller.get()
    }

    /// Who it is; asks the bus once.
    ///
    /// # Errors
    /// [`ErrorKind::NotPermitted`]: whoever cannot be identified may do nothing.
    pub(super) async fn identify(&self, link: &Link) -> Result<&Rc<Caller>, Error> {
        self.caller
            .get_or_try_init(|| async { credentials(link, &self.name).await.map(Rc::new) })
            .await
    }

    /// Ends its subscription; whether there was one.
    pub(super) fn unsubscribe(&self) -> bool {
        let subscription = self.subscription.take();
        if let Some(stop) = &subscription {
            stop.notify_one();
        }
        subscription.is_some()
    }
}

/// A call under way; counted until dropped.
pub(super) struct Turn {
    client: Rc<Client>,
    all: Rc<Cell<usize>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.client
            .calls
            .set(self.client.calls.get().saturating_sub(1));
        self.all.set(self.all.get().saturating_sub(1));
    }
}

/// The clients that have called.
#[derive(Debug, Default)]
pub(super) struct Clients {
    by_name: RefCell<HashMap<String, Rc<Client>>>,
    calls: Rc<Cell<usize>>,
}

impl Clients {
    /// The client of this name.
    pub(super) fn get(&self, name: &str, number: impl FnOnce() -> ConnectionId) -> Rc<Client> {
        let mut clients = self.by_name.borrow_mut();
        if let Some(client) = clients.get(name) {
            return Rc::clone(client);
        }
        let client = Rc::new(Client {
            name: name.to_owned(),
            id: number(),
            life: Rc::default(),
            caller: OnceCell::new(),
            calls: Cell::new(0),
            subscription: RefCell::default(),
            agents: RefCell::default(),
        });
        clients.insert(name.to_owned(), Rc::clone(&client));
        client
    }

    /// Counts a call of `client`, unless there are too many.
    pub(super) fn enter(&self, client: &Rc<Client>) -> Option<Turn> {
        if client.calls.get() >= MAX_CALLS || self.calls.get() >= MAX_ALL_CALLS {
            return None;
        }
        client.calls.set(client.calls.get() + 1);
        self.calls.set(self.calls.get() + 1);
        Some(Turn {
            client: Rc::clone(client),
            all: Rc::clone(&self.calls),
        })
    }

    /// Nothing is known about a client: it is asked about again when it calls again. Nobody would tell
    /// of the end of somebody who was never there.
    pub(super) fn forget(&self, client: &Rc<Client>) {
        let mut clients = self.by_name.borrow_mut();
        if client.calls.get() == 0 && client.known().is_none() {
            clients.remove(&client.name);
        }
    }

    /// A client has left the bus.
    pub(super) fn gone(&self, name: &str) {
        let client = self.by_name.borrow_mut().remove(name);
        if let Some(client) = client {
            client.life.hang_up();
        }
    }

    /// The bus is gone, and with it everybody on it.
    pub(super) fn all_gone(&self) {
        let clients = self.by_name.take();
        for client in clients.into_values() {
            client.life.hang_up();
        }
    }
}

/// What the bus says about a client.
async fn credentials(link: &Link, name: &str) -> Result<Caller, Error> {
    let unknown =
        |cause: String| Error::new(ErrorKind::NotPermitted, "cannot tell who calls").cause(cause);
    let reply = link
        .ask_bus("GetConnectionCredentials", &name)
        .await
        .map_err(|error| unknown(error.to_string()))?;
    let body = reply.body();
    let mut said: HashMap<String, Variant<'_>> = body
        .deserialize()
        .map_err(|_| unknown("the bus’s answer is not of its type".to_owned()))?;
    let mut number = |field: &str| match said.remove(field) {
        Some(Variant::U32(number)) => Some(number),
        _ => None,
    };
    let (uid, pid) = (number("UnixUserID"), number("ProcessID"));
    let process = match said.remove("ProcessFD") {
        Some(Variant::Fd(fd)) => Some(
            fd.as_fd()
                .try_clone_to_owned()
                .map_err(|error| unknown(error.to_string()))?,
        ),
        _ => None,
    };
    let groups = match said.remove("UnixGroupIDs") {
        Some(groups) => groups.try_into().unwrap_or_default(),
        None => Vec::new(),
    };
    Caller::on_bus(uid, pid, groups, process, name).map_err(|error| unknown(error.to_string()))
}

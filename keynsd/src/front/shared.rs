//! What all front doors share.

use std::cell::Cell;
use std::rc::Rc;

use keyns_interfaces::Error;

use super::context::ConnectionId;
use super::gate::{Gate, Place};
use super::limits::LiveLimits;
use super::router::Router;
use crate::authority::{Account, Authority};

/// The methods behind the doors, the places before them, and who decides.
#[derive(Debug)]
pub struct Front<S> {
    pub(crate) router: Router<S>,
    pub(crate) authority: Authority,
    pub(crate) gate: Rc<Gate>,
    pub(crate) limits: LiveLimits,
    next: Cell<u64>,
}

impl<S> Front<S> {
    /// Doors to the methods of `router`.
    #[must_use]
    pub fn new(router: Router<S>, limits: impl Into<LiveLimits>) -> Rc<Self> {
        Rc::new(Self {
            router,
            authority: Authority::default(),
            gate: Rc::default(),
            limits: limits.into(),
            next: Cell::new(1),
        })
    }

    /// Takes one of the places before the main socket and the bus, for as long as it is kept.
    pub(crate) fn enter(&self, account: Account) -> Result<Place, Error> {
        let limits = self.limits.now();
        self.gate.enter(account, limits.total, limits.per_uid)
    }

    /// Number of a new connection, at whichever door.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next.replace(self.next.get() + 1))
    }
}

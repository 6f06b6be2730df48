//! What all front doors share.

use std::cell::Cell;
use std::rc::Rc;

use super::context::ConnectionId;
use super::gate::Gate;
use super::listener::Limits;
use super::router::Router;
use crate::authority::Authority;

/// The methods behind the doors, the places before them, and who decides.
#[derive(Debug)]
pub struct Front<S> {
    pub(crate) router: Router<S>,
    pub(crate) authority: Authority,
    pub(crate) gate: Rc<Gate>,
    pub(crate) limits: Limits,
    next: Cell<u64>,
}

impl<S> Front<S> {
    /// Doors to the methods of `router`.
    #[must_use]
    pub fn new(router: Router<S>, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            router,
            authority: Authority::default(),
            gate: Rc::new(Gate::new(limits.total, limits.per_uid)),
            limits,
            next: Cell::new(1),
        })
    }

    /// Number of a new connection, at whichever door.
    pub(crate) fn next_connection(&self) -> ConnectionId {
        ConnectionId(self.next.replace(self.next.get() + 1))
    }
}

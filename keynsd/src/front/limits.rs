//! What connections may take, and that it can be changed while they are served.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// What connections may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections per uid on the main socket, with calls on the system bus, and how many of all are
    /// kept for root.
    pub per_uid: usize,
    /// Connections on the main socket, with calls on the system bus.
    pub total: usize,
    /// Connections on the admin socket.
    pub admin: usize,
    /// A connection without a call for this long is closed.
    pub idle: Duration,
    /// A peer that does not take a reply for this long is cut off.
    pub write: Duration,
    /// Replies of a stream that wait to be written.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_uid: 64,
            total: 512,
            admin: 8,
            idle: Duration::from_secs(60),
            write: Duration::from_secs(5),
            queue: 16,
        }
    }
}

/// Limits that can be changed while the doors are open. Connections keep those they began with.
#[derive(Debug, Clone)]
pub struct LiveLimits(Rc<RefCell<Rc<Limits>>>);

impl LiveLimits {
    /// Changes them.
    pub fn set(&self, limits: Limits) {
        *self.0.borrow_mut() = Rc::new(limits);
    }

    /// Those that count now.
    #[must_use]
    pub fn now(&self) -> Rc<Limits> {
        Rc::clone(&self.0.borrow())
    }
}

impl From<Limits> for LiveLimits {
    fn from(limits: Limits) -> Self {
        Self(Rc::new(RefCell::new(Rc::new(limits))))
    }
}

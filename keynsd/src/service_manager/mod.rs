//! The service manager that has started the daemon, where one has: what it hands over, and what it is
//! told.
//!
//! Nothing here is needed. Without `NOTIFY_SOCKET` and `LISTEN_FDS` in the environment nobody is told
//! anything, and the daemon makes its sockets itself.
//!
//! Sockets that a manager listens on outlive the daemon: whoever connects while none runs waits for the
//! next one instead of being refused. So the daemon leaves their files alone, also when it removes its
//! instance. Those it has made itself go into the manager's store of descriptors, where there is one
//! (`FDSTORE`), and are the manager's from then on.

mod environment;
mod handed;
mod notify;

pub use environment::Environment;
pub use handed::{Handed, ListenerSource, Role, container_name};
pub use notify::Manager;

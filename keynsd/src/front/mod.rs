//! The front doors: sockets, connections and the way of a call to its method. The one on the system bus
//! is [`crate::dbus`]; it shares with these who may call, places, and that way.
//!
//! Everything runs on one thread (a tokio `LocalSet`). The daemon never waits for a peer: frames are
//! limited before they are parsed, writes have a deadline, connections are counted, and one that
//! takes more than its share is closed. No decision is taken here but by [`crate::authority`].

pub(crate) mod call;
mod connection;
pub(crate) mod context;
pub mod gate;
mod limits;
mod listener;
mod parameters;
mod router;
pub(crate) mod service;
mod shared;

pub use context::{ConnectionId, Context, Gone, Reply, StreamSender};
pub use limits::{Limits, LiveLimits};
pub use listener::{Sockets, raise_descriptor_limit};
pub use router::{Router, ServiceInfo};
pub use shared::Front;

//! The front door: sockets, connections and the way of a call to its method.
//!
//! Everything runs on one thread (a tokio `LocalSet`). The daemon never waits for a peer: frames are
//! limited before they are parsed, writes have a deadline, connections are counted, and one that
//! takes more than its share is closed. No decision is taken here but by [`crate::authority`].

mod connection;
mod context;
mod listener;
mod parameters;
mod router;
mod service;

pub use context::{ConnectionId, Context, Gone, Reply, StreamSender};
pub use listener::{Limits, LiveLimits, Sockets, raise_descriptor_limit, serve};
pub use router::{Router, ServiceInfo};

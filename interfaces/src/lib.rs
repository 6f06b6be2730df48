//! The varlink contract of `keynsd`: methods, their parameters and replies, errors, and a client.
//!
//! The commented `.varlink` files beside this crate are the contract; the types here are their Rust
//! side, and a test compares the two. The same types serve the daemon and every client, so a field
//! cannot be spelt differently on the two ends.

pub mod agents;
pub mod blocking;
pub mod bus;
pub mod catalogue;
pub mod client;
pub mod containers;
pub mod error;
pub mod event;
pub mod frame;
pub mod idl;
pub mod keys;
pub mod manager;
pub mod method;
pub mod payload;
pub mod text;
mod unit;
pub mod upcalls;

pub use catalogue::{METHODS, MethodEntry};
pub use client::{Client, ClientError, Subscription};
pub use error::{Error, ErrorKind};
pub use method::{Empty, Method};
pub use payload::Payload;
pub use text::ByteText;

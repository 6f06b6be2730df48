//! The front door against clients that behave and clients that do not, over real sockets.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod calls;
mod crowd;
mod hostile;
mod identity;
mod interop;
mod random;
mod server;
mod silence;
mod streams;

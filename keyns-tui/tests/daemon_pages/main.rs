//! The pages that live on what the daemon tells: messages in, screens and questions out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod anything;
mod desk;
mod events;
mod health;
mod upcalls;

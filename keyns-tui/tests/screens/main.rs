//! The state of the program and what it draws: messages in, state and cells out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anything;
mod containers;
mod keys;
mod pictures;
mod stage;
mod things;
mod whole;

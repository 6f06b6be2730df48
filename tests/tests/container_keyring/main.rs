//! Container keyrings on the running kernel: what denizens can and cannot do, lending, copies, and
//! that nothing is left.
//!
//! Needs root. Each test has an instance, a service uid and container ids of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod clinging;
mod copies;
mod denizens;
mod engine;
mod lending;
mod registry;

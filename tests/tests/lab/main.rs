//! What needs another kernel than the one at hand, or must not be tried on it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod install;
mod itself;
mod nested;
mod old_kernel;
mod systemd;

use std::time::Duration;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(600);

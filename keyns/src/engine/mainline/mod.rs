//! The engine for stock kernels.

pub mod build;
pub mod cgroup;
pub mod channel;
pub mod engine;
mod enter;
pub mod failure;
mod features;
pub mod ids;
pub mod keyring;
pub mod monitor;
pub mod paths;
pub mod pin;
pub mod program;
mod root;
mod routes;
pub mod shared;

pub use engine::{Mainline, Options, Prepared, RunSpec};

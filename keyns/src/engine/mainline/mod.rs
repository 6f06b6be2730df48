//! The engine for stock kernels.

pub mod build;
pub mod cgroup;
pub mod channel;
mod create;
pub mod engine;
mod enter;
pub mod failure;
pub mod features;
pub mod ids;
pub mod keyring;
pub mod monitor;
pub mod paths;
pub mod pin;
mod process;
pub mod program;
mod root;
mod routes;
pub mod shared;

pub use engine::{Mainline, Options};
pub use process::{Prepared, RunSpec, next_exit};

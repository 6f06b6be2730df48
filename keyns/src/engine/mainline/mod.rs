//! The engine for stock kernels.

pub(super) mod create;
mod engine;
pub(super) mod features;
mod process;

pub(super) use engine::Mainline;

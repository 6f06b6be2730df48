//! The engine for stock kernels.

mod create;
mod engine;
mod features;
mod process;

pub(super) use engine::Mainline;

//! The engine for kernels that have container objects.
//!
//! Such a kernel keeps containers itself: which process is in which, that all of them die together,
//! a keyring that its own requests search, and rights to keys for the processes of one container.
//! What it does not do, the engine for stock kernels does here too: ids, cgroups, root directories,
//! pins, monitors, and the registry of keys.

mod create;
mod engine;
mod features;

pub(super) use engine::Patched;

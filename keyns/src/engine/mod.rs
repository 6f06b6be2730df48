//! Engines: how containers, their keyrings and their upcalls are realised on a kernel.
//!
//! The daemon knows an [`Engine`] and has [`EngineChoice`] choose it. `mainline` works on any stock
//! kernel from 6.1 on. What is in this folder itself serves engines: keyrings and key worker, ids,
//! cgroups, pins, and the two programs that touch containers (`build` for `keyns-stage`; `monitor`,
//! with `enter`, for `keyns-monitor`). What an engine needs to know about a container after a
//! restart is in its [`ContainerRecord`]; everything else it reads back from the kernel.

pub mod build;
pub mod cgroup;
pub mod channel;
mod choice;
pub mod container;
mod contract;
mod enter;
pub mod error;
pub mod failure;
pub mod ids;
pub mod keyring;
mod mainline;
pub mod monitor;
mod monitors;
mod object;
pub mod objects;
mod patched;
pub mod paths;
pub mod pin;
pub mod process;
pub mod program;
pub mod requests;
mod root;
mod routes;
pub mod shared;

pub use choice::{EngineChoice, Options};
pub use container::{
    ContainerId, ContainerRecord, ContainerSpec, ExitStatus, IdRange, Namespace, Namespaces, Root,
    State,
};
pub use contract::Engine;
pub use error::EngineError;
pub use monitors::{Exits, Prepared};

//! Engines: how containers, their keyrings and their upcalls are realised on a kernel.
//!
//! `mainline` works on any stock kernel from 6.1 on. What an engine needs to know about a container
//! after a restart is in its [`ContainerRecord`]; everything else it reads back from the kernel.

pub mod container;
pub mod error;
pub mod mainline;

pub use container::{
    ContainerId, ContainerRecord, ContainerSpec, ExitStatus, IdRange, Namespace, Namespaces, Root,
    State,
};
pub use error::EngineError;

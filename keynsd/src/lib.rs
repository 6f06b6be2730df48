//! The keyns daemon: front door, authority, services.

pub mod authority;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod dbus;
pub mod events;
pub mod front;
pub mod log;
pub mod namespaces;
mod readiness;
pub mod run;
pub mod service_manager;
pub mod services;
pub mod store;
mod upcall_command;
pub mod upcall_link;

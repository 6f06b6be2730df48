//! The keyns daemon: front door, authority, services.

pub mod authority;
pub mod events;
pub mod front;
pub mod upcall_link;

//! What the daemon does: one service per interface, below the front doors.

pub mod agents;
pub mod containers;
pub mod keys;
pub mod manager;
pub mod upcalls;

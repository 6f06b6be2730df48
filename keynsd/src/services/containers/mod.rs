//! `org.keyns.Containers`: the life of containers and of the processes in them.
//!
//! ```text
//!            Run                 first process ends, Kill, lease closed
//! created ─────────▶ running ──────────────────────────────▶ dying ──▶ dead
//!    └──────────────────────── Kill, Remove ─────────────────▲
//! ```
//!
//! Each step is stored before its effect can be seen from inside, so that a daemon that is killed
//! anywhere finds the container again: a process waits in its container until the routing table
//! knows it, and what a dying container still has is taken apart again at the next start.

mod end;
mod info;
mod lease;
mod life;
mod methods;
mod parking;
mod pidfd;
mod restore;
mod start;
mod table;

pub use methods::register;
pub use restore::restore;
pub use table::ContainerTable;

pub use end::end;
pub use info::container_info;
pub(in crate::services) use life::demand_alive;

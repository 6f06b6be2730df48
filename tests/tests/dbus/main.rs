//! The door on the bus, on a bus of the test's own.

mod doors;
mod hostile;
mod interop;
mod life;
mod objects;
mod polkit;
mod signals;
mod upcalls;
mod world;

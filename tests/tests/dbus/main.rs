//! The door on the bus, on a bus of the test's own.

mod doors;
mod life;
mod objects;
mod polkit;
mod world;

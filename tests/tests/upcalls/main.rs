//! Requests of real denizens, through the real `/sbin/request-key`, to whoever answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod answers;
mod confinement;
mod faults;
mod reroute;
mod world;

const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;
const EDEADLK: i32 = 35;
const EOPNOTSUPP: i32 = 95;
const EDQUOT: i32 = 122;
const ETIMEDOUT: i32 = 110;
const ENOKEY: i32 = 126;
const EKEYREJECTED: i32 = 129;

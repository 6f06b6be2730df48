//! A request for a key that the kernel wants answered, for whoever answers it: the program behind
//! `/sbin/request-key`, or a daemon into whose queue the kernel has linked it.

use std::io;

pub mod facts;
pub mod place;
pub mod settle;
pub mod target;

/// A fact about the requester is missing, so that nothing may be decided.
#[derive(Debug, PartialEq, Eq)]
pub struct Undecidable;

impl From<io::Error> for Undecidable {
    fn from(_: io::Error) -> Self {
        Self
    }
}

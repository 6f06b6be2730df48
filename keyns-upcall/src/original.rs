//! The program that was behind `/sbin/request-key` before.

use std::ffi::CStr;

use keyns_sys::{helper_process, requester};
use std::os::fd::AsFd;

use crate::invocation::Invocation;
use crate::settle;

/// Bound there by a take-over, then where Debian's diversion puts it.
const PLACES: [&CStr; 3] = [
    c"/run/keyns/request-key.orig",
    c"/usr/sbin/request-key.distrib",
    c"/sbin/request-key.distrib",
];

/// What the kernel gives its helpers (`call_sbin_request_key`).
const ENVIRONMENT: [&CStr; 2] = [c"HOME=/", c"PATH=/sbin:/bin:/usr/sbin:/usr/bin"];

/// Becomes the original program; where there is none, rejects for as long as the kernel would.
///
/// Returns only in the latter case, with the exit status.
pub(crate) fn run(invocation: &Invocation) -> i32 {
    for place in PLACES {
        if is_other_program(place) {
            // Returns only if the file cannot be executed; then it is no program.
            let _ = helper_process::execute(place, &invocation.arguments, &ENVIRONMENT);
        }
    }
    settle::reject_or_fail(invocation.target, settle::NO_ORIGINAL)
}

/// Whether there is a file that is not this very program, which would execute itself for ever.
fn is_other_program(place: &CStr) -> bool {
    const O_PATH: i32 = 0o10_000_000;
    let identity = |path: &CStr| {
        let file = requester::open_at(None, path, O_PATH).ok()?;
        let status = requester::status(file.as_fd()).ok()?;
        Some((status.device, status.inode))
    };
    match (identity(place), identity(c"/proc/self/exe")) {
        (Some(there), Some(own)) => there != own,
        _ => false,
    }
}

//! The program that was behind `/sbin/request-key` before.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;

use keyns_sys::helper_process;

use crate::depth;
use crate::invocation::Invocation;
use crate::settle;

/// Bound there by a take-over, then where Debian's diversion puts it.
const PLACES: [&CStr; 3] = [
    c"/run/keyns/request-key.orig",
    c"/usr/sbin/request-key.distrib",
    c"/sbin/request-key.distrib",
];

/// What the kernel executes: the original itself, once a take-over has been given back.
const ITSELF: &CStr = c"/sbin/request-key";

/// What the kernel gives its helpers (`call_sbin_request_key`).
const ENVIRONMENT: [&CStr; 2] = [c"HOME=/", c"PATH=/sbin:/bin:/usr/sbin:/usr/bin"];

/// Becomes the original program; where there is none, rejects for as long as the kernel would, and
/// where it would run for what led to itself, at once.
///
/// Returns only in these cases, with the exit status.
pub(crate) fn run(invocation: &Invocation) -> i32 {
    if depth::pass_on(invocation).is_err() {
        return settle::reject_or_fail(invocation.target, settle::LOOP);
    }
    let own = helper_process::executed_as();
    // Returns only if there is no such file, or none that can be executed.
    let execute = |place| helper_process::execute(place, invocation.arguments, ENVIRONMENT);
    for place in places_after(own) {
        let _ = execute(place);
    }
    // The take-over may have been given back while this ran.
    if !stands_for_original(own) && is_another_program() {
        let _ = execute(ITSELF);
    }
    settle::reject_or_fail(invocation.target, settle::NO_ORIGINAL)
}

/// Should one of the places hold this very program, it must not execute itself for ever: having been
/// executed from one place, it tries only those that follow.
fn places_after(own: Option<&CStr>) -> &'static [&'static CStr] {
    let tried = PLACES
        .iter()
        .position(|place| Some(*place) == own)
        .map_or(0, |n| n + 1);
    PLACES.get(tried..).unwrap_or_default()
}

/// Whether this was executed in the name of the original: by a `keyns-upcall` that is still there.
fn stands_for_original(own: Option<&CStr>) -> bool {
    PLACES.iter().any(|place| Some(*place) == own)
}

/// Whether `/sbin/request-key` is another file than the one that runs here.
fn is_another_program() -> bool {
    let identity = |path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (identity("/sbin/request-key"), identity("/proc/self/exe")) {
        (Ok(there), Ok(own)) => there != own,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_in_the_place_of_the_original_comes_to_an_end() {
        assert_eq!(places_after(Some(ITSELF)), PLACES);
        assert_eq!(places_after(None), PLACES);
        assert_eq!(places_after(Some(PLACES[0])), &PLACES[1..]);
        assert_eq!(places_after(Some(PLACES[2])), &[] as &[&CStr]);
        assert!(!stands_for_original(Some(ITSELF)));
        assert!(PLACES.iter().all(|place| stands_for_original(Some(place))));
    }
}

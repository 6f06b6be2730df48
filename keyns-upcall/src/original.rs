//! The program that serves requests of the host: the one that was behind `/sbin/request-key` before,
//! or `keyns-request-key` where the administrator has chosen it, or where there is no other.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::MetadataExt;

use keyns_sys::helper_process;

use crate::depth;
use crate::invocation::Invocation;
use keyns_sys::request::settle;

/// In the order of what counts more, as `keyns::takeover` fills them. That a file is there is all
/// that says it is to be executed: nothing else is read for a request of the host.
const PLACES: [&CStr; 5] = [
    // The original, bound there by a take-over.
    c"/run/keyns/request-key.orig",
    // Ours, chosen instead of the original.
    c"/sbin/request-key.keyns",
    // The original, where Debian's diversion puts it.
    c"/usr/sbin/request-key.distrib",
    c"/sbin/request-key.distrib",
    // Ours, for want of an original.
    c"/sbin/request-key.keyns-spare",
];

/// What the kernel executes: the original itself, once a take-over has been given back.
const ITSELF: &CStr = c"/sbin/request-key";

/// What the kernel gives its helpers (`call_sbin_request_key`).
const ENVIRONMENT: [&CStr; 2] = [c"HOME=/", c"PATH=/sbin:/bin:/usr/sbin:/usr/bin"];

/// Becomes the program that serves the host; where there is none, rejects for as long as the kernel
/// would, and where it would run for what led to itself, at once.
///
/// Returns only in these cases, with the exit status.
pub(crate) fn run(invocation: &Invocation) -> i32 {
    if depth::pass_on(invocation).is_err() {
        return settle::reject_or_fail(invocation.target, settle::LOOP);
    }
    let own = helper_process::executed_as();
    // Returns only if there is no such file, or none that can be executed.
    let execute = |place| helper_process::execute(place, invocation.arguments, ENVIRONMENT);
    let places = places_after(own);
    // Twice, since one may have been moved from a place further down to one that was tried already.
    for place in places.iter().chain(places) {
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
        assert_eq!(places_after(Some(PLACES[4])), &[] as &[&CStr]);
        assert!(!stands_for_original(Some(ITSELF)));
        assert!(PLACES.iter().all(|place| stands_for_original(Some(place))));
    }
}

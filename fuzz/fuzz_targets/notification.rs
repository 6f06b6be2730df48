//! Records of a notification pipe.

#![no_main]

use keyctl_ns::keyctl::notification;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut lines = Vec::new();
    loop {
        let before = rest.len();
        match notification::take(&mut rest) {
            Ok(Some(record)) => {
                assert!(rest.len() < before);
                notification::push_line(&mut lines, &record);
            }
            Ok(None) => {
                assert!(rest.is_empty());
                break;
            }
            Err(_) => break,
        }
    }
});

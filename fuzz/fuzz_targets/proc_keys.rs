//! The lines of `/proc/keys`, which whoever makes a key with line breaks in its description can
//! write at will.
//!
//! To run a target for a minute, with cargo-fuzz and a nightly compiler:
//!
//!     cargo +nightly fuzz run proc_keys -- -max_total_time=60

#![no_main]

use keyctl_ns::keyctl::named_key;
use keyns::proc_keys::ProcKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    for line in text.split(|byte| *byte == b'\n') {
        if let Some(key) = ProcKey::parse(line) {
            // What is understood is written as it was read, but for blanks before numbers.
            let again = ProcKey::parse(&key.to_line());
            assert_eq!(again.as_ref(), Some(&key));
            let _ = key.expiry.at_least();
            // The line of a key is found by type and description.
            let end = key.summary.iter().position(|byte| *byte == b':');
            let description = key.summary.get(..end.unwrap_or(key.summary.len()));
            if let Some(description) = description
                && !description.first().is_some_and(u8::is_ascii_whitespace)
                && !key.type_column.iter().any(u8::is_ascii_whitespace)
            {
                let found = named_key::candidate(line, &key.type_column, description);
                assert_eq!(found, Some(key.serial));
            }
        }
        let _ = named_key::candidate(line, b"user", b"a");
    }
});

//! How keys are named on command lines: by `keyctl-ns`, and by `keyctl`.

#![no_main]

use std::ffi::CString;

use keyctl_ns::keyctl::key_id::KeyId;
use keyctl_ns::keyctl::number::{self, Base};
use keyns::spec::KeySpec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    match KeySpec::from_bytes(text) {
        Ok(spec) => assert_eq!(KeySpec::from_bytes(&spec.to_bytes()), Ok(spec)),
        Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
    }
    let Ok(text) = CString::new(text) else {
        return;
    };
    if let Ok(KeyId::Named { type_, description }) = KeyId::parse(&text) {
        assert!(!type_.is_empty() && !description.is_empty());
        assert!(text.to_bytes().ends_with(description.to_bytes()));
    }
    for base in [Base::Ten, Base::Any] {
        let parsed = number::parse(text.to_bytes(), base);
        assert!(text.to_bytes().ends_with(parsed.rest));
    }
});

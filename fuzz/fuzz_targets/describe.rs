//! What `KEYCTL_DESCRIBE` returns: two parsers of the same text have to agree.

#![no_main]

use keyctl_ns::keyctl::description::Described;
use keyns::description::KeyDescription;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let lenient = Described::parse(text);
    if let Ok(strict) = KeyDescription::parse(text) {
        let lenient = lenient.expect("what the strict one takes, the lenient one takes");
        assert_eq!(lenient.type_, strict.type_);
        assert_eq!(lenient.description, strict.description);
        assert_eq!(lenient.mask, strict.mask.raw());
        assert_eq!(lenient.is_keyring(), strict.is_keyring());
        assert_eq!(KeyDescription::parse(&strict.to_bytes()), Ok(strict));
    }
});

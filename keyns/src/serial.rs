//! Key serial numbers as people type them.

pub use keyns_sys::KeySerial;

/// A text that is no key number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// Not a number in decimal or `0x…`.
    #[error("it is no number (decimal, or hexadecimal with 0x)")]
    NotANumber,
    /// Hexadecimal as `/proc/keys` prints it.
    #[error("a hexadecimal key number needs 0x in front")]
    BareHex,
    /// Zero.
    #[error("no key has the number 0")]
    Zero,
    /// Beyond 2147483647, the largest serial, or below −8, the last special keyring.
    #[error("no key has that number (1 to 2147483647, or −1 to −8)")]
    OutOfRange,
}

/// Reads a serial (decimal or `0x…`) or a special number from −1 to −8.
///
/// # Errors
/// [`SerialError`]. Octal and numbers that only fit after truncation are not accepted, unlike in
/// `keyctl(1)`: a mistyped serial must not silently become another key.
pub fn parse(text: &str) -> Result<KeySerial, SerialError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (radix, digits) = match digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        Some(rest) if !negative => (16, rest),
        Some(_) => return Err(SerialError::NotANumber),
        None => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SerialError::NotANumber);
    }
    if radix == 10 && !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(if negative || digits.len() > 8 {
            SerialError::NotANumber
        } else {
            SerialError::BareHex
        });
    }
    // `/proc/keys` prints leading zeros, `keyctl(1)` would read octal: neither is meant as decimal.
    if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
        return Err(SerialError::BareHex);
    }
    // Only an overflow is left to fail.
    let number = i64::from_str_radix(digits, radix).map_err(|_| SerialError::OutOfRange)?;
    match if negative { -number } else { number } {
        0 => Err(SerialError::Zero),
        n @ (-8..=-1 | 1..=0x7fff_ffff) => i32::try_from(n)
            .map(KeySerial::new)
            .map_err(|_| SerialError::OutOfRange),
        _ => Err(SerialError::OutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_hexadecimal_and_special_numbers_are_read() {
        assert_eq!(parse("474754113"), Ok(KeySerial::new(474_754_113)));
        assert_eq!(parse("0x1c4c2841"), Ok(KeySerial::new(0x1c4c_2841)));
        assert_eq!(parse("2147483647"), Ok(KeySerial::new(i32::MAX)));
        assert_eq!(parse("-3"), Ok(KeySerial::SESSION));
        assert_eq!(parse("-8"), Ok(KeySerial::REQUESTOR));
    }

    #[test]
    fn what_is_no_key_number_is_refused_for_its_reason() {
        for (text, error) in [
            ("", SerialError::NotANumber),
            ("0x", SerialError::NotANumber),
            ("+1", SerialError::NotANumber),
            ("--1", SerialError::NotANumber),
            ("-0x3", SerialError::NotANumber),
            ("12 ", SerialError::NotANumber),
            ("user", SerialError::NotANumber),
            ("0b6ec455", SerialError::BareHex),
            ("01234567", SerialError::BareHex),
            ("0", SerialError::Zero),
            ("-0", SerialError::Zero),
            ("-9", SerialError::OutOfRange),
            ("2147483648", SerialError::OutOfRange),
            ("0xfffffffd", SerialError::OutOfRange),
            ("99999999999999999999999", SerialError::OutOfRange),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn serials_round_trip(raw in 1..i32::MAX) {
            prop_assert_eq!(parse(&raw.to_string()), Ok(KeySerial::new(raw)));
            prop_assert_eq!(parse(&format!("{raw:#x}")), Ok(KeySerial::new(raw)));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "[-+0x]{0,2}.{0,20}") {
            let _ = parse(&text);
        }
    }
}

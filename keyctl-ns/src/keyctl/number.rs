//! Numbers as strtoul(3) reads them.
//!
//! The original hands every number to that function and cuts the result to 32 bits. So white space
//! and a sign may stand before it, `0x` makes it hexadecimal and `0` octal where any base is
//! allowed, a negative number is one counted back from 2⁶⁴, and what is too large is all ones.

/// What was read, and what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The number; of nothing, 0.
    pub value: u64,
    /// The first byte that is no part of it, and all that follow; the whole text if there was no
    /// digit.
    pub rest: &'a [u8],
    /// It was larger than 2⁶⁴ − 1.
    pub overflow: bool,
}

/// In which notation numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Decimal.
    Ten,
    /// Decimal, octal after `0`, hexadecimal after `0x`.
    Any,
}

/// White space in the C locale.
#[must_use]
pub const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Reads a number from the beginning of a text.
#[must_use]
pub fn parse(text: &[u8], base: Base) -> Parsed<'_> {
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first()
        && is_space(*byte)
    {
        rest = tail;
    }
    let mut negative = false;
    if let Some((sign @ (b'-' | b'+'), tail)) = rest.split_first() {
        negative = *sign == b'-';
        rest = tail;
    }
    let (radix, digits) = match (base, rest) {
        (Base::Ten, _) => (10, rest),
        // The `0` alone is a number too, if no digit follows the `x`.
        (Base::Any, [b'0', b'x' | b'X', tail @ ..])
            if tail.first().is_some_and(u8::is_ascii_hexdigit) =>
        {
            (16, tail)
        }
        (Base::Any, [b'0', ..]) => (8, rest),
        (Base::Any, _) => (10, rest),
    };
    let mut value: u64 = 0;
    let mut overflow = false;
    let mut rest = digits;
    while let Some((byte, tail)) = rest.split_first()
        && let Some(digit) = char::from(*byte).to_digit(radix)
    {
        let next = value
            .checked_mul(radix.into())
            .and_then(|value| value.checked_add(digit.into()));
        overflow |= next.is_none();
        value = next.unwrap_or(u64::MAX);
        rest = tail;
    }
    if rest.len() == digits.len() {
        return Parsed {
            value: 0,
            rest: text,
            overflow: false,
        };
    }
    if overflow {
        value = u64::MAX;
    } else if negative {
        value = value.wrapping_neg();
    }
    Parsed {
        value,
        rest,
        overflow,
    }
}

/// A number with nothing behind it, cut to 32 bits; an empty text is 0.
#[must_use]
pub fn whole(text: &[u8], base: Base) -> Option<u32> {
    let parsed = parse(text, base);
    // Cutting is what makes 4294967293 another name of -3.
    parsed.rest.is_empty().then_some(parsed.value as u32)
}

/// What atoi(3) makes of a text: the decimal number it begins with, or 0.
#[must_use]
pub fn leading(text: &[u8]) -> i32 {
    let parsed = parse(text, Base::Ten);
    let negative = text
        .iter()
        .find(|byte| !is_space(**byte))
        .is_some_and(|byte| *byte == b'-');
    // strtol(3) stops at the ends of its range, and the result is cut.
    let magnitude = if negative && !parsed.overflow {
        parsed.value.wrapping_neg()
    } else {
        parsed.value
    };
    let value = if negative {
        0i64.saturating_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).unwrap_or(i64::MAX)
    };
    value as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any(text: &str) -> (u64, &str) {
        let parsed = parse(text.as_bytes(), Base::Any);
        (parsed.value, str::from_utf8(parsed.rest).unwrap())
    }

    #[test]
    fn bases_signs_and_blanks_are_those_of_strtoul() {
        assert_eq!(any("12"), (12, ""));
        assert_eq!(any(" \t\n\x0b\x0c\r+12 "), (12, " "));
        assert_eq!(any("012"), (10, ""));
        assert_eq!(any("08"), (0, "8"));
        assert_eq!(any("0x1F"), (31, ""));
        assert_eq!(any("0X1g"), (1, "g"));
        assert_eq!(any("-1"), (u64::MAX, ""));
        assert_eq!(any("0x"), (0, "x"));
        assert_eq!(any("0xg"), (0, "xg"));
        assert_eq!(any("- 1"), (0, "- 1"));
        assert_eq!(any("--1"), (0, "--1"));
        assert_eq!(any(""), (0, ""));
        assert_eq!(any(" "), (0, " "));
        assert_eq!(parse(b"012", Base::Ten).value, 12);
        assert_eq!(parse(b"0x2", Base::Ten).rest, b"x2");
    }

    #[test]
    fn what_is_too_large_is_all_ones() {
        assert_eq!(any("18446744073709551615"), (u64::MAX, ""));
        assert_eq!(any("18446744073709551616x"), (u64::MAX, "x"));
        assert_eq!(any("-18446744073709551616"), (u64::MAX, ""));
        assert!(parse(b"18446744073709551616", Base::Ten).overflow);
        assert!(!parse(b"18446744073709551615", Base::Ten).overflow);
    }

    #[test]
    fn whole_numbers_are_cut_to_32_bits() {
        assert_eq!(whole(b"4294967293", Base::Any), Some(0xffff_fffd));
        assert_eq!(whole(b"-3", Base::Any), Some(0xffff_fffd));
        assert_eq!(whole(b"4294967296", Base::Ten), Some(0));
        assert_eq!(whole(b"", Base::Ten), Some(0));
        assert_eq!(whole(b"1 ", Base::Ten), None);
    }

    #[test]
    fn the_leading_number_is_that_of_atoi() {
        for (text, number) in [
            ("", 0),
            ("x", 0),
            ("7x", 7),
            (" -7", -7),
            ("+9", 9),
            ("4294967299", 3),
            ("-99999999999999999999", 0),
            ("99999999999999999999", -1),
        ] {
            assert_eq!(leading(text.as_bytes()), number, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_the_rest_is_a_tail(
            text in proptest::collection::vec(any_byte(), 0..30)
        ) {
            for base in [Base::Ten, Base::Any] {
                let parsed = parse(&text, base);
                prop_assert!(text.ends_with(parsed.rest));
            }
            let _ = leading(&text);
        }

        #[test]
        fn every_number_round_trips(value in proptest::num::u64::ANY) {
            for text in [format!("{value}"), format!("{value:#x}"), format!("0{value:o}")] {
                prop_assert_eq!(any(&text), (value, ""));
            }
            let signed = value as i32;
            prop_assert_eq!(whole(signed.to_string().as_bytes(), Base::Ten), Some(signed as u32));
            prop_assert_eq!(leading(signed.to_string().as_bytes()), signed);
        }
    }

    fn any_byte() -> impl Strategy<Value = u8> {
        prop_oneof![
            Just(b'0'),
            Just(b'x'),
            Just(b'-'),
            Just(b' '),
            b'1'..=b'9',
            0..=255u8
        ]
    }
}

//! Payloads as they come in: from an argument or standard input, as they are or in hexadecimal.

use keyns_sys::secret::SecretBytes;
use keyns_sys::standard_stream::Stream;

use super::number::is_space;
use super::stop::{Stop, failed};

/// The most that is read from standard input: one byte more than any payload may have.
const LARGEST: usize = 1024 * 1024;
const FIRST: usize = 64 * 1024;

/// Reads standard input to its end, without trimming anything.
///
/// # Errors
/// `stdin: ERR`, or a line about too much; status 1.
pub(super) fn from_stdin() -> Result<SecretBytes, Stop> {
    let mut data = SecretBytes::zeroed(FIRST);
    let mut length = 0;
    loop {
        if length == data.len() {
            if length > LARGEST {
                return Err(Stop::said("Too much data read on stdin", 1));
            }
            // Into a new buffer, since one that grew would leave a copy behind.
            let mut larger = SecretBytes::zeroed((length * 2).min(LARGEST + 1));
            for (to, from) in larger.as_mut_slice().iter_mut().zip(data.as_slice()) {
                *to = *from;
            }
            data = larger;
        }
        let free = data.as_mut_slice().get_mut(length..).unwrap_or_default();
        match Stream::Input.read(free).map_err(failed("stdin"))? {
            0 => return Ok(data.truncated(length)),
            read => length += read,
        }
    }
}

/// The payload that data stands for: the data, or what it says in hexadecimal.
///
/// # Errors
/// As [`from_hex`].
pub(super) fn of(data: &[u8], is_hex: bool) -> Result<SecretBytes, Stop> {
    if is_hex {
        from_hex(data)
    } else {
        Ok(SecretBytes::from(data))
    }
}

/// Same of data that is at hand already.
///
/// # Errors
/// As [`from_hex`].
pub(super) fn of_secret(data: SecretBytes, is_hex: bool) -> Result<SecretBytes, Stop> {
    if is_hex {
        from_hex(data.as_slice())
    } else {
        Ok(data)
    }
}

/// Reads pairs of hexadecimal digits with white space between, but not within, the pairs.
///
/// # Errors
/// A line for standard error, status 1.
fn from_hex(text: &[u8]) -> Result<SecretBytes, Stop> {
    let mut payload = SecretBytes::zeroed(text.len() / 2);
    let mut free = payload.as_mut_slice().iter_mut();
    let mut length = 0;
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Ok(payload.truncated(length)),
            [blank, tail @ ..] if is_space(*blank) => tail,
            [_] => return Err(Stop::said("Short hex doublet", 1)),
            [high, low, tail @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                    return Err(Stop::said("Bad hex doublet", 1));
                };
                if let Some(byte) = free.next() {
                    *byte = (high << 4 | low) as u8;
                    length += 1;
                }
                tail
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(text: &str) -> Result<Vec<u8>, Stop> {
        from_hex(text.as_bytes()).map(|payload| payload.as_slice().to_vec())
    }

    #[test]
    fn blanks_may_stand_between_pairs_only() {
        assert_eq!(hex(" 0a\t0B\n\x0b\x0c\r ff "), Ok(vec![10, 11, 255]));
        assert_eq!(hex(""), Ok(vec![]));
        assert_eq!(hex(" \n"), Ok(vec![]));
        assert_eq!(hex("a"), Err(Stop::said("Short hex doublet", 1)));
        assert_eq!(hex("00 a"), Err(Stop::said("Short hex doublet", 1)));
        assert_eq!(hex("a "), Err(Stop::said("Bad hex doublet", 1)));
        assert_eq!(hex("0 0"), Err(Stop::said("Bad hex doublet", 1)));
        assert_eq!(hex("0g"), Err(Stop::said("Bad hex doublet", 1)));
        assert_eq!(hex("00x"), Err(Stop::said("Short hex doublet", 1)));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = from_hex(&text);
        }

        #[test]
        fn every_payload_round_trips(
            payload in proptest::collection::vec(any::<u8>(), 0..60), upper in any::<bool>()
        ) {
            let text: Vec<String> = payload
                .iter()
                .map(|b| if upper { format!("{b:02X}") } else { format!("{b:02x}") })
                .collect();
            prop_assert_eq!(hex(&text.concat()), Ok(payload.clone()));
            prop_assert_eq!(hex(&text.join(" ")), Ok(payload));
        }
    }
}

//! The key that is to be made.

use std::io;

use keyns::errno_text::text_of;
use keyns_sys::{KeySerial, key};

use crate::Failure;
use crate::options::{Invocation, Options};
use crate::report::Report;

/// What the kernel says about the key in debugging mode.
const EXAMPLE: &[u8] = b"user;0;0;1f0000;debug:1234";
const EOPNOTSUPP: i32 = 95;

/// A key under construction; this process has assumed the authority to make it.
pub(crate) struct Key {
    pub(crate) serial: KeySerial,
    pub(crate) type_: Vec<u8>,
    pub(crate) description: Vec<u8>,
    /// Without a NUL, with which it would end.
    pub(crate) callout: Vec<u8>,
}

impl Key {
    /// Assumes authority and asks the kernel.
    pub(crate) fn of(
        invocation: &Invocation,
        options: &Options,
        report: &Report,
    ) -> Result<Self, Failure> {
        let serial = KeySerial::new(number(invocation.key.to_bytes()));
        let described = if options.debugging {
            options
                .description
                .map_or(EXAMPLE, |given| given.to_bytes())
                .to_vec()
        } else {
            assume(serial, invocation)?;
            key::describe(serial)
                .map_err(|e| format!("Key {serial} is inaccessible ({})", text_of(&e)))?
        };
        report.debug(&[b"Key descriptor: \"", &described, b"\""]);
        let (type_, description) = parse(&described).ok_or("Failed to parse key description")?;
        report.debug(&[b"Key type: ", type_]);
        report.debug(&[b"Key desc: ", description]);
        let callout = match invocation.callout {
            Some(passed) => passed.to_bytes().to_vec(),
            None => callout()
                .map_err(|e| format!("Failed to retrieve callout info ({})", text_of(&e)))?,
        };
        report.debug(&[b"CALLOUT: '", &callout, b"'"]);
        Ok(Self {
            serial,
            type_: type_.to_vec(),
            description: description.to_vec(),
            callout,
        })
    }
}

/// Whoever passes the callout information along need not be the kernel, and may know a key that
/// exists.
fn assume(serial: KeySerial, invocation: &Invocation) -> Result<(), Failure> {
    match key::assume_authority(serial) {
        Err(error) if invocation.callout.is_none() && error.raw_os_error() != Some(EOPNOTSUPP) => {
            let error = text_of(&error);
            Err(format!("Failed to assume authority over key {serial} ({error})").into())
        }
        _ => Ok(()),
    }
}

/// The payload of the authorisation key, a text of C.
fn callout() -> io::Result<Vec<u8>> {
    let mut text = key::read(KeySerial::AUTH_KEY)?;
    if let Some(end) = text.iter().position(|b| *b == 0) {
        text.truncate(end);
    }
    Ok(text)
}

/// Type and description of `type;uid;gid;mask;description`, the last of which may be missing.
fn parse(described: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut fields = described.splitn(5, |b| *b == b';');
    let type_ = fields.next().filter(|type_| !type_.is_empty())?;
    let text = |field: Option<&'_ [u8]>| str::from_utf8(field?).ok().map(str::to_owned);
    for _ in ["uid", "gid"] {
        text(fields.next())?.parse::<i64>().ok()?;
    }
    u32::from_str_radix(&text(fields.next())?, 16).ok()?;
    Some((type_, fields.next().unwrap_or_default()))
}

/// A number as `atoi(3)` reads it: what is none is 0.
fn number(text: &[u8]) -> i32 {
    let (digits, negative) = match text {
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] => (digits, false),
        digits => (digits, false),
    };
    let digits = digits.iter().take_while(|b| b.is_ascii_digit());
    let value = digits.fold(0i64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'))
    });
    // As C does it, the lower half of a number that is too large; such a key does not exist.
    (if negative { -value } else { value }) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_taken_apart_at_its_first_four_semicolons() {
        let parsed = |text: &'static str| parse(text.as_bytes());
        assert_eq!(
            parsed("user;1;-2;3f010000;a;b"),
            Some((&b"user"[..], &b"a;b"[..]))
        );
        assert_eq!(parsed("user;1;2;3"), Some((&b"user"[..], &b""[..])));
        for text in ["", ";1;2;3;x", "user;1;2", "user;x;2;3;y", "user;1;2;z;y"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_0() {
        for (text, value) in [("12", 12), ("12abc", 12), ("x", 0), ("", 0), ("-7", -7)] {
            assert_eq!(number(text.as_bytes()), value, "{text}");
        }
    }
}

//! Finding a key by type and description.
//!
//! What the caller possesses is found by a search of the kernel. What it does not possess but may
//! view is found in `/proc/keys`, whose text anybody can forge with line breaks in descriptions: so
//! a line is only a hint, and the kernel is asked whether the key has that description.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read as _;

use keyns_sys::KeySerial;
use keyns_sys::key;

use super::stop;

/// Finds a key that the caller possesses, or else the first one in `/proc/keys` that it may view.
///
/// # Errors
/// Not found; with an errno if `/proc/keys` could not be opened.
pub fn find(type_: &CStr, description: &CStr) -> Result<KeySerial, Option<i32>> {
    const ENOMEM: i32 = 12;
    // Without callout information: a search, never an upcall.
    match key::request_key(type_, description, None, KeySerial::NONE) {
        Ok(serial) => return Ok(serial),
        Err(error) if error.raw_os_error() == Some(ENOMEM) => return Err(None),
        Err(_) => {}
    }
    let mut text = Vec::new();
    File::open("/proc/keys")
        .map_err(|error| Some(stop::errno(&error)))?
        .read_to_end(&mut text)
        .map_err(|_| None)?;
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| candidate(line, type_.to_bytes(), description.to_bytes()))
        .find(|serial| is_called(*serial, description.to_bytes()))
        .ok_or(None)
}

/// The serial in a line of `/proc/keys`, if the line may be that of the key looked for.
///
/// The file shows the first nine bytes of a type, so that a key of a type with a longer name is not
/// found here.
#[must_use]
pub fn candidate(line: &[u8], type_: &[u8], description: &[u8]) -> Option<KeySerial> {
    let mut rest = line;
    let mut column = || {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace);
        let (column, tail) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        rest = tail;
        (!column.is_empty()).then_some(column)
    };
    let serial = column()?;
    // Flags, usage, timeout, mask, uid, gid.
    for _ in 0..6 {
        column()?;
    }
    if column()? != type_ {
        return None;
    }
    let after = rest.trim_ascii_start().strip_prefix(description)?;
    if !matches!(after.first(), None | Some(b':' | b' ')) {
        return None;
    }
    let serial = str::from_utf8(serial).ok()?;
    let serial = u32::from_str_radix(serial, 16).ok()?;
    Some(KeySerial::new(serial.cast_signed()))
}

/// Whether the kernel agrees. What stands after the *last* semicolon is compared: a description
/// that has one is not found.
fn is_called(serial: KeySerial, description: &[u8]) -> bool {
    let mut buffer = [0; key::DESCRIPTION_BUFFER];
    let Ok(size) = key::describe_into(serial, &mut buffer) else {
        return false;
    };
    let text = buffer.get(..size.saturating_sub(1)).unwrap_or_default();
    text.rsplit(|byte| *byte == b';').next() == Some(description)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &[u8] = b"036d86eb I--Q---     1 perm 1f3f0000     0 65534 keyring   _ses: 1";

    fn found(line: &[u8], type_: &str, description: &str) -> bool {
        candidate(line, type_.as_bytes(), description.as_bytes()).is_some()
    }

    #[test]
    fn a_line_is_taken_by_type_and_beginning_of_the_description() {
        let serial = candidate(LINE, b"keyring", b"_ses");
        assert_eq!(serial, Some(KeySerial::new(0x036d_86eb)));
        assert!(found(LINE, "keyring", "_ses: 1"));
        assert!(!found(LINE, "keyring", "_se"));
        assert!(!found(LINE, "keyrin", "_ses"));
        assert!(!found(LINE, "user", "_ses"));
        assert!(found(
            b"1 - 1 perm 1f3f0000 0 0 asymmetri  name: more",
            "asymmetri",
            "name"
        ));
    }

    #[test]
    fn other_lines_are_not_taken() {
        for line in [
            &b""[..],
            b" ",
            b"1 2 3",
            b"xyz I--Q--- 1 perm 1f3f0000 0 0 user a",
            b"1ffffffff I--Q--- 1 perm 1f3f0000 0 0 user a",
        ] {
            assert!(!found(line, "user", "a"), "{:?}", line.escape_ascii());
        }
    }

    #[test]
    fn what_nobody_has_is_not_found() {
        assert_eq!(find(c"user", c"keyns-nobody-has-this"), Err(None));
        assert_eq!(find(c"no_such_type", c"keyns-nobody-has-this"), Err(None));
    }

    #[test]
    fn a_key_that_is_not_possessed_is_found_by_its_line() {
        // Longer than what the original takes for a line.
        let name = format!("keyns-unpossessed-{}-{:a>1100}", std::process::id(), "");
        let name = std::ffi::CString::new(name).unwrap();
        // In the keyring of a thread that the search of this one does not reach.
        let (tell, told) = std::sync::mpsc::channel();
        let (end, wait) = std::sync::mpsc::channel::<()>();
        let theirs = name.clone();
        let thread = std::thread::spawn(move || {
            let key = key::add_key(c"user", &theirs, b"x", KeySerial::THREAD).unwrap();
            tell.send(key).unwrap();
            let _ = wait.recv();
        });
        let key = told.recv().unwrap();
        assert_eq!(find(c"user", &name), Ok(key));
        drop(end);
        thread.join().unwrap();
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(
            line in proptest::collection::vec(any::<u8>(), 0..80), cut in 0..LINE.len()
        ) {
            let _ = candidate(&line, b"user", b"a");
            let _ = candidate(&LINE[..cut], b"keyring", b"_ses");
        }

        #[test]
        fn every_line_of_the_kernel_is_taken(
            serial in any::<i32>(), type_ in "[a-z._]{1,9}", description in "[!-~][ -~]{0,40}"
        ) {
            let line = format!(
                "{serial:08x} I--Q---     1 perm 3f010000     0     0 {type_:<9} {description}: 12"
            );
            let found = candidate(line.as_bytes(), type_.as_bytes(), description.as_bytes());
            prop_assert_eq!(found, Some(KeySerial::new(serial)));
        }
    }
}

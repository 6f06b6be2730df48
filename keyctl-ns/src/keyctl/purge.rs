//! Walking through the session keyring to remove links: `purge`, `reap`, and `unlink` without a
//! keyring.
//!
//! What cannot be removed is passed over, and where there is no session keyring, nothing is found.

use std::ffi::CStr;

use keyns_sys::KeySerial;
use keyns_sys::key;

use super::command::Call;
use super::errno_text;
use super::output::{push_signed, push_unsigned};
use super::stop::{Stop, errno};
use super::walk::{self, Visit};

fn finish(call: &mut Call<'_>, before: &[u8], count: u64, after: &[u8]) -> i32 {
    call.out.push(before);
    push_unsigned(call.out.buffer(), count, 0);
    call.out.push(after);
    0
}

/// Removes every link to a serial; a special number is none.
pub(super) fn unlink_everywhere(serial: KeySerial, call: &mut Call<'_>) -> Result<i32, Stop> {
    let mut count = 0;
    // Without session keyring there is nothing to walk through.
    let _ = walk::session(|visit| {
        if visit.key == serial && key::unlink(visit.key, visit.parent).is_ok() {
            count += 1;
        }
    });
    Ok(finish(call, b"", count, b" links removed\n"))
}

/// `reap [-v]`: removes what cannot be viewed for any reason but a mask.
pub(crate) fn reap(call: &mut Call<'_>) -> Result<i32, Stop> {
    const EACCES: i32 = 13;
    let mut count = 0;
    let _ = walk::session(|visit| {
        if matches!(visit.described, Ok(_) | Err(EACCES)) {
            return;
        }
        let removed = key::unlink(visit.key, visit.parent);
        count += u64::from(removed.is_ok());
        if call.flag {
            let line = call.out.buffer();
            line.extend_from_slice(b"Reap ");
            push_signed(line, visit.key.raw(), 0);
            if let Err(error) = removed {
                line.extend_from_slice(b"... failed ");
                errno_text::push(errno(&error), line);
            }
            line.push(b'\n');
            call.out.flush_if_full();
        }
    });
    Ok(finish(call, b"", count, b" keys reaped\n"))
}

/// Which keys `purge` removes.
#[derive(Clone, Copy)]
enum Which<'a> {
    OfType(&'a CStr),
    Named {
        type_: &'a CStr,
        description: &'a CStr,
        prefix: bool,
        ignore_case: bool,
    },
    /// What a search of the kernel finds, in each keyring by itself.
    Searched {
        type_: &'a CStr,
        description: &'a CStr,
    },
}

/// Reads `<type>`, `[-p] [-i] <type> <desc>` or `-s <type> <desc>`. Of an option, only its first
/// letter is looked at.
fn which<'a>(mut words: &[&'a CStr]) -> Option<Which<'a>> {
    let (mut search, mut prefix, mut ignore_case) = (false, false, false);
    while let [option, rest @ ..] = words
        && let [b'-', letter @ ..] = option.to_bytes()
    {
        match letter.first()? {
            b's' => search = true,
            b'p' => prefix = true,
            b'i' => ignore_case = true,
            _ => return None,
        }
        words = rest;
    }
    let literal = prefix || ignore_case;
    match words {
        [type_] if !search && !literal => Some(Which::OfType(type_)),
        [type_, description] if search && !literal => Some(Which::Searched { type_, description }),
        [type_, description] if !search => Some(Which::Named {
            type_,
            description,
            prefix,
            ignore_case,
        }),
        _ => None,
    }
}

/// `purge …`
pub(crate) fn purge(call: &mut Call<'_>) -> Result<i32, Stop> {
    let which = which(call.words).ok_or(Stop::Usage)?;
    let mut count = 0;
    let _ = walk::session(|visit| count += purge_one(which, &visit, call));
    Ok(finish(call, b"purged ", count, b" keys\n"))
}

/// Removes a link if it is one of those, or from a keyring whatever is found; returns how many.
fn purge_one(which: Which<'_>, visit: &Visit<'_>, call: &mut Call<'_>) -> u64 {
    let Some(seen) = visit.seen() else {
        return 0;
    };
    let unlink = || u64::from(key::unlink(visit.key, visit.parent).is_ok());
    match which {
        Which::OfType(type_) if seen.type_ == type_.to_bytes() => unlink(),
        Which::Named {
            type_,
            description,
            prefix,
            ignore_case,
        } if seen.type_ == type_.to_bytes() => {
            let wanted = description.to_bytes();
            // The whole description: the original compares what stands after its last semicolon,
            // and so removes keys that nobody named.
            let compared = if prefix {
                seen.description.get(..wanted.len())
            } else {
                Some(seen.description)
            };
            let is_match = compared.is_some_and(|found| {
                found == wanted || ignore_case && found.eq_ignore_ascii_case(wanted)
            });
            if !is_match {
                return 0;
            }
            let line = call.out.buffer();
            line.extend_from_slice(seen.type_);
            line.extend_from_slice(b" '");
            line.extend_from_slice(seen.description);
            line.extend_from_slice(b"'\n");
            call.out.flush_if_full();
            unlink()
        }
        Which::Searched { type_, description } if seen.is_keyring() => {
            let mut count = 0;
            while let Ok(found) = key::search(visit.key, type_, description, KeySerial::NONE) {
                if key::unlink(found, visit.key).is_err() {
                    break;
                }
                count += 1;
            }
            count
        }
        _ => 0,
    }
}

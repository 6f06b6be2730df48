//! How many requests led to this one, where programs of the host answer them.
//!
//! A request program may need a key itself. That request starts another one, while the first waits,
//! and so on for ever if it asks for what leads to itself: nobody can kill a process that waits for
//! a key, and once the kernel has no worker left it starts no program at all. So a request made by
//! the program for a request is served, and the next one is refused.
//!
//! What is known about a request of the host must be cheap. The kernel tells the requester's session
//! keyring in the arguments, and gives each request program a session keyring of its own named
//! `_req.` and the key (`call_sbin_request_key`), so one look at the former says whether the latter
//! is what asks. For the second level a bit of the mask is set that changes nothing for anybody: the
//! owner, who is root, may set attributes. Unlike an environment it is inherited whatever the program
//! executes. It is not seen through a session keyring that the program joins instead.

use keyns_sys::{KeySerial, key};

use crate::invocation::Invocation;

const NAME: &str = "_req.";
/// What the kernel gives the keyring: all for its possessor, view and read for its owner.
const MASK: u32 = 0x3f03_0000;
/// Set attributes, for the owner.
const SECOND: u32 = 0x0020_0000;

/// A request program for a request program asks for a key.
#[derive(Debug)]
pub(crate) struct TooDeep;

/// Notes for the requests of the program about to be executed how they came about.
///
/// # Errors
/// [`TooDeep`] if it must not be executed.
pub(crate) fn pass_on(invocation: &Invocation) -> Result<(), TooDeep> {
    let leading = level(invocation.session);
    if leading > 1 {
        return Err(TooDeep);
    }
    // Should these fail, a loop is seen later or not at all, as without keyns.
    if invocation.fsuid != 0 {
        // The keyring belongs to who asked; the next program must be able to look at it.
        let _ = key::chown(KeySerial::SESSION, Some(0), None);
    }
    if leading == 1 {
        let _ = key::set_perm(KeySerial::SESSION, MASK | SECOND);
    }
    Ok(())
}

/// How many request programs wait for a process with this session keyring; two stand for more.
fn level(session: KeySerial) -> u32 {
    // Most are another user's, and cannot be looked at.
    key::describe(session).map_or(0, |text| level_of(&text))
}

/// From `keyring;uid;gid;mask;description`.
///
/// Everybody may give a keyring any name and mask, but only root can own one as root.
fn level_of(text: &[u8]) -> u32 {
    let Ok(text) = std::str::from_utf8(text) else {
        return 0;
    };
    let mut parts = text.splitn(5, ';');
    let (Some("keyring"), Some("0"), Some(_), Some(mask), Some(name)) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return 0;
    };
    match u32::from_str_radix(mask, 16) {
        Ok(mask) if name.starts_with(NAME) => 1 + u32::from(mask & SECOND != 0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::level_of;

    #[test]
    fn only_session_keyrings_of_request_programs_count() {
        assert_eq!(level_of(b"keyring;0;0;3f030000;_req.1a2b3c"), 1);
        assert_eq!(level_of(b"keyring;0;1000;3f230000;_req.1a2b3c"), 2);
        for other in [
            &b"keyring;1000;0;3f230000;_req.1a2b3c"[..],
            b"keyring;0;0;3f230000;_ses",
            b"user;0;0;3f230000;_req.1",
            b"keyring;0;0;;_req.1",
            b"keyring;0;0;3f230000",
            b"keyring;0;0;3f230000;\xff_req.",
            b"",
        ] {
            assert_eq!(level_of(other), 0, "{other:?}");
        }
    }
}

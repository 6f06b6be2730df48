//! Walking through everything that hangs below a keyring.

use std::io;

use keyns_sys::KeySerial;
use keyns_sys::key;

use super::description::Described;
use super::ring::Links;
use super::stop;

/// Keyrings deeper than this below the root are not entered.
pub const DEEPEST: usize = 800;

/// One link that was come across.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The keyring that holds the link; for the root none.
    pub parent: KeySerial,
    /// What it leads to.
    pub key: KeySerial,
    /// The text of `KEYCTL_DESCRIBE` without NUL, or its errno. It was asked for before anything
    /// below the key was visited.
    pub described: Result<&'a [u8], i32>,
}

impl<'a> Visit<'a> {
    /// What the key is, if it may be viewed.
    #[must_use]
    pub fn seen(&self) -> Option<Described<'a>> {
        self.described.ok().and_then(Described::parse)
    }
}

/// Walks through the session keyring of the caller, see [`tree`]; visits nothing if there is none.
///
/// # Errors
/// `KEYCTL_GET_KEYRING_ID`.
pub fn session(visit: impl FnMut(Visit<'_>)) -> io::Result<()> {
    tree(key::get_keyring_id(KeySerial::SESSION, false)?, visit);
    Ok(())
}

/// Visits every link below `root`, depth first, what a keyring holds before the keyring, and `root`
/// last. A key that is linked twice is visited twice, with all below it.
///
/// The links of a keyring are those it had when it was come to, so that a visitor may remove them. A
/// keyring that cannot be read is visited like any other key.
pub fn tree(root: KeySerial, mut visit: impl FnMut(Visit<'_>)) {
    struct Level {
        parent: KeySerial,
        ring: KeySerial,
        text: Vec<u8>,
        links: Links,
        next: usize,
    }
    let mut buffer = [0; key::DESCRIPTION_BUFFER];
    let mut levels: Vec<Level> = Vec::new();
    let (mut parent, mut here) = (KeySerial::NONE, root);
    loop {
        let described = key::describe_into(here, &mut buffer)
            .map(|size| buffer.get(..size.saturating_sub(1)).unwrap_or_default())
            .map_err(|error| stop::errno(&error));
        let links = described
            .ok()
            .filter(|text| text.starts_with(b"keyring;") && levels.len() <= DEEPEST)
            .and_then(|text| Some((text, Links::read(here).ok()?)));
        match links {
            Some((text, links)) => levels.push(Level {
                parent,
                ring: here,
                text: text.to_vec(),
                links,
                next: 0,
            }),
            None => visit(Visit {
                parent,
                key: here,
                described,
            }),
        }
        // The next link of the innermost keyring that has one; those that have none are done.
        loop {
            let Some(level) = levels.last_mut() else {
                return;
            };
            if let Some(next) = level.links.get(level.next) {
                level.next += 1;
                (parent, here) = (level.ring, next);
                break;
            }
            visit(Visit {
                parent: level.parent,
                key: level.ring,
                described: Ok(&level.text),
            });
            levels.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(name: &std::ffi::CStr, parent: KeySerial) -> KeySerial {
        key::add_key(c"keyring", name, b"", parent).unwrap()
    }

    fn visited(root: KeySerial) -> Vec<(KeySerial, KeySerial)> {
        let mut links = Vec::new();
        tree(root, |visit| links.push((visit.parent, visit.key)));
        links
    }

    #[test]
    fn what_a_keyring_holds_comes_before_the_keyring() {
        let root = ring(c"keyns-walk", KeySerial::THREAD);
        let inner = ring(c"keyns-walk-inner", root);
        let leaf = key::add_key(c"user", c"keyns-walk-leaf", b"x", inner).unwrap();
        assert_eq!(
            visited(root),
            [(inner, leaf), (root, inner), (KeySerial::NONE, root)]
        );
        // Twice linked, twice visited.
        key::link(leaf, root).unwrap();
        assert_eq!(visited(root).iter().filter(|(_, k)| *k == leaf).count(), 2);
    }

    #[test]
    fn a_visitor_may_remove_what_it_visits() {
        let root = ring(c"keyns-walk-removed", KeySerial::THREAD);
        for name in [c"a", c"b", c"c"] {
            key::add_key(c"user", name, b"x", root).unwrap();
        }
        let mut removed = 0;
        tree(root, |visit| {
            if visit.parent == root {
                key::unlink(visit.key, root).unwrap();
                removed += 1;
            }
        });
        assert_eq!(removed, 3);
    }

    #[test]
    fn what_cannot_be_described_or_read_is_visited_with_its_errno() {
        let root = ring(c"keyns-walk-closed", KeySerial::THREAD);
        let closed = ring(c"keyns-walk-closed-inner", root);
        key::set_perm(closed, 0).unwrap();
        let mut errno = None;
        tree(root, |visit| {
            if visit.key == closed {
                errno = visit.described.err();
                assert!(visit.seen().is_none());
            }
        });
        assert_eq!(errno, Some(13));
        // Gone, though named: the root alone is visited.
        key::invalidate(root).unwrap();
        assert_eq!(visited(root), [(KeySerial::NONE, root)]);
    }
}

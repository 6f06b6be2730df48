//! The caller's own keyrings and all they hold, told one key after the other.
//!
//! A keyring may hold tens of thousands of keys. What is kept is the way from the root to where the
//! walk is, with the serials in each keyring on it, and which keyrings were come to; a key costs one
//! system call, a keyring two.

use std::collections::HashSet;
use std::io;

use keyns_sys::KeySerial;
use keyns_sys::key as sys;

use crate::error::CommandError;
use crate::key;
use crate::keyctl::description::Described;
use crate::keyctl::ring::Links;

/// The kernel refuses deeper nesting (`KEYRING_SEARCH_MAX_DEPTH`); a loop cannot be linked either.
const MAX_DEPTH: usize = 8;

/// Why what a keyring holds is not told.
pub const SHOWN_ABOVE: &str = "shown above";
const TOO_DEEP: &str = "nested too deeply to follow";
const CLOSED: &str = "you may not list it";

/// A key that was come to.
#[derive(Debug)]
pub struct Visit<'a> {
    /// Its serial.
    pub serial: KeySerial,
    /// What it is.
    pub key: &'a Described<'a>,
    /// The keyring in which it was found; none for the root.
    pub keyring: KeySerial,
    /// How many keyrings are above it.
    pub depth: usize,
    /// Whether nothing of the same keyring follows.
    pub is_last: bool,
    /// Of a keyring, why it is not followed.
    pub note: Option<&'static str>,
}

/// Whom it is told to.
pub trait Listener {
    /// A key, and before the next call of [`Self::end`] of the same depth what it holds.
    ///
    /// # Errors
    /// Those of the output; they end the walk.
    fn begin(&mut self, visit: &Visit<'_>) -> io::Result<()>;

    /// Everything that the key holds was told, but for `hidden` keys that may not be viewed or are
    /// gone meanwhile.
    ///
    /// # Errors
    /// Those of the output; they end the walk.
    fn end(&mut self, hidden: usize) -> io::Result<()>;
}

/// A key to begin at, described already.
#[derive(Debug)]
pub struct Root {
    serial: KeySerial,
    text: Vec<u8>,
}

impl Root {
    /// Looks at a key.
    ///
    /// # Errors
    /// What `KEYCTL_DESCRIBE` says.
    pub fn new(serial: KeySerial) -> Result<Self, CommandError> {
        let text = sys::describe(serial).map_err(|error| {
            key::failed(
                format!("cannot describe key {serial}"),
                keyns::errno::KeyOp::Describe,
                &error,
            )
        })?;
        Ok(Self { serial, text })
    }

    /// Tells of the key and everything below it.
    ///
    /// # Errors
    /// Those of the listener.
    pub fn tell(&self, listener: &mut dyn Listener) -> io::Result<()> {
        let mut walk = Walk {
            listener,
            seen: HashSet::new(),
            buffer: [0; sys::DESCRIPTION_BUFFER],
        };
        let place = Place {
            keyring: KeySerial::NONE,
            depth: 0,
            is_last: true,
        };
        walk.key(self.serial, &self.text, place)
    }
}

struct Walk<'a> {
    listener: &'a mut dyn Listener,
    /// Keyrings that were come to.
    seen: HashSet<KeySerial>,
    buffer: [u8; sys::DESCRIPTION_BUFFER],
}

#[derive(Clone, Copy)]
struct Place {
    keyring: KeySerial,
    depth: usize,
    is_last: bool,
}

impl Walk<'_> {
    fn key(&mut self, serial: KeySerial, text: &[u8], place: Place) -> io::Result<()> {
        let Some(key) = Described::parse(text) else {
            return Err(io::Error::other(
                "the kernel describes a key as it never does",
            ));
        };
        let (links, note) = if key.is_keyring() {
            self.links(serial, place.depth)
        } else {
            (None, None)
        };
        self.listener.begin(&Visit {
            serial,
            key: &key,
            keyring: place.keyring,
            depth: place.depth,
            is_last: place.is_last,
            note,
        })?;
        let hidden = match links {
            Some(links) => self.members(serial, &links, place.depth + 1)?,
            None => 0,
        };
        self.listener.end(hidden)
    }

    fn links(&mut self, ring: KeySerial, depth: usize) -> (Option<Links>, Option<&'static str>) {
        if !self.seen.insert(ring) {
            return (None, Some(SHOWN_ABOVE));
        }
        if depth == MAX_DEPTH {
            return (None, Some(TOO_DEEP));
        }
        match Links::read(ring) {
            Ok(links) => (Some(links), None),
            Err(_) => (None, Some(CLOSED)),
        }
    }

    /// Tells of each key one late: only then it is known whether another one follows.
    fn members(&mut self, keyring: KeySerial, links: &Links, depth: usize) -> io::Result<usize> {
        let mut place = Place {
            keyring,
            depth,
            is_last: false,
        };
        let mut hidden = 0;
        let mut held: Option<KeySerial> = None;
        let (mut text, mut next) = (Vec::new(), Vec::new());
        for serial in links.iter() {
            let described = sys::describe_into(serial, &mut self.buffer)
                .ok()
                .and_then(|size| self.buffer.get(..size.saturating_sub(1)));
            let Some(described) = described else {
                hidden += 1;
                continue;
            };
            next.clear();
            next.extend_from_slice(described);
            if let Some(held) = held.replace(serial) {
                self.key(held, &text, place)?;
            }
            std::mem::swap(&mut text, &mut next);
        }
        if let Some(held) = held {
            place.is_last = hidden == 0;
            self.key(held, &text, place)?;
        }
        Ok(hidden)
    }
}

/// The lines that lead from keyrings to what they hold.
#[derive(Debug, Default)]
pub struct Branches {
    rails: String,
    /// Length of `rails` where each keyring on the way to here begins.
    depths: Vec<usize>,
}

impl Branches {
    /// What stands before a key that was come to; to be called for every key.
    pub fn begin(&mut self, visit: &Visit<'_>, out: &mut dyn io::Write) -> io::Result<()> {
        self.depths.push(self.rails.len());
        if visit.depth == 0 {
            return Ok(());
        }
        let (knot, rail) = if visit.is_last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        write!(out, "{}{knot}", self.rails)?;
        self.rails.push_str(rail);
        Ok(())
    }

    /// The line that says how many keys are not shown; to be called at the end of every key.
    pub fn end(&mut self, hidden: usize, out: &mut dyn io::Write) -> io::Result<()> {
        if hidden > 0 {
            let keys = if hidden == 1 { "key" } else { "keys" };
            writeln!(out, "{}└─ {hidden} {keys} you may not view", self.rails)?;
        }
        self.rails.truncate(self.depths.pop().unwrap_or(0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;
    use std::fmt::Write as _;

    /// Descriptions, in as many blanks as keyrings are above.
    #[derive(Default)]
    struct Text {
        text: String,
        ends: Vec<usize>,
    }

    impl Listener for Text {
        fn begin(&mut self, visit: &Visit<'_>) -> io::Result<()> {
            let name = String::from_utf8_lossy(visit.key.description);
            let last = if visit.is_last { "." } else { "" };
            let note = visit.note.unwrap_or_default();
            let depth = visit.depth;
            writeln!(self.text, "{:depth$}{name}{last}{note}", "").unwrap();
            Ok(())
        }

        fn end(&mut self, hidden: usize) -> io::Result<()> {
            self.ends.push(hidden);
            Ok(())
        }
    }

    fn ring(name: &CStr, parent: KeySerial) -> KeySerial {
        sys::add_key(c"keyring", name, b"", parent).unwrap()
    }

    fn told(root: KeySerial) -> Text {
        let mut text = Text::default();
        Root::new(root).unwrap().tell(&mut text).unwrap();
        text
    }

    #[test]
    fn a_keyring_comes_before_what_it_holds_and_is_followed_once() {
        let root = ring(c"root", KeySerial::THREAD);
        let a = ring(c"a", root);
        sys::add_key(c"user", c"leaf", b"x", a).unwrap();
        assert_eq!(told(root).text, "root.\n a.\n  leaf.\n");
        let b = ring(c"b", root);
        sys::link(a, b).unwrap();
        let text = told(root);
        let lines = text.text.lines();
        let shown = lines.filter(|line| line.trim_start().starts_with('a'));
        assert_eq!(shown.count(), 2);
        assert_eq!(text.text.matches("leaf").count(), 1);
        assert_eq!(text.text.matches(SHOWN_ABOVE).count(), 1);
    }

    #[test]
    fn hidden_keys_are_counted_and_stand_at_the_end() {
        let root = ring(c"root", KeySerial::THREAD);
        sys::add_key(c"user", c"seen", b"x", root).unwrap();
        for name in [c"one", c"two"] {
            let key = sys::add_key(c"user", name, b"x", root).unwrap();
            sys::set_perm(key, 0x3e3e_0000).unwrap();
        }
        let text = told(root);
        assert_eq!(text.text, "root.\n seen\n");
        assert_eq!(text.ends, [0, 2]);
    }

    #[test]
    fn a_keyring_that_may_not_be_read_is_named() {
        let root = ring(c"root", KeySerial::THREAD);
        let closed = ring(c"closed", root);
        sys::set_perm(closed, 0x0101_0000).unwrap();
        assert_eq!(told(root).text, format!("root.\n closed.{CLOSED}\n"));
    }

    #[test]
    fn every_key_of_a_large_keyring_is_told_once() {
        let root = ring(c"root", KeySerial::THREAD);
        // More than one page of serials.
        for n in 0..1100 {
            let name = std::ffi::CString::new(format!("k{n}")).unwrap();
            sys::add_key(c"user", &name, b"x", root).unwrap();
        }
        let text = told(root).text;
        assert_eq!(text.lines().count(), 1101);
        assert_eq!(text.matches('.').count(), 2);
    }
}

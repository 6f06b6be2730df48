//! The authorisation key of this request, and the thread it names.
//!
//! Only `/proc/keys` shows the thread (`request_key_auth_describe`). That file is text, and a key's
//! description may contain line breaks: whoever owns a key that everybody may view can write lines
//! that look like any other, if it knows the serial to imitate. Two things prevent that this is
//! believed. The file is opened with an fsuid that owns nothing, so that hardly any foreign key is
//! shown at all (and the kernel formats far fewer lines). And the search stops at the own line only
//! as long as no foreign line came before it, because a forged line must follow the true first line
//! of the key it hides in; after a foreign line the whole file is read, and two lines that claim to
//! be the authorisation key mean that nobody can be believed.

use std::io;
use std::os::fd::AsFd;

use keyns_sys::{KeySerial, key, requester};

/// A kernel uid of the range that keyns keeps for itself; it owns no key.
const UNUSED_FSUID: u32 = (1 << 31) + 78;
/// Longer than any line a key can have: a description has at most 4095 bytes.
const MAX_LINE: usize = 8192;

/// What precedes the description in every line is 59 bytes long, and the own one goes on for 15.
const FIRST_READ: usize = 64;
const NEXT_READ: usize = 2;

/// The authorisation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuthKey {
    pub(crate) serial: KeySerial,
    /// The thread that asked, or the requester of the outer request if this one is nested.
    pub(crate) tid: u32,
}

/// Finds the authorisation key for `target` in the session keyring the kernel made for us.
///
/// # Errors
/// `NotFound` when there is none, `InvalidData` when it is not clear what it says.
pub(crate) fn find(target: KeySerial) -> io::Result<AuthKey> {
    let linked = key::read_keyring(KeySerial::SESSION)?;
    let session = key::get_keyring_id(KeySerial::SESSION, false)?;
    let file = requester::open_with_fsuid(c"/proc/keys", UNUSED_FSUID)?;
    let mut search = Search::new(target, session, linked);
    let mut buffer = [0; 4096];
    loop {
        let part = buffer.get_mut(..search.room()).unwrap_or_default();
        let got = requester::read_some(file.as_fd(), part)?;
        let chunk = buffer.get(..got).unwrap_or_default();
        if search.feed(chunk)? || got == 0 {
            return search.result();
        }
    }
}

struct Search {
    target: KeySerial,
    session: KeySerial,
    linked: Vec<KeySerial>,
    line: Vec<u8>,
    foreign: bool,
    found: Vec<AuthKey>,
}

impl Search {
    fn new(target: KeySerial, session: KeySerial, linked: Vec<KeySerial>) -> Self {
        Self {
            target,
            session,
            linked,
            line: Vec::new(),
            foreign: false,
            found: Vec::new(),
        }
    }

    /// How much to read next.
    ///
    /// A read that takes the rest of a line, even if not a byte more, goes on to the next key that can be shown,
    /// which is the last key of the system if there is none. So the end of a line is approached in
    /// small steps, unless the whole file must be read anyway.
    fn room(&self) -> usize {
        if self.foreign {
            return 4096;
        }
        FIRST_READ.saturating_sub(self.line.len()).max(NEXT_READ)
    }

    /// Takes the next piece of the file; `true` once nothing that follows can matter.
    fn feed(&mut self, chunk: &[u8]) -> io::Result<bool> {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (head, tail) = rest.split_at(end);
            self.line.extend_from_slice(head);
            let line = std::mem::take(&mut self.line);
            if self.take_line(&line)? {
                return Ok(true);
            }
            rest = tail.get(1..).unwrap_or_default();
        }
        self.line.extend_from_slice(rest);
        if !self.foreign && self.line.windows(4).any(|w| w == b" ci:") {
            // All of the own line that is of interest; in any other it is an ordinary text.
            let line = std::mem::take(&mut self.line);
            if first_column(&line).is_some_and(|s| self.linked.contains(&s)) {
                return self.take_line(&line);
            }
            self.line = line;
        }
        if self.line.len() > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(false)
    }

    fn take_line(&mut self, line: &[u8]) -> io::Result<bool> {
        let serial = first_column(line);
        if serial.is_some_and(|s| self.linked.contains(&s)) {
            let tid = requester_of(line, self.target)
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            self.found
                .extend(serial.map(|serial| AuthKey { serial, tid }));
            return Ok(!self.foreign);
        }
        self.foreign |= serial != Some(self.session);
        Ok(false)
    }

    fn result(self) -> io::Result<AuthKey> {
        match self.found.as_slice() {
            [only] => Ok(*only),
            [] => Err(io::ErrorKind::NotFound.into()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// `%08x` at the start of every true line.
fn first_column(line: &[u8]) -> Option<KeySerial> {
    let (number, rest) = line.split_at_checked(8)?;
    if !rest.starts_with(b" ") || !number.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = i32::from_str_radix(std::str::from_utf8(number).ok()?, 16).ok()?;
    Some(KeySerial::new(number))
}

/// The thread named by `… .request_ key:<target> pid:<n> ci:<n>`.
fn requester_of(line: &[u8], target: KeySerial) -> Option<u32> {
    let text = std::str::from_utf8(line).ok()?;
    let columns: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, _, _, _, _, _, _, ".request_", key, pid, callout] = columns.as_slice() else {
        return None;
    };
    let key = i32::from_str_radix(key.strip_prefix("key:")?, 16).ok()?;
    callout.strip_prefix("ci:")?;
    if key != target.raw() {
        return None;
    }
    pid.strip_prefix("pid:")?
        .parse()
        .ok()
        .filter(|tid| *tid > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str =
        "0000ab01 I--Q---     2 perm 3f030000     0     0 keyring   _req.1234: 1\n";
    const OWN: &str =
        "0000ab02 I--Q---     1 perm 0b010000  1000  1000 .request_ key:1234 pid:77 ci:4\n";
    const FORGED: &str = "00000001 I--Q---     1 perm 3f01003f  1000  1000 user      x\n\
         0000ab02 I--Q---     1 perm 0b010000  1000  1000 .request_ key:1234 pid:1 ci:4\n\
         7fffffff I--Q---     1 perm 0b010000  1000  1000 user      y: 1\n";

    fn search(text: &str, step: usize) -> io::Result<AuthKey> {
        let linked = vec![KeySerial::new(0xab02)];
        let mut search = Search::new(KeySerial::new(0x1234), KeySerial::new(0xab01), linked);
        for chunk in text.as_bytes().chunks(step) {
            if search.feed(chunk)? {
                break;
            }
        }
        search.result()
    }

    #[test]
    fn the_thread_is_read_from_the_own_line_however_the_file_is_cut() {
        let text = format!("{SESSION}{OWN}");
        for step in 1..text.len() {
            let found = search(&text, step).unwrap();
            assert_eq!(
                found,
                AuthKey {
                    serial: KeySerial::new(0xab02),
                    tid: 77
                }
            );
        }
    }

    #[test]
    fn nothing_is_read_past_the_own_line_when_it_comes_first() {
        let linked = vec![KeySerial::new(0xab02)];
        let mut search = Search::new(KeySerial::new(0x1234), KeySerial::new(0xab01), linked);
        let mut rest = OWN.as_bytes();
        loop {
            let (chunk, tail) = rest.split_at(search.room().min(rest.len()));
            assert!(!tail.is_empty(), "the line was read to its end");
            rest = tail;
            if search.feed(chunk).unwrap() {
                break;
            }
        }
        assert_eq!(search.result().unwrap().tid, 77);
    }

    #[test]
    fn a_key_that_everybody_may_view_does_no_harm() {
        let foreign = "00000001 I--Q---     1 perm 3f01003f  1000  1000 user      x: 1\n";
        assert_eq!(
            search(&format!("{foreign}{SESSION}{OWN}"), 64).unwrap().tid,
            77
        );
    }

    #[test]
    fn a_line_forged_inside_a_description_is_not_believed() {
        let text = format!("{FORGED}{SESSION}{OWN}");
        assert_eq!(
            search(&text, 100).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn what_follows_the_own_line_is_not_looked_at() {
        assert_eq!(
            search(&format!("{SESSION}{OWN}{FORGED}"), 4096)
                .unwrap()
                .tid,
            77
        );
    }

    #[test]
    fn another_target_no_thread_or_another_form_is_an_error() {
        let broken = |from: &str, to: &str| search(&OWN.replace(from, to), 4096);
        for (from, to) in [
            ("key:1234", "key:1235"),
            (" pid:77 ci:4", ""),
            ("pid:77", "pid:0"),
            ("pid:77", "pid:-1"),
            (".request_", "user"),
        ] {
            assert!(broken(from, to).is_err(), "{to}");
        }
        assert_eq!(
            search(SESSION, 4096).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}

//! Keys in all states, special keyrings, links, searches and requests, and how keys are shown.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt::Display;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use keyns_sys::{KeySerial, key};

const NONE: KeySerial = KeySerial::NONE;
const SESSION: KeySerial = KeySerial::SESSION;

/// Says what was answered, with names for the serial numbers of keys.
struct Said<'a, W> {
    out: &'a mut W,
    names: BTreeMap<i32, String>,
}

impl<W: io::Write> Said<'_, W> {
    fn says(&mut self, what: impl Display, result: &io::Result<String>) -> io::Result<()> {
        match result {
            Ok(text) => writeln!(self.out, "{what} = {text}"),
            Err(error) => writeln!(self.out, "{what} = {}", error.raw_os_error().unwrap_or(0)),
        }
    }

    fn done(&mut self, what: impl Display, result: io::Result<()>) -> io::Result<()> {
        self.says(what, &result.map(|()| "done".to_owned()))
    }

    fn found(&mut self, what: impl Display, result: io::Result<KeySerial>) -> io::Result<()> {
        let result = result.map(|serial| self.name(serial));
        self.says(what, &result)
    }

    fn text(&mut self, what: impl Display, result: io::Result<Vec<u8>>) -> io::Result<()> {
        let text = result.map(|bytes| {
            String::from_utf8_lossy(&bytes)
                .trim_end_matches('\0')
                .to_owned()
        });
        self.says(what, &text)
    }

    fn name(&self, serial: KeySerial) -> String {
        let name = self.names.get(&serial.raw()).map(String::as_str);
        name.unwrap_or("a new one").to_owned()
    }

    /// A key under a name of this program's.
    fn add(
        &mut self,
        type_: &CStr,
        name: &CStr,
        payload: &[u8],
        ring: KeySerial,
    ) -> io::Result<KeySerial> {
        let added = key::add_key(type_, name, payload, ring);
        let name = name.to_string_lossy().into_owned();
        let type_ = type_.to_string_lossy();
        if let Ok(serial) = added {
            self.names.entry(serial.raw()).or_insert(name.clone());
        }
        let shown = added.as_ref().map(|serial| self.name(*serial));
        let shown =
            shown.map_err(|error| io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0)));
        self.says(format!("add {type_} {name}"), &shown)?;
        Ok(added.unwrap_or(NONE))
    }

    /// Every operation on one key that leaves it there.
    fn tried(&mut self, name: &str, k: KeySerial) -> io::Result<()> {
        self.text(format!("describe {name}"), key::describe(k))?;
        self.says(
            format!("read {name}"),
            &key::read(k).map(|b| b.len().to_string()),
        )?;
        self.text(format!("security {name}"), key::get_security(k))?;
        self.found(format!("id {name}"), key::get_keyring_id(k, false))?;
        self.found(
            format!("search {name}"),
            key::search(k, c"user", c"inner", NONE),
        )?;
        self.done(format!("link {name}"), key::link(k, KeySerial::PROCESS))?;
        self.done(format!("link into {name}"), key::link(SESSION, k))?;
        self.done(
            format!("move {name}"),
            key::move_key(k, KeySerial::PROCESS, SESSION, 0),
        )?;
        self.done(format!("unlink {name}"), key::unlink(k, KeySerial::PROCESS))?;
        self.done(format!("update {name}"), key::update(k, b"new"))?;
        self.done(format!("timeout {name}"), key::set_timeout(k, 1000))?;
        self.done(format!("chown {name}"), key::chown(k, Some(0), Some(7)))?;
        self.done(format!("mask {name}"), key::set_perm(k, 0x3f3f_0101))?;
        self.text(format!("describe {name} now"), key::describe(k))?;
        self.done(
            format!("restrict {name}"),
            key::restrict_keyring(k, None, None),
        )?;
        self.done(
            format!("instantiate {name}"),
            key::instantiate(k, b"x", NONE),
        )?;
        self.done(format!("negate {name}"), key::negate(k, 1, NONE))?;
        self.found(format!("assume {name}"), key::assume_authority(k))?;
        self.done(format!("clear {name}"), key::clear(k))
    }
}

pub(crate) fn all(out: &mut impl io::Write) -> io::Result<()> {
    let mut said = Said {
        out,
        names: BTreeMap::new(),
    };
    key::join_session_keyring(None)?;
    special(&mut said)?;
    let kinds = kinds(&mut said)?;
    shown(&mut said, "with keys of all kinds")?;
    for (name, serial) in &kinds {
        said.tried(name, *serial)?;
    }
    shown(&mut said, "after all that")?;
    ended(&mut said)?;
    links(&mut said)?;
    requests(&mut said)?;
    said.found("quota", key::get_persistent(None, SESSION))?;
    shown(&mut said, "in the end")
}

fn special<W: io::Write>(said: &mut Said<'_, W>) -> io::Result<()> {
    // −9 belongs to the patches.
    for id in [
        -1,
        -2,
        -3,
        -4,
        -5,
        -6,
        -7,
        -8,
        -10,
        -11,
        i32::MIN,
        0,
        i32::MAX,
    ] {
        let serial = KeySerial::new(id);
        for create in [false, true] {
            let found = key::get_keyring_id(serial, create);
            if let Ok(found) = found {
                said.names.entry(found.raw()).or_insert(format!("({id})"));
            }
            said.found(format!("id {id} {create}"), found)?;
        }
        said.text(format!("describe {id}"), key::describe(serial))?;
        said.found(
            format!("search {id}"),
            key::search(serial, c"user", c"nothing", NONE),
        )?;
        let added = key::add_key(c"user", c"special", b"x", serial);
        said.done(format!("add to {id}"), added.map(drop))?;
        said.done(format!("link to itself {id}"), key::link(serial, serial))?;
    }
    for choice in -2..10 {
        let before = key::set_reqkey_keyring(choice);
        said.says(format!("default {choice}"), &before.map(|b| b.to_string()))?;
    }
    // The kernel's own choice again.
    key::set_reqkey_keyring(0).map(drop)
}

/// Keys of the types that this kernel has, good and bad ones.
fn kinds<W: io::Write>(said: &mut Said<'_, W>) -> io::Result<Vec<(String, KeySerial)>> {
    let types: [(&CStr, &CStr, &[u8]); 12] = [
        (c"user", c"a user key", b"secret"),
        (c"user", c"", b"x"),
        (c"user", c"empty payload", b""),
        (c"logon", c"service:login", b"secret"),
        (c"logon", c"no colon", b"secret"),
        (c"keyring", c"a ring", b""),
        (c"keyring", c"with payload", b"x"),
        (c"big_key", c"a big one", &[7; 5000]),
        (c"asymmetric", c"no certificate", b"x"),
        (c"encrypted", c"encrypted", b"new user:a 32"),
        (c".hidden", c"of the kernel", b"x"),
        (c"no-such-type", c"unknown", b"x"),
    ];
    let mut made = Vec::new();
    for (type_, name, payload) in types {
        let serial = said.add(type_, name, payload, SESSION)?;
        if serial != NONE {
            made.push((name.to_string_lossy().into_owned(), serial));
        }
    }
    Ok(made)
}

/// `/proc/keys` with names for serial numbers, and without counts of references, which depend on when
/// others let go.
fn shown<W: io::Write>(said: &mut Said<'_, W>, when: &str) -> io::Result<()> {
    writeln!(said.out, "keys {when}")?;
    let text = std::fs::read_to_string("/proc/keys")?;
    let mut lines = Vec::new();
    for line in text.lines() {
        let (serial, rest) = line.split_once(' ').unwrap_or_default();
        let serial = i32::from_str_radix(serial, 16).unwrap_or_default();
        // Others belong to nobody here: they are being collected.
        if let Some(name) = said.names.get(&serial) {
            let (flags, rest) = rest.split_at_checked(7).unwrap_or_default();
            let rest = rest.trim_start().split_once(' ').unwrap_or_default().1;
            lines.push(format!("{name}: {flags} {}", rest.trim_start()));
        }
    }
    lines.sort();
    lines
        .iter()
        .try_for_each(|line| writeln!(said.out, "{line}"))
}

/// Keys that are revoked, invalidated, expired or negative.
fn ended<W: io::Write>(said: &mut Said<'_, W>) -> io::Result<()> {
    let revoked = said.add(c"user", c"revoked", b"x", SESSION)?;
    said.done("revoke", key::revoke(revoked))?;
    said.done("revoke again", key::revoke(revoked))?;
    let invalid = said.add(c"user", c"invalid", b"x", SESSION)?;
    said.done("invalidate", key::invalidate(invalid))?;
    let expired = said.add(c"user", c"expired", b"x", SESSION)?;
    said.done("expire", key::set_timeout(expired, 1))?;
    let ring = said.add(c"keyring", c"expired ring", b"", SESSION)?;
    said.add(c"user", c"inner", b"x", ring)?;
    said.done("expire ring", key::set_timeout(ring, 1))?;
    let gone = said.add(c"keyring", c"revoked ring", b"", SESSION)?;
    said.add(c"user", c"inner", b"x", gone)?;
    said.done("revoke ring", key::revoke(gone))?;
    sleep(Duration::from_secs(3));
    shown(said, "that are ended")?;
    for (name, serial) in [
        ("revoked", revoked),
        ("invalid", invalid),
        ("expired", expired),
        ("expired ring", ring),
        ("revoked ring", gone),
    ] {
        said.tried(name, serial)?;
        said.done(format!("revoke {name}"), key::revoke(serial))?;
        said.done(format!("invalidate {name}"), key::invalidate(serial))?;
    }
    for name in [c"revoked", c"invalid", c"expired"] {
        let what = name.to_string_lossy().into_owned();
        said.found(
            format!("search {what}"),
            key::search(SESSION, c"user", name, NONE),
        )?;
        said.found(
            format!("request {what}"),
            key::request_key(c"user", name, None, NONE),
        )?;
    }
    Ok(())
}

/// Keyrings in keyrings, moves, restrictions.
fn links<W: io::Write>(said: &mut Said<'_, W>) -> io::Result<()> {
    let names = [
        c"depth 0", c"depth 1", c"depth 2", c"depth 3", c"depth 4", c"depth 5", c"depth 6",
        c"depth 7", c"depth 8",
    ];
    let mut outer = SESSION;
    let mut rings = Vec::new();
    for name in names {
        outer = said.add(c"keyring", name, b"", outer)?;
        rings.push(outer);
    }
    said.add(c"user", c"deepest", b"x", outer)?;
    said.found(
        "search deep",
        key::search(SESSION, c"user", c"deepest", NONE),
    )?;
    for (i, ring) in rings.iter().enumerate() {
        said.found(
            format!("search from {i}"),
            key::search(*ring, c"user", c"deepest", NONE),
        )?;
        if let Some(first) = rings.first() {
            said.done(format!("cycle {i}"), key::link(*first, *ring))?;
        }
    }
    let [from, to] = [
        said.add(c"keyring", c"from", b"", SESSION)?,
        said.add(c"keyring", c"to", b"", SESSION)?,
    ];
    let moved = said.add(c"user", c"moved", b"x", from)?;
    said.done("move", key::move_key(moved, from, to, 0))?;
    said.done("move again", key::move_key(moved, from, to, 0))?;
    said.add(c"user", c"moved", b"other", from)?;
    said.done("move back", key::move_key(moved, to, from, key::MOVE_EXCL))?;
    said.done("move with flags", key::move_key(moved, to, from, 2))?;
    said.done("move to itself", key::move_key(moved, to, to, 0))?;
    said.done("restrict", key::restrict_keyring(to, None, None))?;
    said.done("restrict again", key::restrict_keyring(to, None, None))?;
    said.done(
        "restrict by type",
        key::restrict_keyring(from, Some(c"asymmetric"), Some(c"x")),
    )?;
    said.done("link into restricted", key::link(from, to))?;
    for ring in [from, to] {
        let held = key::read_keyring(ring).map(|held| {
            let mut held: Vec<_> = held.into_iter().map(|serial| said.name(serial)).collect();
            held.sort();
            held.join(", ")
        });
        said.says("holds", &held)?;
    }
    Ok(())
}

/// Requests, which nobody answers.
fn requests<W: io::Write>(said: &mut Said<'_, W>) -> io::Result<()> {
    let there = said.add(c"user", c"there", b"x", SESSION)?;
    for (what, name, callout) in [
        ("there", c"there", None),
        ("absent", c"absent", None),
        ("to be made", c"made", Some(c"please")),
        ("a second time", c"made", Some(c"please")),
        ("without asking", c"made", None),
    ] {
        for destination in [NONE, SESSION, KeySerial::PROCESS] {
            let found = key::request_key(c"user", name, callout, destination);
            said.found(format!("request {what} {destination}"), found)?;
        }
    }
    said.found(
        "request of a type of the kernel",
        key::request_key(c".user", c"x", None, NONE),
    )?;
    said.found(
        "request of no type",
        key::request_key(c"nothing", c"x", None, NONE),
    )?;
    said.done("session to parent", key::session_to_parent())?;
    said.found(
        "request after that",
        key::request_key(c"user", c"there", None, NONE),
    )?;
    said.done("end of it", key::unlink(there, SESSION))
}

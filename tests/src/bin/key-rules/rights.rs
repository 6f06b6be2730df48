//! What masks are good for: every value of every byte and all bits but one, for everybody that a mask
//! tells apart, and for every operation.

use std::ffi::CString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use keyns_sys::{KeySerial, key};

use crate::actor::Try;

/// Owner and group of all keys.
const UID: u32 = 100;
const GID: u32 = 200;
/// All rights for everybody.
const ALL: u32 = 0x3f3f_3f3f;

/// Who tries: uid, gid and one more group.
const ACTORS: [(&str, [u32; 3]); 5] = [
    ("owner", [UID, 300, 300]),
    ("group", [101, GID, 300]),
    ("supplementary", [101, 300, GID]),
    ("other", [101, 300, 300]),
    ("root", [0, 0, 0]),
];

pub(crate) fn all(out: &mut impl io::Write) -> io::Result<()> {
    let mut round = 0;
    for session in ["shared", "fresh"] {
        for (who, ids) in ACTORS {
            let mut actor = Actor::start(ids, session)?;
            for mask in masks() {
                round += 1;
                let keys = make(mask, &format!("rule-{round}"))?;
                let row = actor.row(&keys)?;
                writeln!(out, "{who} {session} {mask:08x} {row}")?;
                key::clear(KeySerial::SESSION)?;
            }
        }
    }
    Ok(())
}

/// Every value of every byte by itself, and all bits but one.
fn masks() -> Vec<u32> {
    let mut masks = Vec::new();
    for shift in [0, 8, 16, 24] {
        masks.extend((0..64).map(|bits: u32| bits << shift));
        masks.extend((0..6).map(|bit| ALL ^ (1 << (shift + bit))));
    }
    masks.push(ALL);
    masks
}

/// The keys of one attempt, in the session keyring.
fn make(mask: u32, name: &str) -> io::Result<Try> {
    const HOME: KeySerial = KeySerial::SESSION;
    let name_c = CString::new(name)?;
    let key = key::add_key(c"user", &name_c, b"secret", HOME)?;
    let ring = key::add_key(c"keyring", c"ring", b"", HOME)?;
    let inner = key::add_key(c"user", c"inner", b"x", ring)?;
    key::set_perm(inner, ALL)?;
    key::link(key, ring)?;
    let keys = Try {
        key,
        name: name.to_owned(),
        ring,
        empty: key::add_key(c"keyring", c"empty", b"", HOME)?,
        named: key::add_key(c"keyring", &name_c, b"", HOME)?,
        revoked: key::add_key(c"user", c"revoked", b"x", HOME)?,
        invalidated: key::add_key(c"user", c"invalidated", b"x", HOME)?,
        mask,
    };
    for serial in [
        key,
        ring,
        keys.empty,
        keys.named,
        keys.revoked,
        keys.invalidated,
    ] {
        key::chown(serial, Some(UID), Some(GID))?;
        key::set_perm(serial, mask)?;
    }
    Ok(keys)
}

/// A process that tries.
struct Actor {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Actor {
    fn start(ids: [u32; 3], session: &str) -> io::Result<Self> {
        let ids = ids.map(|id| id.to_string());
        let mut process = Command::new("/proc/self/exe")
            .arg("actor")
            .args(&ids)
            .arg(session)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let lost = || io::Error::other("no pipe");
        let to = process.stdin.take().ok_or_else(lost)?;
        let from = BufReader::new(process.stdout.take().ok_or_else(lost)?);
        Ok(Self { process, to, from })
    }

    fn row(&mut self, keys: &Try) -> io::Result<String> {
        writeln!(self.to, "{}", keys.line())?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        if line.is_empty() {
            return Err(io::Error::other("nobody answers"));
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It has nothing to clean up.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

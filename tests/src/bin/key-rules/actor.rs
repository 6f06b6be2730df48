//! Who tries what can be done with keys: a process with other ids, and with the session keyring of
//! whoever makes the keys, or its own.

use std::ffi::CString;
use std::io::{self, BufRead as _, Write as _};

use keyns_sys::key_crypto::{DhKeys, dh_compute, pkey_query};
use keyns_sys::{KeySerial, key};
use nix::unistd::{Gid, setgroups, setresgid, setresuid};

use crate::letter;

/// Answers each line, the serial numbers of the keys of a [`Try`], with a row of letters.
pub(crate) fn obey(ids: [&str; 3], fresh: bool) -> io::Result<()> {
    let [uid, gid, group] = ids.map(|id| id.parse::<u32>().unwrap_or(u32::MAX));
    if fresh {
        key::join_session_keyring(None)?;
    }
    setgroups(&[Gid::from_raw(group)])?;
    setresgid(gid.into(), gid.into(), gid.into())?;
    setresuid(uid.into(), uid.into(), uid.into())?;
    let own = key::add_key(c"user", c"own", b"x", KeySerial::PROCESS)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let keys = Try::parse(&line).ok_or_else(|| io::Error::other(line.clone()))?;
        writeln!(out, "{}", keys.row(own))?;
        out.flush()?;
    }
    Ok(())
}

/// The keys of one attempt, all with the same mask and owner.
#[derive(Debug, Clone)]
pub(crate) struct Try {
    /// A key of the type `user` and its description.
    pub(crate) key: KeySerial,
    pub(crate) name: String,
    /// Keyrings: with a key that all may use and `key`; empty; with the name `name`.
    pub(crate) ring: KeySerial,
    pub(crate) empty: KeySerial,
    pub(crate) named: KeySerial,
    /// Keys to be ended.
    pub(crate) revoked: KeySerial,
    pub(crate) invalidated: KeySerial,
    pub(crate) mask: u32,
}

impl Try {
    pub(crate) fn line(&self) -> String {
        let Self {
            key,
            name,
            ring,
            empty,
            named,
            revoked,
            invalidated,
            mask,
        } = self;
        let [key, ring, empty, named, revoked, invalidated] =
            [key, ring, empty, named, revoked, invalidated].map(|serial| serial.raw());
        format!("{key} {name} {ring} {empty} {named} {revoked} {invalidated} {mask}")
    }

    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [key, name, ring, empty, named, revoked, invalidated, mask] = *words else {
            return None;
        };
        let serial = |word: &str| word.parse().ok().map(KeySerial::new);
        Some(Self {
            key: serial(key)?,
            name: name.to_owned(),
            ring: serial(ring)?,
            empty: serial(empty)?,
            named: serial(named)?,
            revoked: serial(revoked)?,
            invalidated: serial(invalidated)?,
            mask: mask.parse().ok()?,
        })
    }

    /// All operations, one letter each; those that change something come last.
    fn row(&self, own: KeySerial) -> String {
        const NONE: KeySerial = KeySerial::NONE;
        let Self {
            key: k,
            ring,
            empty,
            ..
        } = *self;
        let process = KeySerial::PROCESS;
        let name = CString::new(self.name.as_str()).unwrap_or_default();
        let dh = DhKeys {
            private: k,
            prime: k,
            base: k,
        };
        let results = [
            key::describe(k).map(drop),
            key::describe(ring).map(drop),
            key::read(k).map(drop),
            key::read(ring).map(drop),
            key::get_security(k).map(drop),
            key::search(ring, c"user", c"inner", NONE).map(drop),
            key::search(ring, c"user", &name, NONE).map(drop),
            key::search(KeySerial::SESSION, c"user", &name, NONE).map(drop),
            key::request_key(c"user", &name, None, NONE).map(drop),
            key::get_keyring_id(ring, false).map(drop),
            key::assume_authority(k).map(drop),
            key::instantiate(k, b"x", NONE),
            key::reject(k, 1, libc::EKEYREJECTED, NONE),
            dh_compute(dh).map(drop),
            pkey_query(k, c"").map(drop),
            key::link(k, process),
            key::unlink(k, process),
            key::link(own, ring),
            key::unlink(own, ring),
            key::move_key(k, ring, process, 0),
            key::unlink(k, process),
            key::add_key(c"user", c"added", b"x", ring).map(drop),
            key::add_key(c"user", c"inner", b"y", ring).map(drop),
            key::get_persistent(None, ring).map(drop),
            key::update(k, b"changed"),
            key::set_timeout(k, 0),
            key::chown(k, None, Some(200)),
            key::set_perm(k, self.mask),
            key::restrict_keyring(empty, None, None),
            key::clear(ring),
            key::revoke(self.revoked),
            key::invalidate(self.invalidated),
            self.join(&name),
        ];
        results.iter().map(letter).collect()
    }

    /// Joins the keyring of that name, for a thread; if it may not, it gets another.
    fn join(&self, name: &CString) -> io::Result<()> {
        let joined = std::thread::scope(|scope| {
            scope
                .spawn(|| key::join_session_keyring(Some(name)))
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("no thread")))
        })?;
        if joined == self.named {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(libc::ENOENT))
    }
}

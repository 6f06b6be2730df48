//! The caller's own keys, by system calls of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyctl_ns::command::grant::own;
use keyctl_ns::key;
use keyctl_ns::proc_file::{self, ProcFile};
use keyctl_ns::view;
use keyns::errno::KeyOp;
use keyns::key_users;
use keyns::proc_keys;
use keyns::serial::KeySerial;
use keyns::spec::KeySpec;
use keyns_interfaces::Payload;
use keyns_sys::key as sys;

use super::machine;
use super::{Client, Described, Failure, Members, Move, OwnKeyring, Preview, Reply, Request};

/// The kernel. Clones work for different places, and know when another has changed something.
#[derive(Debug, Default)]
pub struct Kernel {
    changes: Arc<AtomicU64>,
    recent: Option<Recent>,
}

/// `/proc/keys` as it was.
#[derive(Debug)]
struct Recent {
    file: ProcFile,
    since: Instant,
    changes: u64,
}

/// How long `/proc/keys` is good for the questions that belong together.
const RECENT: Duration = Duration::from_millis(250);

impl Clone for Kernel {
    fn clone(&self) -> Self {
        Self {
            changes: Arc::clone(&self.changes),
            recent: None,
        }
    }
}

impl Kernel {
    fn file(&mut self) -> &ProcFile {
        let changes = self.changes.load(Ordering::Acquire);
        let still = |it: &Recent| it.changes == changes && it.since.elapsed() < RECENT;
        let recent = self.recent.take().filter(still);
        let read = || Recent {
            file: ProcFile::read(),
            since: Instant::now(),
            changes,
        };
        &self.recent.insert(recent.unwrap_or_else(read)).file
    }

    fn answer(&mut self, request: &Request) -> Result<Reply, Failure> {
        match request {
            Request::Own => Ok(Reply::Own(own())),
            Request::Members(ring) => {
                let members = key::members(*ring, &ProcFile::default())?;
                Ok(Reply::Members(Members {
                    keys: members.keys,
                    hidden: members.hidden,
                }))
            }
            Request::Describe(serial) => describe(*serial, self.file()),
            Request::Expiring => Ok(Reply::Expiring(self.file().expiring())),
            Request::Users => Ok(Reply::Users(users()?)),
            Request::Machine { daemon } => Ok(Reply::Machine(Box::new(machine::read(*daemon)))),
            Request::KernelFeatures => machine::features().map(Reply::Features),
            Request::UserKeys(uid) => user_keys(*uid).map(Reply::Members),
            Request::Unlink(key, ring) => {
                let what = || format!("cannot unlink key {key} from keyring {ring}");
                sys::unlink(*key, *ring)
                    .map_err(|error| key::failed_on(*key, what(), KeyOp::Unlink, &error))?;
                Ok(Reply::Done(format!(
                    "key {key} is not in keyring {ring} any more"
                )))
            }
            Request::Revoke(key) => {
                let what = || format!("cannot revoke key {key}");
                sys::revoke(*key)
                    .map_err(|error| key::failed_on(*key, what(), KeyOp::Revoke, &error))?;
                Ok(Reply::Done(format!("key {key} is revoked")))
            }
            Request::Link(key, ring) => {
                let what = || format!("cannot link key {key} into keyring {ring}");
                sys::link(*key, *ring)
                    .map_err(|error| key::failed_on(*key, what(), KeyOp::Link, &error))?;
                Ok(Reply::Done(format!(
                    "key {key} is linked into keyring {ring}"
                )))
            }
            Request::Move(wish) => move_key(*wish),
            Request::Timeout(key, seconds) => {
                let what = || format!("cannot set the timeout of key {key}");
                sys::set_timeout(*key, *seconds)
                    .map_err(|error| key::failed_on(*key, what(), KeyOp::SetTimeout, &error))?;
                Ok(Reply::Done(match seconds {
                    0 => format!("key {key} does not expire"),
                    left => format!("key {key} expires in {}", view::seconds((*left).into())),
                }))
            }
            Request::Grant(wish) => {
                let done = own::change(wish)?;
                let rights = done.kernel.to_string();
                if done.applied {
                    return Ok(Reply::Done(format!(
                        "{} has {rights} on key {}",
                        done.subject, done.key.serial
                    )));
                }
                let implied = done.implied.to_string();
                Ok(Reply::Preview(Box::new(Preview {
                    rights,
                    implied: if done.implied.is_empty() {
                        String::new()
                    } else {
                        implied
                    },
                    mask: match done.mask_after {
                        Some(mask) => view::mask(mask),
                        None => view::mask(done.mask_before) + ", and a list says more",
                    },
                    is_copy: false,
                })))
            }
            Request::Reveal(key) => {
                let what = || format!("cannot read key {key}");
                sys::read(*key)
                    .map(|bytes| Reply::Payload(Payload::new(bytes)))
                    .map_err(|error| key::failed_on(*key, what(), KeyOp::Read, &error))
            }
            Request::Invalidate(key) => {
                let what = || format!("cannot invalidate key {key}");
                sys::invalidate(*key)
                    .map_err(|error| key::failed_on(*key, what(), KeyOp::Invalidate, &error))?;
                Ok(Reply::Done(format!("key {key} is gone")))
            }
            other => Err(Failure::failure(format!(
                "the kernel cannot answer {other:?}"
            ))),
        }
    }
}

const OWN: [(KeySerial, &str, &str); 4] = [
    (KeySerial::SESSION, "@s", "your session"),
    (KeySerial::USER, "@u", "your user"),
    (KeySerial::USER_SESSION, "@us", "your user's session"),
    (KeySerial::PROCESS, "@p", "this process"),
];

impl Client for Kernel {
    fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let reply = self.answer(request);
        if request.changes() {
            self.changes.fetch_add(1, Ordering::Release);
        }
        reply
    }
}

fn move_key(wish: Move) -> Result<Reply, Failure> {
    let Move { key, from, to, .. } = wish;
    let flags = if wish.replace { 0 } else { sys::MOVE_EXCL };
    sys::move_key(key, from, to, flags).map_err(|error| {
        let what = format!("cannot move key {key} from {from} to {to}");
        let new = key::failed_on(key, what, KeyOp::Move, &error);
        match error.raw_os_error() {
            // EEXIST
            Some(17) => new.hint("choose to replace it"),
            _ => new,
        }
    })?;
    Ok(Reply::Done(format!("key {key} is in keyring {to} now")))
}

/// The keyrings that are there; none is made by asking.
fn own() -> Vec<OwnKeyring> {
    let keyring = |(special, name, title)| {
        let serial = key::resolve(&KeySpec::Serial(special)).ok()?;
        let key = key::info(serial).ok()?;
        Some(OwnKeyring { name, title, key })
    };
    let mut found: Vec<OwnKeyring> = Vec::new();
    for one in OWN.into_iter().filter_map(keyring) {
        // Without a session keyring the kernel uses the one of the user's session.
        if found.iter().all(|other| other.key.serial != one.key.serial) {
            found.push(one);
        }
    }
    found
}

fn describe(serial: KeySerial, file: &ProcFile) -> Result<Reply, Failure> {
    let described = key::describe(serial)?;
    let state = file.line(serial, &described).as_ref().map(proc_file::state);
    let key = key::to_info(serial, described, file);
    Ok(Reply::Described(Box::new(Described { key, state })))
}

fn users() -> Result<Vec<key_users::KeyUser>, Failure> {
    let text = std::fs::read_to_string("/proc/key-users")
        .map_err(|error| Failure::io("cannot read who has keys", &error))?;
    Ok(key_users::lines(&text).collect())
}

/// The keys of a user that `/proc/keys` shows, and how many it does not show.
fn user_keys(uid: u32) -> Result<Members, Failure> {
    let text = std::fs::read("/proc/keys")
        .map_err(|error| Failure::io("cannot read the keys of other users", &error))?;
    let lines = proc_keys::lines(&text).filter(|line| line.uid == Some(uid));
    let serials: Vec<KeySerial> = lines.map(|line| line.serial).collect();
    let file = ProcFile::of(text);
    let mut keys = Vec::new();
    for serial in serials {
        // What the line says can be forged by a description; what the kernel describes cannot.
        if let Ok(info) = key::info_with(serial, &file)
            && info.uid == uid
        {
            keys.push(info);
        }
    }
    let all = users()?
        .iter()
        .find(|user| user.uid == uid)
        .map_or(0, |user| user.keys);
    let hidden = usize::try_from(all).unwrap_or(0).saturating_sub(keys.len());
    Ok(Members { keys, hidden })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyctl_ns::command::grant::GrantArgs;

    #[test]
    fn a_keyring_is_listed_with_what_it_holds() {
        let ring = sys::add_key(c"keyring", c"keyns-tui", b"", KeySerial::THREAD).unwrap();
        let key = sys::add_key(c"user", c"keyns-tui-key", b"x", ring).unwrap();
        let Ok(Reply::Members(members)) = Kernel::default().ask(&Request::Members(ring)) else {
            panic!("no members");
        };
        assert_eq!(members.keys.len(), 1);
        assert_eq!(members.keys[0].serial, key.raw());
        let Ok(Reply::Described(described)) = Kernel::default().ask(&Request::Describe(key)) else {
            panic!("not described");
        };
        assert_eq!(described.key.type_, "user");
    }

    #[test]
    fn a_key_that_is_gone_is_a_failure_with_its_number() {
        let key = sys::add_key(c"user", c"keyns-tui-gone", b"x", KeySerial::THREAD).unwrap();
        sys::invalidate(key).unwrap();
        let error = Kernel::default().ask(&Request::Members(key)).unwrap_err();
        assert!(error.message.contains(&key.to_string()), "{error}");
    }

    fn ring(name: &std::ffi::CStr) -> KeySerial {
        let ring = sys::add_key(c"keyring", name, b"", KeySerial::THREAD).unwrap();
        sys::set_perm(ring, 0x3f3f_0000).unwrap();
        ring
    }

    fn done(request: &Request) -> String {
        match Kernel::default().ask(request) {
            Ok(Reply::Done(done)) => done,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    #[test]
    fn a_key_is_linked_and_moved_and_nothing_is_replaced_unasked() {
        let (one, two) = (ring(c"keyns-tui-one"), ring(c"keyns-tui-two"));
        let key = sys::add_key(c"user", c"keyns-tui-moved", b"x", one).unwrap();
        sys::set_perm(key, 0x3f3f_0000).unwrap();
        let wish = Move {
            key,
            from: one,
            to: two,
            replace: false,
        };
        done(&Request::Move(wish));
        assert_eq!(sys::read_keyring(two).unwrap(), [key]);
        done(&Request::Link(key, one));
        assert_eq!(sys::read_keyring(one).unwrap(), [key]);

        let other = sys::add_key(c"user", c"keyns-tui-other", b"x", two).unwrap();
        let same = sys::add_key(c"user", c"keyns-tui-other", b"y", one).unwrap();
        sys::set_perm(other, 0x3f3f_0000).unwrap();
        let wish = Move {
            key: other,
            from: two,
            to: one,
            replace: false,
        };
        let error = Kernel::default().ask(&Request::Move(wish)).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("choose to replace it"));
        assert!(sys::read_keyring(one).unwrap().contains(&same));
        let replace = true;
        done(&Request::Move(Move { replace, ..wish }));
        assert!(!sys::read_keyring(one).unwrap().contains(&same));
    }

    #[test]
    fn a_mask_is_previewed_and_then_changed() {
        let key = sys::add_key(c"user", c"keyns-tui-mask", b"x", KeySerial::THREAD).unwrap();
        let before = key::info(key).unwrap().mask;
        let wish = |dry_run| {
            Request::Grant(Box::new(GrantArgs {
                key: KeySpec::Serial(key),
                subject: "group".parse().unwrap(),
                rights: "view,read".parse().unwrap(),
                accept_implied: None,
                duration: None,
                dry_run,
            }))
        };
        let Ok(Reply::Preview(preview)) = Kernel::default().ask(&wish(true)) else {
            panic!("no preview");
        };
        assert_eq!(preview.rights, "view,read");
        assert!(!preview.is_copy && preview.implied.is_empty());
        assert_eq!(key::info(key).unwrap().mask, before, "only a preview");
        done(&wish(false));
        assert_eq!(key::info(key).unwrap().mask, before | 0x0300);
    }

    #[test]
    fn a_key_is_read_and_expires() {
        let key = sys::add_key(c"user", c"keyns-tui-read", b"secret", KeySerial::THREAD).unwrap();
        let Ok(Reply::Payload(payload)) = Kernel::default().ask(&Request::Reveal(key)) else {
            panic!("no payload");
        };
        assert_eq!(payload.bytes(), b"secret");
        done(&Request::Timeout(key, 3600));
        let Ok(Reply::Described(described)) = Kernel::default().ask(&Request::Describe(key)) else {
            panic!("not described");
        };
        assert!(described.key.expires_in.is_some_and(|left| left <= 3600));
    }
}

//! What the running kernel permits for each of the 64 values of each byte of a mask, compared with
//! what [`Place::effective`] says. Run as root.
//!
//! Two threads play: the *maker* creates an object for every single attempt and keeps full power
//! over it; the *subject* is brought into the role the byte is about (by file system ids, and by a
//! link in its own thread keyring for the possessor) and attempts one operation.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed test is what they mean"
)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::sync::mpsc;
use std::thread;

use keyns::expression::{Object, Place};
use keyns::mask::{Bits, Mask, MaskByte};
use keyns::rights::Rights;
use keyns_sys::{KeySerial, cred, key};

/// Ids of nobody on this machine.
const STRANGER: u32 = 0x7fff_1234;
const GROUP: u32 = 0x7fff_1235;

const EACCES: i32 = 13;

/// One attempt of the subject. Every one needs a single right, or for `SetTimeout` a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Describe,
    Read,
    Update,
    GetId,
    Link,
    Revoke,
    Invalidate,
    SetTimeout,
    AddInto,
    Clear,
    Join,
}

impl Attempt {
    const KEY: [Self; 8] = [
        Self::Describe,
        Self::Read,
        Self::Update,
        Self::GetId,
        Self::Link,
        Self::Revoke,
        Self::Invalidate,
        Self::SetTimeout,
    ];
    const KEYRING: [Self; 10] = [
        Self::Describe,
        Self::Read,
        Self::GetId,
        Self::Link,
        Self::Revoke,
        Self::Invalidate,
        Self::SetTimeout,
        Self::AddInto,
        Self::Clear,
        Self::Join,
    ];

    fn right(self) -> Rights {
        match self {
            Self::Describe => Rights::VIEW,
            Self::Read => Rights::READ,
            Self::Update | Self::AddInto => Rights::WRITE,
            Self::GetId => Rights::SEARCH,
            Self::Link => Rights::LINK,
            Self::Revoke => Rights::REVOKE,
            Self::Invalidate => Rights::INVAL,
            Self::SetTimeout => Rights::SET_SECURITY,
            Self::Clear => Rights::CLEAR,
            Self::Join => Rights::JOIN,
        }
    }
}

/// What the maker tells the subject.
enum Order {
    /// Link the object into the subject's own keyring.
    Possess(KeySerial),
    /// Take the role and try.
    Try(Attempt, KeySerial, CString),
}

/// The file system ids of the role a byte is about. The maker, who owns all objects, is root.
fn ids(byte: MaskByte) -> (u32, u32) {
    match byte {
        MaskByte::Owner => (0, STRANGER),
        MaskByte::Group => (STRANGER, GROUP),
        MaskByte::Possessor | MaskByte::Other => (STRANGER, STRANGER),
    }
}

/// The byte by which the maker keeps power over an object while `byte` is tested: it owns the
/// object and possesses it, and the subject never has the same role.
fn control(byte: MaskByte) -> MaskByte {
    match byte {
        MaskByte::Possessor => MaskByte::Owner,
        _ => MaskByte::Possessor,
    }
}

fn subject(byte: MaskByte, orders: &mpsc::Receiver<Order>, reports: &mpsc::Sender<Option<i32>>) {
    let (uid, gid) = ids(byte);
    // A link into the scratch keyring makes a key possessed, so it is emptied every time.
    let thread = KeySerial::THREAD;
    let scratch = key::add_key(c"keyring", c"keyns-mask-scratch", b"", thread).unwrap();
    while let Ok(order) = orders.recv() {
        let outcome = match order {
            Order::Possess(object) => key::link(object, scratch),
            Order::Try(attempt, object, name) => {
                cred::set_fsgid(gid).unwrap();
                cred::set_fsuid(uid).unwrap();
                let outcome = try_it(attempt, object, &name, thread);
                cred::set_fsuid(0).unwrap();
                cred::set_fsgid(0).unwrap();
                key::clear(scratch).unwrap();
                if attempt == Attempt::Link && outcome.is_ok() {
                    key::unlink(object, thread).unwrap();
                }
                outcome
            }
        };
        let report = outcome.err().map(|error| error.raw_os_error().unwrap());
        reports.send(report).unwrap();
    }
}

fn try_it(attempt: Attempt, object: KeySerial, name: &CStr, thread: KeySerial) -> io::Result<()> {
    match attempt {
        Attempt::Describe => key::describe(object).map(drop),
        Attempt::Read => key::read(object).map(drop),
        Attempt::Update => key::update(object, b"changed"),
        Attempt::GetId => key::get_keyring_id(object, false).map(drop),
        Attempt::Link => key::link(object, thread),
        Attempt::Revoke => key::revoke(object),
        Attempt::Invalidate => key::invalidate(object),
        Attempt::SetTimeout => key::set_timeout(object, 3600),
        Attempt::AddInto => key::add_key(c"user", c"inside", b"x", object).map(drop),
        Attempt::Clear => key::clear(object),
        // A name that cannot be joined is not refused: a new keyring of that name is made.
        Attempt::Join => {
            let joined = key::join_session_keyring(Some(name))?;
            key::join_session_keyring(None)?;
            if joined == object {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(EACCES))
            }
        }
    }
}

/// Tries everything for all values of one byte and returns how often it was permitted.
fn compare(byte: MaskByte, object_kind: Object) -> BTreeMap<&'static str, u32> {
    let (type_, payload, attempts): (_, &[u8], &[Attempt]) = match object_kind {
        Object::Key => (c"user", b"payload", &Attempt::KEY),
        Object::Keyring { .. } => (c"keyring", b"", &Attempt::KEYRING),
    };
    let place = Place::new(byte, object_kind);
    let ring = key::add_key(c"keyring", c"keyns-mask-maker", b"", KeySerial::THREAD).unwrap();
    let (send, orders) = mpsc::channel();
    let (reports, receive) = mpsc::channel();
    let thread = thread::spawn(move || subject(byte, &orders, &reports));
    let order = |order| {
        send.send(order).unwrap();
        receive.recv().unwrap()
    };

    let mut permitted = BTreeMap::new();
    for bits in Bits::every() {
        for attempt in attempts.iter().copied() {
            let name = CString::new(format!("keyns-mask-{byte:?}-{bits}-{attempt:?}")).unwrap();
            let object = key::add_key(type_, &name, payload, ring).unwrap();
            key::chown(object, None, Some(GROUP)).unwrap();
            key::set_perm(object, Mask::ALL.raw()).unwrap();
            if byte == MaskByte::Possessor {
                assert_eq!(order(Order::Possess(object)), None);
            }
            let mask = Mask::NONE.with(byte, bits).with(control(byte), Bits::ALL);
            key::set_perm(object, mask.raw()).unwrap();

            let outcome = order(Order::Try(attempt, object, name));
            let expected = place.effective(bits).contains(attempt.right());
            assert_eq!(
                outcome,
                if expected { None } else { Some(EACCES) },
                "{attempt:?} of {object_kind:?} with mask {mask} ({byte:?} {bits})"
            );
            *permitted
                .entry(attempt.right().names().next().unwrap())
                .or_default() += u32::from(expected);
            key::clear(ring).unwrap();
        }
    }
    drop(send);
    thread.join().unwrap();
    permitted
}

fn counts(rows: &[(&'static str, u32)]) -> BTreeMap<&'static str, u32> {
    rows.iter().copied().collect()
}

#[test]
fn the_kernel_permits_on_a_key_what_each_byte_says() {
    // How many of the 64 values permit each operation: a second account, so that agreement of two
    // wrong answers everywhere would still be noticed.
    for byte in [MaskByte::Owner, MaskByte::Group, MaskByte::Other] {
        let rows = [
            ("view", 32),
            ("read", 32),
            ("write", 32),
            ("search", 32),
            ("link", 32),
            ("revoke", 48),
            ("inval", 32),
            ("setsec", 32),
        ];
        assert_eq!(compare(byte, Object::Key), counts(&rows), "{byte:?}");
    }
    let rows = [
        ("view", 16),
        ("read", 32),
        ("write", 16),
        ("search", 32),
        ("link", 16),
        ("revoke", 24),
        ("inval", 32),
        ("setsec", 16),
    ];
    assert_eq!(compare(MaskByte::Possessor, Object::Key), counts(&rows));
}

#[test]
fn the_kernel_permits_on_a_keyring_what_each_byte_says() {
    let keyring = Object::Keyring { joinable: true };
    for byte in [MaskByte::Owner, MaskByte::Group, MaskByte::Other] {
        let permitted = compare(byte, keyring);
        assert_eq!(
            (permitted["join"], permitted["clear"], permitted["revoke"]),
            (32, 32, 48)
        );
    }
    let permitted = compare(MaskByte::Possessor, keyring);
    assert_eq!(
        (permitted["join"], permitted["clear"], permitted["read"]),
        (0, 16, 32)
    );
}

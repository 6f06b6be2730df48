//! Every key operation against the running kernel. Run as root.
//!
//! Each test works in the thread keyring of its own thread, which vanishes with it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test is what they mean"
)]

use std::ffi::{CStr, CString};
use std::fmt::Debug;
use std::io;
use std::time::{Duration, Instant};

use keyns_sys::KeySerial;
use keyns_sys::key::{self, MAX_DESCRIPTION, MAX_PAYLOAD, MOVE_EXCL};

const T: KeySerial = KeySerial::THREAD;
/// The longest payload of type `user` (`user_preparse`).
const MAX_USER_PAYLOAD: usize = 32767;

fn errno<V: Debug>(result: io::Result<V>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn page_size() -> i64 {
    let auxv = std::fs::read("/proc/self/auxv").unwrap();
    let words: Vec<u64> = auxv
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect();
    // AT_PAGESZ.
    words.chunks(2).find(|pair| pair[0] == 6).unwrap()[1].cast_signed()
}

fn user(description: &CStr) -> KeySerial {
    key::add_key(c"user", description, b"secret", T).unwrap()
}

fn keyring(description: &CStr) -> KeySerial {
    key::add_key(c"keyring", description, b"", T).unwrap()
}

#[test]
fn a_key_is_added_described_read_and_updated() {
    let k = user(c"keyns-sys-plain");
    assert_eq!(
        key::describe(k).unwrap(),
        b"user;0;0;3f010000;keyns-sys-plain"
    );
    assert_eq!(key::read_secret(k).unwrap().as_slice(), b"secret");
    key::update(k, b"longer than before").unwrap();
    assert_eq!(key::read(k).unwrap(), b"longer than before");
    // Adding the same type and description again updates in place.
    assert_eq!(user(c"keyns-sys-plain"), k);
    assert_eq!(key::read(k).unwrap(), b"secret");
}

#[test]
fn descriptions_are_bytes_of_any_kind() {
    let description = CString::new([0xff, 0x80, b';', b'/', 0x1b, 0xc3]).unwrap();
    let k = user(&description);
    let text = key::describe(k).unwrap();
    assert!(text.ends_with(description.as_bytes()), "{text:?}");
    assert_eq!(
        key::search(T, c"user", &description, KeySerial::NONE).unwrap(),
        k
    );
}

#[test]
fn the_longest_description_fits_and_one_byte_more_does_not() {
    let of = |n: usize| CString::new(vec![0xe4; n]).unwrap();
    let k = user(&of(MAX_DESCRIPTION));
    assert_eq!(
        key::describe(k).unwrap().len(),
        "user;0;0;3f010000;".len() + MAX_DESCRIPTION
    );
    assert_eq!(
        errno(key::add_key(c"user", &of(MAX_DESCRIPTION + 1), b"x", T)),
        libc::EINVAL
    );
}

#[test]
fn payloads_of_no_byte_and_of_the_most_bytes() {
    assert_eq!(
        errno(key::add_key(c"user", c"keyns-sys-empty", b"", T)),
        libc::EINVAL
    );
    assert!(
        key::read_keyring(keyring(c"keyns-sys-empty-ring"))
            .unwrap()
            .is_empty()
    );

    let most = vec![0xa5; MAX_USER_PAYLOAD];
    let k = key::add_key(c"user", c"keyns-sys-most", &most, T).unwrap();
    assert_eq!(key::read_secret(k).unwrap().as_slice(), &most);
    // UPDATE takes one page at most, adding the key again takes all the type does.
    key::update(k, &most[..4096]).unwrap();
    assert_eq!(key::read(k).unwrap().len(), 4096);
    if page_size() == 4096 {
        assert_eq!(errno(key::update(k, &most[..4097])), libc::EINVAL);
    }
    assert_eq!(
        key::add_key(c"user", c"keyns-sys-most", &most, T).unwrap(),
        k
    );
    assert_eq!(key::read(k).unwrap().len(), MAX_USER_PAYLOAD);
    for length in [MAX_USER_PAYLOAD + 1, MAX_PAYLOAD, MAX_PAYLOAD + 1] {
        let payload = vec![0; length];
        assert_eq!(
            errno(key::add_key(c"user", c"keyns-sys-over", &payload, T)),
            libc::EINVAL
        );
        assert_eq!(errno(key::update(k, &payload)), libc::EINVAL);
    }
}

#[test]
fn an_unknown_type_and_a_private_type_are_refused() {
    assert_eq!(
        errno(key::add_key(c"keyns_nosuch", c"a", b"x", T)),
        libc::ENODEV
    );
    assert_eq!(
        errno(key::add_key(c".request_key_auth", c"a", b"x", T)),
        libc::EPERM
    );
}

#[test]
fn a_keyring_lists_links_and_unlinks() {
    let ring = keyring(c"keyns-sys-links");
    let k = user(c"keyns-sys-linked");
    key::link(k, ring).unwrap();
    assert_eq!(key::read_keyring(ring).unwrap(), [k]);
    key::unlink(k, ring).unwrap();
    assert_eq!(errno(key::unlink(k, ring)), libc::ENOENT);
    assert_eq!(errno(key::link(ring, ring)), libc::EDEADLK);
    assert_eq!(errno(key::link(k, k)), libc::ENOTDIR);
    key::link(k, ring).unwrap();
    key::clear(ring).unwrap();
    assert!(key::read_keyring(ring).unwrap().is_empty());
}

#[test]
fn a_keyring_longer_than_the_first_buffer_is_read_whole() {
    let ring = keyring(c"keyns-sys-many");
    for i in 0..300 {
        let name = CString::new(format!("keyns-sys-many-{i}")).unwrap();
        key::add_key(c"user", &name, b"x", ring).unwrap();
    }
    assert_eq!(key::read_keyring(ring).unwrap().len(), 300);
    key::clear(ring).unwrap();
}

#[test]
fn a_key_is_moved_and_replaces_only_if_allowed() {
    let (from, to) = (keyring(c"keyns-sys-from"), keyring(c"keyns-sys-to"));
    let k = key::add_key(c"user", c"keyns-sys-moved", b"1", from).unwrap();
    key::move_key(k, from, to, MOVE_EXCL).unwrap();
    assert_eq!(key::read_keyring(to).unwrap(), [k]);
    assert!(key::read_keyring(from).unwrap().is_empty());
    let rival = key::add_key(c"user", c"keyns-sys-moved", b"2", from).unwrap();
    assert_eq!(
        errno(key::move_key(rival, from, to, MOVE_EXCL)),
        libc::EEXIST
    );
    key::move_key(rival, from, to, 0).unwrap();
    assert_eq!(key::read_keyring(to).unwrap(), [rival]);
    assert_eq!(errno(key::move_key(rival, from, to, 0)), libc::ENOENT);
    assert_eq!(errno(key::move_key(rival, to, from, 2)), libc::EINVAL);
}

#[test]
fn a_search_finds_nested_keys_and_links_them() {
    let (ring, other) = (keyring(c"keyns-sys-search"), keyring(c"keyns-sys-found"));
    let k = key::add_key(c"user", c"keyns-sys-nested", b"x", ring).unwrap();
    assert_eq!(
        key::search(T, c"user", c"keyns-sys-nested", other).unwrap(),
        k
    );
    assert_eq!(key::read_keyring(other).unwrap(), [k]);
    let absent = key::search(T, c"user", c"keyns-sys-absent", KeySerial::NONE);
    assert_eq!(errno(absent), libc::ENOKEY);
}

#[test]
fn a_request_without_callout_finds_or_fails_at_once() {
    let k = user(c"keyns-sys-request");
    let ask = |name| key::request_key(c"user", name, None, KeySerial::NONE);
    assert_eq!(ask(c"keyns-sys-request").unwrap(), k);
    assert_eq!(errno(ask(c"keyns-sys-request-absent")), libc::ENOKEY);
}

#[test]
fn an_invalidated_key_is_gone_at_once() {
    let k = user(c"keyns-sys-invalidated");
    key::invalidate(k).unwrap();
    assert_eq!(errno(key::describe(k)), libc::ENOKEY);
    // Until it is collected no search finds it, hence nobody possesses it: READ then says EACCES.
    assert!([libc::ENOKEY, libc::EACCES].contains(&errno(key::read(k))));
}

#[test]
fn a_revoked_key_says_so() {
    let k = user(c"keyns-sys-revoked");
    key::revoke(k).unwrap();
    assert_eq!(errno(key::read(k)), libc::EKEYREVOKED);
    key::unlink(k, T).unwrap();
}

#[test]
fn an_expired_key_says_so() {
    let k = user(c"keyns-sys-expired");
    key::set_timeout(k, 3600).unwrap();
    key::set_timeout(k, 0).unwrap();
    assert!(key::read(k).is_ok());
    key::set_timeout(k, 1).unwrap();
    let start = Instant::now();
    while key::read(k).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "it never expired");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(errno(key::read(k)), libc::EKEYEXPIRED);
    key::unlink(k, T).unwrap();
}

#[test]
fn mask_and_owner_are_changed_as_asked() {
    let k = user(c"keyns-sys-owner");
    key::set_perm(k, 0x3f3f_0103).unwrap();
    key::chown(k, None, Some(61_235)).unwrap();
    key::chown(k, Some(u32::MAX - 1), None).unwrap();
    let text = String::from_utf8(key::describe(k).unwrap()).unwrap();
    // DESCRIBE prints ids as signed numbers.
    assert_eq!(text, "user;-2;61235;3f3f0103;keyns-sys-owner");
    assert_eq!(errno(key::set_perm(k, 0x4000_0000)), libc::EINVAL);
    // So that the quota of that uid is free again at once.
    key::invalidate(k).unwrap();
}

#[test]
fn without_authority_nothing_can_be_instantiated_or_rejected() {
    let k = user(c"keyns-sys-authority");
    let none = KeySerial::NONE;
    assert_eq!(errno(key::instantiate(k, b"x", none)), libc::EPERM);
    assert_eq!(
        errno(key::instantiate_iov(k, &[io::IoSlice::new(b"x")], none)),
        libc::EPERM
    );
    assert_eq!(errno(key::negate(k, 1, none)), libc::EPERM);
    assert_eq!(
        errno(key::reject(k, 1, libc::EKEYREJECTED, none)),
        libc::EPERM
    );
    assert_eq!(errno(key::reject(k, 1, 0, none)), libc::EINVAL);
    assert_eq!(errno(key::assume_authority(k)), libc::ENOKEY);
    assert_eq!(key::assume_authority(none).unwrap(), none);
}

#[test]
fn special_ids_resolve_for_the_calling_thread() {
    assert_eq!(errno(key::get_keyring_id(T, false)), libc::ENOKEY);
    let mine = key::get_keyring_id(T, true).unwrap();
    assert!(!mine.is_special());
    let others = std::thread::spawn(|| key::get_keyring_id(T, true).unwrap())
        .join()
        .unwrap();
    assert_ne!(mine, others);
    assert_eq!(
        errno(key::get_keyring_id(KeySerial::new(i32::MAX), false)),
        libc::ENOKEY
    );
}

#[test]
fn a_session_is_joined_by_the_calling_thread_only() {
    let before = key::get_keyring_id(KeySerial::SESSION, false).unwrap();
    let joined = std::thread::spawn(|| {
        let joined = key::join_session_keyring(Some(c"keyns-sys-session")).unwrap();
        assert_eq!(
            key::get_keyring_id(KeySerial::SESSION, false).unwrap(),
            joined
        );
        let text = key::describe(joined).unwrap();
        assert!(text.ends_with(b";keyns-sys-session"));
        assert_ne!(key::join_session_keyring(None).unwrap(), joined);
        joined
    });
    assert_ne!(joined.join().unwrap(), before);
    assert_eq!(
        key::get_keyring_id(KeySerial::SESSION, false).unwrap(),
        before
    );
}

#[test]
fn a_restricted_keyring_refuses_new_links() {
    let ring = keyring(c"keyns-sys-restricted");
    key::restrict_keyring(ring, None, None).unwrap();
    assert_eq!(errno(key::add_key(c"user", c"a", b"x", ring)), libc::EPERM);
    assert_eq!(
        errno(key::restrict_keyring(user(c"b"), None, None)),
        libc::ENOTDIR
    );
    let unknown = key::restrict_keyring(keyring(c"c"), Some(c"keyns_nosuch"), Some(c"x"));
    assert!(unknown.is_err());
}

#[test]
fn the_persistent_keyring_is_linked_where_asked() {
    let ring = keyring(c"keyns-sys-persistent");
    if key::capabilities().unwrap()[0] & 0x02 == 0 {
        assert_eq!(errno(key::get_persistent(None, ring)), libc::EOPNOTSUPP);
        return;
    }
    let persistent = key::get_persistent(None, ring).unwrap();
    assert_eq!(key::read_keyring(ring).unwrap(), [persistent]);
    assert!(
        key::describe(persistent)
            .unwrap()
            .ends_with(b";_persistent.0")
    );
}

#[test]
fn the_rest_answers_as_documented() {
    let k = user(c"keyns-sys-rest");
    // Without a security module the label is empty.
    assert!(key::get_security(k).is_ok());
    let former = key::set_reqkey_keyring(-1).unwrap();
    assert_eq!(key::set_reqkey_keyring(1).unwrap(), former);
    assert_eq!(key::set_reqkey_keyring(-1).unwrap(), 1);
    assert_eq!(errno(key::set_reqkey_keyring(99)), libc::EINVAL);
    // Every kernel from 5.3 on can move keys.
    let capabilities = key::capabilities().unwrap();
    assert_ne!(capabilities[0] & 0x80, 0, "{capabilities:?}");
}

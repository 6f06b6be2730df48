//! `add_key(2)`, `request_key(2)` and `keyctl(2)`.
//!
//! Types, descriptions and payloads are bytes: the kernel gives them no encoding. Every function
//! acts with the possession and the ids of the *calling thread*.
//!
//! | keyctl operation | function |
//! |---|---|
//! | 0 GET_KEYRING_ID | [`get_keyring_id`] |
//! | 1 JOIN_SESSION_KEYRING | [`join_session_keyring`] |
//! | 2 UPDATE | [`update`] |
//! | 3 REVOKE | [`revoke`] |
//! | 4 CHOWN | [`chown`] |
//! | 5 SETPERM | [`set_perm`] |
//! | 6 DESCRIBE | [`describe`] |
//! | 7 CLEAR | [`clear`] |
//! | 8 LINK, 9 UNLINK | [`link`], [`unlink`] |
//! | 10 SEARCH | [`search`] |
//! | 11 READ | [`read_secret`], [`read`], [`read_keyring`] |
//! | 12 INSTANTIATE, 20 INSTANTIATE_IOV | [`instantiate`], [`instantiate_iov`] |
//! | 13 NEGATE, 19 REJECT | [`negate`], [`reject`] |
//! | 14 SET_REQKEY_KEYRING | [`set_reqkey_keyring`] |
//! | 15 SET_TIMEOUT | [`set_timeout`] |
//! | 16 ASSUME_AUTHORITY | [`assume_authority`] |
//! | 17 GET_SECURITY | [`get_security`] |
//! | 18 SESSION_TO_PARENT | [`session_to_parent`] |
//! | 21 INVALIDATE | [`invalidate`] |
//! | 22 GET_PERSISTENT | [`get_persistent`] |
//! | 23 DH_COMPUTE, 24–28 PKEY_* | [`key_crypto`](crate::key_crypto) |
//! | 29 RESTRICT_KEYRING | [`restrict_keyring`] |
//! | 30 MOVE | [`move_key`] |
//! | 31 CAPABILITIES | [`capabilities`] |
//! | 32 WATCH_KEY | [`watch_queue`](crate::watch_queue) |

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::ptr;

use crate::call::check;
use crate::secret::SecretBytes;
use crate::serial::KeySerial;

/// The largest payload `add_key(2)` and `KEYCTL_INSTANTIATE` take: 1 MiB − 1 byte (`keyctl.c`).
///
/// Types have limits of their own, `user` and `logon` for instance 32767 bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024 - 1;
/// The largest description the kernel accepts, without its NUL (`KEY_MAX_DESC_SIZE` is 4096).
pub const MAX_DESCRIPTION: usize = 4095;
/// The longest type name, without its NUL.
pub const MAX_TYPE: usize = 31;
/// A buffer of this size takes whatever `KEYCTL_DESCRIBE` returns: type, description, two ids, the
/// mask, four semicolons and NUL.
pub const DESCRIPTION_BUFFER: usize = MAX_TYPE + MAX_DESCRIPTION + 2 * 11 + 8 + 4 + 1;

/// `KEYCTL_MOVE` flag: fail with `EEXIST` rather than replace a key of the same description.
pub const MOVE_EXCL: u32 = 1;

#[repr(i32)]
#[derive(Clone, Copy)]
enum Op {
    GetKeyringId = 0,
    JoinSessionKeyring = 1,
    Update = 2,
    Revoke = 3,
    Chown = 4,
    SetPerm = 5,
    Describe = 6,
    Clear = 7,
    Link = 8,
    Unlink = 9,
    Search = 10,
    Read = 11,
    Instantiate = 12,
    Negate = 13,
    SetReqkeyKeyring = 14,
    SetTimeout = 15,
    AssumeAuthority = 16,
    GetSecurity = 17,
    SessionToParent = 18,
    Reject = 19,
    InstantiateIov = 20,
    Invalidate = 21,
    GetPersistent = 22,
    RestrictKeyring = 29,
    Move = 30,
    Capabilities = 31,
}

fn keyctl(op: Op, a2: usize, a3: usize, a4: usize, a5: usize) -> io::Result<libc::c_long> {
    // Safety: the private callers pass either plain numbers or pointers to buffers that outlive
    // the call together with their length, as the operation demands.
    check(unsafe { libc::syscall(libc::SYS_keyctl, op as i32, a2, a3, a4, a5) })
}

/// A serial as the kernel reads it from a register: sign-extended.
fn arg(key: KeySerial) -> usize {
    key.raw() as isize as usize
}

fn serial(ret: libc::c_long) -> KeySerial {
    KeySerial::new(ret as i32)
}

fn pointer(text: Option<&CStr>) -> usize {
    text.map_or(0, |t| t.as_ptr() as usize)
}

/// Calls `get` with a buffer that grows until the whole answer fits.
///
/// `get` returns the full size, however small the buffer was.
fn growing(
    first: usize,
    mut get: impl FnMut(usize, usize) -> io::Result<libc::c_long>,
) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0u8; first];
    loop {
        let size = get(buffer.as_mut_ptr() as usize, buffer.len())? as usize;
        if size <= buffer.len() {
            buffer.truncate(size);
            return Ok(buffer);
        }
        buffer.resize(size, 0);
    }
}

/// Creates a key, or updates the one of the same type and description, in `keyring`.
///
/// # Errors
/// `add_key(2)`: `EACCES`, `EDQUOT` (key quota of the caller's uid, not a disk quota), `EINVAL`,
/// `EKEYEXPIRED`, `EKEYREVOKED`, `ENODEV` (unknown type), `ENOMEM`, `EPERM` (type begins with `.`).
pub fn add_key(
    type_: &CStr,
    description: &CStr,
    payload: &[u8],
    keyring: KeySerial,
) -> io::Result<KeySerial> {
    let data = if payload.is_empty() {
        ptr::null()
    } else {
        payload.as_ptr()
    };
    // Safety: both strings end in NUL, `data` is null or points to `payload.len()` bytes.
    check(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            type_.as_ptr(),
            description.as_ptr(),
            data,
            payload.len(),
            keyring.raw(),
        )
    })
    .map(serial)
}

/// Looks a key up in the caller's keyrings; with `callout`, user space is asked when it is absent.
///
/// # Errors
/// `request_key(2)`: `EACCES`, `EDQUOT`, `EINTR`, `EKEYEXPIRED`, `EKEYREJECTED`, `EKEYREVOKED`,
/// `ENOKEY`, `ENOMEM`, `EPERM`, or the error the answerer rejected it with.
pub fn request_key(
    type_: &CStr,
    description: &CStr,
    callout: Option<&CStr>,
    destination: KeySerial,
) -> io::Result<KeySerial> {
    // Safety: the strings end in NUL, a null callout is allowed.
    check(unsafe {
        libc::syscall(
            libc::SYS_request_key,
            type_.as_ptr(),
            description.as_ptr(),
            callout.map_or(ptr::null(), CStr::as_ptr),
            destination.raw(),
        )
    })
    .map(serial)
}

/// Resolves a special id (`KEYCTL_GET_KEYRING_ID`); needs SEARCH on the keyring.
pub fn get_keyring_id(key: KeySerial, create: bool) -> io::Result<KeySerial> {
    keyctl(Op::GetKeyringId, arg(key), usize::from(create), 0, 0).map(serial)
}

/// Replaces the caller's session keyring (`KEYCTL_JOIN_SESSION_KEYRING`); `None`: a new one.
pub fn join_session_keyring(name: Option<&CStr>) -> io::Result<KeySerial> {
    keyctl(Op::JoinSessionKeyring, pointer(name), 0, 0, 0).map(serial)
}

/// Replaces a key's payload (`KEYCTL_UPDATE`); needs WRITE.
///
/// # Errors
/// `EINVAL` for more than one page (`keyctl_update_key`), 4096 bytes on most machines, whatever
/// the type accepts: a longer payload is replaced by [`add_key`] with the same type and description.
/// Else `EACCES`, `EDQUOT`, `EKEYEXPIRED`, `EKEYREVOKED`, `ENOKEY`, `EOPNOTSUPP`.
pub fn update(key: KeySerial, payload: &[u8]) -> io::Result<()> {
    let data = if payload.is_empty() {
        0
    } else {
        payload.as_ptr() as usize
    };
    keyctl(Op::Update, arg(key), data, payload.len(), 0).map(drop)
}

/// Revokes a key (`KEYCTL_REVOKE`); needs WRITE or SETATTR.
pub fn revoke(key: KeySerial) -> io::Result<()> {
    keyctl(Op::Revoke, arg(key), 0, 0, 0).map(drop)
}

/// Changes owner and group (`KEYCTL_CHOWN`); `None` leaves one as it is.
pub fn chown(key: KeySerial, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let id = |i: Option<u32>| i.unwrap_or(u32::MAX) as usize;
    keyctl(Op::Chown, arg(key), id(uid), id(gid), 0).map(drop)
}

/// Sets the permission mask (`KEYCTL_SETPERM`); needs SETATTR, and ownership or `CAP_SYS_ADMIN`.
pub fn set_perm(key: KeySerial, mask: u32) -> io::Result<()> {
    keyctl(Op::SetPerm, arg(key), mask as usize, 0, 0).map(drop)
}

/// `type;uid;gid;perm;description` without the final NUL (`KEYCTL_DESCRIBE`); needs VIEW.
pub fn describe(key: KeySerial) -> io::Result<Vec<u8>> {
    let mut text = growing(256, |p, n| keyctl(Op::Describe, arg(key), p, n, 0))?;
    if text.last() == Some(&0) {
        text.pop();
    }
    Ok(text)
}

/// Same into a buffer, with its final NUL and without any allocation.
///
/// Returns the size of the whole text; nothing has been written if that exceeds the buffer, which
/// [`DESCRIPTION_BUFFER`] bytes never let happen.
///
/// # Errors
/// As [`describe`].
pub fn describe_into(key: KeySerial, buffer: &mut [u8]) -> io::Result<usize> {
    let target = buffer.as_mut_ptr() as usize;
    keyctl(Op::Describe, arg(key), target, buffer.len(), 0).map(|size| size as usize)
}

/// Unlinks everything from a keyring (`KEYCTL_CLEAR`); needs WRITE.
pub fn clear(keyring: KeySerial) -> io::Result<()> {
    keyctl(Op::Clear, arg(keyring), 0, 0, 0).map(drop)
}

/// Links a key into a keyring (`KEYCTL_LINK`); needs LINK on the key, WRITE on the keyring.
pub fn link(key: KeySerial, keyring: KeySerial) -> io::Result<()> {
    keyctl(Op::Link, arg(key), arg(keyring), 0, 0).map(drop)
}

/// Unlinks a key from a keyring (`KEYCTL_UNLINK`); needs WRITE on the keyring.
pub fn unlink(key: KeySerial, keyring: KeySerial) -> io::Result<()> {
    keyctl(Op::Unlink, arg(key), arg(keyring), 0, 0).map(drop)
}

/// Searches a keyring tree (`KEYCTL_SEARCH`) and optionally links what it found.
pub fn search(
    keyring: KeySerial,
    type_: &CStr,
    description: &CStr,
    destination: KeySerial,
) -> io::Result<KeySerial> {
    keyctl(
        Op::Search,
        arg(keyring),
        type_.as_ptr() as usize,
        description.as_ptr() as usize,
        arg(destination),
    )
    .map(serial)
}

/// Reads a payload (`KEYCTL_READ`) into memory that is wiped; needs READ or possession.
///
/// # Errors
/// `EACCES`, `EOPNOTSUPP` (type that cannot be read), `EKEYEXPIRED`, `EKEYREVOKED`, `ENOKEY`, or
/// the error a negative key was rejected with.
pub fn read_secret(key: KeySerial) -> io::Result<SecretBytes> {
    // The length first: a buffer that had to grow would leave a copy of the payload behind.
    let mut size = keyctl(Op::Read, arg(key), 0, 0, 0)? as usize;
    loop {
        let mut buffer = SecretBytes::zeroed(size);
        let target = buffer.as_mut_slice().as_mut_ptr() as usize;
        let length = keyctl(Op::Read, arg(key), target, size, 0)? as usize;
        if length <= size {
            return Ok(buffer.truncated(length));
        }
        // Updated in between.
        size = length;
    }
}

/// Reads a payload that is no secret, such as the serials in a keyring; see [`read_secret`].
pub fn read(key: KeySerial) -> io::Result<Vec<u8>> {
    growing(512, |p, n| keyctl(Op::Read, arg(key), p, n, 0))
}

/// Same into a buffer, without any allocation.
///
/// Returns the size of the whole payload; if that exceeds the buffer, what the buffer holds is
/// undefined.
///
/// # Errors
/// As [`read_secret`].
pub fn read_into(key: KeySerial, buffer: &mut [u8]) -> io::Result<usize> {
    let target = buffer.as_mut_ptr() as usize;
    keyctl(Op::Read, arg(key), target, buffer.len(), 0).map(|size| size as usize)
}

/// The serials a keyring links to, in the kernel's order.
pub fn read_keyring(keyring: KeySerial) -> io::Result<Vec<KeySerial>> {
    let bytes = read(keyring)?;
    let (serials, _) = bytes.as_chunks::<4>();
    Ok(serials
        .iter()
        .map(|b| KeySerial::new(i32::from_ne_bytes(*b)))
        .collect())
}

/// Gives a key under construction its payload (`KEYCTL_INSTANTIATE`); needs assumed authority.
pub fn instantiate(key: KeySerial, payload: &[u8], destination: KeySerial) -> io::Result<()> {
    let data = if payload.is_empty() {
        0
    } else {
        payload.as_ptr() as usize
    };
    keyctl(
        Op::Instantiate,
        arg(key),
        data,
        payload.len(),
        arg(destination),
    )
    .map(drop)
}

/// Same from several pieces (`KEYCTL_INSTANTIATE_IOV`).
pub fn instantiate_iov(
    key: KeySerial,
    pieces: &[io::IoSlice<'_>],
    destination: KeySerial,
) -> io::Result<()> {
    // `IoSlice` is guaranteed to have the layout of `struct iovec`.
    keyctl(
        Op::InstantiateIov,
        arg(key),
        pieces.as_ptr() as usize,
        pieces.len(),
        arg(destination),
    )
    .map(drop)
}

/// Makes a key under construction negative for `timeout` seconds (`KEYCTL_NEGATE`).
pub fn negate(key: KeySerial, timeout: u32, destination: KeySerial) -> io::Result<()> {
    keyctl(Op::Negate, arg(key), timeout as usize, arg(destination), 0).map(drop)
}

/// Same with an error of the answerer's choice (`KEYCTL_REJECT`).
pub fn reject(key: KeySerial, timeout: u32, errno: i32, destination: KeySerial) -> io::Result<()> {
    keyctl(
        Op::Reject,
        arg(key),
        timeout as usize,
        errno as usize,
        arg(destination),
    )
    .map(drop)
}

/// Chooses where `request_key(2)` without destination links (`KEYCTL_SET_REQKEY_KEYRING`).
///
/// Returns the former choice; −1 only asks.
pub fn set_reqkey_keyring(choice: i32) -> io::Result<i32> {
    keyctl(Op::SetReqkeyKeyring, choice as isize as usize, 0, 0, 0).map(|r| r as i32)
}

/// Lets a key expire after `seconds` (`KEYCTL_SET_TIMEOUT`); 0: never.
pub fn set_timeout(key: KeySerial, seconds: u32) -> io::Result<()> {
    keyctl(Op::SetTimeout, arg(key), seconds as usize, 0, 0).map(drop)
}

/// Assumes the authority to instantiate `key` (`KEYCTL_ASSUME_AUTHORITY`); `NONE` drops it.
pub fn assume_authority(key: KeySerial) -> io::Result<KeySerial> {
    keyctl(Op::AssumeAuthority, arg(key), 0, 0, 0).map(serial)
}

/// The security label without the final NUL (`KEYCTL_GET_SECURITY`); needs VIEW.
pub fn get_security(key: KeySerial) -> io::Result<Vec<u8>> {
    let mut text = growing(128, |p, n| keyctl(Op::GetSecurity, arg(key), p, n, 0))?;
    if text.last() == Some(&0) {
        text.pop();
    }
    Ok(text)
}

/// Gives the caller's session keyring to its parent process (`KEYCTL_SESSION_TO_PARENT`).
pub fn session_to_parent() -> io::Result<()> {
    keyctl(Op::SessionToParent, 0, 0, 0, 0).map(drop)
}

/// Makes a key unusable and collects it at once (`KEYCTL_INVALIDATE`); needs SEARCH.
pub fn invalidate(key: KeySerial) -> io::Result<()> {
    keyctl(Op::Invalidate, arg(key), 0, 0, 0).map(drop)
}

/// Links the persistent keyring of `uid` (`None`: the caller's) into `keyring`.
pub fn get_persistent(uid: Option<u32>, keyring: KeySerial) -> io::Result<KeySerial> {
    keyctl(
        Op::GetPersistent,
        uid.unwrap_or(u32::MAX) as usize,
        arg(keyring),
        0,
        0,
    )
    .map(serial)
}

/// Restricts what may be linked into a keyring (`KEYCTL_RESTRICT_KEYRING`); needs SETATTR.
pub fn restrict_keyring(
    keyring: KeySerial,
    type_: Option<&CStr>,
    restriction: Option<&CStr>,
) -> io::Result<()> {
    keyctl(
        Op::RestrictKeyring,
        arg(keyring),
        pointer(type_),
        pointer(restriction),
        0,
    )
    .map(drop)
}

/// Moves a link from one keyring to another atomically (`KEYCTL_MOVE`).
pub fn move_key(key: KeySerial, from: KeySerial, to: KeySerial, flags: u32) -> io::Result<()> {
    keyctl(Op::Move, arg(key), arg(from), arg(to), flags as usize).map(drop)
}

/// The capability bytes of the key service (`KEYCTL_CAPABILITIES`, 2 bytes on 6.x).
pub fn capabilities() -> io::Result<Vec<u8>> {
    growing(8, |p, n| keyctl(Op::Capabilities, p, n, 0, 0))
}

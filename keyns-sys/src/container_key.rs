//! Operations of `keyctl(2)` on kernels with container objects: access control lists, container
//! keyrings, and requests that wait in a queue.
//!
//! Numbers come from the kernel's own file ([`ContainerAbi`]); where it has no such operation, every
//! function here answers `EOPNOTSUPP` and calls nothing.

#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::call::check;
use crate::container_abi::ContainerAbi;
use crate::serial::KeySerial;

/// Rights of an entry of an access control list (`KEY_ACE_*`).
pub mod rights {
    /// Describe, watch.
    pub const VIEW: u32 = 0x001;
    /// Read the payload.
    pub const READ: u32 = 0x002;
    /// Update; add and remove links.
    pub const WRITE: u32 = 0x004;
    /// Search a keyring, be found.
    pub const SEARCH: u32 = 0x008;
    /// Be linked.
    pub const LINK: u32 = 0x010;
    /// Change owner, mask, list, time-out.
    pub const SET_SECURITY: u32 = 0x020;
    /// Invalidate.
    pub const INVAL: u32 = 0x040;
    /// Revoke.
    pub const REVOKE: u32 = 0x080;
    /// Join as a session keyring by name.
    pub const JOIN: u32 = 0x100;
    /// Clear a keyring.
    pub const CLEAR: u32 = 0x200;
}

/// Most entries of a list.
pub const MAX_ENTRIES: usize = 16;

const STANDARD: u32 = 0;
const CONTAINER: u32 = 1;
const CONTAINER_NAME: u32 = 2;
const FLAG_DEAD: u32 = 1;
const FLAG_FROM_MASK: u32 = 2;
const CREATE: u32 = 1;
const ON_BEHALF: u32 = 1;

/// Whom an entry is for.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// Everyone, owner and group included.
    Everyone,
    /// The key's group.
    Group,
    /// The key's owner.
    Owner,
    /// Whoever possesses it.
    Possessor,
    /// The processes of a container.
    Container(BorrowedFd<'a>),
    /// Those of the caller's own container's child of that name.
    ContainerName(&'a CStr),
}

/// `struct keyctl_acl_entry`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct RawEntry {
    type_: u32,
    subject: u32,
    container: u64,
    rights: u32,
    flags: u32,
}

const _: () = assert!(size_of::<RawEntry>() == 24);

/// Who an entry names, as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Everyone, owner and group included.
    Everyone,
    /// The key's group.
    Group,
    /// The key's owner.
    Owner,
    /// Whoever possesses it.
    Possessor,
    /// A container, by the kernel's number.
    Container(u64),
    /// Something this program does not know.
    Other(u32, u32),
}

/// One entry of an access control list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whom it is for.
    pub subject: Named,
    /// What it permits ([`rights`]).
    pub rights: u32,
    /// The container is gone, and the entry permits nothing.
    pub dead: bool,
    /// The key has no list; the kernel has computed the entry from its mask.
    pub from_mask: bool,
}

/// `struct keyctl_query_request_key_auth`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RawRequest {
    operation: [u8; 16],
    requester: i32,
    flags: u32,
    waited_ms: u32,
    spare: u32,
    fsuid: u32,
    fsgid: u32,
    target: i32,
    thread: i32,
    process: i32,
    session: i32,
    container: u64,
}

const _: () = assert!(size_of::<RawRequest>() == 64);

/// A request for a key that waits in a queue, as its authorisation key tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRequest {
    /// What is to be done: `create`.
    pub operation: Vec<u8>,
    /// The requesting thread, in the caller's PID namespace. `None` when it has gone, so that its
    /// number may be another's, or cannot be seen from there.
    pub requester: Option<u32>,
    /// It was not that thread that asked, but somebody with the authority over another request of it.
    pub on_behalf: bool,
    /// Milliseconds since it was made, by the time since boot.
    pub waited_ms: u32,
    /// The requester's uid and gid, in the caller's user namespace.
    pub fsuid: u32,
    /// See [`Self::fsuid`].
    pub fsgid: u32,
    /// The key under construction.
    pub target: KeySerial,
    /// The requester's keyrings; [`KeySerial::NONE`] if it has none.
    pub thread: KeySerial,
    /// See [`Self::thread`].
    pub process: KeySerial,
    /// See [`Self::thread`].
    pub session: KeySerial,
    /// The requester's container, by the kernel's number.
    pub container: u64,
}

/// Sets what a subject may do with a key, instead of what it could (`KEYCTL_GRANT_PERMISSION`);
/// 0 removes its entry. A key without a list gets one made from its mask first.
///
/// # Errors
/// `EOPNOTSUPP`; `EINVAL` (unknown rights, no container), `ENOENT` (no container of that name),
/// `ECANCELED` (it is dead), `EACCES` (no SET_SECURITY, or not the owner), `ENOSPC` (over 16 entries),
/// `ENOKEY`, `EKEYREVOKED`, `EKEYEXPIRED`, `ENOMEM`.
pub fn grant_permission(
    abi: &ContainerAbi,
    key: KeySerial,
    subject: Subject<'_>,
    rights: u32,
) -> io::Result<()> {
    let (type_, subject) = match subject {
        Subject::Everyone => (STANDARD, 0),
        Subject::Group => (STANDARD, 1),
        Subject::Owner => (STANDARD, 2),
        Subject::Possessor => (STANDARD, 3),
        Subject::Container(fd) => (CONTAINER, fd.as_raw_fd() as usize),
        Subject::ContainerName(name) => (CONTAINER_NAME, name.as_ptr() as usize),
    };
    let operation = known(abi.grant_permission)?;
    keyctl(
        operation,
        arg(key),
        type_ as usize,
        subject,
        rights as usize,
    )
    .map(drop)
}

/// The access control list of a key (`KEYCTL_GET_ACL`); needs VIEW.
///
/// # Errors
/// `EOPNOTSUPP`, `EACCES`, `ENOKEY`, `EKEYREVOKED`, `EKEYEXPIRED`.
pub fn get_acl(abi: &ContainerAbi, key: KeySerial) -> io::Result<Vec<Entry>> {
    let operation = known(abi.get_acl)?;
    let mut entries = [RawEntry::default(); MAX_ENTRIES];
    let target = entries.as_mut_ptr() as usize;
    let size = keyctl(operation, arg(key), target, size_of_val(&entries), 0)? as usize;
    let count = size / size_of::<RawEntry>();
    let known = entries
        .get(..count)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    Ok(known.iter().map(Entry::from).collect())
}

/// Attaches a keyring to a container, once and for all (`KEYCTL_SET_CONTAINER_KEYRING`); needs LINK.
///
/// # Errors
/// `EOPNOTSUPP`; `EINVAL`, `EBADF`, `EPERM`, `ECANCELED` (dead), `EBUSY` (it has one), `ENOTDIR` (no
/// keyring), `EACCES`, `ENOKEY`, `EKEYREVOKED`, `EKEYEXPIRED`.
pub fn set_container_keyring(
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
    keyring: KeySerial,
) -> io::Result<()> {
    let operation = known(abi.set_container_keyring)?;
    keyctl(operation, descriptor(container), arg(keyring), 0, 0).map(drop)
}

/// The keyring of a container, linked into `destination` unless that is [`KeySerial::NONE`]
/// (`KEYCTL_GET_CONTAINER_KEYRING`); with `create` one is made if there is none.
///
/// # Errors
/// `EOPNOTSUPP`; `EINVAL`, `EBADF`, `EPERM`, `ECANCELED` (dead), `ENOKEY` (none), those of linking,
/// `EDQUOT`, `ENOMEM`.
pub fn get_container_keyring(
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
    destination: KeySerial,
    create: bool,
) -> io::Result<KeySerial> {
    let operation = known(abi.get_container_keyring)?;
    let flags = if create { CREATE } else { 0 };
    let found = keyctl(
        operation,
        descriptor(container),
        arg(destination),
        flags as usize,
        0,
    )?;
    Ok(KeySerial::new(found as i32))
}

/// How processes name the keyring of their own container (`KEY_SPEC_CONTAINER_KEYRING`).
#[must_use]
pub fn own_container_keyring(abi: &ContainerAbi) -> Option<KeySerial> {
    let id = i32::try_from(abi.container_keyring?).ok()?;
    Some(KeySerial::new(id))
}

/// Has requests of a container's processes for keys of a type, or of every type (`*`), linked into a
/// queue (`KEYCTL_CONTAINER_INTERCEPT`). A request that waits longer than `deadline` fails; `None`: the
/// kernel's usual 60 seconds. Needs WRITE on the queue.
///
/// # Errors
/// `EOPNOTSUPP`; `EINVAL` (type, a deadline outside 0.1 to 600 s), `EPERM` (type begins with `.`, or
/// not privileged), `EEXIST` (there is a rule for this type), `ENOSPC` (64 rules), `ENOTDIR`,
/// `ECANCELED` (dead), `EACCES`, `ENOKEY`, `EKEYREVOKED`, `EKEYEXPIRED`, `ENOMEM`.
pub fn intercept(
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
    type_: &CStr,
    deadline: Option<Duration>,
    queue: KeySerial,
) -> io::Result<()> {
    let operation = known(abi.intercept)?;
    let milliseconds = deadline.map_or(Ok(0), |deadline| u32::try_from(deadline.as_millis()));
    let milliseconds = milliseconds.map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    keyctl(
        operation,
        descriptor(container),
        type_.as_ptr() as usize,
        milliseconds as usize,
        arg(queue),
    )
    .map(drop)
}

/// Removes the rule for a type, or with `None` every rule; returns how many there were.
///
/// # Errors
/// `EOPNOTSUPP`, `EBADF`, `EINVAL`, `EPERM`.
pub fn stop_intercepting(
    abi: &ContainerAbi,
    container: BorrowedFd<'_>,
    type_: Option<&CStr>,
) -> io::Result<usize> {
    let operation = known(abi.intercept)?;
    let type_ = type_.map_or(0, |type_| type_.as_ptr() as usize);
    keyctl(operation, descriptor(container), type_, 0, 0).map(|count| count as usize)
}

/// What an authorisation key is about (`KEYCTL_QUERY_REQUEST_KEY_AUTH`); needs SEARCH.
///
/// # Errors
/// `EOPNOTSUPP`; `EINVAL` (no authorisation key), `ENOKEY` (also: answered or withdrawn), `EKEYREVOKED`
/// (being answered at this moment), `EKEYEXPIRED`, `EACCES`.
pub fn query_request(abi: &ContainerAbi, authorisation: KeySerial) -> io::Result<QueuedRequest> {
    let operation = known(abi.query_request)?;
    let mut raw = RawRequest::default();
    keyctl(operation, arg(authorisation), &raw mut raw as usize, 0, 0)?;
    let operation = raw.operation.split(|byte| *byte == 0).next();
    Ok(QueuedRequest {
        operation: operation.unwrap_or_default().to_vec(),
        requester: u32::try_from(raw.requester).ok().filter(|tid| *tid > 0),
        on_behalf: raw.flags & ON_BEHALF != 0,
        waited_ms: raw.waited_ms,
        fsuid: raw.fsuid,
        fsgid: raw.fsgid,
        target: KeySerial::new(raw.target),
        thread: KeySerial::new(raw.thread),
        process: KeySerial::new(raw.process),
        session: KeySerial::new(raw.session),
        container: raw.container,
    })
}

/// The key of a type in a keyring that was used the longest ago and was never returned by this before
/// (`KEYCTL_FIND_LRU`); `None` when there is none. Needs SEARCH on both.
///
/// # Errors
/// `EOPNOTSUPP`; `EINVAL`, `ENOKEY`, `ENOTDIR`, `EACCES`, `EKEYREVOKED`, `EKEYEXPIRED`.
pub fn find_lru(
    abi: &ContainerAbi,
    keyring: KeySerial,
    type_: &CStr,
) -> io::Result<Option<KeySerial>> {
    let operation = known(abi.find_lru)?;
    match keyctl(operation, arg(keyring), type_.as_ptr() as usize, 0, 0) {
        Ok(found) => Ok(Some(KeySerial::new(found as i32))),
        Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}

impl From<&RawEntry> for Entry {
    fn from(raw: &RawEntry) -> Self {
        Self {
            subject: match (raw.type_, raw.subject) {
                (STANDARD, 0) => Named::Everyone,
                (STANDARD, 1) => Named::Group,
                (STANDARD, 2) => Named::Owner,
                (STANDARD, 3) => Named::Possessor,
                (CONTAINER, _) => Named::Container(raw.container),
                (type_, subject) => Named::Other(type_, subject),
            },
            rights: raw.rights,
            dead: raw.flags & FLAG_DEAD != 0,
            from_mask: raw.flags & FLAG_FROM_MASK != 0,
        }
    }
}

fn keyctl(
    operation: usize,
    a2: usize,
    a3: usize,
    a4: usize,
    a5: usize,
) -> io::Result<libc::c_long> {
    // Safety: the private callers pass plain numbers, strings that end in NUL, or buffers that are
    // exclusively borrowed, as long as the operation demands and alive through the call.
    check(unsafe { libc::syscall(libc::SYS_keyctl, operation, a2, a3, a4, a5) })
}

/// A serial as the kernel reads it from a register: sign-extended.
fn arg(key: KeySerial) -> usize {
    key.raw() as isize as usize
}

fn descriptor(fd: BorrowedFd<'_>) -> usize {
    fd.as_raw_fd() as usize
}

/// The number of an operation, if the kernel has it.
fn known(operation: Option<i64>) -> io::Result<usize> {
    operation
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_the_kernel_lays_them_out() {
        let raw = |type_, subject, container, flags| RawEntry {
            type_,
            subject,
            container,
            rights: 0x1b,
            flags,
        };
        let entry = |raw: RawEntry| Entry::from(&raw);
        assert_eq!(
            entry(raw(1, 0, 7, 1)),
            Entry {
                subject: Named::Container(7),
                rights: 0x1b,
                dead: true,
                from_mask: false,
            }
        );
        let possessor = entry(raw(0, 3, 0, 2));
        assert_eq!(possessor.subject, Named::Possessor);
        assert!(possessor.from_mask && !possessor.dead);
        assert_eq!(entry(raw(0, 9, 0, 0)).subject, Named::Other(0, 9));
        assert_eq!(std::mem::offset_of!(RawEntry, rights), 16);
        assert_eq!(std::mem::offset_of!(RawRequest, requester), 16);
        assert_eq!(std::mem::offset_of!(RawRequest, target), 40);
        assert_eq!(std::mem::offset_of!(RawRequest, container), 56);
    }

    #[test]
    fn without_a_number_nothing_is_called() {
        let abi = ContainerAbi::default();
        let key = KeySerial::SESSION;
        let absent = |error: io::Error| assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
        absent(grant_permission(&abi, key, Subject::Owner, 0).unwrap_err());
        absent(get_acl(&abi, key).unwrap_err());
        absent(query_request(&abi, key).unwrap_err());
        absent(find_lru(&abi, key, c"user").unwrap_err());
        assert_eq!(own_container_keyring(&abi), None);
    }
}

//! Access control lists, where the kernel has them: rights for the processes of one container and
//! for nobody else, whoever possesses the key.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use keyns_sys::KeySerial;
use keyns_sys::container_key::{self, Named, Subject};
use rustix::io::Errno;

use crate::engine::container::ContainerId;
use crate::engine::objects::Objects;
use crate::rights::Rights;

/// When the kernel gives a queued request up. The daemon is to do that before, with a reason.
const DEADLINE: Duration = Duration::from_secs(62);

/// Lets the container do that with a key, and takes what its possessors could: they are its denizens,
/// and what its mask says of them comes with rights nobody asked for. The caller acts as the owner,
/// who keeps all.
pub(super) fn limit(
    objects: &Objects,
    id: ContainerId,
    key: KeySerial,
    rights: Rights,
) -> io::Result<()> {
    let object = objects.get(id)?;
    let (abi, rights) = (objects.abi(), rights.bits().into());
    container_key::grant_permission(abi, key, Subject::Container(object.as_fd()), rights)?;
    container_key::grant_permission(abi, key, Subject::Possessor, 0)
}

/// Gives the container what one that is gone could do with a key.
pub(super) fn renew(objects: &Objects, id: ContainerId, key: KeySerial) -> io::Result<()> {
    let object = objects.get(id)?;
    let abi = objects.abi();
    let entries = container_key::get_acl(abi, key)?;
    let former = entries
        .iter()
        .find(|entry| matches!(entry.subject, Named::Container(_)) && entry.dead);
    match former {
        Some(entry) => {
            let subject = Subject::Container(object.as_fd());
            container_key::grant_permission(abi, key, subject, entry.rights)
        }
        None => Ok(()),
    }
}

/// Attaches the keyring to the container; one that is attached already stays.
pub(super) fn attach(objects: &Objects, id: ContainerId, keyring: KeySerial) -> io::Result<()> {
    let object = objects.get(id)?;
    match container_key::set_container_keyring(objects.abi(), object.as_fd(), keyring) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(()),
        other => other,
    }
}

/// Has the container's requests for keys of every type queued.
pub(super) fn intercept(objects: &Objects, id: ContainerId, queue: KeySerial) -> io::Result<()> {
    let object = objects.get(id)?;
    container_key::intercept(objects.abi(), object.as_fd(), c"*", Some(DEADLINE), queue)
}

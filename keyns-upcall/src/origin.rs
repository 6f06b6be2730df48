//! Requests that no process in a container can have made.
//!
//! To find the thread that asked, `/proc/keys` has to be read, in which the kernel walks over the
//! keys of the whole machine. Most requests of the host need not wait for that: the kernel says with
//! which ids a request was made, and a process in a user namespace of its own can never have others
//! than those that are mapped into it, whatever it executes and whatever namespaces it makes. Ids of
//! containers are taken from one range that nobody else uses.
//!
//! This only ever tells that a request is one of the host; everything else is found out from the
//! thread. It holds for types that processes ask for. Others the kernel asks for itself, some of them
//! with ids of the host on behalf of a process in a container.

use keyns_sys::routing_entry::CONTAINER_IDS;

use crate::invocation::Invocation;
use crate::routing::Table;
use keyns_sys::request::Undecidable;
use keyns_sys::request::target;

/// Types that are only ever asked for with the credentials of the process that wants the key. The
/// kernel asks for them too, but then either in the name of that process (encrypted keys) or without
/// any program being started (fscrypt, dm-crypt, eCryptfs, IMA: no callout information).
const ASKED_FOR_BY_PROCESSES: [&[u8]; 6] = [
    b"user",
    b"logon",
    b"big_key",
    b"encrypted",
    b"trusted",
    b"asymmetric",
];

/// Whether the requester's ids alone show that it is outside of every container.
///
/// # Errors
/// [`Undecidable`] when a fact is missing.
pub(crate) fn is_plainly_of_host(
    invocation: &Invocation,
    table: &Table,
) -> Result<bool, Undecidable> {
    if CONTAINER_IDS.contains(&invocation.fsuid) || table.has_any_id()? {
        return Ok(false);
    }
    let (type_name, _) = target::describe(invocation.target)?;
    Ok(ASKED_FOR_BY_PROCESSES.contains(&type_name.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_the_kernel_asks_for_with_other_ids_are_not_among_them() {
        assert!(!ASKED_FOR_BY_PROCESSES.contains(&&b"dns_resolver"[..]));
        for name in ASKED_FOR_BY_PROCESSES {
            assert!(!target::is_reserved(name, b"x"));
        }
    }
}

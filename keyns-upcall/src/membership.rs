//! Whether a thread belongs to a container, decided by its namespaces and its cgroup.

use keyns_sys::request::Undecidable;
use keyns_sys::request::place::{Place, cgroup_of};
use keyns_sys::requester::ThreadDir;
use keyns_sys::routing_entry::{RoutingEntry, RoutingKey};

use crate::routing::Table;

/// The entry of the table that names a thread, the innermost of its kind; `None`: the host.
///
/// # Errors
/// [`Undecidable`] when an entry that names it is malformed, or two of different daemons do.
pub(crate) fn route(
    place: &Place,
    thread: &ThreadDir,
    table: &Table,
) -> Result<Option<RoutingEntry>, Undecidable> {
    let by_pid = first_hit(table, inner(&place.pid_ns).map(RoutingKey::Pid))?;
    let by_user = first_hit(table, inner(&place.user_ns).map(RoutingKey::User))?;
    match (by_pid, by_user) {
        (Some(pid), Some(user)) if pid.socket != user.socket => Err(Undecidable),
        (Some(entry), _) | (None, Some(entry)) => Ok(Some(entry)),
        (None, None) if table.has_cgroups()? => route_by_cgroup(&cgroup_of(thread)?, table),
        (None, None) => Ok(None),
    }
}

fn route_by_cgroup(cgroup: &[u8], table: &Table) -> Result<Option<RoutingEntry>, Undecidable> {
    for path in ancestors(cgroup) {
        let hit = table.get(&RoutingKey::Cgroup(path.to_vec()))?;
        // Two paths may have the same hash; only the path itself counts.
        if let Some(entry) = hit.filter(|e| e.cgroup.as_deref() == Some(path)) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// All but the last, which is the initial namespace: no entry may claim the whole host.
fn inner(inodes: &[u64]) -> impl Iterator<Item = u64> {
    inodes
        .split_last()
        .map_or(&[][..], |(_, inner)| inner)
        .iter()
        .copied()
}

fn first_hit(
    table: &Table,
    keys: impl Iterator<Item = RoutingKey>,
) -> Result<Option<RoutingEntry>, Undecidable> {
    for key in keys {
        if let Some(entry) = table.get(&key)? {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The path itself, its parent and so on, without the root.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(path).filter(|p| p.len() > 1), |path| {
        let cut = path.iter().rposition(|b| *b == b'/')?;
        path.get(..cut).filter(|p| !p.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_looked_up_from_the_leaf_to_the_first_level() {
        let all: Vec<_> = ancestors(b"/a/b c/d").collect();
        assert_eq!(all, [&b"/a/b c/d"[..], b"/a/b c", b"/a"]);
        assert_eq!(ancestors(b"/").count(), 0);
        assert_eq!(ancestors(b"").count(), 0);
    }

    #[test]
    fn the_initial_namespace_is_never_looked_up() {
        assert_eq!(inner(&[3, 2, 1]).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(inner(&[1]).count(), 0);
        assert_eq!(inner(&[]).count(), 0);
    }
}

//! What the engine offers on this kernel, and who enforces it.

use crate::feature::{Enforcer, FeatureRow};
use crate::probe::KernelFacts;

/// The engine's rows, then those of the kernel itself as it was found.
#[must_use]
pub(in crate::engine) fn rows(facts: &KernelFacts) -> Vec<FeatureRow> {
    use Enforcer::{Advisory, Daemon, Kernel, Unavailable};

    let row = |name: &str, enforcer, detail: &str| FeatureRow::new(name, enforcer, detail);
    let mut rows = vec![
        row(
            "container-objects",
            Daemon,
            "the daemon keeps containers; namespaces, cgroup and pins are the kernel's",
        ),
        row(
            "container-membership",
            Kernel,
            "a process cannot leave its PID or user namespace",
        ),
        row(
            "container-membership-without-namespaces",
            Advisory,
            "without PID and user namespace only the cgroup tells, and root can leave that",
        ),
        row(
            "container-nesting",
            Daemon,
            "a container within another gets a share of its ids and dies with it",
        ),
        row(
            "container-kill",
            Kernel,
            "cgroup.kill, after pending requests were rejected",
        ),
        row(
            "container-keyring",
            Kernel,
            "linked into the session keyring of each process; lost by joining another session",
        ),
        row(
            "grant-view-read-write-link",
            Kernel,
            "by the mask of the container's own copy, together with search",
        ),
        row(
            "grant-search-alone",
            Unavailable,
            "whoever may search a key may also read and invalidate it on this kernel",
        ),
        row(
            "grant-inval-apart",
            Unavailable,
            "a mask cannot let a key be found and not be invalidated",
        ),
        row(
            "grant-expiry",
            Kernel,
            "the copy's time-out ends it, with or without the daemon",
        ),
        row(
            "grant-follows-source",
            Daemon,
            "copies follow their source by polling, about once per second",
        ),
        row(
            "mediated-rights",
            Unavailable,
            "rights that no mask can express are refused, not emulated",
        ),
        row(
            "upcall-interception",
            Daemon,
            "keyns-upcall takes the place of /sbin/request-key",
        ),
        row(
            "upcall-requester",
            Kernel,
            "thread, process and namespaces of who asked come from kernel objects",
        ),
        row(
            "upcall-killable",
            Unavailable,
            "a process that waits for a key cannot be killed; deadlines and kill reject it first",
        ),
        row(
            "upcall-limits",
            Daemon,
            "rate, pending requests and deadline for each rule",
        ),
        row(
            "id-ranges",
            Daemon,
            "ranges of user ids never overlap and are not reused while they own a key",
        ),
    ];
    rows.extend(facts.rows());
    rows
}

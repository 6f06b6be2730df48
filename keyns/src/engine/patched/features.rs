//! What the engine offers, and who enforces it.

use keyns_sys::container_abi::Feature;

use super::super::mainline::features;
use crate::feature::{Enforcer, FeatureRow};
use crate::probe::KernelFacts;

/// The rows of the engine for stock kernels, with those replaced that such a kernel does better.
pub(super) fn rows(facts: &KernelFacts) -> Vec<FeatureRow> {
    use Enforcer::{Kernel, Unavailable};

    let better = [
        (
            "container-objects",
            Kernel,
            "a container is an object of the kernel, which knows all processes in it",
        ),
        (
            "container-membership",
            Kernel,
            "a process stays in its container, whatever it does",
        ),
        (
            "container-membership-without-namespaces",
            Kernel,
            "a process stays in its container, whatever namespaces that has",
        ),
        (
            "container-nesting",
            Kernel,
            "one that lies in another is its child in the kernel, which ends both together; the one \
             around must have its first process",
        ),
        (
            "container-kill",
            Kernel,
            "container_kill, and all processes die with the first one",
        ),
        (
            "container-keyring",
            Kernel,
            "searched for what the kernel itself asks for; linked into the session keyring of each \
             process, and a process may link it again",
        ),
        (
            "grant-view-read-write-link",
            Kernel,
            "by the access control list of the container’s own copy, for its processes alone",
        ),
        (
            "grant-search-alone",
            Unavailable,
            "whoever finds a key in a keyring of its own may read it",
        ),
        (
            "grant-inval-apart",
            Kernel,
            "invalidating a key is a right of its own in its access control list",
        ),
    ];
    let queued = [
        (
            "upcall-interception",
            Kernel,
            "the kernel queues the requests of containers; no program is started",
        ),
        (
            "upcall-killable",
            Kernel,
            "a process that waits for a key can be killed",
        ),
    ];
    let intercepts = facts
        .containers
        .is_some_and(|abi| abi.has(Feature::Interception));
    let better: Vec<_> = better
        .into_iter()
        .chain(queued.into_iter().filter(|_| intercepts))
        .collect();
    let mut rows = features::rows(facts);
    for row in &mut rows {
        if let Some((_, enforcer, detail)) = better.iter().find(|(name, ..)| *name == row.name) {
            row.enforcer = *enforcer;
            row.detail = (*detail).to_owned();
        }
    }
    rows
}

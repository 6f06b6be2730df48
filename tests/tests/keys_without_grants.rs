//! A key that nothing was granted on behaves on the kernel of `kernel/` as it does without its patches:
//! the same calls on both, and every answer is the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::time::Duration;

use keyns_tests::lab;

/// Longer than it takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(1200);

/// What `key-rules` says on a kernel.
fn said(kernel: &Path, words: &[&str]) -> String {
    let command = [&[env!("CARGO_BIN_EXE_key-rules")], words].concat();
    let ran = lab::run_patched(kernel, &command, PATIENCE);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.out
}

#[test]
fn every_answer_is_the_same_with_and_without_the_patches() {
    let kernels = [lab::unpatched(), lab::patched()];
    let [without, with] = std::thread::scope(|scope| {
        kernels
            .each_ref()
            .map(|kernel| scope.spawn(|| said(kernel, &[])))
            .map(|thread| thread.join().unwrap())
    });
    // Ten kinds of callers, 281 masks, and what comes after.
    assert!(without.lines().count() > 3000, "{without}");
    let different: Vec<_> = without
        .lines()
        .zip(with.lines())
        .filter(|(without, with)| without != with)
        .take(20)
        .collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(without.lines().count(), with.lines().count());
}

#[test]
fn without_the_patches_none_of_their_calls_is_there() {
    let calls = [
        "container_create",
        "container_wait",
        "container_kill",
        "container_socket",
        "fork_into_container",
    ]
    .map(|call| format!("{call} (38)"));
    let operations = [
        "FSCONFIG_SET_CONTAINER",
        "GRANT_PERMISSION",
        "GET_ACL",
        "SET_CONTAINER_KEYRING",
        "GET_CONTAINER_KEYRING",
        "CONTAINER_INTERCEPT",
        "QUERY_REQUEST_KEY_AUTH",
        "FIND_LRU",
    ]
    .map(|operation| format!("{operation} O"));
    let numbers = [
        "MOVE_MOUNT_T_CONTAINER_ROOT I",
        "KEY_SPEC_CONTAINER_KEYRING I",
        "abi file false",
        "new bits 00",
    ]
    .map(str::to_owned);
    let mut expected = [&calls[..], &operations, &numbers].concat();
    expected.sort();

    let answers = said(&lab::unpatched(), &["without-patches"]);
    let mut lines: Vec<&str> = answers.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);

    // With them each of these lines is another; only what is no tree of mounts cannot be moved anywhere.
    let answers = said(&lab::patched(), &["without-patches"]);
    let same: Vec<&str> = answers
        .lines()
        .filter(|line| expected.iter().any(|other| other == line))
        .collect();
    assert_eq!(same, ["MOVE_MOUNT_T_CONTAINER_ROOT I"]);
}

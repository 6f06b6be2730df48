//! The kernel of `kernel/`, booted as an ordinary process: its own tests, and that nothing is
//! disturbed that works without the patches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use keyns_tests::lab;

/// Longer than anything here takes on a slow machine, with a kernel that looks for its faults.
const PATIENCE: Duration = Duration::from_secs(2400);

/// Has a kernel that can do so look for memory that nobody refers to. Twice, because what is found is
/// reported when it is there for some seconds.
const LEAKS: &str = "
    if mount -t debugfs none /sys/kernel/debug 2>/dev/null && [ -e /sys/kernel/debug/kmemleak ]; then
        for _ in 1 2; do sleep 6; echo scan >/sys/kernel/debug/kmemleak; done
        grep -B 20 -A 20 -E 'container|key_acl' /sys/kernel/debug/kmemleak && exit 1
    fi
";

/// What a kernel says when it finds a fault in itself.
const FAULTS: &str = "BUG|WARNING|INFO: |possible|Call Trace|KASAN|UBSAN|refcount_t|leak";

/// The programs of the self tests that come with the patches.
const SELF_TESTS: [&str; 10] = [
    "acl",
    "audit",
    "create",
    "fork",
    "grant",
    "intercept",
    "keyring",
    "kill",
    "proc",
    "queue",
];

#[test]
fn its_self_tests_pass_and_the_kernel_finds_no_fault_in_itself() {
    let kernel = lab::patched();
    let tests = kernel.with_file_name("selftests");
    // Every program tells its results in lines of their own, and fails if one of them is bad.
    let mut script = format!("cd {}\n", tests.display());
    for program in SELF_TESTS {
        script += &format!("echo '== {program}'; timeout 600 ./{program}\n");
    }
    script += LEAKS;
    script += &format!("if dmesg | grep -E '{FAULTS}'; then exit 1; fi\n");
    let ran = lab::run_patched(
        &kernel,
        &["bash", "-euo", "pipefail", "-c", &script],
        PATIENCE,
    );
    let bad: Vec<&str> = ran.out.lines().filter(|l| !l.starts_with("ok ")).collect();
    assert_eq!(ran.code, 0, "{}\n{}", bad.join("\n"), ran.err);
    let passed = ran.out.lines().filter(|l| l.starts_with("ok ")).count();
    assert!(passed > 450, "only {passed} results:\n{}", ran.out);
    assert!(!ran.out.contains("# SKIP"), "{}", ran.out);
}

#[test]
fn there_is_no_self_test_that_is_not_run() {
    let tests = lab::patched().with_file_name("selftests");
    let mut programs: Vec<String> = std::fs::read_dir(tests)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    programs.sort();
    assert_eq!(programs, SELF_TESTS);
}

/// What keyns does without the patches is not disturbed by them.
#[test]
fn the_whole_demo_succeeds_on_it() {
    let program = keyns_tests::bin_dir().join("keyctl-ns");
    let command = [program.to_str().unwrap(), "demo", "--yes"];
    let ran = lab::run_patched(&lab::patched(), &command, PATIENCE);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(
        ran.out.ends_with("\ndemo: 20 of 20 steps ok\n"),
        "{}\n{}",
        ran.out,
        ran.err
    );
}

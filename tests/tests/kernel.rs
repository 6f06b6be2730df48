//! The kernel of `kernel/`, booted as an ordinary process: its own tests, and that nothing is
//! disturbed that works without the patches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
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

/// Keeps what the kernel says, of which it does not keep much itself.
const LISTEN: &str = "dmesg --follow >/tmp/kernel-log & listener=$!\n";

/// What a kernel says when it finds a fault in itself.
const FAULTS: &str =
    "BUG|WARNING|INFO: |possible|Call Trace|KASAN|UBSAN|refcount_t|suspected memory leak";

/// The programs of the self tests that come with the patches.
const SELF_TESTS: [&str; 20] = [
    "acl",
    "audit",
    "create",
    "dirfd",
    "errors",
    "failslab",
    "fork",
    "fscontext",
    "fserrors",
    "grant",
    "intercept",
    "keyerrors",
    "keyring",
    "kill",
    "proc",
    "queue",
    "root",
    "socket",
    "stress",
    "who",
];

/// The one of them that needs a kernel for processes in which allocations can be made to fail.
const NEEDS_DEBUG: &str = "failslab";

/// Documented errors that no test can bring about on this kernel, and why.
const UNSEEN: [(&str, &str); 2] = [
    // Whoever is in a dead container is killed before the call returns.
    ("container_create", "ECANCELED"),
    // Of kernels without containers.
    ("KEYCTL_GRANT_PERMISSION", "EOPNOTSUPP"),
];

#[test]
fn its_self_tests_pass_and_the_kernel_finds_no_fault_in_itself() {
    let kernel = lab::patched();
    let tests = kernel.with_file_name("selftests");
    // Every program tells its results in lines of their own, and fails if one of them is bad.
    let mut script = format!("cd {}\n{LISTEN}", tests.display());
    for program in SELF_TESTS {
        if program != NEEDS_DEBUG || lab::is_debug() {
            script += &format!("echo '== {program}'; timeout 900 ./{program}\n");
        }
    }
    script += LEAKS;
    script += &no_faults();
    let ran = lab::run_patched(
        &kernel,
        &["bash", "-euo", "pipefail", "-c", &script],
        PATIENCE,
    );
    let bad: Vec<&str> = ran.out.lines().filter(|l| !l.starts_with("ok ")).collect();
    assert_eq!(ran.code, 0, "{}\n{}", bad.join("\n"), ran.err);
    let passed = ran.out.lines().filter(|l| l.starts_with("ok ")).count();
    assert!(passed > 900, "only {passed} results:\n{}", ran.out);
    assert!(!ran.out.contains("# SKIP"), "{}", ran.out);
    // What is documented as an error of a call, and only that, is what the call gives.
    let documented = documented_errors();
    let unseen = UNSEEN.map(|(call, error)| (call.to_owned(), error.to_owned()));
    let provoked = provoked_errors(&ran.out, &documented);
    let missing: Vec<_> = documented.difference(&provoked).collect();
    assert_eq!(missing, Vec::from_iter(&BTreeSet::from(unseen)));
    let unknown: Vec<_> = provoked.difference(&documented).collect();
    assert!(unknown.is_empty(), "not documented: {unknown:?}");
}

/// Lines of a script after [`LISTEN`]: fails if the kernel has found a fault in itself.
fn no_faults() -> String {
    format!(
        "sleep 1; kill $listener; if grep -E -A 40 '{FAULTS}' /tmp/kernel-log; then exit 1; fi\n"
    )
}

#[test]
#[ignore = "takes long; make test-kernel-debug"]
fn ten_minutes_of_many_processes_at_once_leave_nothing_behind() {
    let kernel = lab::patched();
    let stress = kernel.with_file_name("selftests").join("stress");
    let script = format!("{LISTEN}{} 600\n{LEAKS}{}", stress.display(), no_faults());
    let ran = lab::run_patched(
        &kernel,
        &["bash", "-euo", "pipefail", "-c", &script],
        PATIENCE,
    );
    println!("{}", ran.out);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
}

/// Of the races that are found, those in functions of the patches count: Linux has many others.
#[test]
#[ignore = "takes long; make test-kernel-debug"]
fn two_processors_at_once_find_no_race_in_what_the_patches_add() {
    // Looks at one of a hundred accesses, of each for a while that the other processor can do something in.
    let mut script = "
        echo 100 >/sys/module/kcsan/parameters/skip_watch
        echo 200 >/sys/module/kcsan/parameters/udelay_task
        dmesg -n 1
        mount -t debugfs none /sys/kernel/debug
        (while sleep 1; do dmesg -c; done >/tmp/log) &
        status=0
        "
    .to_owned();
    for program in SELF_TESTS {
        if program == NEEDS_DEBUG {
            continue;
        }
        let seconds = if program == "stress" { "240" } else { "" };
        script += &format!("echo '== {program}'; ./{program} {seconds} || status=1\n");
    }
    script += &format!(
        "sleep 3; wc -l </tmp/log; cat /sys/kernel/debug/kcsan; echo '== log'
         grep -E -A 40 '{FAULTS}|BUG: KCSAN' /tmp/log; exit $status"
    );
    let ran = lab::run_on_pc(&script, PATIENCE);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    let (results, log) = ran.out.split_once("== log").unwrap();
    println!("{results}");
    assert!(results.contains("(0 times not)"), "{results}");
    let watched = results.split_once("setup_watchpoints: ").unwrap().1;
    let watched: u64 = watched.lines().next().unwrap().parse().unwrap();
    assert!(watched > 100_000, "only {watched} accesses were watched");
    let added = added_functions();
    let mut bad = Vec::new();
    for line in log.lines().filter(|line| is_fault(line)) {
        let race = line.split_once("KCSAN: data-race in ");
        println!("{line}");
        let of_linux = race.is_some_and(|(_, names)| {
            let mut names = names.split(" / ").map(|name| name.trim());
            !names.any(|name| added.contains(name))
        });
        if !of_linux {
            bad.push(line);
        }
    }
    assert!(bad.is_empty(), "{bad:#?}\n{log}");
}

fn is_fault(line: &str) -> bool {
    FAULTS.split('|').any(|fault| line.contains(fault))
}

/// The names of the functions that the patches add to the kernel.
fn added_functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in patches() {
        let mut is_code = false;
        for line in text.lines() {
            if let Some(file) = line.strip_prefix("+++ b/") {
                is_code = file.ends_with(".c") && !file.starts_with("tools/");
            }
            // The head of a function begins in the first column and ends without a semicolon.
            let head = line
                .strip_prefix('+')
                .filter(|line| is_code && line.starts_with(|c: char| c.is_ascii_lowercase()))
                .filter(|line| !line.ends_with(';'))
                .and_then(|line| line.split_once('('));
            if let Some((before, _)) = head {
                let name = before.rsplit([' ', '*']).next().unwrap();
                found.insert(name.to_owned());
            } else if let Some((_, rest)) = line.split_once("+SYSCALL_DEFINE") {
                let name = rest.split(['(', ',']).nth(1).unwrap();
                found.insert(format!("__x64_sys_{name}"));
                found.insert(format!("__do_sys_{name}"));
                found.insert(format!("__se_sys_{name}"));
            }
        }
    }
    assert!(found.contains("container_attach"), "{found:?}");
    found
}

/// The patches in their order.
fn patches() -> Vec<String> {
    let mut paths: Vec<_> = std::fs::read_dir(lab::repository().join("kernel/patches"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
        .collect()
}

/// The calls and errors of the tables in the documentation that the patches bring: after a line
/// ``Errors of ``CALL()``:`` each row begins with an error.
fn documented_errors() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut call = String::new();
    for text in patches() {
        for line in text.lines().filter_map(|line| line.strip_prefix('+')) {
            let line = line.trim_start();
            if let Some(rest) = line.strip_prefix("Errors of ``") {
                call = rest
                    .trim_end_matches("``:")
                    .trim_end_matches("()")
                    .to_owned();
            } else if let Some(error) = error_name(line) {
                found.insert((call.clone(), error));
            }
        }
    }
    assert!(found.len() > 100, "only {} errors", found.len());
    found
}

/// The error that a row of such a table begins with.
fn error_name(line: &str) -> Option<String> {
    let (error, _) = line.split_once("  ")?;
    let letters = error.chars().all(|c| c.is_ascii_uppercase() || c == '2');
    (error.starts_with('E') && error.len() > 3 && letters).then(|| error.to_owned())
}

/// The errors that tests have provoked, by results called `CALL: ERROR: what for`, of calls that have a
/// table.
fn provoked_errors(
    results: &str,
    documented: &BTreeSet<(String, String)>,
) -> BTreeSet<(String, String)> {
    let calls: BTreeSet<&str> = documented.iter().map(|(call, _)| call.as_str()).collect();
    results
        .lines()
        .filter_map(|line| {
            let (_, name) = line.strip_prefix("ok ")?.split_once(' ')?;
            let mut parts = name.split(": ");
            let (call, error) = (parts.next()?, parts.next()?);
            let known = calls.contains(call) && error.starts_with('E');
            known.then(|| (call.to_owned(), error.to_owned()))
        })
        .collect()
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
///
/// The demo sets deadlines, which a kernel that looks for its faults is too slow to meet. There it only
/// has something to look at.
#[test]
fn the_whole_demo_succeeds_on_it() {
    let program = keyns_tests::bin_dir().join("keyctl-ns");
    let script = format!(
        "code=0; {} demo --yes || code=$?; if dmesg | grep -E '{FAULTS}'; then exit 99; fi; exit $code",
        program.display()
    );
    let ran = lab::run_patched(&lab::patched(), &["bash", "-c", &script], PATIENCE);
    assert_ne!(ran.code, 99, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("of 20 steps ok\n"), "{}", ran.err);
    if !lab::is_debug() {
        assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
        assert!(
            ran.out.ends_with("\ndemo: 20 of 20 steps ok\n"),
            "{}\n{}",
            ran.out,
            ran.err
        );
    }
}

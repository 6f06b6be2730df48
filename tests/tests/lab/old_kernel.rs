//! Linux 6.1 is the oldest that is supported. It has neither `SO_PEERPIDFD` (6.5), by which the
//! daemon holds its callers, nor `PIDFD_THREAD` (6.9), by which a requester is held.

use std::process::Command;

use keyns_tests::instance::Ran;
use keyns_tests::{bin_dir, lab};
use serde_json::Value;

use crate::PATIENCE;

/// The test programs that tell who calls and who asks, and which of their tests.
const TESTS: [(&str, &[&str]); 4] = [
    // What the kernel has follows from its version.
    ("keyns_sys", &["kernel_probe::"]),
    ("front_door", &["identity::", "the_caller_is_known"]),
    ("upcall_program", &["places::", "a_request_arrives"]),
    ("upcalls", &["answers::"]),
];

/// Where the programs are, in the order of [`TESTS`], as cargo knows it.
fn programs() -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--locked", "--offline", "--no-run"])
        .args(["--lib", "--test", "front_door"])
        .args(["--test", "upcall_program", "--test", "upcalls"])
        .args(["--quiet", "--message-format=json"])
        .current_dir(lab::repository())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let messages: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|message: &Value| message["profile"]["test"] == true)
        .collect();
    let executable = |name: &str| {
        let named = messages.iter().find(|m| m["target"]["name"] == name);
        named.unwrap()["executable"].as_str().unwrap().to_owned()
    };
    TESTS.iter().map(|(name, _)| executable(name)).collect()
}

#[test]
fn the_whole_demo_succeeds() {
    let program = bin_dir().join("keyctl-ns");
    let Ran { out, err, code } = lab::run(&[program.to_str().unwrap(), "demo", "--yes"], PATIENCE);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.ends_with("\ndemo: 20 of 20 steps ok\n"), "{out}\n{err}");
}

#[test]
fn callers_and_requesters_are_known_by_other_means() {
    // One boot for all, and /sbin/request-key taken over once.
    let mut script = "uname -r\n".to_owned();
    for (program, (_, filters)) in programs().iter().zip(TESTS) {
        script += &format!("{program} {}\n", filters.join(" "));
    }
    let bin = bin_dir();
    let ran = lab::run(
        &[
            env!("CARGO_BIN_EXE_with-takeover"),
            bin.to_str().unwrap(),
            "bash",
            "-euc",
            &script,
        ],
        PATIENCE,
    );
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.starts_with("6.1."), "{}", ran.out);
    let passed: Vec<&str> = ran
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next())
        .collect();
    assert_eq!(passed.len(), TESTS.len(), "{}", ran.out);
    assert!(
        !passed.contains(&"0"),
        "a filter fits nothing:\n{}",
        ran.out
    );
}

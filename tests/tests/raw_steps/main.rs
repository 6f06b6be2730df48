//! The steps of the demo once more, without keyns: system calls from a program in C, varlink by
//! hand, `/proc` read here. What the kernel and the daemon answer to these must be what the demo
//! says they answered to it, so that it cannot claim what did not happen.
//!
//! Nothing of the crates of keyns is used, but for the program that takes over `/sbin/request-key`
//! for a run of the tests. The order of the steps is that of the demo.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod puppet;
mod steps;
mod varlink;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What was checked: step and check, and what was found there.
type Facts = BTreeMap<(String, String), String>;

/// The steps as the demo must play them.
const STEPS: [&str; 20] = [
    "features",
    "take-over",
    "container",
    "keyring",
    "add",
    "grant-refused",
    "grant",
    "use-inside",
    "isolated",
    "nested",
    "update",
    "ungrant",
    "upcall-identity",
    "agent-answers",
    "rejected",
    "wildcard-rule",
    "flood",
    "daemon-killed",
    "container-killed",
    "give-back",
];

/// Steps with a statement about security, which must have a control.
const WITH_CONTROL: [&str; 12] = [
    "container",
    "grant-refused",
    "isolated",
    "nested",
    "update",
    "ungrant",
    "upcall-identity",
    "agent-answers",
    "wildcard-rule",
    "flood",
    "daemon-killed",
    "container-killed",
];

fn programs() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/keyns-bin");
    std::env::var_os("KEYNS_BIN_DIR").map_or_else(|| default.into(), PathBuf::from)
}

/// Runs the demo; what it says it has found, and in which steps it had controls.
fn demo() -> (Facts, Vec<String>) {
    let output = Command::new(programs().join("keyctl-ns"))
        .args(["demo", "--yes", "--json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let records: Vec<Value> = text
        .split('\u{1e}')
        .filter(|record| !record.trim().is_empty())
        .map(|record| serde_json::from_str(record).unwrap())
        .collect();
    assert!(output.status.success(), "the demo failed: {said}");
    let (sum, steps) = records.split_last().unwrap();
    assert_eq!(
        (&sum["steps"], &sum["ok"]),
        (&20.into(), &20.into()),
        "{said}"
    );
    let names: Vec<&str> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(names, STEPS);
    let mut facts = Facts::new();
    let mut controlled = Vec::new();
    for step in steps {
        let name = step["step"].as_str().unwrap();
        let checks = step["checks"].as_array().unwrap();
        assert!(!checks.is_empty(), "step {name} checks nothing");
        for check in checks {
            assert_eq!(check["ok"], true, "{check}");
            assert_eq!(check["got"], check["expected"], "{check}");
            let key = (name.to_owned(), check["check"].as_str().unwrap().to_owned());
            assert!(
                facts
                    .insert(key, check["got"].as_str().unwrap().to_owned())
                    .is_none()
            );
            if check["control"] == true {
                controlled.push(name.to_owned());
            }
        }
    }
    (facts, controlled)
}

#[test]
fn the_same_steps_by_raw_system_calls_give_what_the_demo_shows() {
    const SELF: &str = "the_same_steps_by_raw_system_calls_give_what_the_demo_shows";
    if std::env::var_os("KEYNS_TAKEN_OVER").is_none() {
        // Alone, not as a part of all tests: taken over for this one.
        let status = Command::new(env!("CARGO_BIN_EXE_with-takeover"))
            .arg(programs())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", SELF, "--nocapture"])
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let (shown, controlled) = demo();
    for step in WITH_CONTROL {
        assert!(
            controlled.iter().any(|name| name == step),
            "step {step} has no control"
        );
    }
    let found = world::World::run(&programs(), steps::play);
    for step in STEPS {
        assert!(
            found.keys().any(|(name, _)| name == step),
            "step {step} was not played"
        );
    }
    for (check, value) in &found {
        let said = shown.get(check);
        assert_eq!(
            said,
            Some(value),
            "{check:?}: the demo says {said:?}, the kernel says {value:?}"
        );
    }
}

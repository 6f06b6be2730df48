//! The permanent installation behind `/sbin/request-key` on a Debian, where the kernel meets it.

use std::process::Command;

use keyns_tests::{bin_dir, lab};

use crate::PATIENCE;

/// A package's file.
pub(crate) fn package(name: &str) -> String {
    let output = Command::new("tools/lab/fetch.sh")
        .arg(name)
        .current_dir(lab::repository())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let directory = String::from_utf8(output.stdout).unwrap();
    format!("{}/package.deb", directory.trim_end())
}

fn run(machine: &str) -> String {
    let bin = bin_dir();
    let tests = env!("CARGO_BIN_EXE_interrupt").strip_suffix("/interrupt");
    let script = format!(
        "export PATH={}:{}:$PATH DEBS='{} {}' MACHINE={machine}\n\
         tests/tests/lab/install.sh",
        bin.display(),
        tests.unwrap(),
        package("libkeyutils1"),
        package("keyutils"),
    );
    let ran = lab::script(&script, PATIENCE);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    ran.out
}

/// How often the command was interrupted.
fn interruptions(said: &str, command: &str) -> u32 {
    said.lines()
        .find_map(|line| {
            line.strip_prefix(&format!("{command}: "))?
                .split(' ')
                .next()
        })
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn beside_keyutils_requests_are_answered_at_every_instant() {
    let said = run("with");
    // Five changes at least, as keyns/src/takeover/install.rs has them.
    assert!(interruptions(&said, "install") >= 5, "{said}");
    assert!(interruptions(&said, "uninstall") >= 4, "{said}");
    assert!(said.contains("container: served\n"), "{said}");
}

#[test]
fn without_keyutils_it_comes_and_goes_and_so_may_the_package() {
    let said = run("without");
    assert!(interruptions(&said, "install") >= 4, "{said}");
    assert!(interruptions(&said, "uninstall") >= 3, "{said}");
    assert!(said.ends_with("package: came and went\n"), "{said}");
}

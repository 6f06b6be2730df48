//! The program as a file, and started by hand.

use std::fs;
use std::process::Command;

use crate::program;

#[test]
fn the_program_needs_nothing_but_itself() {
    let content = fs::read(program()).unwrap();
    let number = |at: usize, bytes: usize| {
        content[at..at + bytes]
            .iter()
            .rev()
            .fold(0usize, |n, b| n << 8 | usize::from(*b))
    };
    // The ELF header of 64-bit files: table of segments at 32, size of one at 54, their number at 56.
    assert_eq!(&content[..5], b"\x7fELF\x02");
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|n| number(table + n * size, 4)).collect();
    let (load, dynamic, interpreter) = (1, 2, 3);
    assert!(kinds.contains(&load));
    assert!(
        !kinds.contains(&interpreter) && !kinds.contains(&dynamic),
        "{kinds:?}"
    );

    let root = tempfile::tempdir().unwrap();
    fs::copy(program(), root.path().join("keyns-upcall")).unwrap();
    let mut chroot = Command::new("chroot");
    let output = chroot
        .arg(root.path())
        .args(["/keyns-upcall", "--version"])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(", protocol 1\n"));
}

#[test]
fn started_by_hand_it_says_what_it_is_for() {
    let output = Command::new(program()).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.starts_with("usage: keyns-upcall create KEY UID GID") && text.lines().count() == 1
    );
}

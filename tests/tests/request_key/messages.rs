//! The command line, and who is told what.

use std::process::Command;

use keyns_tests::unique;

use crate::{Program, REQUEST, Scratch, libraries};

#[test]
fn command_lines_are_read_and_refused_alike() {
    let scratch = Scratch::with("create user * * /a %k %d %u %g\n");
    for words in [
        &[][..],
        &["-v"],
        &["-vn", "a", "b"],
        &["-n", "a"],
        &["-vn", "-x"],
        &["-vn", "-D"],
        &["-vnxyz", "-D"],
        &["-vn", "--help"],
        &["--version", "x"],
        &["-vn", "-"],
        &["-vn", "--", "-d"],
        &["-dlnv", "a", "b", "c", "d", "e", "f"],
        &["-dlnv", "a", "b", "c", "d", "e", "f", "g", "h", "i"],
    ] {
        let outcome = scratch.same(words);
        assert_eq!(outcome.status, Some(1), "{words:?}");
    }
    // Options between operands, in one word, after which there are none.
    for words in [
        &["create", "-d", "1", "0", "0", "-lnv", "7", "8", "9", "x"][..],
        &[
            "-dlnDuser;1;2;3;abc",
            "-v",
            "create",
            "1",
            "0",
            "0",
            "7",
            "8",
            "9",
            "x",
        ],
        &[
            "-dlnD",
            "user;1;2;3;abc",
            "-v",
            "create",
            "1",
            "0",
            "0",
            "7",
            "8",
            "9",
            "x",
        ],
        &["-dlnv", "--", "create", "1", "-5", "0", "7", "8", "9", "x"],
        &["-dlnv", "create", "1", "-5", "0", "7", "8", "9", "x"],
        &["-dlnvvv", "create", "1", "5", "0", "7", "8", "9", ""],
        &["-ln", "create", "1", "5", "0", "7", "8", "9", ""],
    ] {
        scratch.same(words);
    }
}

#[test]
fn descriptions_given_for_debugging_are_taken_apart_alike() {
    let scratch = Scratch::with("create * * * /a %t %d\n");
    for description in [
        "user;1;2;3;abc",
        "user;1;2;3",
        "user;1;2;3;",
        "user;1;2",
        "user;-1;-2;3f010000;x",
        ";1;2;3;x",
        "",
        "user",
        "user;x;y;z;ab",
        "user;1;2;3;a;b;c",
        "keyring;0;0;ffffffff;_ses",
        "user;0;0;0;with spaces and \t tab",
        "user;0;0;0;line\nbreak",
    ] {
        scratch.dry(&[&["-D", description], &REQUEST[..]].concat());
    }
}

#[test]
fn keys_that_do_not_exist_are_told_alike() {
    let scratch = Scratch::with("create user * * /a\n");
    for key in ["123", "0", "x", "-77", "2147483647"] {
        let request = ["--", "create", key, "0", "0", "7", "8", "9"];
        scratch.same(&[&["-lnv"], &request[..]].concat());
        scratch.same(&[&["-lnv"], &request[..], &["callout"]].concat());
        scratch.same(&[&["-dlnv"], &request[..]].concat());
        // Without -v nothing is said to anybody here.
        let quiet = scratch.same(&[&["-ln"], &request[..]].concat());
        assert_eq!((quiet.status, quiet.stderr.as_str()), (Some(1), ""));
    }
}

#[test]
fn ids_from_two_to_the_31_are_no_options() {
    let scratch = Scratch::new();
    let words = ["create", "123", "-2147483643", "-2", "0", "0", "9"];
    let ours = scratch.run(Program::Ours, &words);
    assert_eq!((ours.status, ours.stderr.as_str()), (Some(1), ""));
    let theirs = scratch.run(Program::Stock, &words);
    assert!(
        theirs.stderr.contains("invalid option -- '2'"),
        "{theirs:?}"
    );
}

#[test]
fn each_says_which_program_it_is() {
    let scratch = Scratch::new();
    let [ours, theirs] = Program::BOTH.map(|program| scratch.run(program, &["--version"]));
    assert!(ours.stdout.starts_with("keyns-request-key "), "{ours:?}");
    assert!(
        theirs.stdout.starts_with("request-key from keyutils-"),
        "{theirs:?}"
    );
    assert_eq!((ours.status, theirs.status), (Some(0), Some(0)));
}

/// What arrives at `/dev/log`, which is there for this one program only.
fn logged(program: Program, scratch: &Scratch, words: &[&str]) -> Vec<String> {
    let listen = r#"
import os, socket, subprocess, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind('/dev/log')
# It need not fit: nobody reads before the program has ended.
log.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
subprocess.run(['request-key'] + sys.argv[2:], executable=sys.argv[1], stderr=subprocess.DEVNULL)
log.setblocking(False)
try:
    while True:
        sys.stdout.buffer.write(log.recv(1 << 16).rstrip(b'\n') + b'\n')
except BlockingIOError:
    pass
"#;
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"";
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
    ]);
    command
        .args(["python3", "-c", listen])
        .arg(program.path())
        .args(words);
    command.env("LD_LIBRARY_PATH", libraries());
    let output = command.current_dir(scratch.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(without_time).collect()
}

/// `<83>Nov 24 22:20:39 request-key: text` without the time, which ours leaves to the log.
fn without_time(line: &str) -> String {
    match line.split_once('>') {
        Some((priority, rest)) if !rest.starts_with("request-key: ") => {
            format!("{priority}>{}", rest.get(16..).unwrap_or(rest))
        }
        _ => line.to_owned(),
    }
}

#[test]
fn the_log_of_the_system_gets_the_same_messages() {
    let scratch = Scratch::with("#\ncreate user other * /a\ncreate user * fails /a %z\n");
    let request = |callout| ["create", "123", "0", "0", "7", "8", "9", callout];
    let both = |words: &[&str]| Program::BOTH.map(|program| logged(program, &scratch, words));

    let [ours, theirs] = both(&["a", "b"]);
    assert_eq!(ours, ["<83>request-key: Unexpected argument count: 2"]);
    assert_eq!(ours, theirs);
    let [ours, theirs] = both(&[&["-dl"], &request("x")[..]].concat());
    assert_eq!(ours, ["<83>request-key: : No matching action"]);
    assert_eq!(ours, theirs);
    let [ours, theirs] = both(&[&["-dlv"], &request("x")[..]].concat());
    assert!(ours.contains(&"<87>request-key: CALLOUT: 'x'".to_owned()));
    assert_eq!(ours, theirs);
    let [ours, theirs] = both(&[&["-dl"], &request("fails")[..]].concat());
    assert_eq!(
        ours,
        ["<83>request-key: request-key.conf:3: Unsupported macro"]
    );
    assert_eq!(theirs, ["<83>request-key: :4: Unsupported macro"]);
    for words in [&["-dln"][..], &["-dlnv"]] {
        let [ours, theirs] = both(&[words, &request("x")[..]].concat());
        assert!(ours.is_empty() && theirs.is_empty(), "{ours:?} {theirs:?}");
    }
}

#[test]
fn the_callout_information_is_not_logged_unasked() {
    let canary = unique("canary");
    let scratch = Scratch::with("create user * * /nonexistent/program %c\n");
    let key = crate::handlers::some_key();
    let words = ["-l", "create", &key, "0", "0", "7", "8", "9", &canary];
    let ours = logged(Program::Ours, &scratch, &words);
    assert_eq!(
        ours,
        [
            "<83>request-key: request-key.conf:1: Failed to execute '/nonexistent/program': \
          No such file or directory"
        ]
    );
}

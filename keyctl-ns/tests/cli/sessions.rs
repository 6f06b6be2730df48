//! `session` and `new_session`.

use std::process::Command;

use crate::session::{Session, run};
use insta::assert_snapshot;

const BINARY: &str = env!("CARGO_BIN_EXE_keyctl-ns");

/// A shell of one thread, as the parent of what it starts.
fn shell(script: &str) -> crate::session::Output {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).env("K", BINARY);
    run(command, b"")
}

#[test]
fn a_program_runs_in_a_session_keyring_of_its_own() {
    let session = Session::new();
    let output = session.run(["session", "-", BINARY, "id", "@s"]);
    assert_eq!(output.code, 0, "{output}");
    let inner: i32 = output.stdout().trim().parse().unwrap();
    assert_ne!(inner, session.keyring().raw());
    assert_eq!(
        output.stderr(),
        format!("note: joined session keyring {inner}\n")
    );
    let silent = session.run(["--quiet", "session", "-", "true"]);
    assert_eq!((silent.code, silent.stderr()), (0, ""));
}

#[test]
fn a_session_keyring_has_the_name_it_is_given() {
    let session = Session::new();
    let arguments = [
        "session",
        "keyns-test-named",
        BINARY,
        "describe",
        "@s",
        "--json",
    ];
    let json = session.run(arguments).json();
    assert_eq!(json["description"], "keyns-test-named");
}

#[test]
fn options_after_the_name_belong_to_the_program_and_so_does_the_exit_code() {
    let session = Session::new();
    let output = session.run([
        "session",
        "-",
        "sh",
        "-c",
        "echo $0 $1; exit 7",
        "--json",
        "-q",
    ]);
    assert_eq!((output.code, output.stdout()), (7, "--json -q\n"));
}

#[test]
fn without_a_program_the_shell_of_the_environment_is_run() {
    let session = Session::new();
    let mut command = session.command(["session"]);
    command.env("SHELL", "/bin/sh");
    let output = run(command, b"echo $0");
    assert_eq!((output.code, output.stdout()), (0, "/bin/sh\n"));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let session = Session::new();
    let output = session.run(["-q", "session", "-", "keyns-no-such-program"]);
    assert_snapshot!(output, @r"
    error: cannot run “keyns-no-such-program”
      cause: No such file or directory
      hint: give its path, or look at $PATH
    [1]
    ");
}

#[test]
fn a_session_has_no_json_and_no_empty_or_reserved_name() {
    let session = Session::new();
    assert_snapshot!(session.run(["--json", "session", "-", "true"]), @r#"
    {"schema_version":1,"error":{"kind":"usage","exit_code":2,"message":"cannot print JSON here","cause":"the output is that of the program","hint":"in the session: keyctl-ns describe @s --json"}}
    [2]
    "#);
    assert_eq!(session.run(["session", "", "true"]).code, 2);
    let long = "n".repeat(4096);
    assert_eq!(session.run(["session", &long, "true"]).code, 2);
    assert_eq!(session.run(["session", ".keyns", "true"]).code, 3);
}

#[test]
fn a_new_session_is_that_of_the_calling_process() {
    let _session = Session::new();
    let output = shell(r#""$K" id @s; "$K" new_session; "$K" id @s"#);
    let lines: Vec<&str> = output.stdout().lines().collect();
    let [before, made, after] = lines[..] else {
        panic!("{output}")
    };
    assert_ne!(before, after, "{output}");
    assert!(made.starts_with(&format!("{after}  keyring: ")), "{output}");
    let output = shell(r#""$K" new-session keyns-test-new --json"#);
    assert_eq!(output.json()["description"], "keyns-test-new", "{output}");
}

#[test]
fn a_process_with_several_threads_gets_no_session() {
    let session = Session::new();
    let wait = std::sync::Barrier::new(2);
    std::thread::scope(|threads| {
        // Harnesses that run one test at a time have but one thread.
        threads.spawn(|| wait.wait());
        assert_snapshot!(session.run(["new_session"]), @r"
        error: cannot give the session keyring to the calling process
          cause: it has several threads, other ids than you, or is PID 1
          hint: start a program in a session keyring instead: keyctl-ns session - PROGRAM
        [3]
        ");
        wait.wait();
    });
}

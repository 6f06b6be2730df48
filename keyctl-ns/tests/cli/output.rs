//! Streams, JSON, colours and pipes.

use std::io::Read as _;
use std::process::Stdio;

use crate::session::Session;

#[test]
fn without_a_daemon_the_socket_is_named_and_the_code_is_6() {
    let session = Session::new();
    insta::assert_snapshot!(session.run(["container", "list"]), @r"
    error: cannot reach keynsd at /run/keyns/no-such-instance/keynsd
      cause: there is no such socket
      hint: start it as root: keynsd --instance no-such-instance; or say where keynsd listens with --instance or --socket
    [6]
    ");
    let commands: [&[&str]; 6] = [
        &["container", "list"],
        &["upcalls"],
        &["agent", "list"],
        &["describe", "web/user:x"],
        &["intercept", "list"],
        &["watch"],
    ];
    for arguments in commands {
        let output = session.run(arguments);
        assert_eq!(output.code, 6, "{output}");
        assert!(
            output
                .stderr()
                .contains("/run/keyns/no-such-instance/keynsd"),
            "{output}"
        );
        assert!(
            output.stderr().contains("hint: start it as root: keynsd"),
            "{output}"
        );
    }
}

#[test]
fn features_of_the_kernel_are_shown_without_a_daemon() {
    let session = Session::new();
    let output = session.run(["features", "--json"]);
    assert_eq!(output.code, 0, "{output}");
    assert!(
        output
            .stderr()
            .contains("only what the kernel has is shown"),
        "{output}"
    );
    let json = output.json();
    assert_eq!(json["daemon"], false);
    assert!(json["features"].as_array().unwrap().len() > 3, "{json}");
}

#[test]
fn an_error_in_json_is_one_object_on_standard_error() {
    let session = Session::new();
    let output = session.run(["--json", "container", "list"]);
    assert_eq!(output.stdout(), "");
    let json = output.json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["error"]["kind"], "unreachable");
    assert_eq!(json["error"]["exit_code"], 6);
    assert!(json["error"]["hint"].is_string());
    let usage = session.run(["--json", "frob"]).json();
    assert_eq!(usage["error"]["kind"], "usage");
    let key = session.run(["--json", "read", "2147483647"]).json();
    assert_eq!(key["error"]["errno"], 126);
}

#[test]
fn every_json_result_has_its_schema_version() {
    let session = Session::new();
    session.add("token", b"x");
    let commands: [&[&str]; 6] = [
        &["list"],
        &["tree"],
        &["describe", "%user:token"],
        &["acl", "%user:token"],
        &["read", "%user:token"],
        &["request", "user", "token"],
    ];
    for arguments in commands {
        let output = session.run(arguments.iter().chain(&["--json"]));
        assert_eq!(output.json()["schema_version"], 1, "{output}");
        assert_eq!(output.stdout().lines().count(), 1);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let session = Session::new();
    let mut long = session.add("token", &[b'x'; 32_000]).to_string();
    long.insert_str(0, "read ");
    let mut child = session
        .command(long.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Closed before anything is read: the pipe holds less than the payload at times, or nothing.
    drop(child.stdout.take());
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert_eq!(stderr, "");
}

#[test]
fn a_full_device_is_a_failure() {
    let session = Session::new();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = session.command(["tree"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn colours_are_used_when_asked_for_and_never_otherwise() {
    let session = Session::new();
    session.add("token", b"x");
    assert!(
        session
            .run(["list", "--color", "always"])
            .stdout()
            .contains('\x1b')
    );
    assert!(
        !session
            .run(["list", "--color", "never"])
            .stdout()
            .contains('\x1b')
    );
    assert!(!session.run(["list"]).stdout().contains('\x1b'));
    assert!(!session.run(["frob"]).stderr().contains('\x1b'));
}

#[test]
fn quiet_keeps_notes_back_but_not_errors() {
    let session = Session::new();
    let key = session.add("token", b"x");
    keyns_sys::key::set_perm(key, 0x3f03_0301).unwrap();
    let output = session.run(["--quiet", "ungrant", "%user:token", "group"]);
    assert_eq!(output.stderr(), "");
    assert_ne!(session.run(["--quiet", "frob"]).stderr(), "");
}

#[test]
fn a_payload_never_appears_in_any_error() {
    let session = Session::new();
    for arguments in [
        &["add", "nonsense", "x"][..],
        &["add", "keyring", "x", "--fd", "0"],
        &["update", "2147483647"],
    ] {
        let output = session.run_with(arguments, b"canary-81fe");
        assert_ne!(output.code, 0, "{output}");
        assert!(!output.to_string().contains("canary-81fe"));
    }
}

//! What wrong input gets: a sentence, a hint, and the documented exit code.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::session::Session;
use insta::assert_snapshot;

#[test]
fn an_unknown_right_is_answered_with_those_there_are() {
    let session = Session::new();
    assert_snapshot!(session.run(["grant", "@s", "owner", "view,fly"]), @r"
    error: cannot use “view,fly” as RIGHTS
      cause: unknown right “fly”; the rights are view (v), read (r), write (w), search (s), link (l), setsec (S), inval (I), revoke (R), join (j), clear (c)
      hint: keyctl-ns grant --help
    [2]
    ");
}

#[test]
fn an_unknown_subject_is_answered_with_those_there_are() {
    let session = Session::new();
    assert_snapshot!(session.run(["grant", "@s", "wheel", "view"]), @r"
    error: cannot use “wheel” as SUBJECT
      cause: unknown subject “wheel”; the subjects are possessor, owner, group, everyone, container:NAME
      hint: keyctl-ns grant --help
    [2]
    ");
}

#[test]
fn an_unknown_type_is_said_to_be_one() {
    let session = Session::new();
    let output = session.run_with(["add", "nonsense", "x"], b"x");
    assert_snapshot!(output.with(session.keyring(), "SESSION"), @r"
    error: cannot add key “nonsense: x” to keyring SESSION
      cause: the kernel does not know this type of key
    [1]
    ");
}

#[test]
fn an_unknown_command_is_corrected() {
    let session = Session::new();
    assert_snapshot!(session.run(["descibe", "@s"]), @r"
    error: unknown command “descibe”
      hint: did you mean describe or rdescribe?
    [2]
    ");
}

#[test]
fn an_unknown_flag_names_the_help_of_its_command() {
    let session = Session::new();
    assert_snapshot!(session.run(["container", "run", "web", "--frobnicate", "--", "true"]), @r"
    error: unknown argument “--frobnicate”
      hint: keyctl-ns container run --help
    [2]
    ");
}

#[test]
fn container_names_of_wrong_length_or_with_wrong_bytes_are_refused_before_the_daemon_is_asked() {
    let session = Session::new();
    let long = "n".repeat(24);
    let longer = "n".repeat(4096);
    let names: [(&[u8], &str); 9] = [
        (b"", "at least one character"),
        (long.as_bytes(), "at most 23 bytes, this one has 24"),
        (longer.as_bytes(), "this one has 4096"),
        (b"a/b", "“/” at byte 1"),
        (b"a..b", "at least one character"),
        (b"<a", "cannot begin with “<”"),
        (b"a\x1bb", "control character 0x1b"),
        (b"a\nb", "control character 0x0a"),
        (b"a\xffb", "not UTF-8"),
    ];
    for (name, cause) in names {
        let output = session.run([
            OsStr::new("container"),
            OsStr::new("show"),
            OsStr::from_bytes(name),
        ]);
        assert_eq!(output.code, 2, "{output}");
        assert!(output.stderr().contains(cause), "{cause}: {output}");
        assert!(
            !output.stderr().trim_end_matches('\n').contains('\x1b'),
            "{output}"
        );
        assert!(output.stderr().len() < 400, "{output}");
    }
}

#[test]
fn descriptions_that_no_key_can_have_are_refused() {
    let session = Session::new();
    let output = session.run_with(["add", "user", ""], b"x");
    assert_eq!(output.code, 2);
    assert!(
        output.stderr().contains("the description is empty"),
        "{output}"
    );
    let output = session.run_with(["add", "user", &"d".repeat(4096)], b"x");
    assert_eq!(output.code, 2);
    assert!(
        output
            .stderr()
            .contains("4096 bytes, the most a key can have is 4095"),
        "{output}"
    );
    assert_eq!(
        session
            .run_with(["add", "user", &"d".repeat(4095)], b"x")
            .code,
        0
    );
}

#[test]
fn payloads_beyond_the_limit_of_all_keys_are_not_even_sent() {
    let session = Session::new();
    let output = session.run_with(["add", "user", "x"], &vec![b'x'; 1024 * 1024]);
    assert_eq!(output.code, 1);
    assert!(
        output.stderr().contains("longer than 1048575 bytes"),
        "{output}"
    );
}

#[test]
fn standard_input_without_end_is_given_up() {
    let session = Session::new();
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let output = session
        .command(["add", "user", "x"])
        .stdin(zero)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn payloads_beyond_the_limit_of_the_type_say_what_the_limit_is() {
    let session = Session::new();
    for (type_, description, length) in [
        ("user", "x", 0),
        ("user", "x", 32_768),
        ("logon", "a:x", 40_000),
    ] {
        let output = session.run_with(["add", type_, description], &vec![b'x'; length]);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stderr().contains("1 to 32767 bytes"), "{output}");
        assert!(
            output
                .stderr()
                .contains(&format!("this payload has {length}")),
            "{output}"
        );
    }
    assert_eq!(
        session.run_with(["add", "user", "x"], &[b'x'; 32_767]).code,
        0
    );
}

#[test]
fn a_type_that_only_the_kernel_may_use_is_denied() {
    let session = Session::new();
    let output = session.run_with(["add", ".request_key_auth", "x"], b"x");
    assert_eq!(output.code, 3, "{output}");
}

#[test]
fn a_logon_key_cannot_be_read() {
    let session = Session::new();
    session.run_with(["add", "logon", "app:secret"], b"canary-5d1c");
    let output = session.run(["read", "%logon:app:secret"]);
    assert_ne!(output.code, 0);
    assert!(!output.to_string().contains("canary-5d1c"));
    assert!(
        output.stderr().contains("keys of this type cannot be read"),
        "{output}"
    );
}

#[test]
fn a_key_that_does_not_exist_is_code_4() {
    let session = Session::new();
    for arguments in [
        &["describe", "%user:none"][..],
        &["read", "2147483647"],
        &["invalidate", "0x7ffffffe"],
    ] {
        let output = session.run(arguments);
        assert_eq!(output.code, 4, "{output}");
        assert!(output.stderr().starts_with("error: cannot "), "{output}");
    }
}

#[test]
fn a_key_that_died_since_it_was_found_is_code_4() {
    let session = Session::new();
    let key = session.add("short", b"x").to_string();
    assert_eq!(session.run(["invalidate", &key]).code, 0);
    for command in ["read", "invalidate"] {
        let output = session.run([command, &key]);
        assert_eq!(output.code, 4, "{output}");
    }
}

#[test]
fn what_the_mask_forbids_is_code_3_and_names_the_right() {
    let session = Session::new();
    let key = session.add("mine", b"x");
    keyns_sys::key::set_perm(key, 0x0101_0000).unwrap();
    let output = session.run_with(["update", &key.to_string()], b"y");
    assert_eq!(output.code, 3, "{output}");
    assert!(
        output.stderr().contains("it needs WRITE on the key"),
        "{output}"
    );
}

#[test]
fn a_key_that_is_no_keyring_cannot_be_listed() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let output = session.run(["list", "%user:token"]);
    assert_snapshot!(output.with(key, "KEY"), @r"
    error: cannot list keyring KEY
      cause: it is a key, not a keyring
      hint: keyctl-ns describe KEY
    [1]
    ");
}

#[test]
fn every_way_to_write_a_key_wrongly_is_explained() {
    let session = Session::new();
    for (key, cause) in [
        ("", "a key is missing"),
        ("@x", "unknown special keyring"),
        ("%user", "written %TYPE:DESC"),
        ("0", "no key has the number 0"),
        ("99999999999", "no key has that number"),
        ("0b6ec455", "needs 0x in front"),
        ("web/", "CONTAINER/TYPE:DESC or CONTAINER/SERIAL"),
        ("web/-3", "a special keyring belongs to a thread"),
        ("/user:a", "at least one character"),
    ] {
        let output = session.run(["describe", key]);
        assert_eq!(output.code, 2, "{output}");
        assert!(output.stderr().contains(cause), "{cause}: {output}");
    }
}

#[test]
fn special_keyrings_can_be_written_as_negative_numbers() {
    let session = Session::new();
    let output = session.run(["describe", "-3", "--json"]);
    assert_eq!(output.json()["serial"], session.keyring().raw(), "{output}");
}

#[test]
fn containers_and_own_keyrings_are_not_mixed() {
    let session = Session::new();
    session.add("token", b"x");
    let output = session.run(["move", "%user:token", "@s", "web"]);
    assert_eq!(output.code, 2, "{output}");
    let output = session.run(["move", "web/user:token", "db", "web"]);
    assert_eq!(output.code, 2, "{output}");
    let output = session.run(["list", "web/user:token"]);
    assert_eq!(output.code, 2, "{output}");
}

#[test]
fn options_that_contradict_each_other_are_named() {
    let session = Session::new();
    assert_snapshot!(session.run(["intercept", "web", "user", "--to", "q", "--reject", "ENOKEY"]), @r"
    error: --to QUEUE and --reject ERRNO[:TIME] exclude each other
      hint: keyctl-ns intercept --help
    [2]
    ");
    let output = session.run(["container", "create", "web", "--pid", "--root", "usr"]);
    assert_eq!(output.code, 2);
    assert!(
        output.stderr().contains("needs a mount namespace"),
        "{output}"
    );
    let output = session.run(["container", "run", "web", "--json", "--", "true"]);
    assert_eq!(output.code, 2);
    assert!(output.stderr().contains("--detach"), "{output}");
}

#[test]
fn the_hosts_root_is_no_root_directory() {
    let session = Session::new();
    let output = session.run(["container", "create", "web", "--root", "/"]);
    assert_eq!(output.code, 2, "{output}");
    assert!(
        output
            .stderr()
            .contains("cannot be the root of a container"),
        "{output}"
    );
}

#[test]
fn a_request_is_rerouted_to_exactly_one_place() {
    let session = Session::new();
    for arguments in [
        &[][..],
        &["--to", "a", "--agent", "b"],
        &["--any-agent", "--agent", "b"],
        &["--agent", ""],
        &["--to", ""],
        &["--to", "a", "--deadline", "61s"],
        &["--to", "a", "--deadline", "soon"],
    ] {
        let output = session.run([&["reroute", "7"], arguments].concat());
        assert_eq!(output.code, 2, "{arguments:?}: {output}");
    }
    assert_eq!(session.run(["reroute", "seven", "--to", "a"]).code, 2);
}

#[test]
fn an_answer_needs_exactly_one_response() {
    let session = Session::new();
    assert_eq!(session.run(["answer", "7"]).code, 2);
    assert_eq!(
        session
            .run(["answer", "7", "--negate", "5", "--from-keyring"])
            .code,
        2
    );
    assert_eq!(session.run(["answer", "7", "--reject", "5"]).code, 2);
    for values in [["5", "ENOSUCH"], ["0", "ENOKEY"], ["61", "ENOKEY"]] {
        let output = session.run(["answer", "7", "--reject", values[0], values[1]]);
        assert_eq!(output.code, 2, "{output}");
    }
}

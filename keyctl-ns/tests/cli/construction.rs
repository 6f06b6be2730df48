//! `instantiate`, `pinstantiate`, `negate`, `reject` where there is no request to answer. That they
//! answer one shows only in a program that the kernel starts.

use crate::session::Session;
use insta::assert_snapshot;

#[test]
fn without_authority_over_a_request_nothing_is_answered() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let name = key.to_string();
    let output = session.run_with(["pinstantiate", &name, "@s"], b"canary-f7");
    assert_snapshot!(output.with(key, "KEY"), @r"
    error: cannot instantiate key KEY
      cause: you have no authority over a request for it
      hint: only the program that the kernel started for the request has it; keyctl-ns upcalls shows what waits with keynsd
    [3]
    ");
    for words in [
        &["instantiate", &name][..],
        &["instantiate", &name, "canary-f8", "0"],
        &["pinstantiate", "-x", &name],
        &["negate", &name, "30"],
        &["negate", &name, "30s", "@s"],
        &["reject", &name, "1m", "EACCES"],
        &["reject", &name, "30", "expired", "0"],
    ] {
        let output = session.run_with(words, b"0badc0de");
        assert_eq!((output.code, output.stdout()), (3, ""), "{output}");
        assert!(
            output.stderr().contains("no authority over a request"),
            "{output}"
        );
        assert!(!output.stderr().contains("canary"), "{output}");
    }
    assert_eq!(keyns_sys::key::read(key).unwrap(), b"x");
}

#[test]
fn what_makes_no_answer_is_refused_before_the_kernel_is_asked() {
    let session = Session::new();
    let key = session.add("token", b"x").to_string();
    for (words, code) in [
        (&["instantiate", &key, "data"][..], 2),
        (&["instantiate", "%user:none"], 4),
        (&["pinstantiate", &key, "%:none"], 4),
        (&["pinstantiate", &key, "web/keyring:r"], 2),
        (&["negate", &key], 2),
        (&["negate", &key, "-1"], 2),
        (&["negate", &key, "5x"], 2),
        (&["reject", &key, "30", "ENOSUCH"], 2),
        (&["reject", &key, "30", "0"], 2),
        (&["reject", &key, "30", "4096"], 2),
    ] {
        let output = session.run(words);
        assert_eq!((output.code, output.stdout()), (code, ""), "{output}");
    }
    assert_snapshot!(session.run(["negate", "web/user:x", "30"]), @r"
    error: cannot use key web/user:x here
      cause: it belongs to container “web”; this needs a key or keyring of your own
      hint: keyctl-ns upcalls shows the requests of containers, and keyctl-ns answer answers them
    [2]
    ");
}

#[test]
fn a_payload_on_the_command_line_is_warned_of_here_too() {
    let session = Session::new();
    let key = session.add("token", b"x").to_string();
    let output = session.run(["instantiate", &key, "canary-f9", "0"]);
    assert!(
        output
            .stderr()
            .contains("warning: a payload on the command line"),
        "{output}"
    );
}

//! Commands by the beginning of their name.

use crate::session::Session;
use insta::assert_snapshot;

#[test]
fn a_command_can_be_shortened_while_only_one_begins_so() {
    let session = Session::new();
    let output = session.run(["desc", "@s", "--json"]);
    assert_eq!(output.json()["serial"], session.keyring().raw(), "{output}");
}

#[test]
fn an_ambiguous_beginning_is_answered_with_what_it_may_be() {
    let session = Session::new();
    assert_snapshot!(session.run(["req", "user", "x"]), @r"
    error: ambiguous command “req”
      cause: it may be request, request2
      hint: write enough of it, or keyctl-ns --help
    [2]
    ");
}

#[test]
fn two_letters_are_no_command() {
    let session = Session::new();
    let output = session.run(["de", "@s"]);
    assert_eq!(output.code, 2, "{output}");
    assert!(output.stderr().contains("unknown command “de”"), "{output}");
}

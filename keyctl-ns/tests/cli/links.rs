//! Keyrings and what they hold: `newring`, `link`, `unlink`, `search`, `clear`.

use crate::session::{Session, more_than_the_quota};
use insta::assert_snapshot;
use keyns_sys::KeySerial;
use keyns_sys::key as sys;

#[test]
fn newring_makes_a_keyring_where_it_is_asked_to() {
    let session = Session::new();
    assert_eq!(session.run(["newring", "outer"]).code, 0);
    let made = session
        .run(["newring", "inner", "%:outer", "--json"])
        .json();
    assert_eq!(made["type"], "keyring");
    assert_eq!(made["description"], "inner");
    let outer = sys::search(session.keyring(), c"keyring", c"outer", KeySerial::NONE).unwrap();
    let inner: Vec<i32> = sys::read_keyring(outer)
        .unwrap()
        .iter()
        .map(|k| k.raw())
        .collect();
    assert_eq!(inner, [made["serial"].as_i64().unwrap() as i32]);
}

#[test]
fn newring_says_what_is_wrong_with_where_it_should_go() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["newring", "ring", "%user:token"]).with(key, "KEY"), @r"
    error: cannot add key “keyring: ring” to keyring KEY
      cause: it is not a keyring
    [1]
    ");
    assert_eq!(session.run(["newring", "ring", "%:none"]).code, 4);
    assert_eq!(session.run(["newring", "ring", "web/user:x"]).code, 2);
    assert_eq!(session.run(["newring", ""]).code, 2);
}

#[test]
fn a_linked_key_is_in_both_keyrings() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let ring = session.ring("ring");
    assert_snapshot!(session.run(["link", "%user:token", "%:ring"]), @r"
    key %user:token is linked into keyring %keyring:ring
    [0]
    ");
    assert_eq!(sys::read_keyring(ring).unwrap(), [key]);
    let json = session
        .run(["link", "%user:token", "%:ring", "--json"])
        .json();
    assert_eq!(json["key"]["serial"], key.raw());
    assert_eq!(json["keyring"]["serial"], ring.raw());
    assert_eq!(json["links"], 1);
}

#[test]
fn what_cannot_be_linked_is_explained() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let outer = session.ring("outer");
    let inner = sys::add_key(c"keyring", c"inner", b"", outer).unwrap();
    let output = session.run(["link", "%user:token", "%user:token"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr().contains("it is not a keyring"), "{output}");
    let output = session.run(["link", &outer.to_string(), &inner.to_string()]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr().contains("would contain itself"), "{output}");
    assert_eq!(session.run(["link", "%user:none", "@s"]).code, 4);
    assert_eq!(session.run(["link", "2147483647", "@s"]).code, 4);
    // Neither the possessor nor anybody else may link it.
    sys::set_perm(key, 0x2f0f_0000).unwrap();
    assert_snapshot!(session.run(["link", "%user:token", "%:outer"]), @r"
    error: cannot link key %user:token into keyring %keyring:outer
      cause: the permissions do not allow it: it needs LINK on the key and WRITE on the keyring
    [3]
    ");
}

#[test]
fn a_key_of_a_container_cannot_be_linked_and_the_hint_says_what_can_be_done() {
    let session = Session::new();
    assert_snapshot!(session.run(["link", "web/user:token", "@s"]), @r"
    error: cannot use key web/user:token here
      cause: it belongs to container “web”; this needs a key or keyring of your own
      hint: give it to a container with keyctl-ns grant, take it back with ungrant
    [2]
    ");
    assert_eq!(session.run(["unlink", "web/user:token"]).code, 2);
    assert_eq!(session.run(["clear", "web/keyring:r"]).code, 2);
    assert_eq!(
        session.run(["search", "web/keyring:r", "user", "x"]).code,
        2
    );
}

#[test]
fn unlink_removes_one_link() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let ring = session.ring("ring");
    sys::link(key, ring).unwrap();
    assert_snapshot!(session.run(["unlink", "%user:token", "@s"]), @r"
    key %user:token is not in keyring @s any more
    [0]
    ");
    assert_eq!(sys::read_keyring(session.keyring()).unwrap(), [ring]);
    assert_eq!(sys::read_keyring(ring).unwrap(), [key]);
    assert_snapshot!(session.run(["unlink", &key.to_string(), "@s"]).with(key, "KEY"), @r"
    error: cannot take key KEY out of keyring @s
      cause: the keyring has no link to the key
    [1]
    ");
}

#[test]
fn unlink_without_a_keyring_removes_every_link() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let ring = session.ring("ring");
    sys::link(key, ring).unwrap();
    let json = session.run(["unlink", "%user:token", "--json"]).json();
    assert_eq!(json["links"], 2);
    assert_eq!(json["key"]["description"], "token");
    assert_eq!(sys::read_keyring(ring).unwrap(), []);
    assert_snapshot!(session.run(["unlink", &ring.to_string()]).with(ring, "RING"), @r"
    1 link to key RING is removed
    [0]
    ");
}

#[test]
fn a_link_that_must_stay_is_named() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let ring = session.ring("ring");
    sys::link(key, ring).unwrap();
    sys::set_perm(ring, 0x3b3b_0000).unwrap();
    let output = session.run(["unlink", "%user:token"]);
    assert_eq!(output.code, 3, "{output}");
    assert_snapshot!(output.with(ring, "RING"), @r"
    1 link to key %user:token is removed
    error: cannot remove every link to key %user:token: keyring RING keeps it
      cause: the permissions do not allow it: it needs WRITE on the keyring
    [3]
    ");
    assert_eq!(sys::read_keyring(ring).unwrap(), [key]);
}

#[test]
fn search_finds_below_a_keyring_and_links_where_it_is_asked_to() {
    let session = Session::new();
    let ring = session.ring("ring");
    let key = sys::add_key(c"user", c"token", b"x", ring).unwrap();
    assert_snapshot!(session.run(["search", "@s", "user", "token"]).with(key, "KEY"), @r"
    KEY  user: token
    [0]
    ");
    let other = session.ring("other");
    let json = session
        .run(["search", "%:ring", "user", "token", "%:other", "--json"])
        .json();
    assert_eq!(json["serial"], key.raw());
    assert_eq!(sys::read_keyring(other).unwrap(), [key]);
}

#[test]
fn a_search_that_finds_nothing_is_code_4_and_looks_nowhere_else() {
    let session = Session::new();
    session.add("token", b"x");
    session.ring("ring");
    assert_snapshot!(session.run(["search", "%:ring", "user", "token"]), @r"
    error: cannot find key “user: token” in keyring %keyring:ring
      cause: no such key was found
    [4]
    ");
    let output = session.run(["search", "%user:token", "user", "token"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr().contains("it is not a keyring"), "{output}");
    assert_eq!(session.run(["search", "@s", "user", ""]).code, 2);
}

#[test]
fn clear_empties_a_keyring() {
    let session = Session::new();
    let ring = session.ring("ring");
    sys::add_key(c"user", c"token", b"x", ring).unwrap();
    assert_snapshot!(session.run(["clear", "%:ring"]), @r"
    keyring %keyring:ring is empty
    [0]
    ");
    assert_eq!(sys::read_keyring(ring).unwrap(), []);
    let json = session.run(["clear", "%:ring", "--json"]).json();
    assert_eq!(json["keyring"]["serial"], ring.raw());
    session.add("token", b"x");
    let output = session.run(["clear", "%user:token"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(output.stderr().contains("it is not a keyring"), "{output}");
    sys::set_perm(ring, 0x3b3b_0000).unwrap();
    let output = session.run(["clear", "%:ring"]);
    assert_eq!(output.code, 3, "{output}");
    assert!(
        output.stderr().contains("it needs WRITE on the keyring"),
        "{output}"
    );
}

#[test]
fn a_used_up_quota_is_code_5_and_names_the_uid() {
    let session = Session::new();
    // A uid of this test's own; nobody else's keys count against it.
    let uid = 2_100_000_101;
    let long = "n".repeat(4000);
    let mut outputs = (0..more_than_the_quota(4000))
        .map(|n| session.run_as(uid, ["newring", &format!("{n}{long}")], b""));
    let refused = outputs.find(|output| output.code != 0).expect("a quota");
    assert_eq!(refused.code, 5, "{refused}");
    assert!(
        refused
            .stderr()
            .contains(&format!("key quota of uid {uid} exceeded")),
        "{refused}"
    );
}

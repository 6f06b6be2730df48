//! Grants to possessor, owner, group and everyone: what the mask can express and what it cannot.

use crate::session::Session;
use insta::assert_snapshot;
use keyns_sys::key as sys;

#[test]
fn a_right_the_kernel_gives_alone_is_set_and_read_back() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["grant", "%user:token", "group", "view,read"]).with(key, "KEY"), @r"
    group has view,read on key KEY “user: token”
    mask before:             alswrv-----v------------ (0x3f010000)
    mask after:              alswrv-----v----rv------ (0x3f010300)
    confirmed by the kernel: yes, read back
    [0]
    ");
    assert_eq!(session.mask("%user:token"), 0x3f01_0300);
}

#[test]
fn implied_rights_are_refused_until_they_are_accepted() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["grant", "%user:token", "group", "search"]).with(key, "KEY"), @r"
    error: cannot grant search on key KEY “user: token” to group
      cause: on this kernel these rights cannot be given without inval
      hint: accept the extra rights with --accept-implied inval
    [8]
    ");
    assert_eq!(session.mask("%user:token"), 0x3f01_0000);
    let done = session.run([
        "grant",
        "%user:token",
        "group",
        "search",
        "--accept-implied",
        "inval",
        "--json",
    ]);
    assert_eq!(
        done.json()["kernel"],
        serde_json::json!(["search", "inval"])
    );
    assert_eq!(done.json()["implied"], serde_json::json!(["inval"]));
    assert_eq!(done.json()["confirmed"], true);
    assert_eq!(session.mask("%user:token"), 0x3f01_0800);
}

#[test]
fn a_right_only_a_daemon_could_mediate_is_code_8() {
    let session = Session::new();
    session.add("token", b"x");
    let output = session.run(["grant", "%user:token", "everyone", "setsec", "--json"]);
    assert_eq!(output.code, 8);
    let error = &output.json()["error"];
    assert_eq!(error["kind"], "not-enforceable");
    assert_eq!(error["rights"], serde_json::json!(["setsec"]));
}

#[test]
fn a_dry_run_changes_nothing() {
    let session = Session::new();
    session.add("token", b"x");
    let output = session.run([
        "grant",
        "%user:token",
        "owner",
        "view,read",
        "--dry-run",
        "--json",
    ]);
    assert_eq!(output.code, 0, "{output}");
    assert_eq!(output.json()["applied"], false);
    assert_eq!(output.json()["mask_after"], 0x3f03_0000);
    assert_eq!(session.mask("%user:token"), 0x3f01_0000);
}

#[test]
fn what_everyone_gets_the_owner_and_the_group_get_too() {
    let session = Session::new();
    let key = session.add("token", b"x");
    sys::set_perm(key, 0x3f01_0100).unwrap();
    assert_eq!(
        session
            .run(["grant", "%user:token", "everyone", "read"])
            .code,
        0
    );
    assert_eq!(session.mask("%user:token"), 0x3f03_0302);
}

#[test]
fn search_with_link_lets_a_subject_possess_the_key_and_says_so() {
    let session = Session::new();
    session.add("token", b"x");
    let output = session.run([
        "grant",
        "%user:token",
        "group",
        "search,link",
        "--accept-implied",
        "inval",
    ]);
    assert_eq!(output.code, 8, "{output}");
    assert!(
        output.stderr().contains("can come to possess it"),
        "{output}"
    );
    assert_eq!(session.mask("%user:token"), 0x3f01_0000);
    let all = "inval,view,read,write,setsec,revoke";
    let output = session.run([
        "grant",
        "%user:token",
        "group",
        "search,link",
        "--accept-implied",
        all,
    ]);
    assert_eq!(output.code, 0, "{output}");
}

#[test]
fn nobody_locks_himself_out_of_his_own_key() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["ungrant", "%user:token", "possessor"]).with(key, "KEY"), @r"
    error: cannot take all rights of possessor on key KEY “user: token”
      cause: afterwards nobody could change the key's permissions any more, not even root
      hint: leave the right to change them: keyctl-ns grant KEY owner view,setsec --accept-implied revoke
    [1]
    ");
    assert_eq!(session.mask("%user:token"), 0x3f01_0000);
    // The hint is true.
    let serial = key.to_string();
    assert_eq!(
        session
            .run([
                "grant",
                &serial,
                "owner",
                "view,setsec",
                "--accept-implied",
                "revoke"
            ])
            .code,
        0
    );
    assert_eq!(session.run(["ungrant", &serial, "possessor"]).code, 0);
    assert_eq!(
        session
            .run(["grant", &serial, "possessor", "view,search,read,inval"])
            .code,
        0
    );
}

#[test]
fn ungrant_clears_the_bits_of_one_subject() {
    let session = Session::new();
    let key = session.add("token", b"x");
    sys::set_perm(key, 0x3f03_0301).unwrap();
    let output = session.run(["ungrant", "%user:token", "group"]);
    assert_eq!(output.code, 0);
    assert!(
        output
            .stderr()
            .contains("members of the group have what everyone has"),
        "{output}"
    );
    assert_eq!(session.mask("%user:token"), 0x3f03_0001);
}

#[test]
fn acl_reads_the_mask_as_rights() {
    let session = Session::new();
    let key = session.add("token", b"x");
    sys::set_perm(key, 0x3f03_0001).unwrap();
    assert_snapshot!(session.run(["acl", "%user:token"]).with(key, "KEY"), @r"
    key KEY “user: token”, owner uid 0, group 0
    SUBJECT    ENFORCED BY  RIGHTS
    possessor  kernel       view,read,write,search,link,setsec,inval,revoke
    owner      kernel       view,read
    everyone   kernel       view
    “everyone” are those who are neither the owner nor in a group with bits of its own
    [0]
    ");
}

#[test]
fn a_mask_has_no_time() {
    let session = Session::new();
    session.add("token", b"x");
    let output = session.run(["grant", "%user:token", "owner", "view", "--for", "1h"]);
    assert_eq!(output.code, 2, "{output}");
}

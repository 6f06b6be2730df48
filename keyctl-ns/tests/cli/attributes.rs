//! What a key is and how it ends: `id`, `timeout`, `setperm`, `chown`, `chgrp`, `revoke`.

use crate::session::{Session, more_than_the_quota};
use insta::assert_snapshot;
use keyns_sys::key as sys;

#[test]
fn id_prints_the_number_alone() {
    let session = Session::new();
    let key = session.add("token", b"x");
    for name in [
        "%user:token",
        &key.to_string(),
        &format!("{:#x}", key.raw()),
    ] {
        assert_eq!(
            session.run(["id", name]).stdout(),
            format!("{key}\n"),
            "{name}"
        );
    }
    let ring = session.keyring();
    for name in ["@s", "-3"] {
        assert_eq!(
            session.run(["id", name]).stdout(),
            format!("{ring}\n"),
            "{name}"
        );
    }
    let json = session.run(["id", "%user:token", "--json"]).json();
    assert_eq!(json["serial"], key.raw());
    assert_eq!(json["type"], "user");
}

#[test]
fn id_of_what_is_not_there_or_may_not_be_searched_fails() {
    let session = Session::new();
    let key = session.add("token", b"x");
    for (name, code) in [
        ("@t", 4),
        ("2147483647", 4),
        ("%user:none", 4),
        ("web/user:x", 6),
    ] {
        assert_eq!(session.run(["id", name]).code, code, "{name}");
    }
    sys::set_perm(key, 0x3737_0000).unwrap();
    assert_snapshot!(session.run(["id", &key.to_string()]).with(key, "KEY"), @r"
    error: cannot find key KEY
      cause: the permissions do not allow it: it needs SEARCH on the keyring
    [3]
    ");
}

#[test]
fn a_timeout_has_units_and_an_end() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["timeout", "%user:token", "8h"]), @r"
    key %user:token expires in 8h
    [0]
    ");
    let left = session.run(["describe", "%user:token", "--json"]).json()["expires_in"].clone();
    assert!(
        (28_000..=28_800).contains(&left.as_u64().unwrap()),
        "{left}"
    );
    let json = session
        .run(["timeout", "%user:token", "90", "--json"])
        .json();
    assert_eq!(json["expires_in"], 90);
    assert_eq!(json["key"]["serial"], key.raw());
    for none in ["never", "0"] {
        assert_eq!(session.run(["timeout", "%user:token", "60"]).code, 0);
        let output = session.run(["timeout", "%user:token", none, "--json"]);
        assert_eq!(
            output.json()["expires_in"],
            serde_json::Value::Null,
            "{output}"
        );
        let shown = session.run(["describe", "%user:token"]);
        assert!(shown.stdout().contains("expires:     never"), "{shown}");
    }
}

#[test]
fn a_timeout_that_is_none_or_not_permitted_is_refused() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["timeout", "%user:token", "8x"]), @r"
    error: cannot use “8x” as TIME
      cause: a time is a number with s, m, h or d, such as 90s, 15m, 8h, 2d, 1h30m
      hint: keyctl-ns timeout --help
    [2]
    ");
    for time in ["-1", "4294967296", "1.5s", ""] {
        assert_eq!(
            session.run(["timeout", "%user:token", time]).code,
            2,
            "{time}"
        );
    }
    assert_eq!(session.run(["timeout", "2147483647", "1h"]).code, 4);
    assert_eq!(session.run(["timeout", "web/user:x", "1h"]).code, 2);
    sys::set_perm(key, 0x1f1f_0000).unwrap();
    let output = session.run(["timeout", "%user:token", "1h"]);
    assert_eq!(output.code, 3, "{output}");
    assert!(output.stderr().contains("it needs SETATTR"), "{output}");
}

#[test]
fn setperm_takes_a_whole_mask() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["setperm", "%user:token", "0x3f030000"]).with(key, "KEY"), @r"
    key:         KEY  user: token
    mask before: alswrv-----v------------ (0x3f010000)
    mask after:  alswrv----rv------------ (0x3f030000)
    [0]
    ");
    assert_eq!(session.mask("%user:token"), 0x3f03_0000);
    for mask in ["1057030144", "alswrv-----v------------"] {
        assert_eq!(session.run(["setperm", "%user:token", mask]).code, 0);
        assert_eq!(session.mask("%user:token"), 0x3f01_0000, "{mask}");
    }
}

#[test]
fn setperm_takes_changes_in_words() {
    let session = Session::new();
    session.add("token", b"x");
    let output = session.run([
        "setperm",
        "%user:token",
        "owner=view,read",
        "group+v",
        "--json",
    ]);
    let json = output.json();
    assert_eq!(json["mask_before"], 0x3f01_0000, "{output}");
    assert_eq!(json["mask_after"], 0x3f03_0100, "{output}");
    assert_eq!(session.mask("%user:token"), 0x3f03_0100);
    assert_eq!(
        session
            .run(["setperm", "%user:token", "all-view", "pos+view"])
            .code,
        0
    );
    assert_eq!(session.mask("%user:token"), 0x3f02_0000);
}

#[test]
fn a_mask_that_is_none_is_refused_and_nothing_is_changed() {
    let session = Session::new();
    session.add("token", b"x");
    assert_snapshot!(session.run(["setperm", "%user:token", "owner=view,inval"]), @r"
    error: cannot use “owner=view,inval” as MASK
      cause: a mask has no bit for inval; its bits are view, read, write, search, link, setsec, and search gives inval, write or setsec gives revoke, write gives clear, search gives join
      hint: keyctl-ns setperm --help
    [2]
    ");
    assert_snapshot!(session.run(["setperm", "%user:token", "everyone=view"]), @r"
    error: cannot use “everyone=view” as MASK
      cause: “everyone” is no part of a mask; the parts are possessor, owner, group, other, all
      hint: keyctl-ns setperm --help
    [2]
    ");
    for words in [
        &["0377"][..],
        &["0x40000000"],
        &["0x3f010000", "owner=view"],
        &["rwx"],
        &[""],
        &[],
    ] {
        let output = session.run(["setperm", "%user:token"].iter().chain(words));
        assert_eq!(output.code, 2, "{output}");
    }
    assert_eq!(session.mask("%user:token"), 0x3f01_0000);
}

#[test]
fn a_mask_of_somebody_elses_key_stays_as_it_is() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_eq!(session.run(["setperm", "2147483647", "0x3f010000"]).code, 4);
    let output = session.run(["setperm", "web/user:x", "0x3f010000"]);
    assert_eq!(output.code, 2, "{output}");
    assert!(
        output.stderr().contains("keyctl-ns grant web/user:x"),
        "{output}"
    );
    let output = session.run_as(
        2_100_000_102,
        ["setperm", &key.to_string(), "0x3f3f0000"],
        b"",
    );
    assert_eq!(output.code, 3, "{output}");
    assert_eq!(session.mask("%user:token"), 0x3f01_0000);
    // What cannot be viewed cannot be changed, but can be set as a whole.
    sys::set_perm(key, 0x3e00_0000).unwrap();
    let serial = key.to_string();
    assert_eq!(session.run(["setperm", &serial, "owner+view"]).code, 3);
    let json = session
        .run(["setperm", &serial, "0x3f010000", "--json"])
        .json();
    assert_eq!(json.get("mask_before"), None);
    assert_eq!(json["key"]["description"], "token");
}

#[test]
fn chown_and_chgrp_give_a_key_away() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["chown", "%user:token", "2100000103"]), @r"
    key %user:token belongs to uid 2100000103
    [0]
    ");
    let json = session
        .run(["chgrp", "%user:token", "100", "--json"])
        .json();
    assert_eq!(
        (&json["gid"], &json["key"]["serial"]),
        (&100.into(), &key.raw().into())
    );
    assert_eq!(json.get("uid"), None);
    let shown = session.run(["describe", &key.to_string(), "--json"]).json();
    assert_eq!(
        (&shown["uid"], &shown["gid"]),
        (&2_100_000_103_u32.into(), &100.into())
    );
}

#[test]
fn an_owner_is_a_number_and_only_an_administrator_changes_it() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["chown", "%user:token", "root"]), @r"
    error: cannot use “root” as UID
      cause: it is a number from 0 to 4294967294; id -u NAME prints that of a user, getent group NAME that of a group
      hint: keyctl-ns chown --help
    [2]
    ");
    for id in ["-1", "4294967295", ""] {
        assert_eq!(session.run(["chown", "%user:token", id]).code, 2, "{id}");
        assert_eq!(session.run(["chgrp", "%user:token", id]).code, 2, "{id}");
    }
    assert_eq!(session.run(["chown", "2147483647", "0"]).code, 4);
    assert_eq!(session.run(["chgrp", "web/user:x", "0"]).code, 2);
    let output = session.run_as(2_100_000_104, ["chown", &key.to_string(), "5"], b"");
    assert_eq!(output.code, 3, "{output}");
}

#[test]
fn a_key_cannot_be_given_to_whom_it_would_be_too_much() {
    let session = Session::new();
    let (mut key, mut output);
    let mut n = more_than_the_quota(32_000);
    loop {
        key = session
            .add(&format!("token{n}"), &[b'x'; 32_000])
            .to_string();
        output = session.run(["chown", &key, "2100000105"]);
        n -= 1;
        if output.code != 0 || n == 0 {
            break;
        }
    }
    assert_eq!(output.code, 5, "{output}");
    let said = "key quota of uid 2100000105 exceeded";
    assert!(output.stderr().contains(said), "{output}");
    assert_eq!(session.run(["describe", &key, "--json"]).json()["uid"], 0);
}

#[test]
fn a_revoked_key_is_of_no_use() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["revoke", "%user:token"]), @r"
    key %user:token is revoked
    [0]
    ");
    assert_eq!(sys::read(key).unwrap_err().raw_os_error(), Some(128));
    let again = session.run(["revoke", &key.to_string()]);
    assert_eq!(again.code, 4, "{again}");
    assert!(again.stderr().contains("revoked"), "{again}");
    let other = session.add("other", b"x");
    let json = session.run(["revoke", "%user:other", "--json"]).json();
    assert_eq!(
        (&json["revoked"], &json["serial"]),
        (&"%user:other".into(), &other.raw().into())
    );
}

#[test]
fn what_may_not_be_revoked_is_refused_with_a_way_out() {
    let session = Session::new();
    let key = session.add("token", b"x");
    sys::set_perm(key, 0x1b1b_0000).unwrap();
    assert_snapshot!(session.run(["revoke", "%user:token"]), @r"
    error: cannot revoke key %user:token
      cause: the permissions do not allow it: it needs WRITE or SETATTR on the key
    [3]
    ");
    assert_snapshot!(session.run(["revoke", "web/user:token"]), @r"
    error: cannot use key web/user:token here
      cause: it belongs to container “web”; this needs a key or keyring of your own
      hint: destroy it and every copy of it: keyctl-ns invalidate web/user:token
    [2]
    ");
    assert_eq!(session.run(["revoke", "2147483647"]).code, 4);
}

//! `purge`, `reap`, `rdescribe`, `rlist`, `security`, `supports`, `restrict_keyring`,
//! `get_persistent`.

use crate::session::Session;
use insta::assert_snapshot;
use keyns_sys::KeySerial;
use keyns_sys::key as sys;

#[test]
fn purge_takes_out_every_key_of_a_type() {
    let session = Session::new();
    let ring = session.ring("ring");
    sys::add_key(c"user", c"inner", b"x", ring).unwrap();
    session.add("outer", b"x");
    session.run_with(["padd", "logon", "app:x"], b"x");
    let json = session.run(["purge", "user", "--json"]).json();
    assert_eq!(json["links"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["applied"], true);
    assert_eq!(sys::read_keyring(ring).unwrap(), []);
    assert_eq!(sys::read_keyring(session.keyring()).unwrap().len(), 2);
    assert_snapshot!(session.run(["purge", "user"]), @r"
    0 keys taken out
    [0]
    ");
}

#[test]
fn purge_compares_whole_descriptions_unless_told_otherwise() {
    let session = Session::new();
    for name in ["build:one", "build:two", "Build:three", "semi;build:one"] {
        session.add(name, b"x");
    }
    let count = |arguments: &[&str]| {
        let output = session.run(["purge", "--json", "user"].iter().chain(arguments));
        output.json()["links"].as_array().unwrap().len()
    };
    assert_eq!(count(&["build:", "--dry-run"]), 0);
    assert_eq!(count(&["build:", "--prefix", "--dry-run"]), 2);
    assert_eq!(count(&["build:", "-p", "-i", "--dry-run"]), 3);
    assert_eq!(count(&["BUILD:ONE", "-i", "--dry-run"]), 1);
    assert_eq!(count(&["build:one"]), 1);
    assert_eq!(sys::read_keyring(session.keyring()).unwrap().len(), 3);
    assert_eq!(count(&["build:two", "--search"]), 1);
    assert_eq!(sys::read_keyring(session.keyring()).unwrap().len(), 2);
}

#[test]
fn a_dry_run_of_purge_shows_what_it_would_take_out() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let output = session.run(["purge", "user", "token", "--dry-run"]);
    let shown = output
        .with(key, "KEY")
        .replace(&session.keyring().to_string(), "SESSION");
    assert_snapshot!(shown, @r"
    KEY  user: token  from keyring SESSION
    1 key would be taken out
    [0]
    ");
    assert_eq!(sys::read_keyring(session.keyring()).unwrap(), [key]);
}

#[test]
fn purge_needs_a_description_for_its_options_and_says_what_it_cannot_take_out() {
    let session = Session::new();
    for arguments in [
        &["purge"][..],
        &["purge", "user", "--prefix"],
        &["purge", "user", "--search"],
        &["purge", "user", "x", "--search", "--prefix"],
        &["purge", "user", "x", "--search", "--dry-run"],
        &["purge", ""],
    ] {
        assert_eq!(session.run(arguments).code, 2, "{arguments:?}");
    }
    let ring = session.ring("ring");
    let key = sys::add_key(c"user", c"token", b"x", ring).unwrap();
    sys::set_perm(ring, 0x3b3b_0000).unwrap();
    let output = session.run(["purge", "user"]);
    let shown = output.with(key, "KEY").replace(&ring.to_string(), "RING");
    assert_snapshot!(shown, @r"
    0 keys taken out
    error: cannot take key KEY out of keyring RING
      cause: the permissions do not allow it: it needs WRITE on the keyring
    [3]
    ");
}

#[test]
fn reap_takes_out_what_is_of_no_use_any_more() {
    let session = Session::new();
    let revoked = session.add("revoked", b"x");
    let hidden = session.add("hidden", b"x");
    let kept = session.add("kept", b"x");
    sys::set_perm(hidden, 0x3e3e_0000).unwrap();
    sys::revoke(revoked).unwrap();
    let output = session.run(["reap", "--verbose"]);
    let shown = output
        .with(revoked, "KEY")
        .replace(&session.keyring().to_string(), "SESSION");
    assert_snapshot!(shown, @r"
    KEY  from keyring SESSION: the key has been revoked
    1 key taken out
    [0]
    ");
    let left = sys::read_keyring(session.keyring()).unwrap();
    assert_eq!(left.len(), 2);
    assert!(left.contains(&hidden) && left.contains(&kept));
    let again = session.add("again", b"x");
    sys::revoke(again).unwrap();
    let json = session.run(["reap", "--json"]).json();
    assert_eq!(json["reaped"][0]["serial"], again.raw());
    assert_eq!(json["reaped"][0]["error"], "EKEYREVOKED");
    assert_eq!(session.run(["reap", "more"]).code, 2);
}

#[test]
fn rdescribe_is_one_line_with_the_separator_that_was_asked_for() {
    let session = Session::new();
    let key = session.add("semi;colon\n", b"x");
    let serial = key.to_string();
    assert_eq!(
        session.run(["rdescribe", &serial]).stdout(),
        "user;0;0;3f010000;semi;colon\\n\n"
    );
    assert_eq!(
        session.run(["rdescribe", &serial, " | "]).stdout(),
        "user | 0 | 0 | 3f010000 | semi;colon\\n\n"
    );
    let json = session.run(["rdescribe", &serial, "--json"]).json();
    assert_eq!(json["mask"], 0x3f01_0000);
    assert_eq!(json["description"], "semi;colon\n");
    for (arguments, code) in [
        (&["rdescribe", "@s", ""][..], 2),
        (&["rdescribe", "@s", "\x1b"], 2),
        (&["rdescribe", "2147483647"], 4),
        (&["rdescribe", "web/user:x"], 6),
    ] {
        assert_eq!(session.run(arguments).code, code, "{arguments:?}");
    }
    sys::set_perm(key, 0x3e3e_0000).unwrap();
    assert_eq!(session.run(["rdescribe", &serial]).code, 3);
}

#[test]
fn rlist_is_one_line_of_numbers() {
    let session = Session::new();
    assert_eq!(session.run(["rlist"]).stdout(), "\n");
    let key = session.add("token", b"x");
    assert_eq!(session.run(["rlist", "@s"]).stdout(), format!("{key}\n"));
    let json = session.run(["rlist", "--json"]).json();
    assert_eq!(json["keys"], serde_json::json!([key.raw()]));
    // A payload is never taken for numbers.
    let output = session.run(["rlist", "%user:token"]);
    assert_eq!((output.code, output.stdout()), (1, ""), "{output}");
    assert_eq!(session.run(["rlist", "%:none"]).code, 4);
    assert_eq!(session.run(["rlist", "web/keyring:r"]).code, 2);
}

#[test]
fn the_label_of_a_security_module_is_shown_if_there_is_one() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let label = sys::get_security(key).unwrap();
    let json = session.run(["security", "%user:token", "--json"]).json();
    assert_eq!(json["key"]["serial"], key.raw());
    let output = session.run(["security", "%user:token"]);
    if label.is_empty() {
        assert_eq!(json["label"], serde_json::Value::Null);
        assert_eq!(output.stdout(), "");
        assert!(output.stderr().contains("no security module"), "{output}");
    } else {
        let label = String::from_utf8(label).unwrap();
        assert_eq!(json["label"], *label);
        assert_eq!(output.stdout(), format!("{label}\n"));
    }
    assert_eq!(session.run(["security", "2147483647"]).code, 4);
    assert_eq!(session.run(["security", "web/user:x"]).code, 2);
    sys::set_perm(key, 0x3e3e_0000).unwrap();
    assert_eq!(session.run(["security", &key.to_string()]).code, 3);
}

#[test]
fn supports_says_what_the_kernel_says() {
    let session = Session::new();
    let bytes = sys::capabilities().unwrap();
    let raw: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        session.run(["supports", "--raw"]).stdout(),
        format!("{raw}\n")
    );
    let json = session.run(["supports", "--json"]).json();
    let rows = json["capabilities"].as_array().unwrap();
    assert_eq!((rows.len(), &json["raw"]), (11, &raw.into()));
    for row in rows {
        let name = row["name"].as_str().unwrap();
        let output = session.run(["supports", name]);
        let code = i32::from(row["supported"] == false);
        assert_eq!((output.code, output.stdout()), (code, ""), "{output}");
        let table = session.run(["supports"]);
        assert_eq!(
            table.stdout().matches(&format!("\n{name} ")).count(),
            1,
            "{table}"
        );
    }
    assert_eq!(session.run(["supports", "move_key"]).code, 0);
    assert_snapshot!(session.run(["supports", "flying"]), @r"
    error: cannot use “flying” as CAPABILITY
      cause: it is one of capabilities, persistent_keyrings, dh_compute, public_key, big_key_type, key_invalidate, restrict_keyring, move_key, ns_keyring_name, ns_key_tag, notify
      hint: keyctl-ns supports --help
    [2]
    ");
    assert_eq!(session.run(["supports", "move_key", "--raw"]).code, 2);
}

#[test]
fn a_restricted_keyring_takes_no_key_any_more() {
    let session = Session::new();
    let key = session.add("token", b"x");
    session.ring("ring");
    assert_snapshot!(session.run(["restrict_keyring", "%:ring"]), @r"
    keyring %keyring:ring takes no key any more
    [0]
    ");
    assert_snapshot!(session.run(["link", "%user:token", "%:ring"]), @r"
    error: cannot link key %user:token into keyring %keyring:ring
      cause: the keyring is restricted
    [3]
    ");
    assert_snapshot!(session.run(["restrict_keyring", "%:ring"]), @r"
    error: cannot restrict keyring %keyring:ring
      cause: the keyring is restricted already
    [1]
    ");
    let json = session.ring("other");
    let json = session
        .run([
            "restrict_keyring",
            &json.to_string(),
            "asymmetric",
            "builtin_trusted",
            "--json",
        ])
        .json();
    assert_eq!(json["type"], "asymmetric");
    assert_eq!(json["restriction"], "builtin_trusted");
    assert_eq!(json["keyring"]["description"], "other");
    let ring = session.ring("third").to_string();
    let output = session.run(["restrict-keyring", &ring, "user", "any"]);
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr().contains("type user has no restrictions"),
        "{output}"
    );
    assert_eq!(session.run(["restrict_keyring", &key.to_string()]).code, 1);
    assert_eq!(session.run(["restrict_keyring", "%:none"]).code, 4);
    assert_eq!(session.run(["restrict_keyring", "web/keyring:r"]).code, 2);
}

#[test]
fn the_persistent_keyring_of_a_user_is_linked_where_it_is_asked_to() {
    let session = Session::new();
    let ring = session.ring("ring");
    // A uid of this test's own.
    let json = session
        .run(["get_persistent", "%:ring", "2100000107", "--json"])
        .json();
    assert_eq!(json["description"], "_persistent.2100000107");
    let held = sys::read_keyring(ring).unwrap();
    assert_eq!(json["serial"], held[0].raw());
    let token = session.add("token", b"x").to_string();
    assert_eq!(
        session.run(["get_persistent", &token, "2100000107"]).code,
        1
    );
    let refused = session.run_as(2_100_000_108, ["get_persistent", "@s", "2100000107"], b"");
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stderr().contains("needs CAP_SETUID"), "{refused}");
    assert_eq!(session.run(["get_persistent", "@s", "root"]).code, 2);
    assert_eq!(session.run(["get_persistent", "%:none"]).code, 4);
    assert_eq!(session.run(["get_persistent", "web/keyring:r"]).code, 2);
    let gone = KeySerial::new(json["serial"].as_i64().unwrap() as i32);
    sys::invalidate(gone).unwrap();
}

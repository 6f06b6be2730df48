//! `show` and `tree`: the same walk, told in different ways.

use crate::session::Session;
use insta::assert_snapshot;
use keyns_sys::key as sys;

/// Numbers have no fixed length.
fn shape(text: &str) -> String {
    let words = |line: &str| {
        line.split(' ')
            .map(|word| match word.parse::<i32>() {
                Ok(n) if n > 9 => "N",
                _ => word,
            })
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    text.lines().map(words).collect::<Vec<_>>().join("\n")
}

#[test]
fn show_draws_keyrings_in_keyrings() {
    let session = Session::new();
    let ring = session.ring("ring");
    sys::add_key(c"user", c"inner", b"x", ring).unwrap();
    session.add("outer", b"x");
    assert_snapshot!(shape(session.run(["show"]).stdout()), @r"
    KEY RIGHTS UID GID TYPE: DESCRIPTION
    N alswrv 0 0 keyring: _ses
    N alswrv 0 0 ├─ keyring: ring
    N alswrv 0 0 │ └─ user: inner
    N alswrv 0 0 └─ user: outer
    ");
}

#[test]
fn show_begins_where_it_is_asked_to_and_has_hexadecimal_numbers() {
    let session = Session::new();
    let ring = session.ring("ring");
    let output = session.run(["show", "-x", "%:ring"]);
    let hex = format!("{:#010x}", ring.raw());
    assert_snapshot!(output.to_string().replace(&hex, "0xRING"), @r"
           KEY  RIGHTS    UID    GID  TYPE: DESCRIPTION
    0xRING  alswrv      0      0  keyring: ring
    [0]
    ");
    let key = session.add("token", b"x");
    let output = session.run(["show", "%user:token"]);
    assert!(output.stdout().contains(&format!("{key}")), "{output}");
}

#[test]
fn show_in_json_is_one_object_with_an_element_for_each_key() {
    let session = Session::new();
    let ring = session.ring("ring");
    let inner = sys::add_key(c"user", c"in\xffner", b"x", ring).unwrap();
    let hidden = session.add("hidden", b"x");
    sys::set_perm(hidden, 0x3e3e_0000).unwrap();
    let output = session.run(["show", "--json"]);
    let json = output.json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["hidden"], 1);
    let keys = json["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3, "{output}");
    assert_eq!(keys[0]["serial"], session.keyring().raw());
    assert_eq!(keys[0].get("keyring"), None);
    assert_eq!(keys[2]["serial"], inner.raw());
    assert_eq!(keys[2]["keyring"], ring.raw());
    assert_eq!(keys[2]["depth"], 2);
    assert_eq!(keys[2]["description"], "in\\xffner");
    assert_eq!(
        (&keys[2]["mask"], &keys[2]["rights"]),
        (&0x3f01_0000.into(), &0x3f.into())
    );
}

#[test]
fn what_is_hidden_closed_or_shown_already_is_said() {
    let session = Session::new();
    let ring = session.ring("ring");
    let twice = sys::add_key(c"keyring", c"twice", b"", ring).unwrap();
    sys::link(twice, session.keyring()).unwrap();
    let hidden = sys::add_key(c"user", c"hidden", b"x", ring).unwrap();
    sys::set_perm(hidden, 0x3e3e_0000).unwrap();
    for command in ["show", "tree"] {
        let output = session.run([command]);
        assert_eq!(output.stdout().matches("twice").count(), 2, "{output}");
        assert_eq!(
            output.stdout().matches("(shown above)").count(),
            1,
            "{output}"
        );
        assert_eq!(
            output.stdout().matches("1 key you may not view").count(),
            1,
            "{output}"
        );
    }
    // Without READ, and without SEARCH, by which possession would give it.
    let closed = session.ring("closed");
    sys::set_perm(closed, 0x0101_0000).unwrap();
    for command in ["show", "tree"] {
        let output = session.run([command]);
        assert_eq!(
            output.stdout().matches("(you may not list it)").count(),
            1,
            "{output}"
        );
    }
}

#[test]
fn show_of_what_is_not_there_shows_nothing() {
    let session = Session::new();
    for (key, code) in [("@t", 4), ("2147483647", 4), ("%:none", 4), ("", 2)] {
        let output = session.run(["show", key]);
        assert_eq!((output.code, output.stdout()), (code, ""), "{output}");
    }
    assert_snapshot!(session.run(["show", "web/user:x"]), @r"
    error: cannot use key web/user:x here
      cause: it belongs to container “web”; this needs a key or keyring of your own
      hint: keyctl-ns tree --container web
    [2]
    ");
    let hidden = session.add("hidden", b"x");
    sys::set_perm(hidden, 0x3e3e_0000).unwrap();
    let output = session.run(["show", &hidden.to_string(), "--json"]);
    assert_eq!((output.code, output.stdout()), (3, ""), "{output}");
}

#[test]
fn show_is_safe_for_the_terminal_and_ends_with_its_reader() {
    let session = Session::new();
    session.add("\x1b]0;gotcha\x07\nforged", b"x");
    let output = session.run(["show"]);
    assert!(
        output.stdout().contains("\\x1b]0;gotcha\\x07\\nforged"),
        "{output}"
    );
    assert!(!output.stdout().contains('\x1b'));
    assert!(
        session
            .run(["show", "--color=always"])
            .stdout()
            .contains('\x1b')
    );
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = session.command(["show"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_tree_in_json_nests_what_keyrings_hold() {
    let session = Session::new();
    let ring = session.ring("ring");
    let inner = sys::add_key(c"user", c"inner", b"x", ring).unwrap();
    sys::set_timeout(inner, 600).unwrap();
    let hidden = sys::add_key(c"user", c"hidden", b"x", ring).unwrap();
    sys::set_perm(hidden, 0x3e3e_0000).unwrap();
    session.add("outer", b"x");
    let json = session.run(["tree", "--json"]).json();
    let root = &json["trees"][0];
    assert_eq!(
        (&root["label"], &root["serial"]),
        (&"@s".into(), &session.keyring().raw().into())
    );
    let children = root["children"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    let ring = children
        .iter()
        .find(|child| child["type"] == "keyring")
        .unwrap();
    assert_eq!(ring["hidden"], 1);
    assert_eq!(ring["children"][0]["serial"], inner.raw());
    assert_eq!(ring["children"][0].get("children"), None);
    let left = ring["children"][0]["expires_in"].as_u64().unwrap();
    assert!((500..=600).contains(&left), "{left}");
}

#[test]
fn every_one_of_very_many_keys_is_shown() {
    let session = Session::new();
    for n in 0..3000 {
        session.add(&format!("k{n}"), b"x");
    }
    for (command, lines) in [("show", 3002), ("tree", 3001)] {
        let output = session.run([command]);
        assert_eq!(output.stdout().lines().count(), lines, "{command}");
    }
    let json = session.run(["show", "--json"]).json();
    assert_eq!(json["keys"].as_array().unwrap().len(), 3001);
}

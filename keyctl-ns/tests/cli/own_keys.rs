//! Keys of one's own, on the running kernel and without a daemon.

use crate::session::Session;
use insta::assert_snapshot;
use keyns_sys::key as sys;

#[test]
fn a_key_is_added_with_the_bytes_of_standard_input() {
    let session = Session::new();
    let payload: Vec<u8> = (0..=255).collect();
    let output = session.run_with(["add", "user", "bytes"], &payload);
    assert_eq!(output.code, 0, "{output}");
    let serial = sys::search(
        session.keyring(),
        c"user",
        c"bytes",
        keyns_sys::KeySerial::NONE,
    )
    .unwrap();
    assert_eq!(output.stdout(), format!("{serial}  user: bytes\n"));
    assert_eq!(sys::read(serial).unwrap(), payload);
}

#[test]
fn a_payload_can_come_from_a_file_and_from_a_descriptor() {
    let session = Session::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "from a file").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(session.run(["add", "user", "a", "--file", path]).code, 0);
    assert_eq!(session.run(["read", "%user:a"]).stdout(), "from a file");

    // Descriptor 0 is the only one besides 1 and 2 that a child keeps; any number works alike.
    let output = session.run_with(["add", "user", "b", "--fd", "0"], b"from descriptor 0");
    assert_eq!(output.code, 0, "{output}");
    assert_eq!(
        session.run(["read", "%user:b"]).stdout(),
        "from descriptor 0"
    );
}

#[test]
fn a_keyring_needs_no_payload_and_keys_can_be_added_to_it() {
    let session = Session::new();
    assert_eq!(session.run(["add", "keyring", "ring"]).code, 0);
    assert_eq!(
        session
            .run_with(["add", "user", "inner", "--keyring", "%:ring"], b"x")
            .code,
        0
    );
    let listed = session.run(["list", "%keyring:ring"]);
    assert!(listed.stdout().contains("inner"), "{listed}");
    assert!(!session.run(["list"]).stdout().contains("inner"));
}

#[test]
fn a_key_with_a_timeout_says_when_it_expires() {
    let session = Session::new();
    assert_eq!(
        session
            .run_with(["add", "user", "short", "--timeout", "90s"], b"x")
            .code,
        0
    );
    let left = session.run(["describe", "%user:short", "--json"]).json()["expires_in"]
        .as_u64()
        .unwrap();
    assert!((60..=90).contains(&left), "{left}");
}

#[test]
fn update_replaces_the_payload() {
    let session = Session::new();
    let key = session.add("token", b"old");
    assert_snapshot!(session.run_with(["update", "%user:token"], b"new").with(key, "KEY"), @r"
    KEY  user: token
    [0]
    ");
    assert_eq!(sys::read(key).unwrap(), b"new");
}

#[test]
fn an_update_longer_than_a_page_says_what_to_do_instead() {
    let session = Session::new();
    let key = session.add("token", b"old");
    assert_snapshot!(session.run_with(["update", &key.to_string()], &[b'x'; 5000]).with(key, "KEY"), @r"
    error: cannot update key KEY
      cause: an update takes at most 4096 bytes, this payload has 5000
      hint: add it again to the keyring that holds it: keyctl-ns add user token --keyring KEYRING
    [1]
    ");
    assert_eq!(sys::read(key).unwrap(), b"old");
}

#[test]
fn read_prints_bytes_hexadecimal_or_base64() {
    let session = Session::new();
    session.add("bin", b"\x00\xff\n");
    assert_eq!(session.run(["read", "%user:bin"]).stdout, b"\x00\xff\n");
    assert_eq!(
        session.run(["read", "%user:bin", "--raw"]).stdout,
        b"\x00\xff\n"
    );
    assert_eq!(
        session.run(["read", "%user:bin", "--hex"]).stdout(),
        "00ff0a\n"
    );
    let json = session.run(["read", "%user:bin", "--json"]).json();
    assert_eq!(json["payload"], "AP8K");
    assert_eq!(json["bytes"], 3);
}

#[test]
fn describe_shows_everything_the_kernel_says() {
    let session = Session::new();
    let key = session.add("token", b"x");
    sys::set_perm(key, 0x3f01_0000).unwrap();
    let shown = session.run(["describe", "%user:token"]);
    let shown = shown
        .with(key, "KEY")
        .replace(&format!("{:#x}", key.raw()), "HEX");
    assert_snapshot!(shown, @r"
    key:         KEY (HEX)
    type:        user
    description: token
    owner:       uid 0, gid 0
    mask:        alswrv-----v------------ (0x3f010000)
    expires:     never
    state:       valid
    [0]
    ");
}

#[test]
fn invalidate_destroys_the_key() {
    let session = Session::new();
    let key = session.add("token", b"x");
    assert_snapshot!(session.run(["invalidate", "%user:token"]), @r"
    key %user:token is gone
    [0]
    ");
    // Until the kernel has collected it, a search calls it revoked.
    let found = sys::search(
        session.keyring(),
        c"user",
        c"token",
        keyns_sys::KeySerial::NONE,
    );
    assert!(matches!(found.unwrap_err().raw_os_error(), Some(126 | 128)));
    assert!(sys::read(key).is_err());
}

#[test]
fn request_finds_a_key_and_links_it_where_it_is_asked_to() {
    let session = Session::new();
    let key = session.add("token", b"x");
    session.run(["add", "keyring", "ring"]);
    assert_snapshot!(session.run(["request", "user", "token", "--keyring", "%:ring"]).with(key, "KEY"), @r"
    KEY  user: token
    [0]
    ");
    assert!(
        session
            .run(["list", "%:ring"])
            .stdout()
            .contains(&key.to_string())
    );
}

#[test]
fn a_request_that_finds_nothing_says_how_to_have_the_key_made() {
    let session = Session::new();
    assert_snapshot!(session.run(["request", "user", "nothing"]), @r#"
    error: cannot get key “user: nothing”
      cause: no such key was found
      hint: add --callout "" to have it made by whoever answers for this type
    [4]
    "#);
}

#[test]
fn move_takes_a_key_from_one_keyring_to_another() {
    let session = Session::new();
    let key = session.add("token", b"x");
    session.run(["add", "keyring", "ring"]);
    assert_eq!(session.run(["move", "%user:token", "@s", "%:ring"]).code, 0);
    assert!(
        session
            .run(["list", "%:ring"])
            .stdout()
            .contains(&key.to_string())
    );
    assert!(
        !session
            .run(["list", "@s"])
            .stdout()
            .contains(&key.to_string())
    );
}

#[test]
fn move_replaces_a_key_of_the_same_name_only_with_force() {
    let session = Session::new();
    let key = session.add("token", b"new");
    session.run(["add", "keyring", "ring"]);
    session.run_with(["add", "user", "token", "-k", "%:ring"], b"old");
    let serial = key.to_string();
    assert_snapshot!(session.run(["move", &serial, "@s", "%:ring"]).with(key, "KEY"), @r"
    error: cannot move key KEY from @s to %:ring
      cause: the keyring already has a key of that type and description
      hint: replace it with --force
    [1]
    ");
    assert_eq!(
        session
            .run(["move", &serial, "@s", "%:ring", "--force"])
            .code,
        0
    );
    assert_eq!(session.run(["read", "%user:token"]).stdout(), "new");
}

#[test]
fn the_tree_shows_keyrings_in_keyrings() {
    let session = Session::new();
    session.run(["add", "keyring", "ring"]);
    session.run_with(["add", "user", "inner", "-k", "%:ring"], b"x");
    session.add("outer", b"x");
    let tree = session.run(["tree"]);
    // Serials have no fixed length.
    let shape: Vec<String> = tree
        .stdout()
        .lines()
        .map(|line| {
            let words: Vec<&str> = line
                .split_whitespace()
                .filter(|word| word.parse::<i32>().is_err())
                .collect();
            words.join(" ")
        })
        .collect();
    assert_snapshot!(shape.join("\n"), @r"
    @s alswrv----rv------------ uid keyring: _ses
    ├─ alswrv-----v------------ uid keyring: ring
    │ └─ alswrv-----v------------ uid user: inner
    └─ alswrv-----v------------ uid user: outer
    ");
}

#[test]
fn a_keyring_reached_twice_is_shown_once() {
    let session = Session::new();
    session.run(["add", "keyring", "a"]);
    session.run(["add", "keyring", "b"]);
    session.run(["add", "keyring", "shared", "-k", "%:a"]);
    let find = |name| {
        sys::search(
            session.keyring(),
            c"keyring",
            name,
            keyns_sys::KeySerial::NONE,
        )
        .unwrap()
    };
    sys::link(find(c"shared"), find(c"b")).unwrap();
    let tree = session.run(["tree"]);
    assert_eq!(
        tree.stdout().matches("keyring: shared").count(),
        2,
        "{tree}"
    );
    assert_eq!(tree.stdout().matches("(shown above)").count(), 1, "{tree}");
}

#[test]
fn keys_that_may_not_be_viewed_are_counted() {
    let session = Session::new();
    let key = session.add("hidden", b"x");
    sys::set_perm(key, 0x3e3e_0000).unwrap();
    assert_snapshot!(session.run(["list"]), @r"
    no keys
    and 1 key you may not view
    [0]
    ");
    assert_eq!(session.run(["list", "--json"]).json()["hidden"], 1);
}

#[test]
fn a_description_cannot_act_on_the_terminal() {
    let session = Session::new();
    session.add("\x1b]0;gotcha\x07\nuser: forged", b"x");
    for command in ["list", "tree"] {
        let output = session.run([command]);
        assert!(
            output
                .stdout()
                .contains("\\x1b]0;gotcha\\x07\\nuser: forged"),
            "{output}"
        );
        assert!(
            !output.stdout().bytes().any(|b| b == 0x1b || b == 7),
            "{output}"
        );
    }
}

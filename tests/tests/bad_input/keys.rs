//! Payloads, rights, and keys that cannot be lent.

use std::fs::File;

use keyns_interfaces::blocking::Client;
use keyns_interfaces::keys::{GrantTo, Lend};
use keyns_interfaces::{ByteText, ClientError, ErrorKind};
use keyns_sys::{KeySerial, key};
use keyns_tests::instance::Ran;

use crate::*;

#[test]
fn payloads_of_wrong_size_and_keys_that_cannot_be() {
    let instance = world("size");
    let before = picture(&instance);
    let add = |type_, description, length: usize| {
        let arguments = ["add", type_, description, "--container", "web"];
        fed(&instance, &arguments, &vec![b'x'; length])
    };
    let long = "d".repeat(4096);
    let type_ = "t".repeat(32);
    #[rustfmt::skip]
    let cases = [
        ("user", "x", 0, FAILURE,
         &["cannot add key “user:x” to container “web”", "1 to 32767 bytes, this one has 0"][..]),
        ("user", "x", 32_768, FAILURE, &["“user:x”", "1 to 32767 bytes, this one has 32768"]),
        ("logon", "a:x", 40_000, FAILURE, &["“logon” has 1 to 32767 bytes, this one has 40000"]),
        ("user", "x", 1 << 20, FAILURE, &["standard input", "longer than 1048575 bytes"]),
        ("logon", "x", 1, FAILURE, &["SERVICE:NAME"]),
        ("user", "", 1, USAGE, &["the description is empty"]),
        ("user", &long, 1, USAGE, &["4096 bytes", "4095"]),
        ("", "x", 1, USAGE, &["the type is empty"]),
        (&type_, "x", 1, USAGE, &["at most 31 bytes, this one has 32"]),
        ("nonsense", "x", 1, FAILURE, &["“nonsense:x”", "this kernel has no such key type"]),
        ("keyring", "x", 1, FAILURE, &["not keyrings"]),
        (".request_key_auth", "x", 1, FAILURE, &["types that begin with “.” are the kernel's own"]),
        ("user", "token", 1, FAILURE, &["“user:token”", "is there already"]),
    ];
    for (type_, description, length, code, says) in cases {
        let what = format!("{type_} {description:.9} {length}");
        assert_refused(&what, &add(type_, description, length), code, says);
    }
    for arguments in [
        &["add", "user", "x", "--container", "web"][..],
        &["update", "web/user:token"],
        &["answer", "4711", "--payload-stdin"],
    ] {
        let endless = File::open("/dev/zero").unwrap();
        let ran = instance
            .command(arguments)
            .stdin(endless)
            .output()
            .unwrap()
            .into();
        assert_refused(
            "endless",
            &ran,
            FAILURE,
            &["standard input", "longer than 1048575 bytes"],
        );
    }
    for (length, says) in [(0, "this one has 0"), (32_768, "this one has 32768")] {
        let ran = fed(
            &instance,
            &["update", "web/user:token"],
            &vec![b'x'; length],
        );
        assert_refused("update", &ran, FAILURE, &["“web/user:token”", says]);
    }
    let logon = instance.run(&["read", "web/logon:app:token"]);
    assert_refused(
        "logon",
        &logon,
        FAILURE,
        &["“web/logon:app:token”", "no payload of this key type"],
    );
    assert_eq!(timeless(&picture(&instance)), timeless(&before));
    // The control: what is within the limits is taken, to the last byte.
    assert_eq!(add("user", "x", 32_767).code, 0);
    assert_eq!(instance.ok(&["read", "web/user:x"]).len(), 32_767);
    instance.stop();
}

#[test]
fn what_only_a_process_can_do_with_its_own_keys() {
    let instance = world("verbs");
    let own = "it belongs to container “web”";
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("link web/user:token @s", USAGE, &[own, "keyctl-ns grant"]),
        ("unlink web/user:token", USAGE, &[own, "keyctl-ns invalidate"]),
        ("unlink @s web/user:token", USAGE, &[own]),
        ("revoke web/user:token", USAGE, &[own, "keyctl-ns invalidate web/user:token"]),
        ("timeout web/user:token 1h", USAGE, &[own, "when it is added, a grant with --for"]),
        ("setperm web/user:token 0", USAGE, &[own, "keyctl-ns grant web/user:token"]),
        ("setperm web/user:token owner=all", USAGE, &[own]),
        ("chown web/user:token 5", USAGE, &[own]),
        ("chgrp web/user:token 5", USAGE, &[own]),
        ("clear web/user:token", USAGE, &[own]),
        ("search web/user:token user x", USAGE, &[own, "keyctl-ns describe web/user:x"]),
        ("show web/user:token", USAGE, &[own, "keyctl-ns tree --container web"]),
        ("rlist web/user:token", USAGE, &[own, "keyctl-ns list --container web"]),
        ("negate web/user:token 5", USAGE, &[own, "keyctl-ns answer"]),
        ("restrict_keyring web/user:token", USAGE, &[own]),
        ("watch web/user:token", USAGE, &[own, "keyctl-ns watch keys"]),
        ("id web/user:none", NO_SUCH, &["web/user:none"]),
        ("print web/user:none", NO_SUCH, &["web/user:none"]),
        ("pipe web/logon:app:token", FAILURE, &["no payload of this key type"]),
        ("rdescribe nowhere/user:x", NO_SUCH, &["“nowhere”"]),
    ];
    refuse_all(&instance, cases);
    // The control: what the daemon can do with such a key, the other words for it do too.
    let id = instance.ok(&["id", "web/user:token"]);
    let named = instance.json(&["describe", "web/user:token"]);
    assert_eq!(id.trim(), named["serial"].to_string());
    assert_eq!(instance.ok(&["print", "web/user:token"]), "value\n");
    assert_eq!(instance.ok(&["pipe", "web/user:token"]), "value");
    let described = instance.ok(&["rdescribe", "web/user:token", ","]);
    assert!(
        described.starts_with("user,") && described.ends_with(",token\n"),
        "{described}"
    );
    let updated = fed(&instance, &["pupdate", "-x", "web/user:token"], b"6e 65 77");
    assert_eq!(updated.code, 0, "{}", updated.err);
    assert_eq!(instance.ok(&["pipe", "web/user:token"]), "new");
    instance.stop();
}

#[test]
fn rights_that_the_kernel_cannot_give_alone() {
    let instance = world("rights");
    let to = "grant web/user:token container:web";
    let search = format!("{to} search");
    let both = format!("{to} read,search");
    let half = format!("{to} search --accept-implied read");
    let setsec = format!("{to} setsec");
    let three = format!("{to} view,clear,join --accept-implied read,inval");
    // A list of rights has one for invalidating a key, which in a mask comes with searching it.
    #[rustfmt::skip]
    let search_alone: &[Case<'_>] = if instance.has("grant-inval-apart") { &[
        (&search, NOT_ENFORCEABLE,
         &["cannot grant search on key web/user:token to container “web”", "may search a key may also read it", "--accept-implied read"]),
    ] } else { &[
        (&search, NOT_ENFORCEABLE,
         &["cannot grant search on key web/user:token to container “web”", "may search a key may also read and invalidate it", "--accept-implied read,inval"]),
        (&both, NOT_ENFORCEABLE,
         &["may read and search a key may also invalidate it", "--accept-implied inval"]),
        (&half, NOT_ENFORCEABLE, &["--accept-implied read,inval"]),
    ] };
    refuse_all(&instance, search_alone);
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        (&setsec, NOT_ENFORCEABLE,
         &["gives a container setsec on a key", "leave these rights out"]),
        (&three, NOT_ENFORCEABLE, &["join and clear"]),
        ("grant web/user:token owner view", USAGE,
         &["belongs to keynsd", "keyctl-ns grant web/user:token container:web"]),
        ("ungrant web/user:token container:idle", NO_SUCH,
         &["not granted to this container", "keyctl-ns acl web/user:token"]),
        ("move web/user:token idle web", USAGE, &["in container “web”, not in “idle”"]),
        ("move web/user:token web web", FAILURE, &["it is there already"]),
    ];
    refuse_all(&instance, cases);
    instance.stop();
}

#[test]
fn a_grant_given_twice_is_one_grant_and_taken_back_twice_is_an_error() {
    let instance = world("twice");
    let grant = [
        "grant",
        "web/user:token",
        "container:web",
        "search",
        "--accept-implied",
        "read,inval",
    ];
    let ungrant = ["ungrant", "web/user:token", "container:web"];
    let copies = || {
        instance.json(&["container", "keyring", "web"])["keys"]
            .as_array()
            .unwrap()
            .len()
    };
    let none = copies();
    instance.ok(&grant);
    instance.ok(&grant);
    assert_eq!(copies(), none + 1);
    instance.ok(&ungrant);
    assert_eq!(copies(), none);
    let again = instance.run(&ungrant);
    assert_refused(
        "ungrant",
        &again,
        NO_SUCH,
        &["web/user:token” back from container “web”"],
    );
    instance.stop();
}

#[test]
fn a_key_that_cannot_be_lent_or_died_meanwhile() {
    let instance = world("lend");
    let before = picture(&instance);
    // In the keyring of this process' session; a child finds it there.
    key::join_session_keyring(None).unwrap();
    let make = |description: &std::ffi::CStr| {
        key::add_key(c"user", description, b"x", KeySerial::SESSION).unwrap()
    };
    let grant = |key: KeySerial| {
        let serial = key.raw().to_string();
        let ran = instance.run(&[
            "grant",
            &serial,
            "container:web",
            "search",
            "--accept-implied",
            "read,inval",
        ]);
        (serial, ran)
    };
    let (dead, unlinkable, foreign) = (make(c"dead"), make(c"unlinkable"), make(c"foreign"));
    key::invalidate(dead).unwrap();
    let (serial, ran) = grant(dead);
    assert_refused(
        "dead",
        &ran,
        NO_SUCH,
        &[&serial, "does not exist any more, or never did"],
    );
    // Everything but LINK.
    key::set_perm(unlinkable, 0x2f2f_0000).unwrap();
    let (serial, ran) = grant(unlinkable);
    assert_refused(
        "no link",
        &ran,
        DENIED,
        &[&serial, "no link right on the key", "keyctl-ns add"],
    );
    let lent = instance.run(&[
        "grant",
        "@s",
        "container:web",
        "view",
        "--accept-implied",
        "read,search,inval",
    ]);
    assert_refused("keyring", &lent, DENIED, &["keyrings are not lent"]);

    // Between the look-up by the client and the use by the daemon: it dies in the drop keyring.
    let mut client = Client::connect(instance.socket()).unwrap();
    let (drop, _) = client.call(&Lend {}, Vec::new()).unwrap();
    let late = make(c"late");
    key::link(late, KeySerial::new(drop.keyring)).unwrap();
    key::revoke(late).unwrap();
    let call = GrantTo {
        key: ByteText::from(late.raw().to_string().as_str()),
        container: "web".into(),
        rights: vec!["search".into()],
        accept_implied: vec!["read".into(), "inval".into()],
        duration: None,
        dry_run: false,
    };
    let Err(ClientError::Refused(error)) = client.call(&call, Vec::new()) else {
        panic!("a dead key is granted")
    };
    assert_eq!(error.kind, ErrorKind::NoSuchKey, "{error:?}");

    // Somebody else's key: a user who may see it, and may not link it, is no lender; nor is one who
    // may not call the daemon at all.
    let serial = foreign.raw().to_string();
    let mut command = instance.command_as(65_534, &["grant", &serial, "container:web", "view"]);
    let ran: Ran = command.output().unwrap().into();
    assert_refused("nobody", &ran, DENIED, &[]);
    std::mem::drop(client);
    assert_eq!(timeless(&picture(&instance)), timeless(&before));
    instance.stop();
}

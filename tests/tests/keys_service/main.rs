//! `org.keyns.Keys` against a daemon of its own: what is granted is what the kernel has, what is
//! refused changes nothing, and what ends is gone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod endings;
mod world;

use std::time::{Duration, Instant};

use keyns_interfaces::containers::{Create, GetKeyring, Namespace, Root};
use keyns_interfaces::keys::{
    Add, Describe, GetAcl, GrantTo, Granted, Invalidate, List, Move, Read, Update,
};
use keyns_interfaces::manager::GetStatus;
use keyns_interfaces::{ErrorKind, Payload};
use keyns_sys::{KeySerial, key};

use self::world::*;

#[test]
fn a_grant_is_refused_until_what_it_implies_is_accepted() {
    let world = World::start();
    world.container("web");
    world.ok(&add("web", "k", "secret"));
    let error = world.refused(
        &bare("web/user:k", "web", &["search"]),
        ErrorKind::ImpliedRights,
    );
    let apart = world.instance.has("grant-inval-apart");
    let implied: &[&str] = if apart { &["read"] } else { &["read", "inval"] };
    assert_eq!(error.rights, implied);
    let hint = format!("--accept-implied {}", implied.join(","));
    assert!(error.hint.as_ref().unwrap().ends_with(&hint), "{error:?}");
    assert!(
        error.message.contains("web/user:k") && error.message.contains("container “web”"),
        "{error:?}"
    );
    let half = GrantTo {
        accept_implied: words(&["read"]),
        ..bare("web/user:k", "web", &["search"])
    };
    if apart {
        assert!(
            world
                .call(&GrantTo {
                    dry_run: true,
                    ..half
                })
                .is_ok()
        );
    } else {
        let error = world.refused(&half, ErrorKind::ImpliedRights);
        assert_eq!(error.rights, ["inval"]);
    }
    for impossible in ["setsec", "clear", "join"] {
        let all = [
            "view", "read", "write", "search", "link", "inval", "revoke", "clear", "join",
        ];
        let call = GrantTo {
            accept_implied: words(&all),
            ..bare("web/user:k", "web", &[impossible])
        };
        let error = world.refused(&call, ErrorKind::NotEnforceable);
        assert_eq!(error.rights, [impossible]);
    }
    let dry = GrantTo {
        dry_run: true,
        ..grant("web/user:k", "web")
    };
    let would = world.ok(&dry);
    assert!(
        !would.applied
            && would.grant.copy.is_none()
            && would.grant.mask == world.copy_mask(0x083f_0000),
        "{would:?}"
    );
    assert!(world.copies("web").is_empty(), "something was granted");
    assert!(world.ok(&List::default()).keys[0].grants.is_empty());
    assert_eq!(world.ok(&GetStatus {}).poll_interval_ms, 0);

    let Granted {
        grant: given,
        applied,
        ..
    } = world.ok(&grant("web/user:k", "web"));
    assert!(applied);
    assert_eq!(
        (given.requested, given.implied),
        (words(&["search"]), words(implied))
    );
    let kernel: &[&str] = if apart {
        &["read", "search"]
    } else {
        &["read", "search", "inval"]
    };
    assert_eq!(given.kernel, kernel);
    let copy = given.copy.unwrap();
    let mask = world.copy_mask(0x083f_0000);
    assert_eq!((mask_in_kernel(copy), given.mask), (mask, mask));
    assert_eq!(in_kernel(copy).unwrap(), b"secret");
    world.instance.stop();
}

#[test]
fn a_grant_is_replaced_shown_and_taken_back() {
    let world = World::start();
    world.container("web");
    world.container("db");
    let source = world.ok(&add("web", "k", "secret")).key;
    let first = world.ok(&grant("web/user:k", "db")).grant.copy.unwrap();
    let wider = GrantTo {
        rights: words(&["search", "view"]),
        ..grant("web/user:k", "db")
    };
    let second = world.ok(&wider).grant;
    let mask = world.copy_mask(0x093f_0000);
    assert_eq!(mask_in_kernel(second.copy.unwrap()), mask);
    assert_eq!(in_kernel(first), None);
    let copies = world.copies("db");
    assert_eq!(copies.len(), 1);
    assert_eq!(
        (copies[0].serial, copies[0].origin.as_str()),
        (second.copy.unwrap(), "copy")
    );
    // By the name of its copy in the other container, by either serial, the key is the same.
    for name in [
        "db/user:k".to_owned(),
        format!("db/{}", copies[0].serial),
        source.serial.to_string(),
    ] {
        assert_eq!(
            world.ok(&Describe { key: text(&name) }).key.serial,
            source.serial,
            "{name}"
        );
    }
    let acl = world.ok(&GetAcl {
        key: text("web/user:k"),
    });
    assert!(!acl.lent);
    let subjects: Vec<_> = acl
        .entries
        .iter()
        .map(|e| (e.subject.as_str(), e.enforcer.as_str()))
        .collect();
    assert!(
        subjects.contains(&("container:db", "kernel"))
            && subjects.contains(&("possessor", "kernel")),
        "{subjects:?}"
    );
    // Another key of that name would push the copy out.
    world.ok(&add("db", "k", "other"));
    world.refused(
        &grant(
            &world
                .ok(&List {
                    container: Some("db".into()),
                })
                .keys[0]
                .serial
                .to_string(),
            "db",
        ),
        ErrorKind::AlreadyExists,
    );

    let done = world.ok(&ungrant("web/user:k", "db"));
    assert!(
        done.copy_removed && !done.given_back && !done.note.is_empty(),
        "{done:?}"
    );
    assert_eq!(in_kernel(second.copy.unwrap()), None);
    assert!(world.copies("db").is_empty());
    world.refused(&ungrant("web/user:k", "db"), ErrorKind::NoSuchKey);
    world.until("nothing is polled any more", || {
        world.ok(&GetStatus {}).poll_interval_ms == 0
    });
    world.instance.stop();
}

#[test]
fn copies_are_updated_at_once_and_come_back_within_a_poll() {
    let world = World::start();
    world.container("web");
    world.ok(&add("web", "k", "one"));
    let copy = world.ok(&grant("web/user:k", "web")).grant.copy.unwrap();
    assert_eq!(world.ok(&GetStatus {}).poll_interval_ms, 1000);
    world.ok(&Update {
        key: text("web/user:k"),
        payload: Payload::new(b"two".to_vec()),
    });
    assert_eq!(in_kernel(copy).unwrap(), b"two");
    assert_eq!(
        world
            .ok(&Read {
                key: text("web/user:k")
            })
            .payload
            .bytes(),
        b"two"
    );

    key::invalidate(KeySerial::new(copy)).unwrap();
    let begun = Instant::now();
    world.until("the copy is back", || {
        world
            .copies("web")
            .first()
            .is_some_and(|k| k.serial != copy)
    });
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let renewed = world.copies("web").remove(0);
    assert_eq!(in_kernel(renewed.serial).unwrap(), b"two");
    assert_eq!(renewed.grants[0].copy, Some(renewed.serial));

    let keyring = world
        .ok(&GetKeyring {
            container: "web".into(),
        })
        .keyring
        .serial;
    key::invalidate(KeySerial::new(keyring)).unwrap();
    world.until("the keyring is back", || {
        world
            .call(&GetKeyring {
                container: "web".into(),
            })
            .is_ok_and(|now| now.keyring.serial != keyring && now.keys.len() == 1)
    });
    world.instance.stop();
}

#[test]
fn keys_are_moved_and_replaced_between_containers() {
    let world = World::start();
    world.container("web");
    world.container("db");
    let source = world.ok(&add("web", "k", "moved")).key;
    world.ok(&add("db", "k", "there"));
    world.refused(&add("db", "k", "twice"), ErrorKind::AlreadyExists);
    let ended = world.ok(&grant("web/user:k", "web")).grant.copy.unwrap();
    let call = |replace| Move {
        key: text("web/user:k"),
        to: "db".into(),
        replace,
    };
    let error = world.refused(&call(false), ErrorKind::AlreadyExists);
    assert!(error.hint.is_some());
    let moved = world.ok(&call(true)).key;
    assert_eq!(
        (moved.serial, moved.container.as_deref()),
        (source.serial, Some("db"))
    );
    assert_eq!(in_kernel(ended), None, "the grant to the container it left");
    assert_eq!(
        world
            .ok(&Read {
                key: text("db/user:k")
            })
            .payload
            .bytes(),
        b"moved"
    );
    assert_eq!(world.ok(&List::default()).keys.len(), 1);
    world.refused(
        &Describe {
            key: text("web/user:k"),
        },
        ErrorKind::NoSuchKey,
    );
    world.ok(&Invalidate {
        key: text("db/user:k"),
    });
    world.refused(
        &Read {
            key: text("db/user:k"),
        },
        ErrorKind::NoSuchKey,
    );
    world.instance.stop();
}

#[test]
fn bad_input_is_refused_for_its_reason_and_changes_nothing() {
    use ErrorKind::{InvalidArgument, NoSuchContainer, NoSuchKey, NotCopyable, TooLarge};
    let world = World::start();
    world.container("web");
    world.ok(&add("web", "k", "canary-payload"));
    world.refused(&add("nowhere", "k", "x"), NoSuchContainer);
    world.refused(&add("we/b", "k", "x"), InvalidArgument);
    world.refused(
        &Add {
            type_: "no-such-type".into(),
            ..add("web", "x", "x")
        },
        InvalidArgument,
    );
    world.refused(
        &Add {
            type_: ".builtin".into(),
            ..add("web", "x", "x")
        },
        InvalidArgument,
    );
    world.refused(
        &Add {
            type_: "keyring".into(),
            ..add("web", "x", "")
        },
        InvalidArgument,
    );
    world.refused(
        &Add {
            type_: "x".repeat(40),
            ..add("web", "x", "x")
        },
        InvalidArgument,
    );
    world.refused(&add("web", &"d".repeat(4096), "x"), InvalidArgument);
    world.refused(&add("web", "nul\0byte", "x"), InvalidArgument);
    world.refused(&add("web", "big", &"p".repeat(32_768)), TooLarge);
    world.refused(&add("web", "empty", ""), InvalidArgument);
    world.refused(
        &Add {
            timeout: Some(0),
            ..add("web", "x", "x")
        },
        InvalidArgument,
    );
    for name in [
        "",
        "@s",
        "%user:k",
        "-3",
        "web",
        "web/",
        "web/k",
        "0",
        "99999999999",
        "web/-3",
    ] {
        world.refused(&Describe { key: text(name) }, InvalidArgument);
    }
    for name in ["web/user:other", "web/7", "7"] {
        world.refused(&Describe { key: text(name) }, NoSuchKey);
    }
    world.refused(
        &Describe {
            key: text("nowhere/user:k"),
        },
        NoSuchContainer,
    );
    for rights in [&["frob"][..], &[], &[""]] {
        world.refused(&bare("web/user:k", "web", rights), InvalidArgument);
    }
    world.refused(
        &GrantTo {
            duration: Some(0),
            ..grant("web/user:k", "web")
        },
        InvalidArgument,
    );
    world.refused(&grant("web/user:k", "nowhere"), NoSuchContainer);
    world.ok(&Add {
        type_: "logon".into(),
        ..add("web", "fs:x", "unreadable")
    });
    world.refused(&grant("web/logon:fs:x", "web"), NotCopyable);
    world.refused(
        &Read {
            key: text("web/logon:fs:x"),
        },
        ErrorKind::Unsupported,
    );
    assert!(world.copies("web").is_empty());
    assert_eq!(world.ok(&List::default()).keys.len(), 2);
    for payload in ["canary-payload", "unreadable"] {
        assert!(
            !world.instance.log().contains(payload),
            "a payload in the log"
        );
    }
    world.instance.stop();
}

#[test]
fn subscribers_hear_what_happens_to_keys_without_payloads() {
    let world = World::start();
    world.container("web");
    let mut events = world.subscribe();
    assert_eq!(world.next(&mut events).event, "subscribed");
    world.ok(&add("web", "k", "canary-payload"));
    world.ok(&grant("web/user:k", "web"));
    world.ok(&Update {
        key: text("web/user:k"),
        payload: Payload::new(b"canary-payload-2".to_vec()),
    });
    world.ok(&ungrant("web/user:k", "web"));
    world.ok(&Invalidate {
        key: text("web/user:k"),
    });
    for name in [
        "key-added",
        "key-granted",
        "key-updated",
        "key-ungranted",
        "key-invalidated",
    ] {
        let event = world.next(&mut events);
        assert_eq!(event.event, name);
        assert_eq!(event.key.as_ref().unwrap().description, text("k"));
        assert_eq!(event.grant.is_some(), name.ends_with("granted"), "{name}");
        assert!(!serde_json::to_string(&event).unwrap().contains("canary"));
    }
    world.instance.stop();
}

#[test]
fn an_update_that_does_not_reach_a_copy_is_no_success() {
    let world = World::start();
    // Without a user namespace: the copies have an ordinary quota of their own.
    let create = Create {
        name: "host".into(),
        namespaces: vec![Namespace::Pid],
        root: Root::Empty,
        kill_on_close: false,
    };
    world.ok(&create);
    world.ok(&add("host", "k", "small"));
    world.ok(&grant("host/user:k", "host"));
    let update = |payload: &str| Update {
        key: text("host/user:k"),
        payload: Payload::new(payload.as_bytes().to_vec()),
    };
    let error = world.call(&update(&"x".repeat(30_000))).unwrap_err();
    assert!(error.message.contains("not everywhere"), "{error:?}");
    assert!(
        error.cause.unwrap().contains("key quota of uid"),
        "{:?}",
        error.message
    );
    world.ok(&update("small again"));
    world.instance.stop();
}

//! What ends, and what survives: loans, grants, the daemon.

use std::ffi::CString;
use std::time::Duration;

use keyns_interfaces::containers::{GetKeyring, Kill};
use keyns_interfaces::keys::{
    Add, Describe, Drop, GetAcl, GrantTo, Invalidate, Lend, List, Move, Read, Update,
};
use keyns_interfaces::{ErrorKind, Payload};
use keyns_sys::{KeySerial, key};

use crate::world::*;

#[test]
fn a_key_of_the_callers_is_lent_followed_and_given_back() {
    let world = World::start();
    world.container("web");
    let name = CString::new(format!("lent-{}", world.instance.name)).unwrap();
    let own = key::add_key(c"user", &name, b"mine", KeySerial::THREAD).unwrap();
    let serial = own.raw().to_string();
    world.refused(&grant(&serial, "web"), ErrorKind::NoSuchKey);
    let mut client = world.connect();
    let Drop { keyring } = world.on(&mut client, &Lend {}).unwrap();
    let Drop { keyring: same } = world.on(&mut client, &Lend {}).unwrap();
    assert_eq!(keyring, same);
    key::link(own, KeySerial::new(keyring)).unwrap();
    // Another connection has nothing of it.
    world.refused(&grant(&serial, "web"), ErrorKind::NoSuchKey);
    // Rights are judged before the key is taken, and a dry run gives it back.
    let refused = world
        .on(&mut client, &bare(&serial, "web", &["search"]))
        .unwrap_err();
    assert_eq!(refused.kind, ErrorKind::ImpliedRights);
    let granted = world.on(&mut client, &grant(&serial, "web")).unwrap();
    assert_eq!(
        (granted.key.origin.as_str(), granted.key.serial),
        ("lent", own.raw())
    );
    drop(client);
    let copy = granted.grant.copy.unwrap();
    assert_eq!(in_kernel(copy).unwrap(), b"mine");
    assert!(world.ok(&GetAcl { key: text(&serial) }).lent);
    world.until("its drop keyring ends with the connection", || {
        key::link(own, KeySerial::new(keyring)).is_err()
    });
    key::update(own, b"changed").unwrap();
    world.until("the copy follows", || {
        in_kernel(copy).is_some_and(|now| now == b"changed")
    });
    // What is its owner's stays its owner's.
    for error in [
        world.refused(&Read { key: text(&serial) }, ErrorKind::InvalidArgument),
        world.refused(
            &Invalidate { key: text(&serial) },
            ErrorKind::InvalidArgument,
        ),
        world.refused(
            &Move {
                key: text(&serial),
                to: "web".into(),
                replace: true,
            },
            ErrorKind::InvalidArgument,
        ),
    ] {
        assert!(error.cause.is_some() && error.hint.is_some(), "{error:?}");
    }
    let done = world.ok(&ungrant(&serial, "web"));
    assert!(done.copy_removed && done.given_back, "{done:?}");
    assert!(world.ok(&List::default()).keys.is_empty());
    assert_eq!(key::read(own).unwrap(), b"changed");

    // A key whose owner ends it takes the copy along.
    let mut client = world.connect();
    let Drop { keyring } = world.on(&mut client, &Lend {}).unwrap();
    key::link(own, KeySerial::new(keyring)).unwrap();
    world.on(&mut client, &grant(&serial, "web")).unwrap();
    key::revoke(own).unwrap();
    world.until("the copy is gone", || world.copies("web").is_empty());
    assert!(world.ok(&List::default()).keys.is_empty());
    key::unlink(own, KeySerial::THREAD).unwrap();
    world.instance.stop();
}

#[test]
fn grants_end_by_themselves_with_their_time_or_their_container() {
    let world = World::start();
    world.container("web");
    world.container("db");
    world.ok(&add("web", "k", "secret"));
    let own = key::add_key(c"user", c"keyns-service-ends", b"mine", KeySerial::THREAD).unwrap();
    let mut client = world.connect();
    let Drop { keyring } = world.on(&mut client, &Lend {}).unwrap();
    key::link(own, KeySerial::new(keyring)).unwrap();
    world
        .on(&mut client, &grant(&own.raw().to_string(), "web"))
        .unwrap();
    let short = GrantTo {
        duration: Some(2),
        ..grant("web/user:k", "db")
    };
    let copy = world.ok(&short).grant.copy.unwrap();
    assert_eq!(in_kernel(copy).unwrap(), b"secret");
    world.until("the grant is over", || {
        world
            .ok(&Describe {
                key: text("web/user:k"),
            })
            .key
            .grants
            .is_empty()
    });
    assert_eq!(in_kernel(copy), None);
    let lasting = world.ok(&grant("web/user:k", "db")).grant.copy.unwrap();
    world.ok(&Kill {
        container: "web".into(),
        signal: None,
        process: None,
    });
    world.until("its key's copies elsewhere are gone", || {
        in_kernel(lasting).is_none()
    });
    assert!(
        world.ok(&List::default()).keys.is_empty(),
        "the lent key is not given back"
    );
    assert_eq!(key::read(own).unwrap(), b"mine");
    key::unlink(own, KeySerial::THREAD).unwrap();
    world.instance.stop();
}

#[test]
fn a_killed_daemon_finds_keys_and_grants_again() {
    let mut world = World::start();
    world.container("web");
    world.container("db");
    world.ok(&add("web", "k", "secret"));
    let copy = world.ok(&grant("web/user:k", "db")).grant.copy.unwrap();
    world.instance.kill_daemon();
    // No daemon, and the kernel still keeps what was granted.
    assert_eq!(in_kernel(copy).unwrap(), b"secret");
    world.instance.start_daemon();
    let found = world
        .ok(&Describe {
            key: text("web/user:k"),
        })
        .key;
    assert_eq!(found.grants[0].copy, Some(copy));
    assert_eq!(in_kernel(copy).unwrap(), b"secret");
    world.ok(&Update {
        key: text("web/user:k"),
        payload: Payload::new(b"after".to_vec()),
    });
    assert_eq!(in_kernel(copy).unwrap(), b"after");
    assert!(world.ok(&ungrant("web/user:k", "db")).copy_removed);
    // What died with nobody looking is not shown again.
    world.ok(&Add {
        timeout: Some(1),
        ..add("web", "short", "x")
    });
    world.instance.kill_daemon();
    std::thread::sleep(Duration::from_millis(1500));
    world.instance.start_daemon();
    let names: Vec<_> = world
        .ok(&List::default())
        .keys
        .into_iter()
        .map(|k| k.description)
        .collect();
    assert_eq!(names, [text("k")]);
    world.instance.stop();
}

#[test]
fn an_expired_name_can_be_used_again_at_once() {
    let world = World::start();
    world.container("web");
    world.ok(&Add {
        timeout: Some(1),
        ..add("web", "k", "old")
    });
    std::thread::sleep(Duration::from_millis(1500));
    world.refused(
        &Read {
            key: text("web/user:k"),
        },
        ErrorKind::NoSuchKey,
    );
    world.ok(&add("web", "k", "new"));
    assert_eq!(
        world
            .ok(&Read {
                key: text("web/user:k")
            })
            .payload
            .bytes(),
        b"new"
    );
    assert_eq!(world.ok(&List::default()).keys.len(), 1);
    world.instance.stop();
}

/// This thread has uid 0 like the owner of copies, and so can do what a denizen that was granted LINK
/// can: link its copy where it likes, and invalidate the container keyring.
#[test]
fn what_was_linked_elsewhere_is_taken_back_too() {
    for killed in [false, true] {
        let mut world = World::start();
        world.container("web");
        world.ok(&add("web", "k", "secret"));
        let copy = world.ok(&grant("web/user:k", "web")).grant.copy.unwrap();
        let found = world.ok(&GetKeyring {
            container: "web".into(),
        });
        let keyring = found.keyring.serial;
        key::link(KeySerial::new(copy), KeySerial::THREAD).unwrap();
        if killed {
            world.instance.kill_daemon();
        }
        key::invalidate(KeySerial::new(keyring)).unwrap();
        if killed {
            world.instance.start_daemon();
        }
        world.until("the keyring is rebuilt", || {
            let found = world.call(&GetKeyring {
                container: "web".into(),
            });
            found.is_ok_and(|found| found.keys.iter().any(|key| key.serial != copy))
        });
        assert_eq!(in_kernel(copy), None);
        let second = world.copies("web")[0].serial;
        key::link(KeySerial::new(second), KeySerial::THREAD).unwrap();
        assert!(world.ok(&ungrant("web/user:k", "web")).copy_removed);
        assert_eq!(in_kernel(second), None);
        key::clear(KeySerial::THREAD).unwrap();
        world.instance.stop();
    }
}

/// Anybody can write a line for any key into `/proc/keys`, inside a description.
#[test]
fn a_forged_expiry_keeps_no_key_from_being_granted() {
    let world = World::start();
    world.container("web");
    let name = CString::new(format!("forged-{}", world.instance.name)).unwrap();
    let own = key::add_key(c"user", &name, b"mine", KeySerial::THREAD).unwrap();
    let forged = format!(
        "x\n{:08x} I--Q---     2 expd 3f010000     0     0 user      {}: 4",
        own.raw(),
        name.to_str().unwrap()
    );
    let forged = CString::new(forged).unwrap();
    key::add_key(c"user", &forged, b"x", KeySerial::THREAD).unwrap();
    let mut client = world.connect();
    let Drop { keyring } = world.on(&mut client, &Lend {}).unwrap();
    key::link(own, KeySerial::new(keyring)).unwrap();
    let serial = own.raw().to_string();
    let granted = world.on(&mut client, &grant(&serial, "web")).unwrap();
    // Two rounds of looking after it later.
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(in_kernel(granted.grant.copy.unwrap()).unwrap(), b"mine");
    assert!(world.ok(&ungrant(&serial, "web")).given_back);
    key::clear(KeySerial::THREAD).unwrap();
    world.instance.stop();
}

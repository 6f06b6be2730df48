//! The registry, its worker and its helper.

use std::fs;
use std::time::{Duration, Instant};

use keyns::engine::keyring::container::owner_for;
use keyns::engine::keyring::{CopyState, Home, KeyError, KeyRef};
use keyns::mask::Bits;
use keyns_sys::KeySerial;

use crate::engine::*;

#[test]
fn a_restarted_worker_finds_everything_again() {
    let mut engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let (other, reserved) = engine.container(1, None);
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, other, Bits::SEARCH);
    let mut owner = Puppet::start();
    let lent_key = owner.number("add user lent-key mine @s");
    let opened = engine.keys(|keys| keys.open_drop(0));
    owner.ok(&format!("link {lent_key} {opened}"));
    let lent = engine.keys(move |keys| keys.take_lent(opened, KeySerial::new(lent_key)));
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);

    engine.restart();
    assert_eq!(engine.keys(|keys| Ok(keys.containers())), [id, other]);
    assert_eq!(engine.keys(move |keys| keys.keyrings(id)), keyrings);
    assert_eq!(engine.keys(move |keys| keys.keyrings(other)), reserved);
    let key = source.clone();
    assert_eq!(
        engine.keys(move |keys| keys.read(&key)).as_slice(),
        b"secret"
    );
    assert_eq!(engine.keys(|keys| keys.lent()), [lent]);
    eventually("the drop keyring is gone", || {
        owner.call(&format!("link {lent_key} {opened}")) == Err(ENOKEY)
    });
    // What the payload was is not known any more, so the copy is given it again; it stays the same.
    let tended = engine.tend(&source, vec![(plan(other, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Updated]),
        "{tended:?}"
    );
    // And a denizen started before is still healed.
    let copy = engine.project(&source, id, Bits::SEARCH);
    puppet.ok(&format!("invalidate {}", keyrings.container));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Renewed(_)]),
        "{tended:?}"
    );
    assert_eq!(
        puppet.ok("request user k").parse(),
        Ok(engine.copies(id)[0].serial.raw())
    );
}

#[test]
fn only_the_worker_possesses_the_registry() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    let serial = source.facts.serial;
    // This thread is one of the same process, of the same uid, and not the worker.
    assert_eq!(
        keyns_sys::key::read(serial).unwrap_err().raw_os_error(),
        Some(EACCES)
    );
    assert_eq!(
        keyns_sys::key::update(serial, b"x")
            .unwrap_err()
            .raw_os_error(),
        Some(EACCES)
    );
    let worker =
        engine.keys(move |_| Ok(keyns_sys::key::read(serial).map_err(|e| e.raw_os_error())));
    // Nor does the worker, between two operations.
    assert_eq!(worker, Err(Some(EACCES)));
    let key = source.clone();
    assert_eq!(
        engine.keys(move |keys| keys.read(&key)).as_slice(),
        b"secret"
    );
}

#[test]
fn a_killed_shelter_is_replaced() {
    let engine = Engine::start();
    engine.container(0, None);
    let pid = engine.keys(|keys| Ok(keys.shelter_pid())).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    engine.container(1, None);
    assert_ne!(
        engine.keys(|keys| Ok(keys.shelter_pid())),
        Some(pid.as_raw_nonzero().get() as u32)
    );
}

#[test]
fn sessions_that_ended_are_let_go() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let mut alive = Puppet::start();
    alive.enter(&engine, id, range.base);
    let session = alive.number("id @s");
    for _ in 0..40 {
        let mut short = Puppet::start();
        short.enter(&engine, id, range.base);
    }
    // The kernel lets go of a dead process' credentials a little later.
    eventually("ended sessions are let go", || {
        let mut short = Puppet::start();
        short.enter(&engine, id, range.base);
        let users = fs::read_to_string("/proc/key-users").unwrap();
        keyns::key_users::find(&users, range.base)
            .unwrap()
            .charged_keys
            < 30
    });
    // The living one was kept: it is still healed.
    alive.enter_user_namespace(range, 0);
    let source = engine.add(id, "k", "x");
    let copy = engine.project(&source, id, Bits::SEARCH);
    assert_eq!(alive.number("id @s"), session);
    alive.ok(&format!("invalidate {}", keyrings.container));
    engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    alive.ok("request user k");
}

#[test]
fn a_key_is_moved_between_stores() {
    let engine = Engine::start();
    let (from, _) = engine.container(0, None);
    let (to, _) = engine.container(1, None);
    let source = engine.add(from, "k", "moved");
    let blocking = engine.add(to, "k", "there before");
    let key = source.clone();
    let refused = engine.try_keys(move |keys| keys.move_to(&key, to, false));
    assert!(matches!(refused, Err(KeyError::Exists)), "{refused:?}");
    let key = source.clone();
    let facts = engine.keys(move |keys| keys.move_to(&key, to, true));
    assert_eq!(facts.serial, source.facts.serial);
    assert!(engine.keys(move |keys| keys.stored(from)).is_empty());
    let moved = KeyRef {
        home: Home::Store(to),
        facts,
    };
    assert_eq!(
        engine.keys(move |keys| keys.read(&moved)).as_slice(),
        b"moved"
    );
    let gone = engine.try_keys(move |keys| keys.read(&blocking));
    assert!(matches!(gone, Err(KeyError::Gone { .. })), "{gone:?}");
    // A key is where it is, not where its serial is used.
    let stale = engine.try_keys(move |keys| keys.read(&source));
    assert!(matches!(stale, Err(KeyError::Gone { .. })), "{stale:?}");
}

#[test]
fn creating_the_thousandth_container_costs_what_the_first_did() {
    let engine = Engine::start();
    let range = engine.range();
    let create = |n: u64| {
        let id = engine.id(n);
        let owner = owner_for(id, Some(range));
        let begun = Instant::now();
        engine.keys(move |keys| keys.create_container(id, owner));
        begun.elapsed()
    };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let first = median((0..50).map(create).collect());
    for n in 50..950 {
        create(n);
    }
    let last = median((950..1000).map(create).collect());
    assert!(
        last < first * 3,
        "{first:?} at first, {last:?} with a thousand"
    );
}

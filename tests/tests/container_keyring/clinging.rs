//! Denizens that hold on to what they were given, and that get in the daemon's way.

use std::time::Duration;

use keyns::engine::container::ContainerId;
use keyns::engine::keyring::{CopyPlan, CopyState, Home, KeyRef};
use keyns::mask::Bits;
use keyns_sys::KeySerial;

use crate::engine::*;

fn linkable(id: ContainerId) -> CopyPlan {
    plan(id, Bits::SEARCH.with(Bits::LINK))
}

/// A denizen with a copy that it linked into its own session before it invalidated the container
/// keyring.
struct Clinging {
    engine: Engine,
    id: ContainerId,
    source: KeyRef,
    copy: KeySerial,
    puppet: Puppet,
}

impl Clinging {
    fn new(type_: &str, payload: &str) -> Self {
        let engine = Engine::start();
        let range = engine.range();
        let (id, keyrings) = engine.container(0, Some(range));
        let (key_type, payload) = (c(type_), secret(payload));
        let facts = engine.keys(move |keys| keys.add(id, &key_type, c"k", &payload, None));
        let source = KeyRef {
            home: Home::Store(id),
            facts,
        };
        let copy = engine.project(&source, id, Bits::SEARCH.with(Bits::LINK));
        let mut puppet = Puppet::start();
        puppet.enter(&engine, id, range.base);
        puppet.enter_user_namespace(range, 0);
        puppet.ok(&format!("link {copy} @s"));
        puppet.ok(&format!("invalidate {}", keyrings.container));
        eventually("the container keyring is collected", || {
            puppet.ok("list @s") == copy.to_string()
        });
        // It has the key in spite of all: the test shows something.
        puppet.ok(&format!("read {copy}"));
        Self {
            engine,
            id,
            source,
            copy,
            puppet,
        }
    }

    fn tend(&self) -> KeySerial {
        let tended = self
            .engine
            .tend(&self.source, vec![(linkable(self.id), self.copy)]);
        let [CopyState::Renewed(copy)] = tended.copies[..] else {
            panic!("{tended:?}")
        };
        copy
    }

    fn lost(&mut self, copy: KeySerial) {
        self.puppet.finds_nothing(&format!("read {copy}"));
    }
}

#[test]
fn a_copy_that_was_linked_elsewhere_ends_when_its_keyring_is_rebuilt() {
    // Of these types one is updated in place, the other made anew.
    for (type_, payload) in [("user", "secret"), ("dns_resolver", "192.0.2.7\0")] {
        let mut denizen = Clinging::new(type_, payload);
        let (id, first) = (denizen.id, denizen.copy);
        let second = denizen.tend();
        denizen.lost(first);
        denizen.puppet.ok(&format!("read {second}"));
        assert!(
            denizen
                .engine
                .keys(move |keys| keys.remove_copy(id, second))
        );
        denizen.lost(second);
    }
}

#[test]
fn rebuilding_for_another_key_or_a_start_ends_such_copies_too() {
    for start in [false, true] {
        let mut denizen = Clinging::new("user", "secret");
        let id = denizen.id;
        if start {
            denizen.engine.keys(move |keys| keys.prepare_session(id, 0));
        } else {
            let other = denizen.engine.add(id, "other", "x");
            denizen.engine.project(&other, id, Bits::SEARCH);
        }
        denizen.lost(denizen.copy);
    }
}

#[test]
fn a_worker_that_finds_the_container_keyring_dead_ends_the_copies_all_the_same() {
    let mut denizen = Clinging::new("user", "secret");
    denizen.engine.restart();
    let (id, first) = (denizen.id, denizen.copy);
    assert_eq!(denizen.engine.keys(move |keys| keys.given(id)), [first]);
    // Taken back before anything was rebuilt.
    assert!(denizen.engine.keys(move |keys| keys.remove_copy(id, first)));
    denizen.lost(first);

    let mut denizen = Clinging::new("user", "secret");
    denizen.engine.restart();
    let second = denizen.tend();
    denizen.lost(denizen.copy);
    denizen.puppet.ok(&format!("read {second}"));
}

#[test]
fn the_end_of_a_container_ends_what_denizens_kept() {
    for restart in [false, true] {
        let mut denizen = Clinging::new("user", "secret");
        if restart {
            denizen.engine.restart();
        }
        let id = denizen.id;
        denizen.engine.keys(move |keys| keys.destroy_container(id));
        denizen.lost(denizen.copy);
    }
}

/// Nothing keeps a process with `CAP_SETUID` in the host's user namespace from becoming the owner of
/// the container keyring. It harms itself, not the daemon.
#[test]
fn a_denizen_that_became_the_owner_cannot_keep_its_container_from_being_destroyed() {
    for (maim, restart) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut engine = Engine::start();
        let (id, keyrings) = engine.container(0, None);
        let source = engine.add(id, "k", "secret");
        let copy = engine.project(&source, id, Bits::SEARCH);
        let mut puppet = Puppet::start();
        puppet.enter(&engine, id, 0);
        // Not to be found, let alone invalidated, by anybody.
        let foreign = puppet.number("add user foreign x @s");
        let ck = keyrings.container;
        puppet.ok(&format!("fsuid {}", keyrings.owner));
        puppet.ok(&format!("link {foreign} {ck}"));
        let own = puppet.number(&format!("add user own x {ck}"));
        for key in [foreign, own] {
            puppet.ok(&format!("setperm {key} 0x20000000"));
        }
        if maim {
            puppet.ok(&format!("setperm {ck} 0x08000000"));
        }
        if restart {
            engine.restart();
        }
        let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
        let renewed = matches!(tended.copies[..], [CopyState::Renewed(_)]);
        let updated = matches!(tended.copies[..], [CopyState::Updated]);
        let kept = matches!(tended.copies[..], [CopyState::Kept]);
        assert!(
            if maim {
                renewed
            } else {
                updated == restart && kept != restart
            },
            "maimed: {maim}, restarted: {restart}: {tended:?}"
        );
        if maim {
            // Again, so that it is destroyed as it is.
            let ck = engine.keys(move |keys| keys.keyrings(id)).container;
            puppet.ok(&format!("setperm {ck} 0x08000000"));
        } else {
            // Thrown out, so linked anew.
            assert_eq!(puppet.ok(&format!("list {ck}")), copy.to_string());
            puppet.ok("fsuid 0");
            let foreign = puppet.number("add user another x @s");
            puppet.ok(&format!("fsuid {}", keyrings.owner));
            puppet.ok(&format!("link {foreign} {ck}"));
            puppet.ok(&format!("setperm {foreign} 0x20000000"));
        }
        engine.keys(move |keys| keys.destroy_container(id));
        assert!(keyns_sys::key::read(copy).is_err());
        assert!(engine.keys(|keys| Ok(keys.containers())).is_empty());
    }
}

/// Below what the worker or a new process links, the kernel looks for cycles, in all ways down.
#[test]
fn keyrings_in_the_container_keyring_are_in_nobodys_way() {
    let mut engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, 0);
    puppet.ok(&format!("fsuid {}", keyrings.owner));
    let mut numbers = 0..;
    // A chain longer than the kernel follows.
    let mut drop_in = |engine: &Engine| {
        let ck = engine.keys(move |keys| keys.keyrings(id)).container;
        let mut above = ck;
        for n in numbers.by_ref().take(10) {
            let next = puppet.number(&format!("add keyring chain-{n} - @s"));
            puppet.ok(&format!("link {next} {above}"));
            above = next;
        }
        puppet.refused(&format!("link {ck} @s"), ELOOP);
        ck
    };
    drop_in(&engine);
    engine.restart();
    drop_in(&engine);
    // A new process gets the container keyring, and so does one whose keyring has to be rebuilt.
    Puppet::start().enter(&engine, id, 0);
    let ck = drop_in(&engine);
    keyns_sys::cred::set_fsuid(keyrings.owner).unwrap();
    let invalidated = keyns_sys::key::invalidate(KeySerial::new(ck));
    keyns_sys::cred::set_fsuid(0).unwrap();
    invalidated.unwrap();
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Renewed(_)]),
        "{tended:?}"
    );
    drop_in(&engine);
    engine.keys(move |keys| keys.destroy_container(id));
}

/// What is in no container keyring any more is not kept either.
#[test]
fn a_copy_that_the_owner_unlinked_is_made_anew() {
    let engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, 0);
    puppet.ok(&format!("fsuid {}", keyrings.owner));
    puppet.ok(&format!("clear {}", keyrings.container));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    let [CopyState::Renewed(second)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert_eq!(puppet.number("request user k"), second.raw());
}

#[test]
fn a_full_quota_inside_does_not_keep_the_administrator_out() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut hoarder = Puppet::start();
    hoarder.enter(&engine, id, range.base);
    hoarder.enter_user_namespace(range, 0);
    let filled = (0..400).find_map(|n| hoarder.call(&format!("add user h{n} x @s")).err());
    assert_eq!(filled, Some(EDQUOT));

    let mut admin = Puppet::start();
    admin.enter(&engine, id, range.base);
    let session = admin.number("id @s");
    let described = admin.ok(&format!("describe {session}"));
    assert!(described.starts_with("keyring;0;"), "{described}");
    admin.enter_user_namespace(range, 0);
    assert_eq!(admin.number("request user k"), copy.raw());
    assert_eq!(admin.ok("list @s"), keyrings.container.to_string());
    // Its session serves it like any other, once there is quota for keys again.
    hoarder.ok("clear @s");
    let mut own = None;
    eventually("the hoarded keys are gone", || {
        own = admin.call("add user own x @s").ok();
        own.is_some()
    });
    assert_eq!(admin.ok("request user own"), own.unwrap());
    // And it is healed like any other.
    admin.ok(&format!("invalidate {}", keyrings.container));
    engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    admin.ok("request user k");
}

/// Each look which sessions live walks all keys of the machine.
#[test]
fn sessions_are_not_surveyed_more_often_than_said() {
    let mut engine = Engine::start();
    engine.survey = Duration::from_secs(3600);
    engine.restart();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let start = |n: usize| {
        for _ in 0..n {
            Puppet::start().enter(&engine, id, range.base);
        }
        let users = std::fs::read_to_string("/proc/key-users").unwrap();
        let user = keyns::key_users::find(&users, range.base).unwrap();
        user.charged_keys
    };
    // The first look is at the ninth start.
    start(9);
    let before = start(0);
    std::thread::sleep(Duration::from_millis(300));
    let after = start(100);
    assert!(after >= 100, "{before}, then {after}");
}

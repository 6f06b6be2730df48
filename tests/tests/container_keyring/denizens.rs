//! What a denizen can do, sees, and can break.

use std::time::Instant;

use keyns::engine::container::IdRange;
use keyns::engine::keyring::CopyState;
use keyns::engine::keyring::container::owner_for;
use keyns::mask::Bits;

use crate::engine::*;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// No user namespace, and the keyring owned by uid 0: what must not be built.
    HostRoot,
    /// A user namespace of its own.
    UserNamespace,
    /// No user namespace, and the keyring owned by a reserved uid.
    Reserved,
}

/// What each kind of denizen can do to the container keyring and to a copy in it that may only be
/// searched: the whole reason for the choice of owners and masks.
#[test]
fn a_denizen_can_search_read_and_invalidate_and_nothing_else() {
    for kind in [Kind::HostRoot, Kind::UserNamespace, Kind::Reserved] {
        let engine = Engine::start();
        let range = engine.range();
        let owner = match kind {
            Kind::HostRoot | Kind::UserNamespace => 0,
            Kind::Reserved => owner_for(engine.id(0), None),
        };
        let id = engine.id(0);
        let keyrings = engine.keys(move |keys| keys.create_container(id, owner));
        let source = engine.add(id, "k", "secret");
        let (ck, key) = (
            keyrings.container,
            engine.project(&source, id, Bits::SEARCH),
        );
        let mut puppet = Puppet::start();
        let uid = if kind == Kind::UserNamespace {
            range.base
        } else {
            0
        };
        puppet.enter(&engine, id, uid);
        if kind == Kind::UserNamespace {
            puppet.enter_user_namespace(range, 0);
        }
        assert_eq!(puppet.number(&format!("id {ck}")), ck);
        assert_eq!(puppet.number("request user k"), key.raw());
        assert_eq!(puppet.number("search @s user k"), key.raw());
        assert_eq!(puppet.ok(&format!("list {ck}")), key.to_string());
        assert_eq!(puppet.ok(&format!("read {key}")), "secret");
        let all = kind == Kind::HostRoot;
        let mut may = |line: String| match puppet.call(&line) {
            Ok(_) => assert!(all, "{kind:?} could {line}"),
            // CHOWN inside a user namespace fails for another reason, but fails.
            Err(errno) => assert!(
                !all && [EACCES, EPERM].contains(&errno),
                "{kind:?} {line}: {errno}"
            ),
        };
        may(format!("describe {ck}"));
        may(format!("describe {key}"));
        may(format!("add user mine x {ck}"));
        may(format!("link {key} @s"));
        may(format!("unlink {key} {ck}"));
        may(format!("link {key} {ck}"));
        may(format!("link {ck} @p"));
        may("request user k @p".to_owned());
        may(format!("update {key} changed"));
        may(format!("timeout {key} 1000"));
        may(format!("timeout {ck} 1000"));
        may(format!("setperm {key} 0x083f0000"));
        may(format!("setperm {ck} 0x083f0000"));
        may(format!("chown {key} 0"));
        may(format!("chown {ck} 0"));
        may(format!("move {key} {ck} @s"));
        may(format!("clear {ck}"));
        may(format!("restrict {ck}"));
        may(format!("revoke {key}"));
        may(format!("revoke {ck}"));
        if kind != Kind::HostRoot {
            // What no mask prevents: whoever can find a key can destroy it.
            puppet.ok(&format!("invalidate {key}"));
            puppet.ok(&format!("invalidate {ck}"));
        }
        drop(puppet);
    }
}

/// Two containers and the host: nothing of one is visible to the other.
#[test]
fn containers_do_not_see_each_others_keys_or_keyrings() {
    let engine = Engine::start();
    let range = engine.range();
    let half = range.count / 2;
    let ranges = [
        IdRange {
            base: range.base,
            count: half,
        },
        IdRange {
            base: range.base + half,
            count: half,
        },
    ];
    let mut denizens: Vec<_> = ranges
        .iter()
        .enumerate()
        .map(|(n, range)| {
            let (id, keyrings) = engine.container(n as u64, Some(*range));
            assert_eq!(keyrings.owner, 0);
            let source = engine.add(id, &format!("own-{n}"), &format!("secret-{n}"));
            let copy = engine.project(&source, id, Bits::SEARCH);
            let mut puppet = Puppet::start();
            puppet.enter(&engine, id, range.base);
            puppet.enter_user_namespace(*range, 0);
            (puppet, keyrings, source, copy)
        })
        .collect();
    let others: Vec<_> = denizens
        .iter()
        .map(|(_, k, s, c)| (*k, s.facts.serial, *c))
        .collect();
    for (n, (puppet, _, source, copy)) in denizens.iter_mut().enumerate() {
        let (theirs, their_source, their_copy) = others[1 - n];
        assert_eq!(puppet.number(&format!("request user own-{n}")), copy.raw());
        puppet.refused(&format!("request user own-{}", 1 - n), ENOKEY);
        // Neither the other's keys nor the manager's, not even the source of one's own copy.
        for serial in [their_copy, their_source, source.facts.serial] {
            puppet.refused(&format!("read {serial}"), EACCES);
            puppet.refused(&format!("describe {serial}"), EACCES);
            puppet.refused(&format!("invalidate {serial}"), EACCES);
            puppet.refused(&format!("link {serial} @p"), EACCES);
        }
        for keyring in [theirs.container, theirs.store, theirs.sessions] {
            puppet.refused(&format!("id {keyring}"), EACCES);
            puppet.refused(&format!("list {keyring}"), EACCES);
            puppet.refused(&format!("link {keyring} @p"), EACCES);
        }
        let seen = puppet.ok("keys");
        for word in ["own-", "_container", "keyns:", "store", "sessions"] {
            assert!(!seen.contains(word), "{word} in {seen}");
        }
    }
}

/// A keyring that may be searched by its owner can be joined by its name, and whoever joins it
/// possesses it. The container keyring is one; only where it was born protects it.
#[test]
fn no_keyring_of_the_engine_can_be_joined_by_name() {
    let engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    engine.project(&source, id, Bits::SEARCH);
    let mut root = Puppet::start();
    // The owner's uid and a description that is known: the kernel would ask for nothing else.
    root.ok(&format!("fsuid {}", keyrings.owner));
    for name in [
        "_container",
        "store",
        "sessions",
        "lent",
        "drops",
        &format!("keyns:{}", engine.instance),
    ] {
        let joined = root.number(&format!("join {name}"));
        assert_eq!(root.ok(&format!("list {joined}")), "", "{name}");
        assert_ne!(joined, keyrings.container);
    }
    // The control: a keyring of that mask born outside the shelter is joined.
    let mut victim = Puppet::start();
    victim.ok(&format!("fsuid {}", keyrings.owner));
    let name = format!("_outside-{}", engine.number);
    let open = victim.number(&format!("add keyring {name} - @s"));
    victim.ok(&format!("setperm {open} 0x083f0000"));
    assert_eq!(root.number(&format!("join {name}")), open);
}

#[test]
fn what_a_denizen_invalidated_is_back_in_the_same_session() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);

    puppet.ok(&format!("invalidate {copy}"));
    puppet.finds_nothing("request user k");
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert_eq!(puppet.number("request user k"), copy.raw());

    puppet.ok(&format!("invalidate {}", keyrings.container));
    puppet.finds_nothing("request user k");
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert_eq!(puppet.number("request user k"), copy.raw());
    let rebuilt = engine.keys(move |keys| keys.container_keyring(id));
    assert_eq!((rebuilt.mask, rebuilt.uid), (0x083f_0000, 0));
    assert_ne!(rebuilt.serial.raw(), keyrings.container);
}

/// The tree a denizen may build in its session takes a search for ever; none of the worker's enters.
#[test]
fn a_hostile_session_does_not_slow_the_worker_down() {
    let mut engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    // A chain longer than the kernel follows, in which a look for cycles fails.
    let chain: Vec<_> = (0..12)
        .map(|n| puppet.number(&format!("add keyring chain-{n} - @s")))
        .collect();
    for pair in chain.windows(2) {
        puppet.ok(&format!("link {} {}", pair[1], pair[0]));
    }
    // Four levels of 32 keyrings, each linking all of the next: a million ways down.
    let mut below: Vec<i32> = Vec::new();
    for level in 0..4 {
        let mut here = Vec::new();
        for n in 0..32 {
            let keyring = puppet.number(&format!("add keyring l{level}-{n} - @s"));
            for child in &below {
                puppet.ok(&format!("link {child} {keyring}"));
            }
            here.push(keyring);
        }
        below = here;
    }
    let begun = Instant::now();
    puppet.refused("search @s user nothing", ENOKEY);
    let searched = begun.elapsed();
    puppet.ok(&format!("invalidate {}", keyrings.container));
    let begun = Instant::now();
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    let healed = begun.elapsed();
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert!(
        healed < searched / 4,
        "healed in {healed:?}, a search takes {searched:?}"
    );
    assert_eq!(puppet.ok(&format!("read {copy}")), "secret");
    // A look for cycles would fail here.
    engine.restart();
    puppet.ok(&format!(
        "invalidate {}",
        engine.keys(move |keys| keys.keyrings(id)).container
    ));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Renewed(_)]),
        "{tended:?}"
    );
    puppet.ok("request user k");
    engine.keys(move |keys| keys.destroy_container(id));
}

/// What a new process gets with no choice about inheritance: an empty session and the container
/// keyring. The control shows what would be inherited.
#[test]
fn a_creators_session_keys_are_out_of_reach_inside() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let mut careless = Puppet::start();
    let own = careless.number("add user creators-own secret @s");
    careless.enter_user_namespace(range, 0);
    assert_eq!(careless.number("request user creators-own"), own);
    assert_eq!(careless.ok(&format!("read {own}")), "secret");

    let mut puppet = Puppet::start();
    let own = puppet.number("add user creators-own secret @s");
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    puppet.refused("request user creators-own", ENOKEY);
    assert!(puppet.call(&format!("read {own}")).is_err());
    assert_eq!(puppet.ok("list @s"), keyrings.container.to_string());
}

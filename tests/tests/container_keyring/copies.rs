//! Copies of granted keys.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyns::engine::keyring::store::now;
use keyns::engine::keyring::{CopyPlan, CopyState, Home, KeyError, KeyRef, SourceState};
use keyns::expression::copy_mask;
use keyns::mask::Bits;
use keyns_sys::KeySerial;

use crate::engine::*;

#[test]
fn masks_are_read_back_from_the_kernel_as_planned() {
    let engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    assert_eq!(source.facts.mask, 0x3f01_0000);
    let keyring = engine.keys(move |keys| keys.container_keyring(id));
    assert_eq!((keyring.mask, keyring.uid), (0x083f_0000, keyrings.owner));
    for bits in Bits::every().filter(|bits| bits.contains(Bits::SEARCH)) {
        let copy = engine.project(&source, id, bits);
        let found = engine.copies(id);
        let [facts] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (facts.serial, facts.mask),
            (copy, copy_mask(bits).raw()),
            "{bits}"
        );
        assert_eq!(facts.mask >> 24, u32::from(bits.value()));
        assert_eq!(facts.mask & 0xffff, 0);
        assert_eq!(facts.uid, keyrings.owner);
    }
}

/// A denizen that looks for a key in a loop while it is granted, taken back, and granted again never
/// finds it with another mask than the one meant for it (a new key's own mask lets its possessor do
/// everything).
#[test]
fn a_copy_is_never_visible_with_default_permissions() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut found, mut wrong) = (0u32, 0u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(serial) = puppet.call("request user k") {
                    found += 1;
                    // VIEW and WRITE are in the default mask, and not in the copy's.
                    wrong += u32::from(puppet.call(&format!("describe {serial}")).is_ok());
                    wrong += u32::from(puppet.call(&format!("update {serial} mine")).is_ok());
                }
            }
        });
        for _ in 0..500 {
            let copy = engine.project(&source, id, Bits::SEARCH);
            engine.keys(move |keys| keys.remove_copy(id, copy));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        found > 0,
        "the denizen never saw the key: the test shows nothing"
    );
    assert_eq!(wrong, 0);
}

#[test]
fn copies_follow_their_source_until_it_is_gone() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "one");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.ok(&format!("read {copy}")), "one");
    let plans = || vec![(plan(id, Bits::SEARCH), copy)];
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Kept]
    ));
    let key = source.clone();
    engine.keys(move |keys| keys.update(&key, &secret("two"), None));
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Updated]
    ));
    assert_eq!(puppet.ok(&format!("read {copy}")), "two");
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Kept]
    ));
    let key = source.clone();
    engine.keys(move |keys| keys.invalidate(&key));
    let tended = engine.tend(&source, plans());
    assert!(matches!(tended.source, SourceState::Gone(_)), "{tended:?}");
    puppet.finds_nothing("request user k");
    puppet.finds_nothing(&format!("read {copy}"));
}

/// Granting a changed key again must not make the change look as if everybody had it.
#[test]
fn a_new_grant_does_not_hide_a_change_from_the_others() {
    let engine = Engine::start();
    let (first, _) = engine.container(0, None);
    let (second, _) = engine.container(1, None);
    let source = engine.add(first, "k", "one");
    let copies = [first].map(|id| {
        (
            plan(id, Bits::SEARCH),
            engine.project(&source, id, Bits::SEARCH),
        )
    });
    let key = source.clone();
    engine.keys(move |keys| keys.update(&key, &secret("two"), None));
    let newer = (
        plan(second, Bits::SEARCH),
        engine.project(&source, second, Bits::SEARCH),
    );
    let [older] = copies;
    let tended = engine.tend(&source, vec![older, newer]);
    assert!(
        matches!(tended.copies[..], [CopyState::Updated, CopyState::Kept]),
        "{tended:?}"
    );
}

#[test]
fn ends_of_keys_and_grants_are_kept_by_the_kernel() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let key =
        engine.keys(move |keys| keys.add(id, c"user", c"k", &secret("x"), Some(now() + 1000)));
    let source = KeyRef {
        home: Home::Store(id),
        facts: key,
    };
    let ends = |deadline| CopyPlan {
        ends: Some(deadline),
        ..plan(id, Bits::SEARCH)
    };
    let (key, copy_plan) = (source.clone(), ends(now() + 2));
    let copy = engine
        .keys(move |keys| keys.project(&key, &copy_plan))
        .serial;
    // An update makes keys of this type live for ever, but not the copy.
    let key = source.clone();
    engine.keys(move |keys| keys.update(&key, &secret("y"), Some(now() + 1000)));
    let tended = engine.tend(&source, vec![(ends(now() + 2), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Updated]),
        "{tended:?}"
    );
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.ok(&format!("read {copy}")), "y");
    eventually("the copy expires", || {
        puppet.call(&format!("read {copy}")) != Ok("y".into())
    });
    assert!(
        engine
            .tend(&source, vec![(ends(now()), copy)])
            .copies
            .iter()
            .all(|s| matches!(s, CopyState::Ended))
    );
    let key = source.clone();
    let over = ends(now());
    assert!(matches!(
        engine.try_keys(move |keys| keys.project(&key, &over)),
        Err(KeyError::Expired)
    ));
    assert!(engine.copies(id).is_empty());
    // The source lives on, with its own end.
    let key = source.clone();
    assert_eq!(engine.keys(move |keys| keys.read(&key)).as_slice(), b"y");
}

#[test]
fn ungrant_takes_the_copy_away_at_once() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH.with(Bits::LINK));
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    // Even a link of the denizen's own does not keep it.
    puppet.ok(&format!("link {copy} @p"));
    assert!(engine.keys(move |keys| keys.remove_copy(id, copy)));
    puppet.finds_nothing("request user k");
    puppet.finds_nothing(&format!("read {copy}"));
    assert!(!engine.keys(move |keys| keys.remove_copy(id, copy)));
}

#[test]
fn what_cannot_be_copied_is_refused() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, None);
    let facts =
        engine.keys(move |keys| keys.add(id, c"logon", c"fs:x", &secret("0123456789abcdef"), None));
    let source = KeyRef {
        home: Home::Store(id),
        facts,
    };
    let result = engine.try_keys(move |keys| keys.project(&source, &plan(id, Bits::SEARCH)));
    assert!(
        matches!(result, Err(KeyError::NotCopyable(_))),
        "{result:?}"
    );
    assert!(engine.copies(id).is_empty());
    let keyring = engine.try_keys(move |keys| keys.add(id, c"keyring", c"ring", &secret(""), None));
    assert!(keyring.is_err());
    assert_eq!(engine.keys(move |keys| keys.stored(id)).len(), 1);
}

#[test]
fn an_encrypted_key_is_copied_with_its_master_in_the_same_store() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let master = format!("kmk-{}", engine.number);
    engine.add(id, &master, "0123456789abcdef0123456789abcdef");
    let payload = secret(&format!("new user:{master} 32"));
    let facts = engine.keys(move |keys| keys.add(id, c"encrypted", c"e", &payload, None));
    let source = KeyRef {
        home: Home::Store(id),
        facts,
    };
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.number("request encrypted e"), copy.raw());
    // To read its blob out again takes the master key, which stays outside.
    puppet.finds_nothing(&format!("read {copy}"));
    puppet.refused(&format!("request user {master}"), ENOKEY);
}

/// Keys of this type are tagged with the network namespace of whoever adds them. A search by name
/// ignores the tag for this one type, but a keyring holds one key of each description *and* tag.
#[test]
fn a_copy_of_a_networks_key_is_made_in_the_containers_network() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, Some(engine.range()));
    let facts = engine.keys(move |keys| {
        keys.add(
            id,
            c"dns_resolver",
            c"host.example",
            &secret("192.0.2.7\0"),
            None,
        )
    });
    let source = KeyRef {
        home: Home::Store(id),
        facts,
    };
    let mut neighbour = Puppet::start();
    let pid = neighbour.ok("pid");
    neighbour.ok("netns");
    let network = std::sync::Arc::new(
        fs::File::open(format!("/proc/{pid}/ns/net"))
            .unwrap()
            .into(),
    );
    let inside = CopyPlan {
        network: Some(network),
        ..plan(id, Bits::SEARCH)
    };
    let copy = |plan: &CopyPlan| {
        let (key, plan) = (source.clone(), plan.clone());
        engine.keys(move |keys| keys.project(&key, &plan)).serial
    };
    let found = || {
        let mut serials: Vec<_> = engine.copies(id).iter().map(|facts| facts.serial).collect();
        serials.sort();
        serials
    };
    let both = |mut serials: [KeySerial; 2]| {
        serials.sort();
        serials
    };
    let (host, container) = (copy(&plan(id, Bits::SEARCH)), copy(&inside));
    assert_eq!(found(), both([host, container]));
    let again = copy(&inside);
    assert_eq!(found(), both([host, again]));
    // The worker is back in the host's network.
    let last = copy(&plan(id, Bits::SEARCH));
    assert_eq!(found(), both([last, again]));
}

#[test]
fn a_full_quota_names_the_uid_and_the_figures() {
    let engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let mut quota = None;
    for n in 0..300 {
        let source = engine.add(id, &format!("k{n}"), "x");
        let result = engine.try_keys(move |keys| keys.project(&source, &plan(id, Bits::SEARCH)));
        if let Err(error) = result {
            quota = Some(error);
            break;
        }
    }
    let error = quota.expect("a reserved owner has a quota of its own");
    assert_eq!(error.errno(), Some(EDQUOT));
    let text = error.to_string();
    assert!(
        text.contains(&format!("uid {}", keyrings.owner)) && text.contains(" of "),
        "{text}"
    );
}

/// UPDATE takes one page, although a key may be larger.
#[test]
fn payloads_larger_than_a_page_are_updated_too() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, Some(engine.range()));
    let source = engine.add(id, "k", "small");
    let former = engine.project(&source, id, Bits::SEARCH);
    keyns_sys::key::link(former, KeySerial::THREAD).unwrap();
    let large = "x".repeat(32_767);
    let (key, payload) = (source.clone(), secret(&large));
    let facts = engine.keys(move |keys| keys.update(&key, &payload, None));
    assert_eq!(facts.serial, source.facts.serial);
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), former)]);
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert_eq!(keyns_sys::key::read(copy).unwrap(), large.as_bytes());
    // Not even a link of a denizen's own would have kept the former copy.
    assert!(keyns_sys::key::read(former).is_err());
    let found = engine.copies(id);
    assert_eq!(
        (found.len(), found[0].mask),
        (1, copy_mask(Bits::SEARCH).raw())
    );
    assert_eq!(engine.keys(move |keys| keys.stored(id)).len(), 1);
    let key = source.clone();
    engine.keys(move |keys| keys.update(&key, &secret("small again"), None));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Updated]),
        "{tended:?}"
    );
}

/// The daemon looks after all grants once a second, and may take a hundredth of a processor for it.
#[test]
fn looking_after_a_thousand_grants_costs_little() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, Some(engine.range()));
    let grants: Vec<_> = (0..1000)
        .map(|n| {
            let source = engine.add(id, &format!("k{n}"), "secret");
            let copy = engine.project(&source, id, Bits::SEARCH);
            (source, copy)
        })
        .collect();
    let mut rounds: Vec<Duration> = (0..20)
        .map(|_| {
            let grants = grants.clone();
            engine.keys(move |keys| {
                let begun = Instant::now();
                let mut looked_at = BTreeSet::new();
                for (source, copy) in grants {
                    let tended =
                        keys.tend(&source, &[(plan(id, Bits::SEARCH), copy)], &mut looked_at)?;
                    assert!(matches!(tended.copies[..], [CopyState::Kept]));
                }
                Ok(begun.elapsed())
            })
        })
        .collect();
    rounds.sort();
    let median = rounds[rounds.len() / 2];
    println!("1000 grants looked after in {median:?}");
    // A wide margin: this is no release build, and the machine has other things to do.
    assert!(median < Duration::from_millis(200), "{median:?}");
}

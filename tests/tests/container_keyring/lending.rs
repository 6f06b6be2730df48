//! Keys of others: lent, followed, given back.

use std::fs;

use keyns::engine::keyring::lending::End;
use keyns::engine::keyring::store::now;
use keyns::engine::keyring::{CopyPlan, CopyState, Home, KeyError, KeyRef, SourceState};
use keyns::mask::Bits;
use keyns_sys::KeySerial;

use crate::engine::*;

#[test]
fn a_key_is_lent_and_given_back() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let mut owner = Puppet::start();
    let uid = range.base + 7;
    owner.ok(&format!("become {uid}"));
    owner.ok("join");
    let key = owner.number("add user lent-key secret @s");
    let before = owner.ok(&format!("describe {key}"));
    let opened = engine.keys(move |keys| keys.open_drop(uid));

    // Nobody else may write to the drop keyring, and its owner may do nothing but write.
    let mut stranger = Puppet::start();
    stranger.ok(&format!("become {}", uid + 1));
    stranger.ok("join");
    let foreign = stranger.number("add user other x @s");
    stranger.refused(&format!("link {foreign} {opened}"), EACCES);
    stranger.refused(&format!("clear {opened}"), EACCES);
    owner.refused(&format!("list {opened}"), EACCES);
    owner.refused(&format!("setperm {opened} 0x3f3f3f3f"), EACCES);
    owner.refused(&format!("link {opened} @s"), EACCES);

    let serial = KeySerial::new(key);
    let empty = engine.try_keys(move |keys| keys.take_lent(opened, serial));
    assert!(
        matches!(empty, Err(KeyError::NotLendable { .. })),
        "{empty:?}"
    );
    owner.ok(&format!("link {key} {opened}"));
    // Only the key that is there, and only if it is there alone.
    let wrong = engine.try_keys(move |keys| keys.take_lent(opened, KeySerial::new(foreign)));
    assert!(
        matches!(wrong, Err(KeyError::NotLendable { .. })),
        "{wrong:?}"
    );
    let lent = engine.keys(move |keys| keys.take_lent(opened, serial));
    assert_eq!(
        (lent.facts.serial, lent.facts.uid, lent.end),
        (serial, uid, End::Never)
    );
    assert_eq!(
        before,
        owner.ok(&format!("describe {key}")),
        "the source was changed"
    );
    engine.keys(move |keys| keys.close_drop(opened));

    let source = KeyRef {
        home: Home::Lent,
        facts: lent.facts,
    };
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.ok(&format!("read {copy}")), "secret");
    // The owner goes on using its key; the copy follows.
    owner.ok(&format!("update {key} changed"));
    let plans = || vec![(plan(id, Bits::SEARCH), copy)];
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Updated]
    ));
    assert_eq!(puppet.ok(&format!("read {copy}")), "changed");
    owner.ok(&format!("timeout {key} 50"));
    let End::NotBefore(end) = engine.keys(|keys| keys.lent())[0].end else {
        panic!("its time-out is not seen")
    };
    assert!((now() + 48..=now() + 50).contains(&end));
    // The daemon's link alone keeps it, until it is given back.
    owner.ok(&format!("unlink {key} @s"));
    assert!(matches!(
        engine.tend(&source, plans()).source,
        SourceState::Alive
    ));
    engine.keys(move |keys| keys.remove_copy(id, copy));
    assert!(engine.keys(move |keys| keys.give_back(serial)));
    assert!(engine.keys(|keys| keys.lent()).is_empty());
    eventually("the key is gone", || {
        owner.call(&format!("describe {key}")) == Err(ENOKEY)
    });
}

#[test]
fn what_cannot_be_lent_is_refused_for_its_reason() {
    let engine = Engine::start();
    let uid = engine.range().base + 9;
    let mut owner = Puppet::start();
    owner.ok(&format!("become {uid}"));
    owner.ok("join");
    let opened = engine.keys(move |keys| keys.open_drop(uid));
    let mut refusal = |description: &str, mask: &str, type_: &str| {
        let payload = if type_ == "keyring" { "-" } else { "x" };
        let key = owner.number(&format!("add {type_} {description} {payload} @s"));
        owner.ok(&format!("setperm {key} {mask}"));
        if let Err(errno) = owner.call(&format!("link {key} {opened}")) {
            // Without LINK its owner cannot even drop it.
            assert_eq!(errno, EACCES);
            return "its owner may not link it".to_owned();
        }
        let serial = KeySerial::new(key);
        let result = engine.try_keys(move |keys| keys.take_lent(opened, serial));
        owner.ok(&format!("setperm {key} 0x3f3f0000"));
        let Err(KeyError::NotLendable { why, .. }) = result else {
            panic!("{description}: {result:?}")
        };
        // Emptied by its owner, which a drop keyring allows.
        owner.ok(&format!("unlink {key} {opened}"));
        why
    };
    assert_eq!(
        refusal("unlinkable", "0x2f2f0000", "user"),
        "its owner may not link it"
    );
    // The owner may link it, its possessors may not: the daemon would be one of these.
    assert_eq!(
        refusal("not-for-possessors", "0x2b3f0000", "user"),
        "its possessor may not link it"
    );
    assert_eq!(
        refusal("invisible", "0x3e3f0000", "user"),
        "its possessor may not view it"
    );
    assert_eq!(
        refusal("ring", "0x3f3f0000", "keyring"),
        "keyrings are not lent"
    );
    assert!(engine.keys(|keys| Ok(keys.loans())).is_empty());
}

#[test]
fn a_lent_key_that_stops_being_readable_takes_its_copies_along() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let uid = range.base + 11;
    let mut owner = Puppet::start();
    owner.ok(&format!("become {uid}"));
    owner.ok("join");
    let key = owner.number("add user k x @s");
    let opened = engine.keys(move |keys| keys.open_drop(uid));
    owner.ok(&format!("link {key} {opened}"));
    let lent = engine.keys(move |keys| keys.take_lent(opened, KeySerial::new(key)));
    let source = KeyRef {
        home: Home::Lent,
        facts: lent.facts,
    };
    let copy = engine.project(&source, id, Bits::SEARCH);
    owner.ok(&format!("setperm {key} 0x053f0000"));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(matches!(tended.source, SourceState::Gone(_)), "{tended:?}");
    assert!(engine.copies(id).is_empty());
}

/// A description may contain line breaks, and so lines of `/proc/keys` for keys of others.
#[test]
fn a_forged_expiry_ends_no_loan() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, Some(engine.range()));
    let uid = engine.range().base + 13;
    let mut owner = Puppet::start();
    owner.ok(&format!("become {uid}"));
    owner.ok("join");
    let key = owner.number("add user k x @s");
    let opened = engine.keys(move |keys| keys.open_drop(uid));
    owner.ok(&format!("link {key} {opened}"));
    let lent = engine.keys(move |keys| keys.take_lent(opened, KeySerial::new(key)));
    assert_eq!(lent.end, End::Never);
    let mask = lent.facts.mask;
    let lines: Vec<KeySerial> = ["expd", "perm", "  1s"]
        .iter()
        .map(|time| {
            let line = format!(
                "forged-{}\n{key:08x} I--Q---     2 {time} {mask:08x} {uid:>5} {uid:>5} user      k: 1",
                engine.number
            );
            let forged = keyns_sys::key::add_key(c"user", &c(&line), b"x", KeySerial::THREAD);
            let forged = forged.unwrap();
            keyns_sys::key::set_perm(forged, 0x3f01_0001).unwrap();
            // The worker sees it: the test shows something.
            let seen = engine.keys(|_| Ok(fs::read("/proc/keys").unwrap()));
            assert!(String::from_utf8_lossy(&seen).contains(&line));
            assert_eq!(engine.keys(|keys| keys.lent())[0].end, End::Unknown);
            forged
        })
        .collect();
    let source = KeyRef {
        home: Home::Lent,
        facts: lent.facts,
    };
    let copy = engine.project(&source, id, Bits::SEARCH);
    // Whatever was believed of its end: as long as the key itself lives the grant does not end, but
    // the copy does, and comes back when the end is seen to be another.
    let ends = |source_ends| CopyPlan {
        source_ends,
        ..plan(id, Bits::SEARCH)
    };
    let tended = engine.tend(&source, vec![(ends(Some(now())), copy)]);
    assert!(matches!(tended.source, SourceState::Alive), "{tended:?}");
    assert!(matches!(tended.copies[..], [CopyState::Kept]), "{tended:?}");
    assert!(engine.copies(id).is_empty());
    let later = End::Unknown.deadline(now());
    let tended = engine.tend(&source, vec![(ends(later), copy)]);
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert_eq!(engine.copies(id).len(), 1);
    for forged in lines {
        keyns_sys::key::invalidate(forged).unwrap();
    }
    eventually("the forged lines are gone", || {
        engine.keys(|keys| keys.lent())[0].end == End::Never
    });
    // The key itself ends it.
    owner.ok(&format!("timeout {key} 1"));
    eventually("the copy ended with its source", || {
        let tended = engine.tend(&source, vec![(ends(later), copy)]);
        matches!(tended.source, SourceState::Gone(_))
    });
    assert!(engine.copies(id).is_empty());
}

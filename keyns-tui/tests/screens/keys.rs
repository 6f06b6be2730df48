//! The page Keys.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use keyns::serial::KeySerial;
use keyns_interfaces::Payload;
use keyns_interfaces::containers::State;
use keyns_tui::client::{Move, Reply, Request};

use crate::stage::{Look, Stage};
use crate::things::{Machine, SESSION, STORED, container, happening, key, not_alone, preview};

/// A world in which everything that changes something succeeds, and grants need an acknowledgement.
fn willing(machine: Machine) -> Stage {
    let mut stage = Stage::new(
        Look::default(),
        Box::new(move |request| {
            Some(match request {
                Request::Grant(wish) if wish.dry_run => match wish.accept_implied {
                    Some(_) => Ok(preview("read,inval")),
                    None => Err(not_alone()),
                },
                Request::Reveal(_) | Request::RevealStored(_) => {
                    Ok(Reply::Payload(Payload::new(b"canary-payload".to_vec())))
                }
                request if request.changes() => Ok(Reply::Done("done".to_owned())),
                other => machine.answer(other),
            })
        }),
    );
    stage.daemon_is_up();
    stage
}

fn grants(stage: &Stage) -> Vec<(bool, bool)> {
    let grant = |request: &Request| match request {
        Request::Grant(wish) => Some((wish.dry_run, wish.accept_implied.is_some())),
        _ => None,
    };
    stage.asked.iter().filter_map(grant).collect()
}

#[test]
fn a_keyring_is_read_when_it_is_opened_and_not_before() {
    let mut machine = Machine::with_container();
    machine.below.insert(2, vec![key(7, "user", b"deep")]);
    let mut stage = willing(machine);
    let ring = Request::Members(KeySerial::new(2));
    assert!(!stage.asked.contains(&ring));
    stage.press("j j l");
    assert_eq!(stage.asked.iter().filter(|it| **it == ring).count(), 1);
    assert!(stage.screen().contains("user: deep"));
    stage.press("h l h l");
    assert_eq!(stage.asked.iter().filter(|it| **it == ring).count(), 1);
}

#[test]
fn rights_that_come_with_others_must_be_accepted_before_anything_is_granted() {
    let mut stage = willing(Machine::with_container());
    stage.press("j g");
    stage.press("tab right right right space");
    assert_eq!(grants(&stage), [(true, false)]);
    assert!(stage.screen().contains("not alone"));
    stage.press("enter");
    assert!(stage.changes().is_empty());
    assert!(stage.screen().contains("not before “accept” is ticked"));
    stage.press("tab space");
    assert_eq!(grants(&stage), [(true, false), (true, true)]);
    assert!(stage.screen().contains("would have read,search,inval"));
    stage.press("enter");
    assert_eq!(grants(&stage).last(), Some(&(false, true)));
    assert_eq!(stage.said(), "done");
    assert!(!stage.screen().contains("Grant ─"), "closed");
}

#[test]
fn what_was_accepted_is_not_accepted_for_other_rights() {
    let mut stage = willing(Machine::with_container());
    stage.press("j g tab right right right space tab space");
    assert_eq!(grants(&stage).last(), Some(&(true, true)));
    stage.press("backtab right space");
    assert_eq!(grants(&stage).last(), Some(&(true, false)));
    stage.press("enter");
    assert!(stage.changes().is_empty());
}

#[test]
fn a_grant_is_not_made_before_its_preview_was_answered() {
    let machine = Machine::with_container();
    let mut stage = Stage::new(
        Look::default(),
        Box::new(move |request| match request {
            Request::Grant(_) => None,
            other => Some(machine.answer(other)),
        }),
    );
    stage.daemon_is_up();
    stage.press("j g tab space enter enter");
    assert!(stage.changes().is_empty());
    assert!(stage.screen().contains("asking what it would come to"));
}

#[test]
fn each_different_outcome_is_shown_before_marked_keys_are_granted() {
    let mut machine = Machine::with_keys(3);
    machine.containers = Machine::with_container().containers;
    let mut stage = Stage::new(
        Look::default(),
        Box::new(move |request| {
            Some(match request {
                // What rights on a keyring imply is different.
                Request::Grant(wish) if wish.dry_run && wish.key.to_string() == "2" => {
                    Ok(preview("inval"))
                }
                Request::Grant(wish) if wish.dry_run => Ok(preview("")),
                request if request.changes() => Ok(Reply::Done("done".to_owned())),
                other => machine.answer(other),
            })
        }),
    );
    stage.daemon_is_up();
    stage.press("j space space space g tab space");
    let screen = stage.screen();
    assert!(screen.contains("2 of 3 keys: would have read"), "{screen}");
    assert!(screen.contains("1 of 3 keys: would have read"), "{screen}");
    assert!(screen.contains("nobody asked for inval"), "{screen}");
    stage.press("enter");
    assert_eq!(stage.changes().len(), 3);
}

#[test]
fn a_grant_dialog_goes_with_its_container() {
    let mut stage = willing(Machine::with_container());
    stage.press("j g");
    stage.happens(happening(
        "container-dead",
        container(2, "web.db", State::Dead),
    ));
    assert!(stage.screen().contains("Grant ─"), "another one");
    stage.happens(happening(
        "container-dead",
        container(1, "web", State::Dead),
    ));
    assert!(!stage.screen().contains("Grant ─"));
    assert!(stage.said().contains("container “web” is gone"));
}

#[test]
fn a_payload_is_asked_for_twice_shown_for_a_while_and_recorded_without_its_text() {
    let mut stage = willing(Machine::with_container());
    stage.press("j p");
    assert!(
        !stage
            .asked
            .iter()
            .any(|it| matches!(it, Request::Reveal(_)))
    );
    stage.press("enter");
    assert!(stage.screen().contains("canary-payload"));
    assert!(
        stage
            .said()
            .contains("the payload of key 1 “user: mine” (14 bytes)")
    );
    stage.wait(Duration::from_secs(14));
    assert!(stage.screen().contains("canary-payload"));
    stage.wait(Duration::from_secs(2));
    assert!(!stage.screen().contains("canary-payload"));
    let told = format!("{:?}", stage.app.shared());
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn marked_keys_are_destroyed_together_after_a_question_that_names_them() {
    let mut stage = willing(Machine::with_keys(5));
    stage.press("j space space U");
    let screen = stage.screen();
    assert!(
        screen.contains("Unlink key 1 “user: key number 1”, key 2"),
        "{screen}"
    );
    stage.press("enter");
    assert!(stage.changes().is_empty(), "the choice stands on no");
    stage.press("U tab enter");
    let ring = KeySerial::new(SESSION);
    let unlink = |key| Request::Unlink(KeySerial::new(key), ring);
    assert_eq!(stage.changes(), [unlink(1), unlink(2)]);
}

#[test]
fn a_key_is_moved_to_a_keyring_that_is_picked() {
    let mut stage = willing(Machine::with_container());
    stage.press("j m");
    stage.types("ring");
    stage.press("enter");
    let moved = Move {
        key: KeySerial::new(1),
        from: KeySerial::new(SESSION),
        to: KeySerial::new(2),
        replace: false,
    };
    assert_eq!(stage.changes(), [Request::Move(moved)]);
    stage.press("m right");
    stage.types("ring");
    stage.press("enter");
    let linked = Request::Link(KeySerial::new(1), KeySerial::new(2));
    assert_eq!(stage.changes().last(), Some(&linked));
}

#[test]
fn a_key_in_a_store_moves_to_another_container_and_is_named_with_its_own() {
    let mut stage = willing(Machine::with_container());
    stage.press("G k enter");
    stage.types("/");
    stage.types("desc:other");
    stage.press("enter G m enter");
    let moved = Request::MoveStored {
        key: format!("web/{}", STORED + 1).as_str().into(),
        to: "web.db".to_owned(),
        replace: false,
    };
    assert_eq!(stage.changes(), [moved], "{}", stage.screen());
}

#[test]
fn a_grant_is_taken_back_from_the_container_that_has_it() {
    let mut stage = willing(Machine::with_container());
    stage.press("G k enter");
    stage.types("/");
    stage.types(&format!("serial:{STORED}"));
    stage.press("enter G u enter");
    let taken = Request::Ungrant {
        key: format!("web/{STORED}").as_str().into(),
        container: "web".to_owned(),
    };
    assert_eq!(stage.changes(), [taken], "{}", stage.screen());
}

#[test]
fn a_time_that_is_none_is_refused_beside_what_was_typed() {
    let mut stage = willing(Machine::with_container());
    stage.press("j t");
    stage.types("soon");
    stage.press("enter");
    assert!(
        stage
            .screen()
            .contains("a time is a number with s, m, h or d")
    );
    assert!(stage.changes().is_empty());
    stage.press("ctrl-u");
    stage.types("8h");
    stage.press("enter");
    let asked = Request::Timeout(KeySerial::new(1), 28_800);
    assert_eq!(stage.changes(), [asked]);
}

#[test]
fn a_key_that_dies_under_the_cursor_leaves_it_on_the_next_one() {
    let machine = Rc::new(RefCell::new(Machine::with_keys(3)));
    let world = Rc::clone(&machine);
    let mut stage = Stage::new(
        Look::default(),
        Box::new(move |request| Some(world.borrow().answer(request))),
    );
    stage.press("j j p");
    assert!(stage.screen().contains("key 2 “user: key number 2”"));
    stage.press("esc");
    machine.borrow_mut().members.remove(1);
    stage.wait(Duration::from_secs(4));
    stage.press("p");
    assert!(
        stage.screen().contains("key 3 “user: key number 3”"),
        "{}",
        stage.screen()
    );
}

#[test]
fn who_may_do_what_with_a_key_stands_with_who_enforces_it() {
    let mut stage = Stage::new(Look::of(120, 40), Machine::with_container().world());
    stage.daemon_is_up();
    stage.press("G k enter");
    stage.types("/");
    stage.types(&format!("serial:{STORED}"));
    stage.press("enter G");
    let screen = stage.screen();
    assert!(screen.contains("“web” may read, search, inval"), "{screen}");
    assert!(screen.contains("[kernel]"), "{screen}");
}

#[test]
fn what_an_event_is_about_is_read_again_once_however_many_there_are() {
    let mut stage = willing(Machine::with_container());
    stage.press("G k enter");
    stage.asked.clear();
    for _ in 0..1000 {
        let mut event = happening("key-added", container(1, "web", State::Running));
        event.container = None;
        let mut key = key(STORED + 5, "user", b"new");
        key.container = Some("web".to_owned());
        event.key = Some(key);
        stage.happens(event);
        stage.wait(Duration::from_millis(1));
    }
    stage.wait(Duration::from_secs(1));
    let contents = Request::Contents("web".to_owned());
    let times = stage.asked.iter().filter(|it| **it == contents).count();
    assert!((1..=3).contains(&times), "{times}");
}

#[test]
fn owners_are_filtered_by_their_names() {
    let mut machine = Machine::with_keys(2);
    machine.members[1].uid = 1000;
    let mut stage = willing(machine);
    stage.press("/");
    stage.types("owner:anna");
    let screen = stage.screen();
    assert!(screen.contains("key number 2"), "{screen}");
    assert!(!screen.contains("key number 1"), "{screen}");
}

//! The page Containers.

use keyns_interfaces::containers::{Namespace, Root, State};
use keyns_interfaces::upcalls::Target;
use keyns_tui::client::{Failure, Named, NewRule, Reply, Request};

use crate::stage::{Look, Stage};
use crate::things::{Machine, container, happening};

fn stage() -> Stage {
    let machine = Machine::with_container();
    let mut stage = Stage::new(
        Look::default(),
        Box::new(move |request| {
            Some(match request {
                Request::Create { name, .. } if name == "taken" => {
                    Err(Failure::failure("cannot create container “taken”").cause("it exists"))
                }
                request if request.changes() => Ok(Reply::Done("done".to_owned())),
                other => machine.answer(other),
            })
        }),
    );
    stage.daemon_is_up();
    stage.press("2");
    stage
}

fn web() -> Named {
    Named {
        id: 1,
        name: "web".to_owned(),
    }
}

#[test]
fn a_container_is_shown_with_what_is_in_it() {
    let mut stage = stage();
    stage.press("enter");
    let screen = stage.screen();
    for row in [
        "process 1: /bin/sleep 1000",
        "key user: token",
        "read,search,inval",
        "not granted",
        "requests for type user go to queue manual",
        "  ▸ container web.db",
    ] {
        assert!(screen.contains(row), "{row}: {screen}");
    }
}

#[test]
fn a_container_is_created_as_the_form_says() {
    let mut stage = stage();
    stage.press("n");
    stage.types("cache");
    // Root empty; the last namespace, cgroup, is shared.
    stage.press("tab right tab tab left space enter");
    let created = Request::Create {
        name: "cache".to_owned(),
        namespaces: vec![
            Namespace::User,
            Namespace::Pid,
            Namespace::Mount,
            Namespace::Net,
            Namespace::Ipc,
            Namespace::Uts,
        ],
        root: Root::Empty,
    };
    assert_eq!(stage.changes(), [created]);
    assert!(!stage.screen().contains("Create a container"));
}

#[test]
fn a_refusal_stands_beside_what_was_typed() {
    let mut stage = stage();
    stage.press("n enter");
    assert!(stage.screen().contains("! a name is missing"));
    stage.types("a b");
    stage.press("enter");
    assert!(stage.changes().is_empty(), "{}", stage.screen());
    stage.press("ctrl-u");
    stage.types("taken");
    stage.press("enter");
    let screen = stage.screen();
    assert!(
        screen.contains("! cannot create container “taken”: it exists"),
        "{screen}"
    );
    assert!(screen.contains("name        taken"));
}

#[test]
fn a_container_is_killed_by_its_number_after_a_question_that_names_it() {
    let mut stage = stage();
    stage.press("K");
    assert!(stage.screen().contains("Kill container “web”?"));
    stage.press("enter");
    assert!(stage.changes().is_empty(), "the choice stands on no");
    stage.press("K tab enter");
    assert_eq!(stage.changes(), [Request::Kill(web())]);
}

#[test]
fn a_dialog_goes_with_the_container_it_is_about() {
    for (keys, title) in [
        ("K", "Kill"),
        ("i", "Intercept"),
        ("enter j j j j x", "Remove a rule"),
    ] {
        let mut stage = stage();
        stage.press(keys);
        let frame = format!("┌ {title} ─");
        assert!(stage.screen().contains(&frame), "{}", stage.screen());
        stage.happens(happening(
            "container-dying",
            container(1, "web", State::Dying),
        ));
        assert!(!stage.screen().contains(&frame), "{title}");
        assert!(stage.said().contains("container “web” is gone"), "{title}");
        stage.press("enter y enter");
        assert!(stage.changes().is_empty(), "{title}");
    }
}

#[test]
fn a_container_that_died_unseen_takes_its_dialog_along_too() {
    let mut stage = stage();
    stage.press("K");
    let dead = Reply::Containers(vec![container(1, "web", State::Dead)]);
    stage.send(keyns_tui::message::Message::Answer(Box::new(
        keyns_tui::client::Answer {
            ticket: keyns_tui::client::Ticket(u64::MAX),
            request: Request::Containers,
            result: Ok(dead),
        },
    )));
    assert!(!stage.screen().contains("Kill container"));
}

#[test]
fn a_dead_container_has_no_shell_and_can_be_removed() {
    let mut stage = stage();
    stage.press("G s");
    assert!(stage.changes().is_empty());
    assert!(stage.said().contains("dead"));
    stage.press("D tab enter");
    let old = Named {
        id: 3,
        name: "old".to_owned(),
    };
    assert_eq!(stage.changes(), [Request::Remove(old)]);
}

#[test]
fn a_shell_is_asked_for_by_the_number_of_its_container() {
    let mut stage = stage();
    stage.press("enter j s");
    assert_eq!(stage.changes(), [Request::Shell(web())]);
}

#[test]
fn requests_are_routed_and_the_rule_removed() {
    let mut stage = stage();
    stage.press("i ctrl-u");
    stage.types("user");
    stage.press("tab left tab");
    stage.types("EACCES:2s");
    stage.press("tab tab tab");
    stage.types("300");
    stage.press("enter");
    assert!(
        stage.screen().contains("from 1 to 256"),
        "{}",
        stage.screen()
    );
    stage.press("ctrl-u enter");
    let rule = NewRule {
        container: web(),
        type_: "user".to_owned(),
        target: Target::Reject(keyns_interfaces::upcalls::Rejection {
            errno: 13,
            timeout: 2,
        }),
        deadline_ms: None,
        rate: None,
        pending: None,
    };
    assert_eq!(stage.changes(), [Request::Intercept(Box::new(rule))]);
    stage.press("enter j j j j x y enter");
    let removed = Request::Unintercept {
        container: web(),
        type_: "user".to_owned(),
    };
    assert_eq!(stage.changes().last(), Some(&removed), "{}", stage.screen());
}

#[test]
fn a_new_container_appears_by_its_event() {
    let mut stage = stage();
    stage.asked.clear();
    stage.happens(happening(
        "container-created",
        container(9, "new", State::Created),
    ));
    stage.wait(std::time::Duration::from_secs(1));
    assert!(stage.asked.contains(&Request::Containers));
}

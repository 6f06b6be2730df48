//! The page Upcalls.

use std::time::Duration;

use keyctl_ns::error::{CommandError, ErrorKind};
use keyns_interfaces::upcalls::{Rejection, Target};
use keyns_tui::client::{Reply, Request, Response};
use keyns_tui::theme;

use crate::desk::{Desk, ended, waiting};

const EACCES: i32 = 13;
const ENOKEY: i32 = 126;

/// The page Upcalls with a few requests.
fn page(columns: u16, rows: u16) -> Desk {
    fill(Desk::new(columns, rows))
}

fn fill(mut desk: Desk) -> Desk {
    desk.up(77);
    desk.write(":page upcalls");
    desk.press("enter");
    let mut doubtful = waiting(8, "tok\u{1b}[2J\u{202e}鍵".as_bytes());
    doubtful.requester.verified = false;
    doubtful.requester.container = None;
    doubtful.state = "offered".into();
    desk.list(
        vec![waiting(7, b"token"), doubtful],
        vec![
            ended(waiting(6, b"cache"), "answered", 0, 1530),
            ended(waiting(5, b"cache"), "rejected", ENOKEY, 12),
            ended(waiting(4, b"cache"), "gone", ENOKEY, 20_000),
        ],
    );
    desk
}

fn responses(desk: &Desk) -> Vec<&Response> {
    let response = |it| match it {
        &(_, Request::Respond { ref response, .. }) => Some(response),
        _ => None,
    };
    desk.asked.iter().filter_map(response).collect()
}

#[test]
fn what_waits_and_what_ended_is_shown_in_every_size() {
    for (columns, rows) in [(80, 24), (40, 15), (200, 60)] {
        let name = format!("upcalls_{columns}x{rows}");
        insta::assert_snapshot!(name, page(columns, rows).screen());
    }
    let mut desk = fill(Desk::with(80, 24, theme::Name::Mono, false));
    let screen = desk.screen();
    assert!(screen.is_ascii(), "{screen}");
    insta::assert_snapshot!("upcalls_mono", screen);
}

#[test]
fn the_details_have_the_small_screen_for_themselves_after_enter() {
    let mut desk = page(40, 15);
    desk.press("enter");
    insta::assert_snapshot!("upcalls_details_40x15", desk.screen());
    desk.press("end");
    assert!(desk.screen().contains("nothing."));
    desk.press("esc");
    assert!(desk.screen().contains("WAIT"));
}

#[test]
fn without_a_daemon_it_says_why_there_is_nothing() {
    let mut desk = Desk::new(80, 24);
    desk.write(":page upcalls");
    desk.press("enter");
    let failure = CommandError::new(ErrorKind::Unreachable, "cannot reach keynsd");
    desk.answer(
        |it| matches!(it, Request::Upcalls { .. }),
        Err(failure.clone()),
    );
    assert!(desk.screen().contains("Cannot reach keynsd."));
    desk.down();
    let screen = desk.screen();
    assert!(
        screen.contains("Requests come through the daemon."),
        "{screen}"
    );
}

#[test]
fn a_payload_is_typed_unseen_and_sent_once() {
    let mut desk = page(80, 24);
    desk.press("a");
    desk.write("q7 hunter2");
    let screen = desk.screen();
    assert!(screen.contains("Request 7: user: token"), "{screen}");
    assert!(screen.contains("nginx, pid 4242"), "{screen}");
    assert!(screen.contains("10 bytes"), "{screen}");
    assert!(!screen.contains("hunter"), "{screen}");
    insta::assert_snapshot!("upcalls_answer", screen);
    desk.press("enter enter");
    let [Response::Payload(payload)] = responses(&desk)[..] else {
        panic!("{:?}", desk.asked);
    };
    assert_eq!(payload.bytes(), b"q7 hunter2");
    assert!(!format!("{:?}", desk.asked).contains("hunter"));
    desk.answer(
        |it| matches!(it, Request::Respond { .. }),
        Ok(Reply::Done("request 7 is answered after 2.0s".into())),
    );
    let screen = desk.screen();
    assert!(screen.contains("is answered after 2.0s"), "{screen}");
    assert!(!screen.contains("payload"), "{screen}");
}

#[test]
fn an_empty_payload_is_not_sent() {
    let mut desk = page(80, 24);
    desk.press("a enter");
    assert!(responses(&desk).is_empty());
    assert!(desk.screen().contains("the payload is empty"));
}

#[test]
fn a_rejection_has_an_error_by_name_and_a_time() {
    let mut desk = page(80, 24);
    desk.press("x");
    for _ in 0.."EKEYREJECTED".len() {
        desk.press("backspace");
    }
    desk.write("eflat");
    desk.press("enter");
    assert!(responses(&desk).is_empty());
    for _ in 0..5 {
        desk.press("backspace");
    }
    desk.write("EACCES");
    let screen = desk.screen();
    assert!(screen.contains("EACCES: "), "{screen}");
    insta::assert_snapshot!("upcalls_reject", screen);
    desk.press("tab backspace backspace 9 0 s enter");
    assert!(desk.screen().contains("1 to 60 seconds"));
    desk.press("backspace backspace backspace 2 0 s enter");
    let expected = Response::Reject(Rejection {
        errno: EACCES,
        timeout: 20,
    });
    assert_eq!(responses(&desk), [&expected]);
}

#[test]
fn negating_and_copying_take_one_more_key() {
    let mut desk = page(80, 24);
    desk.press("n enter");
    let expected = Response::Reject(Rejection {
        errno: ENOKEY,
        timeout: 5,
    });
    assert_eq!(responses(&desk), [&expected]);
    let mut desk = page(80, 24);
    desk.press("down c enter");
    assert_eq!(responses(&desk), [&Response::FromKeyring]);
    let asked = desk.asked.last().unwrap();
    assert!(matches!(&asked.1, Request::Respond { request, .. } if request.id == 8));
}

#[test]
fn a_file_is_named_after_choosing_it() {
    let mut desk = page(80, 24);
    desk.press("a tab right enter");
    desk.write("/tmp/token");
    desk.press("enter");
    assert_eq!(responses(&desk), [&Response::File("/tmp/token".into())]);
}

#[test]
fn a_request_that_ends_takes_its_dialog_along() {
    let mut desk = page(80, 24);
    desk.press("a");
    desk.write("secret");
    desk.upcall(
        "upcall-expired",
        ended(waiting(8, b"other"), "expired", ENOKEY, 10),
    );
    assert!(desk.screen().contains("Answer request 7"));
    desk.upcall(
        "upcall-expired",
        ended(waiting(7, b"token"), "expired", ENOKEY, 60_000),
    );
    let screen = desk.screen();
    assert!(!screen.contains("Answer request 7"), "{screen}");
    assert!(
        screen.contains("request 7 is expired: the requester got ENOKEY, and so the dialog"),
        "{screen}"
    );
    assert!(responses(&desk).is_empty());
}

#[test]
fn an_end_that_was_missed_closes_the_dialog_too() {
    let mut desk = page(80, 24);
    desk.press("a");
    desk.down();
    desk.press("x enter");
    assert!(desk.screen().contains("the daemon does not answer now"));
    desk.up(78);
    // Another request of another daemon has the number.
    let mut other = waiting(7, b"other");
    other.time_ms += 5000;
    desk.list(vec![other], Vec::new());
    let screen = desk.screen();
    assert!(!screen.contains("Answer request 7"), "{screen}");
    assert!(screen.contains("user: other"), "{screen}");
    assert!(!screen.contains("user: token"), "{screen}");
}

#[test]
fn what_has_ended_is_not_answered() {
    let mut desk = page(80, 24);
    desk.press("end a");
    let screen = desk.screen();
    assert!(
        screen.contains("request 4 cannot be answered any more"),
        "{screen}"
    );
}

#[test]
fn ages_tick_only_while_something_waits() {
    let mut desk = page(80, 24);
    desk.wait(Duration::from_secs(70));
    let _ = desk.screen();
    assert!(desk.is_drawn());
    assert_eq!(desk.wait(Duration::from_secs(10)), 10);
    assert!(desk.screen().contains("1m 22s"));
    desk.upcall(
        "upcall-answered",
        ended(waiting(7, b"token"), "answered", 0, 80_000),
    );
    desk.upcall(
        "upcall-gone",
        ended(waiting(8, b"token"), "gone", ENOKEY, 80_000),
    );
    desk.wait(Duration::from_secs(90));
    let _ = desk.screen();
    assert_eq!(desk.wait(Duration::from_secs(3600)), 0);
    assert!(desk.is_drawn());
}

#[test]
fn ages_stand_still_while_the_daemon_is_away() {
    let mut desk = page(80, 24);
    desk.wait(Duration::from_secs(1));
    desk.down();
    desk.wait(Duration::from_secs(600));
    let screen = desk.screen();
    assert!(screen.contains("    3s waiting"), "{screen}");
    assert!(screen.contains("as of when the daemon went"), "{screen}");
}

#[test]
fn other_pages_tell_how_many_wait_and_are_not_drawn_for_more() {
    let mut desk = page(80, 24);
    desk.press("1");
    assert!(desk.screen().contains("Upcalls(2)"));
    desk.upcall("upcall-offered", waiting(7, b"token"));
    assert!(desk.is_drawn());
    desk.upcall("upcall-arrived", waiting(9, b"token"));
    assert!(!desk.is_drawn());
    assert!(desk.screen().contains("Upcalls(3)"));
}

#[test]
fn the_end_of_a_long_text_is_asked_for() {
    let mut desk = page(80, 24);
    let cut = waiting(3, &[b'x'; 512]);
    desk.upcall("upcall-arrived", cut);
    desk.press("home");
    assert!(matches!(desk.asked.last(), Some((_, Request::Upcall(3)))));
    let mut long = vec![b'x'; 600];
    long.extend_from_slice(b"the end");
    desk.answer(
        |it| matches!(it, Request::Upcall(3)),
        Ok(Reply::Upcall(Box::new(waiting(3, &long)))),
    );
    desk.upcall("upcall-offered", waiting(3, &[b'x'; 512]));
    desk.press("enter");
    // The last of the lines that a text may take has its mark.
    let asked = desk.asked.len();
    desk.press("down up");
    assert_eq!(desk.asked.len(), asked, "asked once");
}

#[test]
fn the_filter_knows_who_asked() {
    let mut desk = page(80, 24);
    desk.write("/container:host");
    desk.press("enter");
    let screen = desk.screen();
    assert!(screen.contains("1/1"), "{screen}");
    desk.press("esc");
    assert!(desk.screen().contains("1/5") || desk.screen().contains("/5"));
}

#[test]
fn the_cursor_goes_to_what_waits_unless_it_was_put_elsewhere() {
    let mut desk = Desk::new(80, 24);
    desk.up(77);
    desk.write(":page upcalls");
    desk.press("enter");
    let old = ended(waiting(1, b"old"), "answered", 0, 10);
    desk.list(Vec::new(), vec![old]);
    desk.upcall("upcall-arrived", waiting(2, b"first"));
    desk.upcall("upcall-arrived", waiting(3, b"second"));
    assert!(desk.screen().contains("request     2, waiting"));
    desk.upcall(
        "upcall-gone",
        ended(waiting(2, b"first"), "gone", ENOKEY, 10),
    );
    assert!(desk.screen().contains("request     3, waiting"));
    desk.press("end");
    desk.upcall("upcall-arrived", waiting(4, b"third"));
    assert!(desk.screen().contains("request     1, answered"));
}

#[test]
fn a_request_is_given_to_another_queue_or_agent() {
    let mut desk = page(80, 24);
    desk.press("m");
    let screen = desk.screen();
    assert!(screen.contains("request 7 for user: token"), "{screen}");
    insta::assert_snapshot!("upcalls_reroute", screen);
    // To agents of a name, which is missing.
    desk.press("right enter");
    assert!(desk.screen().contains("! "));
    desk.press("tab");
    desk.write("vault");
    desk.press("tab");
    desk.write("30s");
    desk.press("enter enter");
    let rerouted = |it: &Request| matches!(it, Request::Reroute { .. });
    let asked: Vec<&Request> = desk.asked.iter().map(|(_, it)| it).collect();
    let [
        Request::Reroute {
            request,
            target,
            deadline_ms,
        },
    ] = asked
        .into_iter()
        .filter(|it| rerouted(it))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{:?}", desk.asked);
    };
    assert_eq!(request.id, 7);
    assert_eq!(*target, Target::Agent("vault".into()));
    assert_eq!(*deadline_ms, Some(30_000));
    let refusal = CommandError::new(ErrorKind::NotFound, "no agent “vault” would take it");
    desk.answer(rerouted, Err(refusal));
    assert!(desk.screen().contains("would take it"), "it stays open");
    desk.press("enter");
    let text = "request 7 goes to agent vault and may wait 27s more";
    desk.answer(rerouted, Ok(Reply::Done(text.into())));
    let screen = desk.screen();
    assert!(screen.contains(text), "{screen}");
    assert!(!screen.contains("Reroute"), "{screen}");
}

#[test]
fn the_form_goes_with_its_request_and_is_not_opened_for_one_that_ended() {
    let mut desk = page(80, 24);
    desk.press("m");
    desk.upcall("upcall-rerouted", waiting(7, b"token"));
    assert!(desk.screen().contains("request 7 for user"));
    desk.upcall(
        "upcall-expired",
        ended(waiting(7, b"token"), "expired", 110, 60_000),
    );
    let screen = desk.screen();
    assert!(screen.contains("so the dialog is closed"), "{screen}");
    desk.press("end m");
    let screen = desk.screen();
    assert!(screen.contains("cannot be rerouted any more"), "{screen}");
}

//! What belongs to no page: the daemon, the size, the options.

use std::time::Duration;

use keyns_tui::client::{Failure, Reply, Request};
use keyns_tui::message::{Effect, Feed, Message};

use crate::stage::{Look, Stage};
use crate::things::Machine;

#[test]
fn a_screen_that_is_too_small_says_so_in_one_line() {
    let mut stage = Stage::new(Look::of(39, 11), Machine::default().world());
    assert!(stage.screen().starts_with("sorry, this needs 40x12\n"));
    stage.resize(1, 1);
    assert_eq!(stage.screen(), "…\n");
    stage.resize(80, 24);
    assert!(stage.screen().contains("1 Keys"));
}

#[test]
fn nothing_is_changed_with_read_only() {
    let look = Look {
        read_only: true,
        ..Look::default()
    };
    let mut stage = Stage::new(look, Machine::with_container().world());
    stage.daemon_is_up();
    for page in ["1", "2"] {
        stage.press(page);
        for key in [
            "g", "u", "m", "t", "U", "R", "I", "n", "s", "K", "i", "x", "D",
        ] {
            stage.press(&format!("j {key} enter tab enter"));
            stage.press("esc esc");
        }
    }
    assert!(stage.changes().is_empty(), "{:?}", stage.changes());
    stage.press("2 K");
    assert_eq!(stage.said(), "nothing is changed with --read-only");
}

#[test]
fn a_daemon_that_went_away_is_stale_and_comes_back() {
    let mut stage = Stage::new(Look::default(), Machine::with_container().world());
    stage.daemon_is_up();
    assert!(stage.screen().contains("keynsd main, mainline"));
    let gone = Failure::new(keyctl_ns::error::ErrorKind::Unreachable, "gone");
    stage.send(Message::Feed(Box::new(Feed::Down(gone))));
    assert!(stage.screen().contains("stale since "));
    assert!(
        stage.screen().contains("container web"),
        "what was known stays"
    );
    stage.asked.clear();
    stage.daemon_is_up();
    assert!(stage.asked.contains(&Request::Containers), "read again");
    assert_eq!(stage.said(), "keynsd is back");
}

#[test]
fn the_outcome_of_a_change_is_said_once() {
    let mut machine = Machine::with_container();
    machine.members.truncate(1);
    let mut stage = Stage::new(
        Look::default(),
        Box::new(move |request| match request {
            Request::Revoke(_) => Some(Ok(Reply::Done("revoked".to_owned()))),
            Request::Invalidate(_) => Some(Err(Failure::failure("cannot").cause("because"))),
            other => Some(machine.answer(other)),
        }),
    );
    stage.press("j R tab enter");
    assert_eq!(stage.said(), "revoked");
    stage.press("I tab enter");
    assert_eq!(stage.said(), "cannot: because");
    assert_eq!(stage.app.shared().told.len(), 2);
}

#[test]
fn a_notice_goes_by_itself() {
    let mut stage = Stage::new(Look::default(), Machine::with_container().world());
    stage.press("2 x");
    assert!(stage.screen().contains("put the cursor on a rule"));
    stage.wait(Duration::from_secs(9));
    assert!(!stage.screen().contains("put the cursor on a rule"));
}

#[test]
fn the_end_of_the_terminal_and_a_signal_end_the_program() {
    for message in [Message::InputEnded, Message::Terminated(15)] {
        let mut stage = Stage::new(Look::default(), Machine::default().world());
        stage.send(message);
        assert_eq!(stage.effects, [Effect::Quit]);
    }
}

#[test]
fn nothing_is_drawn_again_when_nothing_has_changed() {
    let mut stage = Stage::new(Look::default(), Machine::with_container().world());
    stage.daemon_is_up();
    stage.press("2 enter");
    stage.wait(Duration::from_secs(20));
    stage.draw();
    // Read again and found the same.
    stage.asked.clear();
    stage.wait(Duration::from_secs(10));
    assert!(!stage.asked.is_empty());
    assert_eq!(stage.app.damage(), keyns_tui::app::Damage::None);
}

#[test]
fn a_filter_that_nothing_fits_says_what_it_looked_at() {
    let mut stage = Stage::new(Look::default(), Machine::with_container().world());
    stage.daemon_is_up();
    for page in ["1", "2"] {
        stage.press(page);
        stage.press("/");
        stage.types("nowhere");
        stage.press("enter");
        let screen = stage.screen();
        assert!(
            screen.contains("Nothing fits among what was opened"),
            "{screen}"
        );
        stage.press("esc");
        assert!(stage.screen().contains("container web"));
    }
}

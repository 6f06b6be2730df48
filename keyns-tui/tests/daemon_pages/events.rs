//! The page Events.

use std::time::Duration;

use keyns_interfaces::containers::State;
use keyns_interfaces::event::Event;
use keyns_tui::theme;

use crate::desk::{Desk, container, ended, happening, waiting};

fn page(columns: u16, rows: u16) -> Desk {
    fill(Desk::new(columns, rows))
}

fn fill(mut desk: Desk) -> Desk {
    desk.up(77);
    desk.write(":page events");
    desk.press("enter");
    desk.event(happening("subscribed"));
    desk.event(Event {
        container: Some(container("web", State::Running)),
        ..happening("container-started")
    });
    desk.upcall("upcall-arrived", waiting(7, "tok\u{1b}[2J鍵".as_bytes()));
    desk.event(Event {
        dropped: 12,
        upcall: Some(ended(waiting(7, b"token"), "rejected", 126, 1530)),
        ..happening("upcall-rejected")
    });
    desk
}

#[test]
fn what_happened_is_shown_in_every_size_and_what_is_missing_too() {
    for (columns, rows) in [(80, 24), (40, 15), (200, 60)] {
        insta::assert_snapshot!(
            format!("events_{columns}x{rows}"),
            page(columns, rows).screen()
        );
    }
    let mut desk = fill(Desk::with(80, 24, theme::Name::Mono, false));
    let screen = desk.screen();
    assert!(screen.is_ascii(), "{screen}");
    insta::assert_snapshot!("events_mono", screen);
}

#[test]
fn the_newest_is_followed_until_the_cursor_leaves_it() {
    let mut desk = page(80, 24);
    assert!(desk.screen().contains("5/5  following  12 lost"));
    desk.press("up");
    desk.upcall("upcall-arrived", waiting(9, b"late"));
    let screen = desk.screen();
    assert!(screen.contains("4/6  paused, 1 newer"), "{screen}");
    desk.press("end");
    assert!(desk.screen().contains("6/6  following"));
    desk.press("p");
    desk.upcall("upcall-arrived", waiting(10, b"later"));
    assert!(desk.screen().contains("6/7  paused, 1 newer"));
    desk.press("p");
    assert!(desk.screen().contains("7/7  following"));
}

#[test]
fn the_newest_comes_first_if_that_is_wanted() {
    let mut desk = page(80, 24);
    desk.press("o");
    assert!(desk.screen().contains("1/5  following"));
    desk.press("down");
    for id in 20..60 {
        desk.upcall("upcall-arrived", waiting(id, b"more"));
    }
    let screen = desk.screen();
    assert!(screen.contains("42/45  paused, 40 newer"), "{screen}");
    assert!(screen.contains("12 events lost"), "{screen}");
    desk.press("home");
    assert!(desk.screen().contains("59 user: more"));
}

#[test]
fn the_filter_hides_events_but_not_that_some_are_missing() {
    let mut desk = page(80, 24);
    desk.write("/event:container");
    desk.press("enter");
    let screen = desk.screen();
    assert!(screen.contains("container-started"), "{screen}");
    assert!(screen.contains("12 events lost"), "{screen}");
    assert!(!screen.contains("upcall-arrived"), "{screen}");
    desk.upcall("upcall-arrived", waiting(9, b"hidden"));
    // The tab bar has one more request.
    let _ = desk.screen();
    desk.upcall("upcall-offered", waiting(9, b"hidden"));
    assert!(desk.is_drawn());
    desk.press("esc");
    assert!(desk.screen().contains("user: hidden"));
}

#[test]
fn only_so_many_are_kept_and_the_cursor_stays() {
    let mut desk = page(80, 24);
    for id in 0..1990 {
        desk.upcall("upcall-arrived", waiting(100 + id, b"flood"));
    }
    desk.press("up up up");
    let screen = desk.screen();
    assert!(screen.contains("1992/1995"), "{screen}");
    for id in 0..500 {
        desk.upcall("upcall-arrived", waiting(5000 + id, b"flood"));
    }
    let screen = desk.screen();
    assert!(screen.contains("1497/2000  paused, 500 newer"), "{screen}");
    assert!(screen.contains("2086 user: flood"), "{screen}");
    assert!(screen.contains("only the last 2000 are kept"), "{screen}");
}

#[test]
fn times_without_the_daemon_are_marked() {
    let mut desk = page(80, 24);
    desk.down();
    desk.down();
    desk.up(77);
    let screen = desk.screen();
    assert_eq!(
        screen.matches("nothing is known from here on").count(),
        1,
        "{screen}"
    );
    assert!(
        screen.contains("what happened in between is not known"),
        "{screen}"
    );
}

#[test]
fn nothing_happens_by_itself() {
    let mut desk = page(80, 24);
    desk.wait(Duration::from_secs(60));
    let _ = desk.screen();
    assert_eq!(desk.wait(Duration::from_secs(3600)), 0);
    assert!(desk.is_drawn());
}

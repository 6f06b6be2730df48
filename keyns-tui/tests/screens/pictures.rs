//! Whole screens, in three sizes.

use keyns_tui::theme::Name;
use ratatui::style::{Color, Modifier};

use crate::stage::{Look, Stage};
use crate::things::{CREATED, Machine, hostile};

const SIZES: [(u16, u16); 3] = [(80, 24), (40, 15), (200, 60)];

/// The screen without what depends on the machine's time zone, and without the first line, which
/// changes with every page that is added: [`the_first_line`] has it.
fn picture(stage: &mut Stage) -> String {
    let created = keyctl_ns::view::time(CREATED);
    let screen = stage.screen().replace(&created, "2026-01-01 12:00:00");
    screen.split_once('\n').unwrap().1.to_owned()
}

#[test]
fn the_first_line() {
    let mut lines = String::new();
    for width in [40, 60, 80, 200] {
        let mut stage = Stage::new(Look::of(width, 12), Machine::default().world());
        stage.daemon_is_up();
        lines += stage.screen().lines().next().unwrap();
        lines.push('\n');
    }
    insta::assert_snapshot!(lines);
}

fn in_all_sizes(name: &str, machine: &Machine, keys: &str) {
    for (width, height) in SIZES {
        let mut stage = Stage::new(Look::of(width, height), machine.clone().world());
        stage.daemon_is_up();
        stage.draw();
        stage.press(keys);
        insta::assert_snapshot!(format!("{name}-{width}x{height}"), picture(&mut stage));
    }
}

#[test]
fn no_keys() {
    in_all_sizes("no-keys", &Machine::with_keys(0), "");
}

#[test]
fn ten_keys() {
    in_all_sizes("ten-keys", &Machine::with_keys(10), "j j j space");
}

#[test]
fn a_hundred_thousand_keys() {
    in_all_sizes("100000-keys", &Machine::with_keys(100_000), "j G k pageup");
}

#[test]
fn hostile_descriptions() {
    let machine = Machine {
        members: hostile(),
        ..Machine::default()
    };
    in_all_sizes("hostile", &machine, "j j j j j");
}

#[test]
fn keys_of_a_container() {
    in_all_sizes(
        "container-keys",
        &Machine::with_container(),
        "G k enter G k",
    );
}

#[test]
fn containers() {
    in_all_sizes("containers", &Machine::with_container(), "2 enter");
}

#[test]
fn details_alone() {
    in_all_sizes("details", &Machine::with_container(), "2 enter j enter");
}

#[test]
fn a_grant_before_it_is_made() {
    in_all_sizes(
        "grant",
        &Machine::with_container(),
        "j g tab right right right space",
    );
}

#[test]
fn a_container_to_be_created() {
    in_all_sizes(
        "create",
        &Machine::with_container(),
        "2 n w e b tab tab tab",
    );
}

#[test]
fn a_destination_to_be_picked() {
    in_all_sizes("move", &Machine::with_container(), "j m");
}

#[test]
fn a_question_before_something_is_destroyed() {
    in_all_sizes("kill", &Machine::with_container(), "2 K");
}

#[test]
fn the_help() {
    in_all_sizes("help", &Machine::with_keys(0), "? u n l i n k");
}

#[test]
fn without_a_daemon() {
    let machine = Machine::with_keys(3);
    let mut stage = Stage::new(Look::default(), machine.world());
    let failure = keyns_tui::client::Failure::new(
        keyctl_ns::error::ErrorKind::Unreachable,
        "cannot reach keynsd",
    );
    let down = keyns_tui::message::Feed::Down(failure);
    stage.send(keyns_tui::message::Message::Feed(Box::new(down)));
    assert!(stage.screen().contains("no keynsd: only your own keys"));
    insta::assert_snapshot!(picture(&mut stage));
}

#[test]
fn monochrome_has_no_colours_and_still_shows_where_the_cursor_is() {
    let look = Look {
        theme: Name::Mono,
        ..Look::default()
    };
    let mut stage = Stage::new(look, Machine::with_container().world());
    stage.daemon_is_up();
    for keys in ["", "j space", "g", "esc 2 enter", "K"] {
        stage.press(keys);
        let buffer = stage.buffer();
        for cell in buffer.content() {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{keys}");
        }
        let is_reversed =
            |cell: &&ratatui::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
        assert!(
            buffer.content().iter().any(|cell| is_reversed(&cell)),
            "{keys}"
        );
    }
}

#[test]
fn ascii_is_ascii() {
    let look = Look {
        unicode: false,
        ..Look::default()
    };
    let machine = Machine {
        members: hostile(),
        ..Machine::with_container()
    };
    let mut stage = Stage::new(look, machine.world());
    stage.daemon_is_up();
    for keys in ["", "j space j", "g", "esc 2 enter", "n"] {
        stage.press(keys);
        assert!(stage.screen().is_ascii(), "{}", stage.screen());
    }
}

#[test]
fn no_control_character_reaches_a_cell() {
    let machine = Machine {
        members: hostile(),
        ..Machine::default()
    };
    for (width, height) in SIZES {
        let mut stage = Stage::new(Look::of(width, height), machine.clone().world());
        for _ in 0..12 {
            stage.press("j");
            for cell in stage.buffer().content() {
                assert!(!cell.symbol().chars().any(char::is_control));
                assert!(cell.symbol().chars().count() <= 4, "{:?}", cell.symbol());
            }
        }
    }
}

//! No sequence of requests, events, keys, mouse events and sizes panics, and nothing that was typed
//! as a payload is ever drawn.

use crossterm::event::{Event as Input, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use keyns_interfaces::event::Event;
use keyns_tui::client::{Failure, Request, Response};
use keyns_tui::message::Message;
use proptest::prelude::*;

use crate::desk::{Desk, ended, happening, waiting};

/// Characters that are nowhere else on the screen.
const SECRET: &str = "ßßßß";

#[derive(Debug, Clone)]
enum Step {
    Keys(&'static str),
    Secret,
    Mouse(bool, u16, u16),
    Size(u16, u16),
    Arrives(u64, Vec<u8>),
    Ends(u64, i32),
    Lost(u64),
    Lists(u64),
    Fails,
    Up(u32),
    Down,
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::sample::select(vec![
        "3",
        "4",
        "5",
        "up",
        "down",
        "end",
        "home",
        "enter",
        "esc",
        "tab",
        "left",
        "right",
        "a",
        "c",
        "n",
        "x",
        "p",
        "o",
        "r",
        "/",
        ":",
        "backspace",
        " ",
    ]);
    let size = prop_oneof![4 => (20..120u16, 8..40u16), 1 => (1..200u16, 1..60u16)];
    let text = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just("鍵e\u{301}\u{202e}\u{1b}[2J".repeat(100).into_bytes()),
        Just(vec![b'x'; 512]),
    ];
    prop_oneof![
        20 => keys.prop_map(Step::Keys),
        4 => Just(Step::Secret),
        4 => (any::<bool>(), 0..130u16, 0..50u16).prop_map(|(wheel, x, y)| Step::Mouse(wheel, x, y)),
        2 => size.prop_map(|(columns, rows)| Step::Size(columns, rows)),
        8 => (0..9u64, text).prop_map(|(id, text)| Step::Arrives(id, text)),
        4 => (0..9u64, 0..140i32).prop_map(|(id, errno)| Step::Ends(id, errno)),
        1 => any::<u64>().prop_map(Step::Lost),
        2 => (0..9u64).prop_map(Step::Lists),
        2 => Just(Step::Fails),
        1 => (77..79u32).prop_map(Step::Up),
        1 => Just(Step::Down),
    ]
}

fn take(desk: &mut Desk, step: Step) {
    match step {
        Step::Keys(" ") => desk.write(" "),
        Step::Keys(keys) => desk.press(keys),
        // Into the field for payloads alone: what is typed elsewhere is meant to be seen.
        Step::Secret if desk.raw().contains("▸ payload") => desk.write(SECRET),
        Step::Secret => {}
        Step::Mouse(is_wheel, column, row) => {
            let kind = match is_wheel {
                true => MouseEventKind::ScrollDown,
                false => MouseEventKind::Down(MouseButton::Left),
            };
            desk.tell(Message::Input(Input::Mouse(MouseEvent {
                kind,
                column,
                row,
                modifiers: KeyModifiers::NONE,
            })));
        }
        Step::Size(columns, rows) => desk.resize(columns, rows),
        Step::Arrives(id, text) => desk.upcall("upcall-arrived", waiting(id, &text)),
        Step::Ends(id, errno) => {
            let end = ended(waiting(id, b"end"), "rejected", errno, u64::MAX);
            desk.upcall("upcall-rejected", end);
        }
        Step::Lost(dropped) => desk.event(Event {
            dropped,
            ..happening("key-added")
        }),
        Step::Lists(id) => {
            let is_it = |it: &Request| matches!(it, Request::Upcalls { .. });
            if desk.asked.iter().any(|(_, it)| is_it(it)) {
                desk.list(vec![waiting(id, b"listed")], Vec::new());
            }
        }
        Step::Fails => {
            let is_it = |it: &Request| matches!(it, Request::Respond { .. } | Request::Upcall(_));
            if desk.asked.iter().any(|(_, it)| is_it(it)) {
                desk.answer(is_it, Err(Failure::failure("refused")));
            }
        }
        Step::Up(pid) => desk.up(pid),
        Step::Down => desk.down(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_panics_or_shows_a_payload(steps in prop::collection::vec(step(), 1..60)) {
        let mut desk = Desk::new(80, 24);
        desk.up(77);
        desk.list(vec![waiting(1, b"one")], Vec::new());
        desk.press("3");
        for step in steps {
            take(&mut desk, step);
            prop_assert!(!desk.shows('ß'), "{}", desk.raw());
        }
        // No empty payload is sent.
        for (_, request) in &desk.asked {
            if let Request::Respond { response: Response::Payload(payload), .. } = request {
                prop_assert!(!payload.bytes().is_empty());
            }
        }
    }
}

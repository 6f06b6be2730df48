//! No sequence of keys, mouse events, pastes, sizes, events and answers panics or takes long.

use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use keyns_interfaces::Payload;
use keyns_interfaces::containers::State;
use keyns_tui::action::TABLE;
use keyns_tui::client::{Answer, Failure, Reply, Request};
use keyns_tui::message::{Feed, Message};
use proptest::prelude::*;

use crate::stage::{Look, Stage, event_of, status};
use crate::things::{Machine, container, happening, hostile, preview};

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Open(&'static str),
    Text(String),
    Mouse(u8, u16, u16),
    Paste(usize),
    Size(u16, u16),
    Wait(u32),
    Up,
    Down,
    Dies(u64),
    Answered(usize),
}

/// Longer than anything here takes on a machine that does other things as well.
const LONG: Duration = Duration::from_secs(5);

fn keys() -> Vec<String> {
    let all = TABLE.iter().flat_map(|entry| entry.keys.split_whitespace());
    let more = [
        "backspace",
        "delete",
        "ctrl-u",
        "ctrl-w",
        "ctrl-a",
        "z",
        "*",
        "é",
    ];
    all.chain(more).map(str::to_owned).collect()
}

/// Keys that lead into every dialog: random ones seldom find the way.
const WAYS: [&str; 12] = [
    "1 home j g tab right right right space tab space",
    "1 home j p enter",
    "1 home j m",
    "1 home j t",
    "1 home j space space U tab",
    "1 G enter G enter G p enter",
    "2 n",
    "2 i tab right",
    "2 K tab",
    "2 home enter j d",
    "? m",
    "3 home a",
];

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        4 => (1..120u16, 1..40u16),
        1 => (1..=500u16, 1..=200u16),
        1 => Just((1, 1)),
    ];
    prop_oneof![
        30 => prop::sample::select(keys()).prop_map(Step::Key),
        8 => prop::sample::select(&WAYS[..]).prop_map(Step::Open),
        6 => "\\PC{0,6}".prop_map(Step::Text),
        6 => (0..4u8, 0..520u16, 0..210u16).prop_map(|(kind, x, y)| Step::Mouse(kind, x, y)),
        1 => prop_oneof![Just(0), Just(10), Just(1 << 20)].prop_map(Step::Paste),
        3 => size.prop_map(|(width, height)| Step::Size(width, height)),
        3 => (0..20_000u32).prop_map(Step::Wait),
        1 => Just(Step::Up),
        1 => Just(Step::Down),
        2 => (0..4u64).prop_map(Step::Dies),
        6 => (0..8usize).prop_map(Step::Answered),
    ]
}

fn reply(machine: &Machine, request: &Request) -> Result<Reply, Failure> {
    match request {
        Request::Grant(wish) if wish.dry_run => Ok(preview("")),
        Request::Reveal(_) => Ok(Reply::Payload(Payload::new(vec![0xff; 70_000]))),
        Request::RevealStored(_) => Ok(Reply::Payload(Payload::new(vec![b'x'; 70_000]))),
        request if request.changes() => Ok(Reply::Done("done".to_owned())),
        other => machine.answer(other),
    }
}

/// A world that answers at once, refuses, or lets wait, in turn.
fn stage(machine: Machine) -> Stage {
    let mut turn = 0_u32;
    Stage::new(
        Look::default(),
        Box::new(move |request| {
            turn += 1;
            match turn % 11 {
                0 | 5 => None,
                8 if turn > 20 => Some(Err(Failure::failure("refused").cause("by turn"))),
                _ => Some(reply(&machine, request)),
            }
        }),
    )
}

fn take(stage: &mut Stage, step: Step, machine: &Machine) {
    match step {
        Step::Key(key) => stage.send(Message::Input(Event::Key(event_of(&key)))),
        Step::Open(keys) => {
            // Out of whatever is open.
            stage.press("esc esc");
            stage.press(keys);
        }
        Step::Text(text) => stage.types(&text),
        Step::Mouse(kind, column, row) => {
            let kind = match kind {
                0 => MouseEventKind::Down(MouseButton::Left),
                1 => MouseEventKind::ScrollUp,
                2 => MouseEventKind::ScrollDown,
                _ => MouseEventKind::Drag(MouseButton::Right),
            };
            stage.send(Message::Input(Event::Mouse(MouseEvent {
                kind,
                column,
                row,
                modifiers: KeyModifiers::NONE,
            })));
        }
        Step::Paste(length) => {
            let text = "p\u{1b}[é\n".repeat(length / 6 + 1);
            stage.send(Message::Input(Event::Paste(text)));
        }
        Step::Size(width, height) => stage.resize(width, height),
        Step::Wait(ms) => stage.wait(Duration::from_millis(ms.into())),
        Step::Up => stage.send(Message::Feed(Box::new(Feed::Up(status())))),
        Step::Down => {
            let gone = Failure::new(keyctl_ns::error::ErrorKind::Unreachable, "gone");
            stage.send(Message::Feed(Box::new(Feed::Down(gone))));
        }
        Step::Dies(id) => {
            stage.happens(happening(
                "container-dead",
                container(id, "web", State::Dead),
            ));
        }
        Step::Answered(at) => {
            if at < stage.open.len() {
                let (ticket, request) = stage.open.remove(at);
                let result = reply(machine, &request);
                stage.send(Message::Answer(Box::new(Answer {
                    ticket,
                    request,
                    result,
                })));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_panics_or_blocks(steps in prop::collection::vec(step(), 1..60)) {
        let mut machine = Machine::with_container();
        machine.members.extend(hostile());
        machine.stored.extend(hostile());
        let mut stage = stage(machine.clone());
        for step in steps {
            let begun = Instant::now();
            let shown = format!("{step:?}");
            take(&mut stage, step, &machine);
            stage.draw();
            prop_assert!(begun.elapsed() < LONG, "{} took {:?}", shown, begun.elapsed());
        }
    }
}

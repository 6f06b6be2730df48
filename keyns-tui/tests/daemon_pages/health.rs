//! The page Health.

use std::time::Duration;

use keyctl_ns::error::{CommandError, ErrorKind};
use keyns::key_users::KeyUser;
use keyns::quota::KeyLimits;
use keyns_interfaces::containers::{ContainerInfo, State};
use keyns_interfaces::event::Event;
use keyns_interfaces::manager::{Feature, Status};
use keyns_tui::client::{Machine, Reply, Request};
use keyns_tui::theme;

use crate::desk::{Desk, container, ended, happening, status, waiting};

const EAGAIN: i32 = 11;
const EDQUOT: i32 = 122;

fn users() -> Vec<KeyUser> {
    [
        "    0:    11 10/10 3/1000000 13940/25000000",
        " 1000:     1 1/1 170/200 120/20000",
        "   63:     1 1/1 0/200 0/20000",
        "1000033:   1 1/1 200/200 4/20000",
    ]
    .iter()
    .map(|line| KeyUser::parse(line).unwrap())
    .collect()
}

fn feature(name: &str, enforcer: &str, detail: &str) -> Feature {
    Feature {
        name: name.into(),
        enforcer: enforcer.into(),
        detail: detail.into(),
    }
}

fn kernel(desk: &mut Desk) {
    desk.answer(|it| matches!(it, Request::Users), Ok(Reply::Users(users())));
    let machine = Machine {
        release: Some("6.12.0".into()),
        limits: Some(KeyLimits {
            max_keys: 200,
            max_bytes: 20_000,
            root_max_keys: 1_000_000,
            root_max_bytes: 25_000_000,
            gc_delay: Duration::from_secs(300),
            persistent_expiry: None,
        }),
        running: Some(7500),
    };
    desk.answer(
        |it| matches!(it, Request::Machine { .. }),
        Ok(Reply::Machine(Box::new(machine))),
    );
    desk.answer(
        |it| matches!(it, Request::KernelFeatures),
        Ok(Reply::Features(vec![feature(
            "key-notifications",
            "kernel",
            "the kernel announces changes of keys",
        )])),
    );
}

fn web(base: Option<u32>) -> ContainerInfo {
    ContainerInfo {
        uid_base: base,
        uid_count: base.map(|_| 65_536),
        ..container("web", State::Running)
    }
}

fn page(columns: u16, rows: u16) -> Desk {
    fill(Desk::new(columns, rows))
}

fn fill(mut desk: Desk) -> Desk {
    desk.write(":page health");
    desk.press("enter");
    desk.up(77);
    kernel(&mut desk);
    desk.answer(
        |it| matches!(it, Request::Containers),
        Ok(Reply::Containers(vec![web(Some(1_000_000))])),
    );
    desk.answer(
        |it| matches!(it, Request::Features),
        Ok(Reply::Features(vec![
            feature("grant-read", "kernel", "a copy of the key is read only"),
            feature(
                "grant-expiry",
                "daemon",
                "the daemon takes the copy back in time",
            ),
            feature("hide", "advisory", "a process can find it by its number"),
            feature("acl", "unavailable", "this kernel has no lists of rights"),
        ])),
    );
    desk
}

#[test]
fn daemon_quotas_and_features_are_shown_in_every_size() {
    for (columns, rows) in [(80, 24), (40, 15), (200, 60)] {
        insta::assert_snapshot!(
            format!("health_{columns}x{rows}"),
            page(columns, rows).screen()
        );
    }
    let mut desk = fill(Desk::with(80, 50, theme::Name::Mono, false));
    let screen = desk.screen();
    assert!(screen.is_ascii(), "{screen}");
    insta::assert_snapshot!("health_mono", screen);
}

#[test]
fn without_a_daemon_it_shows_what_the_kernel_tells_and_says_so() {
    let mut desk = Desk::new(80, 50);
    desk.write(":page health");
    desk.press("enter");
    desk.down();
    kernel(&mut desk);
    let screen = desk.screen();
    for part in [
        "none to be asked",
        "what the kernel tells alone",
        "root (0)",
        "Features of the kernel alone: 1 enforced",
        "key-notifications",
    ] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
}

#[test]
fn a_limit_that_is_near_or_hit_is_said_in_words() {
    let mut desk = page(80, 50);
    let screen = desk.screen();
    assert!(
        screen.contains("ada (1000): keys near its limit: 170 of 200"),
        "{screen}"
    );
    assert!(
        screen.contains("uid 33 of web: keys USED UP: 200 of 200"),
        "{screen}"
    );
    assert!(
        screen.contains("Quota in container web: 1 user, 200 keys, 4 bytes"),
        "{screen}"
    );
}

#[test]
fn limits_of_requests_and_lost_events_are_counted() {
    let mut desk = page(80, 50);
    desk.list(
        Vec::new(),
        vec![
            ended(waiting(1, b"a"), "rejected", EAGAIN, 0),
            ended(waiting(2, b"a"), "rejected", EDQUOT, 0),
        ],
    );
    desk.event(Event {
        dropped: 3,
        upcall: Some(ended(waiting(3, b"a"), "rejected", EAGAIN, 0)),
        ..happening("upcall-rejected")
    });
    let screen = desk.screen();
    assert!(
        screen.contains("2 requests were rejected with EAGAIN"),
        "{screen}"
    );
    assert!(
        screen.contains("1 request was rejected with EDQUOT"),
        "{screen}"
    );
    assert!(screen.contains("3 events were lost"), "{screen}");
    // Anything that was refused because of a limit is kept, whoever asked.
    let failure = CommandError::new(ErrorKind::Quota, "cannot add the key");
    desk.answer(|it| matches!(it, Request::Own), Err(failure));
    assert!(desk.screen().contains("cannot add the key"));
}

#[test]
fn stale_means_since_when_and_why() {
    let mut desk = page(80, 50);
    desk.down();
    let screen = desk.screen();
    assert!(
        screen.contains("stale since HH:MM:00, connecting again"),
        "{screen}"
    );
    assert!(screen.contains("grant-expiry"), "{screen}");
}

#[test]
fn a_container_without_users_of_its_own_says_so() {
    let mut desk = page(80, 50);
    desk.press("r");
    desk.answer(
        |it| matches!(it, Request::Containers),
        Ok(Reply::Containers(vec![web(None)])),
    );
    let screen = desk.screen();
    assert!(
        screen.contains("its users are those of the host"),
        "{screen}"
    );
    assert!(screen.contains("uid 1000033"), "{screen}");
}

#[test]
fn the_filter_finds_users_and_features() {
    let mut desk = page(80, 50);
    desk.write("/state:used");
    desk.press("enter");
    let screen = desk.screen();
    assert!(screen.contains("uid 33 of web"), "{screen}");
    assert!(!screen.contains("ada"), "{screen}");
    desk.press("esc");
    desk.write("/grant");
    desk.press("enter");
    let screen = desk.screen();
    assert!(screen.contains("grant-expiry"), "{screen}");
    assert!(!screen.contains("root (0)"), "{screen}");
}

#[test]
fn it_is_read_again_while_looked_at_and_drawn_only_if_it_changed() {
    let mut desk = page(80, 24);
    let _ = desk.screen();
    for _ in 0..3 {
        assert_eq!(desk.wait(Duration::from_secs(6)), 1);
        desk.answer(|it| matches!(it, Request::Users), Ok(Reply::Users(users())));
    }
    // The first answer brought the minutes of the daemon.
    let _ = desk.screen();
    desk.wait(Duration::from_secs(6));
    desk.answer(|it| matches!(it, Request::Users), Ok(Reply::Users(users())));
    assert!(desk.is_drawn());
    desk.wait(Duration::from_secs(6));
    desk.answer(
        |it| matches!(it, Request::Users),
        Ok(Reply::Users(Vec::new())),
    );
    assert!(!desk.is_drawn());
    desk.press("1");
    let _ = desk.screen();
    let asked = |desk: &Desk| {
        let users = |it: &&(_, Request)| matches!(it.1, Request::Users);
        desk.asked.iter().filter(users).count()
    };
    let before = asked(&desk);
    desk.wait(Duration::from_secs(60));
    assert_eq!(asked(&desk), before);
}

#[test]
fn the_work_of_the_daemon_is_asked_for_while_it_is_looked_at() {
    let mut desk = page(80, 24);
    let busy = Status {
        pending_upcalls: 4,
        ..status(77)
    };
    desk.wait(Duration::from_secs(6));
    desk.answer(
        |it| matches!(it, Request::Status),
        Ok(Reply::Status(Box::new(busy))),
    );
    let screen = desk.screen();
    assert!(screen.contains("requests waiting: 4"), "{screen}");
}

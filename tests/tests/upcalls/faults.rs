//! What dies, is late, or comes in a flood.

use std::ffi::CString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyns_interfaces::containers::Kill;
use keyns_interfaces::upcalls::{Answer, Intercept, ListRules, Target};
use keyns_sys::{KeySerial, key};
use keyns_tests::unique;

use crate::world::{World, queue, reject, rule};
use crate::{EACCES, ETIMEDOUT};

#[test]
fn a_killed_agent_loses_its_request_to_the_next_one() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", Target::Agent(String::new()));
    let mut killed = Command::new(env!("CARGO_BIN_EXE_asker"))
        .args(["serve", world.socket().to_str().unwrap(), "doomed", "user"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "registered");
    let mut next = world.agent("next", &[]);
    web.tell("value user a x");
    let id: u64 = lines.next().unwrap().unwrap().parse().unwrap();
    assert_eq!(next.next_within(Duration::from_millis(100)), None);
    let begun = Instant::now();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert_eq!(next.next().id, id);
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "{:?}",
        begun.elapsed()
    );
    next.complete(id, "inherited").unwrap();
    assert_eq!(web.hear(), Ok("inherited".into()));
}

#[test]
fn a_killed_daemon_finds_rules_and_requests_again() {
    let mut world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    web.tell("value user a x");
    let before = world.pending();
    world.kill_daemon();
    world.start_daemon();
    let after = world.pending();
    assert!(after.id > before.id, "numbers are never used again");
    assert_eq!(after.key, before.key);
    assert_eq!(after.handler.as_deref(), Some("queue desk"));
    assert_eq!(after.requester, before.requester);
    assert!(
        after.deadline_ms < before.deadline_ms,
        "the deadline goes on"
    );
    world.answer(after.id, "survived").unwrap();
    assert_eq!(web.hear(), Ok("survived".into()));
}

#[test]
fn a_killed_daemon_takes_back_more_requests_than_its_rate_lets_in() {
    let mut world = World::start();
    let mut web = world.container("web");
    let limits = |rate| Intercept {
        deadline_ms: Some(20_000),
        rate: Some(rate),
        pending: Some(64),
        ..rule("web", "*", queue("desk"))
    };
    world.call(&limits(10_000)).unwrap();
    web.tell("flood 48 4 x");
    world.fills(48);
    world.call(&limits(1)).unwrap();
    world.kill_daemon();
    world.start_daemon();
    world.fills(48);
    for request in world.list().upcalls {
        let response = reject(EACCES);
        let id = request.id;
        world.call(&Answer { id, response }).unwrap();
    }
    assert_eq!(web.hear(), Ok("13=48".into()));
}

#[test]
fn a_killed_daemon_gives_the_request_to_an_agent_that_comes_again() {
    let mut world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", Target::Agent(String::new()));
    let mut agent = world.agent("helper", &[]);
    web.tell("value user a x");
    let before = agent.next();
    let token = agent.registration.token.clone();
    drop(agent);
    world.kill_daemon();
    world.start_daemon();
    let mut again = world.agent("helper", &[]);
    assert_ne!(again.registration.token, token);
    let after = again.next();
    assert_eq!(after.key, before.key);
    again.complete(after.id, "at last").unwrap();
    assert_eq!(web.hear(), Ok("at last".into()));
}

#[test]
fn a_killed_container_leaves_no_process_although_a_request_waits() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    web.tell("ask user a x");
    let request = world.pending();
    let begun = Instant::now();
    let killed = world.call(&Kill {
        container: "web".into(),
        signal: None,
        process: None,
    });
    assert_eq!(killed.unwrap().upcalls_rejected, 1);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let gone = std::fs::read(format!("/proc/{}/cmdline", request.requester.pid));
    assert!(
        gone.is_err() || gone.unwrap().is_empty(),
        "the requester lives"
    );
    assert!(world.list().upcalls.is_empty());
    assert!(
        world
            .call(&ListRules { container: None })
            .unwrap()
            .rules
            .is_empty()
    );
}

#[test]
fn an_agent_that_does_not_answer_loses_its_request_to_the_next_one() {
    let world = World::start();
    let mut web = world.container("web");
    let patient = Intercept {
        deadline_ms: Some(20_000),
        ..rule("web", "user", Target::Agent(String::new()))
    };
    world.call(&patient).unwrap();
    let mut silent = world.agent("silent", &[]);
    let mut next = world.agent("next", &[]);
    let begun = Instant::now();
    web.tell("value user a x");
    let id = silent.next().id;
    assert_eq!(next.next().id, id);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(7900) && took < Duration::from_secs(12),
        "{took:?}"
    );
    // Too late: what it says now counts no more.
    assert!(silent.complete(id, "late").is_err());
    next.complete(id, "in time").unwrap();
    assert_eq!(web.hear(), Ok("in time".into()));
}

#[test]
fn a_request_nobody_answers_ends_at_its_deadline() {
    let world = World::start();
    let mut web = world.container("web");
    let deadline_ms = Some(1000);
    world
        .call(&Intercept {
            deadline_ms,
            ..rule("web", "user", queue("desk"))
        })
        .unwrap();
    let begun = Instant::now();
    assert_eq!(web.do_("ask user a x"), Err(ETIMEDOUT));
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(900) && took < Duration::from_secs(2),
        "{took:?}"
    );
    assert_eq!(world.ended(1).history[0].state, "expired");
}

#[test]
fn a_flood_is_cut_off_while_the_host_is_served() {
    let world = World::start();
    let mut web = world.container("web");
    let slow = Some(3000);
    let limits = Intercept {
        deadline_ms: slow,
        rate: Some(10_000),
        pending: Some(16),
        ..rule("web", "*", queue("desk"))
    };
    world.call(&limits).unwrap();
    web.tell("flood 600 8 x");
    world.fills(16);
    host_is_served();
    let mut most = 0;
    while let waiting @ 1.. = world.list().upcalls.len() {
        most = most.max(waiting);
    }
    assert_eq!(most, 16);
    let counts = web.hear().unwrap();
    let of = |errno: &str| {
        let found = counts
            .split(' ')
            .find_map(|c| c.strip_prefix(errno)?.strip_prefix('='));
        found.map_or(0, |n| n.parse::<u32>().unwrap())
    };
    assert_eq!(of("0"), 0, "{counts}");
    assert!(of("110") >= 16, "{counts}");
    assert!(of("11") > 400, "{counts}");
    assert_eq!(of("11") + of("110"), 600, "{counts}");
    // One line tells of many.
    assert!(world.log().matches("rejected with EAGAIN").count() < 20);
}

/// A request of the host, which nobody there serves, ends at once.
fn host_is_served() {
    let begun = Instant::now();
    let (type_, description) = (CString::new("user"), CString::new(unique("host")));
    let callout = CString::new("x").unwrap();
    let asked = key::request_key(
        &type_.unwrap(),
        &description.unwrap(),
        Some(&callout),
        KeySerial::new(-2),
    );
    assert!(asked.is_err(), "nobody serves this on the host");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_flood_without_a_daemon_leaves_room_for_the_host() {
    let mut world = World::start();
    let mut web = world.container("web");
    // Who waits in the kernel's own queue can be killed.
    let queued = world.has("upcall-killable");
    world.kill_daemon();
    web.tell("flood 160 8 x");
    std::thread::sleep(Duration::from_secs(2));
    host_is_served();
    // Those that may wait do so until the end; the kernel's own queue takes half as many.
    let ended = if queued {
        "11=96 126=64"
    } else {
        "11=32 110=128"
    };
    assert_eq!(web.hear(), Ok(ended.into()));
    world.start_daemon();
}

#[test]
fn one_uid_takes_no_more_than_its_share() {
    let world = World::start();
    let mut web = world.container("web");
    let brief = Some(1000);
    let limits = Intercept {
        deadline_ms: brief,
        ..rule("web", "*", queue("desk"))
    };
    world.call(&limits).unwrap();
    assert_eq!(web.do_("flood 20 1 x"), Ok("11=12 110=8".into()));
}

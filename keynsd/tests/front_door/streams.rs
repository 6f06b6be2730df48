//! Subscriptions, and what a hang-up ends.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use keyns_interfaces::{ClientError, ErrorKind, containers, keys, upcalls};

use crate::server::{Server, eventually};

const WAIT: &str = r#"{"method": "org.keyns.Containers.Wait", "parameters": {"container": "web"}}"#;
const KILL: &str = r#"{"method": "org.keyns.Containers.Kill", "parameters": {"container": "web"}}"#;
const SUBSCRIBE: &str = r#"{"method": "org.keyns.Containers.Subscribe", "more": true}"#;
const FLOOD: &str = r#"{"method": "org.keyns.Upcalls.Subscribe", "more": true}"#;
const LEND: &str = r#"{"method": "org.keyns.Keys.Lend"}"#;

#[test]
fn events_arrive_as_they_happen() {
    let server = Server::start();
    let mut events = server
        .client()
        .subscribe(&containers::Subscribe {})
        .unwrap();
    assert_eq!(events.next().unwrap().unwrap().event, "subscribed");
    assert!(
        events
            .next_within(Duration::from_millis(50))
            .unwrap()
            .is_none()
    );
    let invalidate = keys::Invalidate { key: "k".into() };
    server.client().call(&invalidate, vec![]).unwrap();
    assert_eq!(events.next().unwrap().unwrap().event, "container-created");
}

#[test]
fn a_stream_can_end_with_an_error() {
    let server = Server::start();
    let mut events = server.client().subscribe(&keys::Subscribe {}).unwrap();
    assert_eq!(events.next().unwrap().unwrap().event, "subscribed");
    let Some(Err(ClientError::Refused(error))) = events.next() else {
        panic!()
    };
    assert_eq!(error.kind, ErrorKind::WrongState);
    assert!(events.next().is_none());
}

#[test]
fn a_hang_up_ends_an_idle_subscription() {
    let server = Server::start();
    let subscription = server
        .client()
        .subscribe(&containers::Subscribe {})
        .unwrap();
    assert_eq!(server.counts.streaming.load(Ordering::SeqCst), 1);
    drop(subscription);
    eventually("the handler is dropped", || {
        server.counts.streaming.load(Ordering::SeqCst) == 0
    });
}

#[test]
fn a_hang_up_ends_a_flood() {
    let server = Server::start();
    let mut subscription = server.client().subscribe(&upcalls::Subscribe {}).unwrap();
    subscription.next().unwrap().unwrap();
    drop(subscription);
    eventually("the handler is dropped", || {
        server.counts.streaming.load(Ordering::SeqCst) == 0
    });
}

#[test]
fn a_hang_up_ends_a_wait_and_the_daemon_sees_it_behind_further_calls() {
    let server = Server::start();
    for further in [0, 1, 100] {
        let mut raw = server.raw();
        raw.send(WAIT);
        eventually("it waits", || {
            server.counts.waiting.load(Ordering::SeqCst) == 1
        });
        for _ in 0..further {
            raw.send(LEND);
        }
        // So that the daemon has read one of them and has to look after the peer by other means.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(server.counts.waiting.load(Ordering::SeqCst), 1);
        drop(raw);
        eventually("the wait is dropped", || {
            server.counts.waiting.load(Ordering::SeqCst) == 0
        });
    }
}

#[test]
fn a_change_begun_is_finished_without_its_caller() {
    let server = Server::start();
    server.raw().send(KILL);
    eventually("it ran to its end", || {
        server.counts.killed.load(Ordering::SeqCst) == 1
    });
}

#[test]
fn hooks_run_when_the_connection_ends_in_any_state() {
    let server = Server::start();
    let states: [&[u8]; 7] = [
        b"",
        b"{\"method\": \"org.ke",
        b"no json\0",
        WAIT.as_bytes(),
        KILL.as_bytes(),
        SUBSCRIBE.as_bytes(),
        FLOOD.as_bytes(),
    ];
    for (ended, state) in states.into_iter().enumerate() {
        let mut raw = server.raw();
        raw.send(LEND).reply().unwrap();
        assert_eq!(server.counts.closed.load(Ordering::SeqCst), ended);
        raw.0.write_all(state).unwrap();
        if state.starts_with(b"{") && state.ends_with(b"}") {
            raw.0.write_all(b"\0").unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        drop(raw);
        eventually("the hook runs", || {
            server.counts.closed.load(Ordering::SeqCst) == ended + 1
        });
    }
    server.assert_serving();
}

#[test]
fn hooks_run_when_the_daemon_ends() {
    let mut server = Server::start();
    let mut raw = server.raw();
    raw.send(LEND).reply().unwrap();
    server.stop();
    assert_eq!(server.counts.closed.load(Ordering::SeqCst), 1);
}

#[test]
fn a_subscriber_that_never_reads_is_cut_off_and_harms_nobody() {
    let server = Server::start();
    let mut raw = server.raw();
    raw.send(FLOOD);
    eventually("the flood has begun", || {
        server.counts.flooded.load(Ordering::SeqCst) > 100
    });
    let blocked = Instant::now();
    let mut slowest = Duration::ZERO;
    while server.counts.streaming.load(Ordering::SeqCst) == 1 {
        assert!(
            blocked.elapsed() < Duration::from_secs(8),
            "still subscribed"
        );
        let begun = Instant::now();
        server.assert_serving();
        slowest = slowest.max(begun.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(
        blocked.elapsed() > Duration::from_secs(4),
        "it had its five seconds"
    );
    assert!(
        slowest < Duration::from_millis(500),
        "others waited {slowest:?}"
    );
    let queued = server.counts.flooded.load(Ordering::SeqCst);
    assert!(queued < 5_000, "{queued} replies were queued for it");
}

//! Many signals, many subscribers, and those that do not read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keyns_interfaces::bus::{CONTAINER, MANAGER, PATH};
use keyns_tests::bus::BusClient;
use keyns_tests::resident;
use zbus::Variant;
use zbus::message::{Message, Type};

use crate::world::{Record, World, create};

fn is(message: &Message, member: &str) -> bool {
    message.message_type() == Type::Signal
        && message
            .header()
            .member()
            .is_some_and(|name| name.as_str() == member)
}

/// A container with a key that can be updated.
fn with_key(client: &mut BusClient) {
    let web = create(client, "web").unwrap();
    let none: HashMap<&str, Variant<'_>> = HashMap::new();
    let _: Record = client
        .call(
            &web,
            CONTAINER,
            "AddKey",
            &("user", "db", b"x".as_slice(), &none),
        )
        .unwrap();
}

/// Makes an event.
fn update(client: &mut BusClient, round: usize) {
    let update = ("web/user:db", format!("{round}").into_bytes());
    let _: Record = client.call(PATH, MANAGER, "UpdateKey", &update).unwrap();
}

#[test]
fn ten_subscribers_get_every_signal_and_the_daemon_does_not_grow() {
    const SUBSCRIBERS: usize = 10;
    const EVENTS: usize = 3_000;
    let world = World::start("many");
    let mut client = world.client();
    with_key(&mut client);
    let (stop, heard) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let subscribers: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| {
            let mut subscriber = world.client();
            let () = subscriber.call(PATH, MANAGER, "Subscribe", &()).unwrap();
            let (stop, heard) = (Arc::clone(&stop), Arc::clone(&heard));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(message) = subscriber.next(Duration::from_millis(100)) else {
                        continue;
                    };
                    subscriber.answer_ping(&message);
                    heard.fetch_add(usize::from(is(&message, "KeyChanged")), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let rss = || resident(world.instance.daemon_pid());
    let mut early = 0;
    let deadline = Instant::now() + Duration::from_secs(120);
    for event in 1..=EVENTS {
        update(&mut client, event);
        // As many as a queue holds may be under way.
        while heard.load(Ordering::Relaxed) + SUBSCRIBERS * 200 < event * SUBSCRIBERS {
            assert!(
                Instant::now() < deadline,
                "{heard:?}\n{}",
                world.instance.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        if event == EVENTS / 3 {
            early = rss();
        }
    }
    world.instance.until("all are heard", || {
        heard.load(Ordering::Relaxed) >= SUBSCRIBERS * EVENTS
    });
    assert_eq!(heard.load(Ordering::Relaxed), SUBSCRIBERS * EVENTS);
    assert!(rss() < early + 1_024, "{early} kB, then {} kB", rss());
    stop.store(true, Ordering::Relaxed);
    for subscriber in subscribers {
        subscriber.join().unwrap();
    }
    world.instance.stop();
}

#[test]
fn a_subscriber_that_stops_reading_is_dropped_and_others_do_not_notice() {
    let world = World::start("silent");
    let (mut silent, mut reading) = (world.client(), world.client());
    let () = silent.call(PATH, MANAGER, "Subscribe", &()).unwrap();
    let () = reading.call(PATH, MANAGER, "Subscribe", &()).unwrap();
    let mut client = world.client();
    with_key(&mut client);
    let events = 300;
    let mut heard = 0;
    let count = |reading: &mut BusClient, limit| {
        let mut heard = 0;
        while let Some(message) = reading.next(limit) {
            reading.answer_ping(&message);
            heard += usize::from(is(&message, "KeyChanged"));
        }
        heard
    };
    for round in 0..events {
        update(&mut client, round);
        heard += count(&mut reading, Duration::from_millis(1));
    }
    world.instance.until("it is dropped", || {
        heard += count(&mut reading, Duration::from_millis(10));
        world
            .instance
            .log()
            .contains("a subscriber gets no signals any more")
    });
    // One more for the key itself; copies may be told of, too.
    heard += count(&mut reading, Duration::from_millis(300));
    assert!(heard > events, "{heard} of {events}");
    assert_eq!(
        world
            .instance
            .log()
            .matches("a subscriber gets no signals any more")
            .count(),
        1
    );
    // It can have them again.
    while let Some(message) = silent.next(Duration::from_millis(300)) {
        silent.answer_ping(&message);
    }
    let () = silent.call(PATH, MANAGER, "Subscribe", &()).unwrap();
    create(&mut client, "more").unwrap();
    let added = (0..50).any(|_| {
        let message = silent.next(Duration::from_millis(200));
        message.is_some_and(|message| is(&message, "InterfacesAdded"))
    });
    assert!(added);
    world.instance.stop();
}

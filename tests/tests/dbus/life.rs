//! The bus comes late, goes and comes back; clients go at any moment.

use std::collections::HashMap;
use std::time::Duration;

use keyns_interfaces::bus::{self, CONTAINER, MANAGER, PATH};
use keyns_tests::bus::{BusClient, PrivateBus};
use keyns_tests::instance::Instance;
use zbus::Variant;
use zbus::message::Message;

use crate::world::{Record, World, create};

#[test]
fn a_bus_that_starts_late_is_found_and_one_that_restarts_again() {
    let bus = PrivateBus::stopped("");
    let instance = Instance::start_on_bus("late", &bus.address());
    let mut world = World { instance, bus };
    assert!(world.instance.log().contains("cannot serve on the bus"));
    world.bus.run();
    world.until_served();
    let web = world.container("web");
    for _ in 0..3 {
        world.bus.kill();
        // The other door does not care.
        world.instance.ok(&["container", "list"]);
        world.bus.run();
        world.until_served();
        let mut client = world.client();
        assert_eq!(
            client
                .call::<_, Record>(&web, CONTAINER, "Show", &())
                .unwrap()
                .len(),
            4
        );
    }
    world.instance.stop();
}

#[test]
fn a_policy_that_forbids_the_name_leaves_the_other_door_open() {
    let forbidding = "<policy context=\"mandatory\"><deny own=\"org.keyns\"/></policy>";
    let mut bus = PrivateBus::stopped(forbidding);
    bus.run();
    let instance = Instance::start_on_bus("forbidden", &bus.address());
    instance.until("it is said", || instance.log().contains("the bus refuses"));
    instance.ok(&["container", "create", "web"]);
    let said = instance.log().matches("the bus refuses").count();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(
        instance.log().matches("the bus refuses").count(),
        said,
        "it is said once"
    );
    instance.stop();
}

#[test]
fn a_drop_keyring_ends_with_the_client() {
    let world = World::start("drop");
    let serial = {
        let mut client = world.client();
        let first: i32 = client.call(PATH, MANAGER, "Lend", &()).unwrap();
        let again: i32 = client.call(PATH, MANAGER, "Lend", &()).unwrap();
        assert_eq!(first, again, "one a client");
        first
    };
    let line = format!("{serial:08x} ");
    world.instance.until("the keyring is gone", || {
        !std::fs::read_to_string("/proc/keys")
            .unwrap()
            .contains(&line)
    });
    world.instance.stop();
}

/// A call of each kind, to be left at some point.
fn calls(path: &str) -> Vec<Message> {
    let none: HashMap<&str, Variant<'_>> = HashMap::new();
    let call = |path: &str, interface: &str, member: &str| {
        Message::method_call(path.to_owned(), member.to_owned())
            .destination(bus::NAME)
            .interface(interface.to_owned())
    };
    vec![
        call(PATH, MANAGER, "GetFeatures").build(&()).unwrap(),
        call(PATH, MANAGER, "Subscribe").build(&()).unwrap(),
        call(PATH, MANAGER, "Lend").build(&()).unwrap(),
        call(path, CONTAINER, "Wait").build(&1_u64).unwrap(),
        call(path, CONTAINER, "Show").build(&()).unwrap(),
        call(path, CONTAINER, "AddKey")
            .build(&("user", "left", b"x".as_slice(), &none))
            .unwrap(),
        call(PATH, MANAGER, "RegisterAgent")
            .build(&(
                zbus::ObjectPath::from_static_str_unchecked("/a"),
                "a",
                vec!["user"],
                &none,
            ))
            .unwrap(),
    ]
}

#[test]
fn clients_may_leave_at_any_moment() {
    let world = World::start("leaving");
    let web = world.container("web");
    for pause in [0, 200, 1_000, 5_000] {
        for call in calls(&web) {
            let client = world.client();
            client.send(&call);
            std::thread::sleep(Duration::from_micros(pause));
            drop(client);
        }
    }
    world.instance.until("no agent is left", || {
        world.instance.json(&["agent", "list"])["agents"]
            .as_array()
            .unwrap()
            .is_empty()
    });
    world.assert_serving();
    world.instance.stop();
}

#[test]
fn calls_of_one_client_are_limited_and_others_do_not_notice() {
    let world = World::start("flood");
    let web = world.container("web");
    let mut flooding: BusClient = world.client();
    let wait = || {
        Message::method_call(web.as_str(), "Wait")
            .destination(bus::NAME)
            .interface(CONTAINER)
            .build(&1_u64)
            .unwrap()
    };
    for _ in 0..100 {
        flooding.send(&wait());
    }
    let mut refused = 0;
    while let Some(message) = flooding.next(Duration::from_millis(500)) {
        let header = message.header();
        if let Some(name) = header.error_name() {
            assert!(
                [
                    "org.freedesktop.DBus.Error.LimitsExceeded",
                    "org.keyns.Error.LimitReached"
                ]
                .contains(&name.as_str()),
                "{name}"
            );
            refused += 1;
        }
    }
    assert!((36..=100).contains(&refused), "{refused}");
    // Root has no more places than others; another user is served.
    let version = world.as_user(crate::world::NOBODY, |mut client| {
        client
            .call::<_, Record>(PATH, MANAGER, "GetStatus", &())
            .unwrap()
    });
    assert!(version.contains_key("version"));
    drop(flooding);
    world.assert_serving();
    create(&mut world.client(), "more").unwrap();
    world.instance.stop();
}

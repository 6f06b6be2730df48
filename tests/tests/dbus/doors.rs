//! Both doors let the same callers do the same things.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use keyns_interfaces::bus::{self, CONTAINER, CONTAINERS, MANAGER, PATH, UPCALL, UPCALLS};
use keyns_interfaces::{METHODS, MethodEntry};
use keyns_tests::bus::BusClient;
use keyns_tests::varlink;
use serde_json::json;
use zbus::message::Message;

use crate::world::{NOBODY, World};

/// Methods of the contract that the bus has other means for: an agent answers by replies.
const BY_OTHER_MEANS: [&str; 3] = [
    "org.keyns.Agents.Complete",
    "org.keyns.Agents.Reject",
    "org.keyns.Agents.NotMine",
];

/// Each method in a description with the methods of the contract that it stands for.
fn described(xml: &str) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    let value = |line: &str, name: &str| {
        let begin = line.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
        line[begin..].split('"').next().unwrap().to_owned()
    };
    for line in xml.lines() {
        if line.contains("<method ") {
            all.push((value(line, "name"), Vec::new()));
        } else if line.contains("\"org.keyns.Varlink\"") {
            let methods = value(line, "value");
            all.last_mut().unwrap().1 = methods.split(' ').map(str::to_owned).collect();
        }
    }
    all
}

/// All methods on the bus: interface, name, methods of the contract.
fn on_the_bus() -> Vec<(&'static str, String, Vec<String>)> {
    let served = bus::INTERFACES
        .iter()
        .filter(|(name, _)| *name != bus::AGENT);
    served
        .flat_map(|(interface, xml)| {
            described(xml)
                .into_iter()
                .map(move |(member, methods)| (*interface, member, methods))
        })
        .collect()
}

/// What a varlink caller without parameters is told: the error's name, or nothing.
fn at_the_socket(socket: &Path, method: &MethodEntry) -> Option<String> {
    let reply = varlink(socket, method.name, json!({}), method.stream);
    reply["error"].as_str().map(str::to_owned)
}

/// What a client on the bus is told: the error's name, or nothing.
fn at_the_bus(client: &mut BusClient, interface: &str, member: &str) -> Option<String> {
    let path = match interface {
        CONTAINER => format!("{CONTAINERS}1"),
        UPCALL => format!("{UPCALLS}1"),
        _ => PATH.to_owned(),
    };
    let call = Message::method_call(path, member)
        .destination(bus::NAME)
        .interface(interface)
        .build(&())
        .unwrap();
    client.exchange(&call).err().map(|error| error.0)
}

#[test]
fn what_one_door_refuses_the_other_refuses_too() {
    let world = World::start("doors");
    world.container("web");
    let socket = world.instance.socket();

    // Every method of the contract can be reached from the bus, and no other.
    let contract: BTreeSet<String> = METHODS.iter().map(|m| m.name.to_owned()).collect();
    let mut reached: BTreeSet<String> = BY_OTHER_MEANS.map(str::to_owned).into();
    for (interface, member, methods) in on_the_bus() {
        assert!(
            !methods.is_empty(),
            "{interface}.{member} stands for nothing"
        );
        reached.extend(methods);
    }
    assert_eq!(reached, contract);

    for uid in [0, NOBODY] {
        let socket = socket.clone();
        let (bus, varlink) = world.as_user(uid, move |mut client| {
            let bus: Vec<_> = on_the_bus()
                .into_iter()
                .map(|(interface, member, methods)| {
                    let told = at_the_bus(&mut client, interface, &member);
                    (format!("{interface}.{member}"), methods, told)
                })
                .collect();
            let varlink: BTreeMap<_, _> = METHODS
                .iter()
                .map(|method| (method.name.to_owned(), at_the_socket(&socket, method)))
                .collect();
            (bus, varlink)
        });
        let refused = |told: &Option<String>| {
            told.as_deref()
                .is_some_and(|name| name.ends_with(".NotPermitted"))
        };
        let mut refusals = 0;
        for (member, methods, told) in bus {
            let there = methods.iter().any(|method| refused(&varlink[method]));
            assert_eq!(refused(&told), there, "uid {uid}: {member} {told:?}");
            refusals += usize::from(there);
        }
        // The test is none if nothing is refused to others, or anything to root.
        assert_eq!(refusals > 0, uid != 0);
    }
    world.instance.stop();
}

#[test]
fn whoever_may_not_list_learns_of_no_object() {
    let world = World::start("hidden");
    let web = world.container("web");
    let told = world.as_user(NOBODY, move |mut client| {
        let mut told = Vec::new();
        for path in [
            web.as_str(),
            "/org/keyns/container/999",
            "/org/keyns/upcall/1",
        ] {
            let properties = "org.freedesktop.DBus.Properties";
            let interface = if path.contains("upcall") {
                UPCALL
            } else {
                CONTAINER
            };
            let all =
                client.call::<_, crate::world::Record>(path, properties, "GetAll", &interface);
            told.push(all.unwrap_err().0);
        }
        let manager = "org.freedesktop.DBus.ObjectManager";
        let call = Message::method_call(PATH, "GetManagedObjects")
            .destination(bus::NAME)
            .interface(manager)
            .build(&())
            .unwrap();
        told.push(client.exchange(&call).unwrap_err().0);
        let introspectable = "org.freedesktop.DBus.Introspectable";
        let shown: String = client
            .call("/org/keyns/container", introspectable, "Introspect", &())
            .unwrap();
        assert!(!shown.contains("<node name="), "{shown}");
        // What anybody may know.
        let version: crate::world::Record = client
            .call(PATH, "org.freedesktop.DBus.Properties", "GetAll", &MANAGER)
            .unwrap();
        assert!(version.contains_key("Version"));
        told
    });
    assert_eq!(told, ["org.keyns.Error.NotPermitted"; 4]);
    world.instance.stop();
}

#[test]
fn the_bus_takes_no_descriptor_from_others_than_root() {
    let world = World::start("no-fds");
    let told = world.as_user(NOBODY, |mut client| {
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = zbus::OwnedFd::from(std::os::fd::OwnedFd::from(file));
        let call = Message::method_call(PATH, "UpdateKeyFrom")
            .destination(bus::NAME)
            .interface(MANAGER)
            .build(&("web/user:db", fd))
            .unwrap();
        client.exchange(&call).unwrap_err()
    });
    assert_eq!(
        told.0, "org.freedesktop.DBus.Error.AccessDenied",
        "{}",
        told.1
    );
    world.instance.stop();
}

#[test]
fn root_of_another_user_namespace_is_not_root_on_the_bus() {
    let world = World::start("userns");
    // Its uid 0 is mapped to the host's, so that the bus sees uid 0.
    let out = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "busctl"])
        .arg(format!("--address={}", world.bus.address()))
        .args([
            "call",
            bus::NAME,
            PATH,
            MANAGER,
            "ListContainers",
            "b",
            "false",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success(), "{said}");
    assert!(said.contains("root of another user namespace"), "{said}");
    world.instance.stop();
}

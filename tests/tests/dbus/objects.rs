//! What is served: objects, properties, signals, descriptors.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use keyns_interfaces::bus::{self, CONTAINER, MANAGER, PATH};
use keyns_tests::bus::{BusClient, BusError};
use zbus::message::{Message, Type};
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use crate::world::{Record, World, create, property, text};

const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Names and types of the properties in a description.
fn described(xml: &str) -> Vec<(String, String)> {
    let attribute = |line: &str, name: &str| {
        let begin = line.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
        line[begin..].split('"').next().unwrap().to_owned()
    };
    let lines = xml.lines().filter(|line| line.contains("<property "));
    let mut all: Vec<_> = lines
        .map(|line| (attribute(line, "name"), attribute(line, "type")))
        .collect();
    all.sort();
    all
}

fn served(client: &mut BusClient, path: &str, interface: &str) -> Vec<(String, String)> {
    let properties: Record = client.call(path, PROPERTIES, "GetAll", &interface).unwrap();
    let mut all: Vec<_> = properties
        .iter()
        .map(|(name, value)| (name.clone(), value.value_signature().to_string()))
        .collect();
    all.sort();
    all
}

#[test]
fn descriptions_and_properties_are_those_of_the_files() {
    let world = World::start("described");
    let mut client = world.client();
    let web = world.container("web");
    for (path, interface, xml) in [
        (
            PATH,
            MANAGER,
            include_str!("../../../interfaces/org.keyns.Manager1.xml"),
        ),
        (
            web.as_str(),
            CONTAINER,
            include_str!("../../../interfaces/org.keyns.Container1.xml"),
        ),
    ] {
        let introspectable = "org.freedesktop.DBus.Introspectable";
        let shown: String = client
            .call(path, introspectable, "Introspect", &())
            .unwrap();
        assert!(shown.contains(bus::element(xml)), "{interface}: {shown}");
        assert_eq!(served(&mut client, path, interface), described(xml));
    }
    world.instance.stop();
}

#[test]
fn a_container_is_an_object_from_its_creation_to_its_removal() {
    let world = World::start("object");
    let mut client = world.client();
    let web = create(&mut client, "web").unwrap();
    let named: OwnedObjectPath = client.call(PATH, MANAGER, "GetContainer", &"web").unwrap();
    assert_eq!(named, web);
    assert_eq!(
        property(&mut client, &web, "Name"),
        OwnedVariant::from(zbus::Str::from("web"))
    );
    let managed = |client: &mut BusClient| {
        type Managed = HashMap<OwnedObjectPath, HashMap<String, Record>>;
        let manager = "org.freedesktop.DBus.ObjectManager";
        let all: Managed = client
            .call(PATH, manager, "GetManagedObjects", &())
            .unwrap();
        all
    };
    let all = managed(&mut client);
    assert_eq!(text(&all[&web][CONTAINER], "State"), "created");
    let nested = create(&mut client, "web.db").unwrap();
    let parent: OwnedObjectPath = property(&mut client, &nested, "Parent").try_into().unwrap();
    assert_eq!(parent, web);
    let () = client.call(&nested, CONTAINER, "Remove", &()).unwrap();
    assert!(!managed(&mut client).contains_key(&nested));
    let gone: Result<(), BusError> = client.call(&nested, CONTAINER, "Remove", &());
    assert_eq!(
        gone.unwrap_err().0,
        "org.freedesktop.DBus.Error.UnknownObject"
    );
    world.instance.stop();
}

/// Runs a program until it is killed; its number and process id.
fn run(client: &mut BusClient, path: &str, command: &[&str]) -> (u64, u32) {
    let null = || zbus::OwnedFd::from(OwnedFd::from(File::open("/dev/null").unwrap()));
    let fds = vec![null(), null(), null()];
    let options: HashMap<&str, Variant<'_>> = HashMap::new();
    let (process, pid, terminal): (u64, u32, Vec<zbus::OwnedFd>) = client
        .call(path, CONTAINER, "Run", &(command, fds, options))
        .unwrap();
    assert_eq!(terminal.len(), 0);
    (process, pid)
}

#[test]
fn processes_are_run_opened_and_waited_for_by_descriptors() {
    let world = World::start("process");
    let mut client = world.client();
    let web = create(&mut client, "web").unwrap();
    let (process, pid) = run(&mut client, &web, &["/bin/sleep", "1000"]);
    let (pidfd, same): (zbus::OwnedFd, u32) = client
        .call(&web, CONTAINER, "OpenProcess", &process)
        .unwrap();
    assert_eq!(same, pid);
    let info = format!(
        "/proc/self/fdinfo/{}",
        std::os::fd::AsRawFd::as_raw_fd(&pidfd)
    );
    let info = std::fs::read_to_string(info).unwrap();
    assert!(info.contains(&format!("Pid:\t{pid}\n")), "{info}");
    assert_eq!(
        property(&mut client, &web, "InitPid"),
        OwnedVariant::from(pid)
    );

    // Somebody waits while it is ended by the descriptor.
    let mut waiting = world.client();
    let wait = Message::method_call(web.as_str(), "Wait")
        .destination(bus::NAME)
        .interface(CONTAINER)
        .build(&process)
        .unwrap();
    waiting.send(&wait);
    rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL).unwrap();
    let exit = loop {
        let message = waiting.next(Duration::from_secs(20)).unwrap();
        if message.message_type() == Type::MethodReturn {
            let body = message.body();
            break body
                .deserialize::<((String, i32),)>()
                .map(|e| e.0)
                .or_else(|_| body.deserialize::<(String, i32)>());
        }
    };
    assert_eq!(exit.unwrap(), ("killed".to_owned(), 9));
    let ended: Result<(zbus::OwnedFd, u32), BusError> =
        client.call(&web, CONTAINER, "OpenProcess", &process);
    assert_eq!(ended.unwrap_err().0, "org.keyns.Error.NoSuchProcess");
    world.instance.stop();
}

#[test]
fn a_lease_kills_its_container_when_it_is_closed() {
    let world = World::start("lease");
    let mut client = world.client();
    let namespaces = Variant::from(vec!["user", "pid"]);
    let options = HashMap::from([("namespaces", namespaces)]);
    let (web, lease): (OwnedObjectPath, zbus::OwnedFd) = client
        .call(PATH, MANAGER, "CreateLeasedContainer", &("web", options))
        .unwrap();
    run(&mut client, &web, &["/bin/sleep", "1000"]);
    drop(lease);
    let dead = OwnedVariant::from(zbus::Str::from("dead"));
    world.instance.until("the container is dead", || {
        property(&mut client, &web, "State") == dead
    });
    world.instance.stop();
}

#[test]
fn a_payload_goes_in_and_comes_out_as_bytes_or_memory() {
    let world = World::start("payload");
    let mut client = world.client();
    let web = create(&mut client, "web").unwrap();
    let none: HashMap<&str, Variant<'_>> = HashMap::new();
    let key: Record = client
        .call(
            &web,
            CONTAINER,
            "AddKey",
            &("user", "db", b"first".as_slice(), &none),
        )
        .unwrap();
    assert_eq!(text(&key, "description"), "db");
    let read = |client: &mut BusClient| {
        let file: zbus::OwnedFd = client
            .call(PATH, MANAGER, "ReadKey", &"web/user:db")
            .unwrap();
        let mut file = File::from(OwnedFd::from(file));
        let mut payload = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut payload).unwrap();
        assert!(rustix::io::pwrite(&file, b"x", 0).is_err(), "it is sealed");
        payload
    };
    assert_eq!(read(&mut client), "first");

    let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("second", flags).unwrap();
    rustix::io::write(&memory, b"second").unwrap();
    let body = |memory: &OwnedFd| {
        (
            "web/user:db",
            zbus::OwnedFd::from(memory.try_clone().unwrap()),
        )
    };
    let unsealed: Result<Record, BusError> =
        client.call(PATH, MANAGER, "UpdateKeyFrom", &body(&memory));
    assert_eq!(
        unsealed.unwrap_err().0,
        "org.freedesktop.DBus.Error.InvalidArgs"
    );
    let seals =
        rustix::fs::SealFlags::SHRINK | rustix::fs::SealFlags::GROW | rustix::fs::SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
    let _: Record = client
        .call(PATH, MANAGER, "UpdateKeyFrom", &body(&memory))
        .unwrap();
    assert_eq!(read(&mut client), "second");
    assert!(!world.instance.log().contains("second"));
    world.instance.stop();
}

/// Interface and name of the signals that come until there is none for a moment.
fn signals(client: &mut BusClient) -> Vec<String> {
    let mut all = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let Some(message) = client.next(Duration::from_millis(500)) else {
            break;
        };
        client.answer_ping(&message);
        let header = message.header();
        let sender = header.sender().map(ToString::to_string);
        if message.message_type() == Type::Signal
            && sender.as_deref() != Some("org.freedesktop.DBus")
        {
            all.push(header.member().unwrap().to_string());
        }
    }
    all
}

#[test]
fn signals_go_to_those_who_subscribed_and_to_nobody_else() {
    let world = World::start("signals");
    let (mut subscriber, mut other) = (world.client(), world.client());
    // Even with a rule of its own for all that it may see.
    let rule = Message::method_call("/org/freedesktop/DBus", "AddMatch")
        .destination("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .build(&"type='signal',path_namespace='/org/keyns'")
        .unwrap();
    other.exchange(&rule).unwrap();
    let () = subscriber.call(PATH, MANAGER, "Subscribe", &()).unwrap();
    let () = subscriber.call(PATH, MANAGER, "Subscribe", &()).unwrap();
    let mut client = world.client();
    let web = create(&mut client, "web").unwrap();
    let none: HashMap<&str, Variant<'_>> = HashMap::new();
    let secret = b"canary-of-the-signals".as_slice();
    let _: Record = client
        .call(&web, CONTAINER, "AddKey", &("user", "db", secret, &none))
        .unwrap();
    run(&mut client, &web, &["/bin/true"]);
    let killed: Result<(u64, u64), BusError> = client.call(&web, CONTAINER, "Kill", &());
    drop(killed);
    let dead = OwnedVariant::from(zbus::Str::from("dead"));
    world.instance.until("it is dead", || {
        property(&mut client, &web, "State") == dead
    });
    let () = client.call(&web, CONTAINER, "Remove", &()).unwrap();
    let mut heard = signals(&mut subscriber);
    heard.dedup();
    let expected = [
        "InterfacesAdded",
        "KeyChanged",
        "PropertiesChanged",
        "Started",
        "PropertiesChanged",
        "Ended",
    ];
    let mut places = heard.iter();
    for name in expected {
        assert!(places.any(|heard| heard == name), "{name} in {heard:?}");
    }
    assert_eq!(heard.last().map(String::as_str), Some("InterfacesRemoved"));
    assert_eq!(signals(&mut other), [""; 0]);
    let () = subscriber.call(PATH, MANAGER, "Unsubscribe", &()).unwrap();
    create(&mut client, "more").unwrap();
    assert_eq!(signals(&mut subscriber), [""; 0]);
    world.instance.stop();
}

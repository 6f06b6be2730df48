//! Requests as objects, and agents that are objects of clients.

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use keyns_interfaces::bus::{AGENT, CONTAINER, MANAGER, PATH, UPCALL, UPCALLS};
use keyns_tests::bin_dir;
use keyns_tests::bus::{BusClient, BusError};
use zbus::message::{Message, Type};
use zbus::{ObjectPath, OwnedVariant, Variant};

use crate::world::{NOBODY, Record, World, create, text};

/// Starts a process in a container that asks for a key.
fn ask(world: &World, container: &str, name: &str) -> Child {
    let probe = bin_dir().join("keyns-probe");
    let mut command = world
        .instance
        .command(&["container", "run", container, "--program"]);
    command.arg(probe);
    command.args(["--", "probe", "request", "user", name, "callout of it"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What the process said the kernel answered.
fn answer_of(child: Child) -> String {
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    said + &String::from_utf8_lossy(&out.stderr)
}

/// Routes requests for user keys.
fn intercept(client: &mut BusClient, path: &str, to: (&str, &str)) {
    let options = HashMap::from([(to.0, Variant::from(to.1))]);
    let (rule, replaced): (Record, bool) = client
        .call(path, CONTAINER, "Intercept", &("user", options))
        .unwrap();
    assert_eq!(text(&rule, "type"), "user");
    assert!(!replaced);
}

/// The next message for which `wanted` is true.
fn await_message(client: &mut BusClient, wanted: impl Fn(&Message) -> bool) -> Message {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let Some(message) = client.next(Duration::from_millis(500)) else {
            continue;
        };
        client.answer_ping(&message);
        if wanted(&message) {
            return message;
        }
    }
    panic!("it did not come");
}

fn is(message: &Message, kind: Type, member: &str) -> bool {
    let header = message.header();
    let sender = header.sender().map(ToString::to_string);
    message.message_type() == kind
        && header.member().is_some_and(|name| name.as_str() == member)
        && sender.as_deref() != Some("org.freedesktop.DBus")
}

#[test]
fn a_request_is_an_object_until_it_is_answered() {
    let world = World::start("request");
    let mut subscriber = world.client();
    let () = subscriber.call(PATH, MANAGER, "Subscribe", &()).unwrap();
    let mut client = world.client();
    for (number, (member, container)) in [
        ("Answer", "one"),
        ("AnswerFrom", "two"),
        ("Reject", "three"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = create(&mut client, container).unwrap();
        intercept(&mut client, &path, ("queue", "desk"));
        let asking = ask(&world, container, "the-key");
        let added = await_message(&mut subscriber, |message| {
            is(message, Type::Signal, "InterfacesAdded")
                && message
                    .body()
                    .deserialize::<(ObjectPath<'_>, HashMap<String, Record>)>()
                    .is_ok_and(|(path, _)| path.as_str().starts_with(UPCALLS))
        });
        let body = added.body();
        let (path, interfaces): (ObjectPath<'_>, HashMap<String, Record>) =
            body.deserialize().unwrap();
        assert_eq!(path.as_str(), format!("{UPCALLS}{}", number + 1));
        assert_eq!(text(&interfaces[UPCALL], "Description"), "the-key");
        let properties: Record = client
            .call(&path, "org.freedesktop.DBus.Properties", "GetAll", &UPCALL)
            .unwrap();
        assert_eq!(text(&properties, "Callout"), "callout of it");
        assert_eq!(text(&properties, "Handler"), "queue desk");
        let Variant::Dict(requester) = &*properties["Requester"] else {
            panic!()
        };
        let of: Option<String> = requester.get(&"container").unwrap();
        assert_eq!(of.as_deref(), Some(container));

        let payload = b"payload-by-hand".as_slice();
        let outcome: Result<(i32, u64), BusError> = match member {
            "Answer" => client.call(&path, UPCALL, member, &payload),
            "Reject" => client.call(&path, UPCALL, member, &(13, 5_u32)),
            _ => {
                let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
                let memory = rustix::fs::memfd_create("payload", flags).unwrap();
                rustix::io::write(&memory, payload).unwrap();
                let seals = rustix::fs::SealFlags::SHRINK
                    | rustix::fs::SealFlags::GROW
                    | rustix::fs::SealFlags::WRITE;
                rustix::fs::fcntl_add_seals(&memory, seals).unwrap();
                client.call(&path, UPCALL, member, &zbus::OwnedFd::from(memory))
            }
        };
        let said = answer_of(asking);
        if member == "Reject" {
            assert_eq!(outcome.unwrap().0, 13);
            assert!(said.contains("EACCES"), "{said}");
        } else {
            assert_eq!(outcome.unwrap().0, 0);
            assert!(said.contains("payload-by-hand"), "{said}");
        }
        let ended = await_message(&mut subscriber, |message| {
            is(message, Type::Signal, "Ended")
        });
        assert_eq!(ended.header().path().unwrap(), &path);
        await_message(&mut subscriber, |message| {
            is(message, Type::Signal, "InterfacesRemoved")
        });
        let again: Result<(i32, u64), BusError> = client.call(&path, UPCALL, "Answer", &payload);
        assert_eq!(
            again.unwrap_err().0,
            "org.freedesktop.DBus.Error.UnknownObject"
        );
    }
    assert!(!world.instance.log().contains("payload-by-hand"));
    world.instance.stop();
}

/// Registers an agent for user keys.
fn register(client: &mut BusClient, name: &str) -> Result<u64, BusError> {
    let object = ObjectPath::from_static_str_unchecked("/my/agent");
    let none: HashMap<&str, Variant<'_>> = HashMap::new();
    client.call(
        PATH,
        MANAGER,
        "RegisterAgent",
        &(object, name, vec!["user"], none),
    )
}

/// Waits to be asked for a key.
fn asked(client: &mut BusClient) -> Message {
    let call = await_message(client, |message| {
        is(message, Type::MethodCall, "Instantiate")
    });
    let header = call.header();
    assert_eq!(header.path().unwrap().as_str(), "/my/agent");
    assert_eq!(header.interface().unwrap().as_str(), AGENT);
    let body = call.body();
    let (_, request): (u64, Record) = body.deserialize().unwrap();
    assert_eq!(text(&request, "type"), "user");
    drop(header);
    call
}

/// The agent that is asked for a key.
fn one_of(agents: &mut [(u64, BusClient)]) -> (usize, Message) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        for (place, (_, agent)) in agents.iter_mut().enumerate() {
            let message = agent.next(Duration::from_millis(20));
            if let Some(call) = message.filter(|m| is(m, Type::MethodCall, "Instantiate")) {
                return (place, call);
            }
        }
    }
    panic!("no agent is asked");
}

fn reply(client: &BusClient, call: &Message, payload: &[u8]) {
    let reply = Message::method_return(&call.header());
    client.send(&reply.build(&payload).unwrap());
}

fn refuse(client: &BusClient, call: &Message, name: &str, text: &str) {
    let error = Message::error(&call.header(), name).build(&text).unwrap();
    client.send(&error);
}

#[test]
fn an_agent_on_the_bus_answers_rejects_and_passes_on() {
    let world = World::start("agent");
    let mut client = world.client();
    let web = create(&mut client, "web").unwrap();
    intercept(&mut client, &web, ("agent", ""));
    let (mut first, mut second) = (world.client(), world.client());
    let number = register(&mut first, "first").unwrap();

    let asking = ask(&world, "web", "answered");
    let call = asked(&mut first);
    reply(&first, &call, b"payload-of-the-agent");
    let said = answer_of(asking);
    assert!(said.contains("payload-of-the-agent"), "{said}");

    let db = create(&mut client, "db").unwrap();
    intercept(&mut client, &db, ("agent", ""));
    let asking = ask(&world, "db", "rejected");
    let call = asked(&mut first);
    refuse(&first, &call, "org.keyns.Error.Reject", "129 5");
    let said = answer_of(asking);
    assert!(said.contains("EKEYREJECTED"), "{said}");

    // To the next one: because it is asked to, for a reply of another type, because the first leaves.
    let number_of_second = register(&mut second, "second").unwrap();
    let mut agents = vec![(number, first), (number_of_second, second)];
    for (turn, container) in ["a", "b", "c"].into_iter().enumerate() {
        let path = create(&mut client, container).unwrap();
        intercept(&mut client, &path, ("agent", ""));
        let asking = ask(&world, container, "passed on");
        let (one, call) = one_of(&mut agents);
        match turn {
            0 => refuse(&agents[one].1, &call, "org.keyns.Error.NotMine", ""),
            1 => {
                let wrong = Message::method_return(&call.header());
                agents[one].1.send(&wrong.build(&"no bytes").unwrap());
            }
            _ => drop(agents.remove(one)),
        }
        let (other, call) = one_of(&mut agents);
        reply(&agents[other].1, &call, b"from-the-other");
        let said = answer_of(asking);
        assert!(said.contains("from-the-other"), "{turn}: {said}");
    }
    let (number, mut last) = agents.pop().unwrap();

    let agents: Vec<Record> = client.call(PATH, MANAGER, "ListAgents", &()).unwrap();
    assert_eq!(agents.len(), 1);
    assert_eq!(
        agents[0]["agent"],
        OwnedVariant::from(i64::try_from(number).unwrap())
    );
    let others: Result<(), BusError> = client.call(PATH, MANAGER, "UnregisterAgent", &number);
    assert_eq!(others.unwrap_err().0, "org.keyns.Error.NoSuchAgent");
    let () = last
        .call(PATH, MANAGER, "UnregisterAgent", &number)
        .unwrap();
    world.instance.until("no agent is left", || {
        let agents: Vec<Record> = client.call(PATH, MANAGER, "ListAgents", &()).unwrap();
        agents.is_empty()
    });
    assert!(!world.instance.log().contains("payload-of-the-agent"));
    world.instance.stop();
}

#[test]
fn nobody_but_the_daemon_may_ask_an_agent() {
    let world = World::start("askers");
    let mut agent = world.client();
    register(&mut agent, "agent").unwrap();
    let name = agent.name();
    let told = world.as_user(NOBODY, move |mut client| {
        let none: HashMap<&str, Variant<'_>> = HashMap::new();
        let call = Message::method_call("/my/agent", "Instantiate")
            .destination(name)
            .interface(AGENT)
            .build(&(1_u64, none))
            .unwrap();
        client.exchange(&call).unwrap_err().0
    });
    assert_eq!(told, "org.freedesktop.DBus.Error.AccessDenied");
    world.instance.stop();
}

#[test]
fn the_seventeenth_agent_of_a_user_is_refused_and_gives_way_to_another() {
    let world = World::start("agents");
    let mut client = world.client();
    let numbers: Vec<u64> = (0..16)
        .map(|_| register(&mut client, "many").unwrap())
        .collect();
    let more = register(&mut world.client(), "more").unwrap_err();
    assert_eq!(more.0, "org.keyns.Error.LimitReached", "{}", more.1);
    let () = client
        .call(PATH, MANAGER, "UnregisterAgent", &numbers[7])
        .unwrap();
    world
        .instance
        .until("there is room", || register(&mut client, "more").is_ok());
    world.instance.stop();
}

//! Who is not root may do what polkit says, and nothing if it does not say so properly.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use keyns_interfaces::bus::{self, MANAGER, PATH};
use keyns_tests::bus::{BusClient, BusError, PrivateBus};
use rustix::process::{Pid, Signal, kill_process};
use zbus::message::{Flags, Message, Type};
use zbus::{OwnedVariant, Variant};

use crate::world::{NOBODY, Record, World, create};

type Subject = (String, HashMap<String, OwnedVariant>);
type Containers = Vec<(zbus::OwnedObjectPath, Record)>;

/// Says yes to one user and one action.
const RULES: &str = r#"
polkit.addRule(function(action, subject) {
    if (action.id == "org.keyns.view" && subject.user == "nobody") {
        return polkit.Result.YES;
    }
    if (action.id == "org.keyns.answer") {
        return polkit.Result.AUTH_ADMIN;
    }
    return polkit.Result.NO;
});
"#;

fn list(client: &mut BusClient) -> Result<usize, BusError> {
    let listed: Containers = client.call(PATH, MANAGER, "ListContainers", &false)?;
    Ok(listed.len())
}

fn list_as(world: &World, uid: u32) -> Result<usize, BusError> {
    world.as_user(uid, |mut client| list(&mut client))
}

#[test]
fn a_user_may_do_what_polkit_allows_and_no_more() {
    let mut world = World::start("polkit");
    world.container("web");
    let before = list_as(&world, NOBODY).unwrap_err();
    assert_eq!(before.0, "org.keyns.Error.NotPermitted");
    let polkitd = world.bus.start_polkit(RULES);
    assert_eq!(list_as(&world, NOBODY), Ok(1));
    let other = list_as(&world, 1).unwrap_err();
    assert_eq!(other.0, "org.keyns.Error.NotPermitted");
    assert!(
        other.1.contains("polkit does not allow org.keyns.view"),
        "{}",
        other.1
    );
    let made = world.as_user(NOBODY, |mut client| create(&mut client, "mine"));
    assert_eq!(made.unwrap_err().0, "org.keyns.Error.NotPermitted");

    // A socket's peer cannot be named to this polkit, unless it is new.
    let at_socket = world
        .instance
        .command_as(NOBODY, &["container", "list"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&at_socket.stderr).into_owned();
    assert!(
        at_socket.status.success() || said.contains("version 124"),
        "{said}"
    );

    // What a person would have to be asked about is not asked about without leave.
    let answer = |flags: Flags| {
        world.as_user(NOBODY, move |mut client| {
            let call = Message::method_call(PATH, "RegisterAgent")
                .destination(bus::NAME)
                .interface(MANAGER)
                .with_flags(flags)
                .build(&())
                .unwrap();
            client.exchange(&call).unwrap_err().0
        })
    };
    assert_eq!(
        answer(Flags::empty()),
        "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"
    );
    // There is nobody to ask.
    assert_eq!(
        answer(Flags::ALLOW_INTERACTIVE_AUTH),
        "org.keyns.Error.NotPermitted"
    );

    // It hangs: that is a no, in time, and nobody else waits for it.
    let pid = Pid::from_raw(polkitd.cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let begun = Instant::now();
    let (asked, hears) = mpsc::channel();
    let address = world.bus.address();
    let waiting = std::thread::spawn(move || {
        asked.send(()).unwrap();
        let user = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(Some(user), Some(user), Some(user)).unwrap();
        list(&mut BusClient::connect(&address))
    });
    hears.recv().unwrap();
    assert_eq!(list(&mut world.client()), Ok(1));
    world.instance.ok(&["container", "list"]);
    assert!(begun.elapsed() < Duration::from_secs(3), "others waited");
    let hung = waiting.join().unwrap().unwrap_err();
    assert_eq!(hung.0, "org.keyns.Error.NotPermitted", "{}", hung.1);
    assert!(begun.elapsed() < Duration::from_secs(12));
    // Whoever leaves is not asked about any more, and gives back its place: there are 64.
    world.as_user(NOBODY, {
        let address = world.bus.address();
        move |_| {
            for _ in 0..100 {
                let client = BusClient::connect(&address);
                let call = Message::method_call(PATH, "ListContainers")
                    .destination(bus::NAME)
                    .interface(MANAGER)
                    .build(&false)
                    .unwrap();
                client.send(&call);
            }
        }
    });
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(list_as(&world, NOBODY), Ok(1));

    // It is gone.
    kill_process(pid, Signal::KILL).unwrap();
    world.instance.until("polkit is gone", || {
        !world.client().has_owner("org.freedesktop.PolicyKit1")
    });
    let gone = list_as(&world, NOBODY).unwrap_err();
    assert_eq!(gone.0, "org.keyns.Error.NotPermitted");
    world.instance.stop();
}

/// Something in polkit's place.
struct Oracle {
    version: &'static str,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    /// Of another type.
    Nonsense,
    /// An error.
    Error,
    /// The bus loses it before it has answered.
    Leave,
}

impl Oracle {
    /// Answers until it was asked once; returns what about.
    fn serve(&self, client: &mut BusClient) -> Option<(Subject, String)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let Some(message) = client.next(Duration::from_millis(200)) else {
                continue;
            };
            if message.message_type() != Type::MethodCall {
                continue;
            }
            let header = message.header();
            let reply = Message::method_return(&header);
            match header.member().unwrap().as_str() {
                "Get" => client.send(&reply.build(&Variant::from(self.version)).unwrap()),
                "CheckAuthorization" => {
                    type Asked = (Subject, String, HashMap<String, String>, u32, String);
                    let (subject, action, ..): Asked =
                        message.body().deserialize_ignore_signature().unwrap();
                    let none: HashMap<String, String> = HashMap::new();
                    match self.answer {
                        Answer::Yes => client.send(&reply.build(&(true, false, none)).unwrap()),
                        Answer::No => client.send(&reply.build(&(false, false, none)).unwrap()),
                        Answer::Nonsense => client.send(&reply.build(&(1_u32, "yes")).unwrap()),
                        Answer::Error => {
                            let name = "org.freedesktop.PolicyKit1.Error.Failed";
                            let error = Message::error(&header, name);
                            client.send(&error.build(&"it failed").unwrap());
                        }
                        Answer::Leave => {}
                    }
                    return Some((subject, action));
                }
                _ => {}
            }
        }
        None
    }
}

/// A daemon on a bus that lets root have polkit's name.
fn with_oracle(what: &str) -> World {
    let allowing = "<policy context=\"mandatory\"><allow own=\"org.freedesktop.PolicyKit1\"/>\
                    <allow send_destination=\"org.freedesktop.PolicyKit1\"/></policy>";
    let mut bus = PrivateBus::stopped(allowing);
    bus.run();
    World::on(what, bus)
}

fn take_its_place(client: &mut BusClient) {
    let request = Message::method_call("/org/freedesktop/DBus", "RequestName")
        .destination("org.freedesktop.DBus")
        .interface("org.freedesktop.DBus")
        .build(&("org.freedesktop.PolicyKit1", 4_u32))
        .unwrap();
    client.exchange(&request).unwrap();
}

/// A call that allows a person to be asked.
fn asking() -> Message {
    Message::method_call(PATH, "ListContainers")
        .destination(bus::NAME)
        .interface(MANAGER)
        .with_flags(Flags::ALLOW_INTERACTIVE_AUTH)
        .build(&false)
        .unwrap()
}

#[test]
fn one_user_has_three_questions_open_and_none_after_it_left() {
    let world = with_oracle("questions");
    let mut oracle = world.client();
    take_its_place(&mut oracle);
    let address = world.bus.address();
    let (leave, left) = mpsc::channel();
    let (refusals, refused) = mpsc::channel();
    let asking_user = std::thread::spawn(move || {
        let user = rustix::process::Uid::from_raw(NOBODY);
        rustix::thread::set_thread_res_uid(Some(user), Some(user), Some(user)).unwrap();
        let mut clients: Vec<_> = (0..3).map(|_| BusClient::connect(&address)).collect();
        for client in &mut clients {
            client.send(&asking());
        }
        // Not before the three are being asked about.
        left.recv().unwrap();
        // A second one of the same client, and one of another.
        for client in [clients.pop().unwrap(), BusClient::connect(&address)] {
            let mut client = client;
            refusals
                .send(client.exchange(&asking()).unwrap_err())
                .unwrap();
            clients.push(client);
        }
        left.recv().unwrap();
    });
    // Polkit lets all of them wait.
    let (mut open, mut closed) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut told = Vec::new();
    while closed < 3 {
        assert!(
            Instant::now() < deadline,
            "{open} open, {closed} closed, {told:?}"
        );
        if let Ok(error) = refused.try_recv() {
            told.push(error);
            if told.len() == 2 {
                leave.send(()).unwrap();
            }
        }
        let Some(message) = oracle.next(Duration::from_millis(20)) else {
            continue;
        };
        let header = message.header();
        match header.member().map_or("", |member| member.as_str()) {
            "Get" => {
                let reply = Message::method_return(&header);
                oracle.send(&reply.build(&Variant::from("122")).unwrap());
            }
            "CheckAuthorization" => {
                open += 1;
                if open == 3 {
                    leave.send(()).unwrap();
                }
            }
            "CancelCheckAuthorization" => closed += 1,
            _ => {}
        }
    }
    assert_eq!((open, told.len()), (3, 2));
    for error in told {
        assert_eq!(error.0, "org.keyns.Error.NotPermitted");
        assert!(error.1.contains("is open already"), "{}", error.1);
    }
    asking_user.join().unwrap();
    world.instance.stop();
}

#[test]
fn a_pidfd_is_what_a_new_polkit_is_told_and_only_its_yes_is_one() {
    let world = with_oracle("oracle");
    world.container("web");
    for (answer, allowed) in [
        (Answer::Yes, true),
        (Answer::No, false),
        (Answer::Nonsense, false),
        (Answer::Error, false),
        (Answer::Leave, false),
    ] {
        let mut client = world.client();
        take_its_place(&mut client);
        let oracle = Oracle {
            version: "126",
            answer,
        };
        // Who comes through the socket has a pidfd.
        let mut command = world.instance.command_as(NOBODY, &["container", "list"]);
        let asking = std::thread::spawn(move || command.output().unwrap());
        let (subject, action) = oracle.serve(&mut client).unwrap();
        drop(client);
        assert_eq!(action, "org.keyns.view");
        assert_eq!(subject.0, "unix-process");
        assert_eq!(subject.1["uid"], OwnedVariant::from(NOBODY.cast_signed()));
        assert!(matches!(&*subject.1["pidfd"], Variant::Fd(_)));
        let out = asking.join().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.success(), allowed, "{said}");
        assert_eq!(said.contains("may not call"), !allowed, "{said}");
    }
    world.instance.stop();
}

//! What neither requesters nor answerers can do or see.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use keyns_interfaces::Client;
use keyns_interfaces::containers::{self, Namespace};
use keyns_interfaces::upcalls::{Answer, Subscribe, Target, UpcallInfo};
use keyns_sys::{KeySerial, key};
use keyns_tests::unique;

use crate::world::{World, queue, reject};
use crate::{EACCES, EDEADLK, ENODEV, ENOKEY, EOPNOTSUPP, EPERM};

#[test]
fn no_other_process_answers_with_an_agents_token() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "*", Target::Agent(String::new()));
    let mut agent = world.agent("helper", &[]);
    web.tell("value user a x");
    let id = agent.next().id;
    // Same uid, right token, another process.
    let token = &agent.registration.token;
    let call = format!(
        r#"{{"method":"org.keyns.Agents.Complete","parameters":{{"token":"{token}","id":{id},"payload":"c3RvbGVu"}}}}"#
    );
    let output = Command::new(env!("CARGO_BIN_EXE_asker"))
        .args(["send", world.socket().to_str().unwrap(), &call])
        .output()
        .unwrap();
    let reply = String::from_utf8(output.stdout).unwrap();
    assert!(reply.contains("org.keyns.Agents.NoSuchAgent"), "{reply}");
    agent.complete(id, "genuine").unwrap();
    assert_eq!(web.hear(), Ok("genuine".into()));
}

#[test]
fn a_name_that_only_the_kernel_gives_is_refused_and_never_shown_to_agents() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "*", Target::Agent(String::new()));
    let mut agent = world.agent("helper", &[]);
    assert_eq!(web.do_("ask user .dns:example.org x"), Err(EPERM));
    assert_eq!(agent.next_within(Duration::from_millis(200)), None);
    assert_eq!(world.ended(1).history[0].outcome, Some(EPERM));
}

#[test]
fn dns_answers_are_given_only_to_networks_of_their_own() {
    let own_ring = KeySerial::PROCESS;
    match key::add_key(c"dns_resolver", c"a:probe", b"192.0.2.1\0", own_ring) {
        Ok(probe) => key::invalidate(probe).unwrap(),
        Err(e) => {
            assert_eq!(e.raw_os_error(), Some(ENODEV), "{e}");
            println!("not tested: this kernel has no DNS resolver");
            return;
        }
    }
    let world = World::start();
    // The answer would be in the host's network namespace, for all who resolve names there.
    let mut shared = world.container("shared");
    world.intercept("shared", "dns_resolver", queue("desk"));
    assert_eq!(shared.do_("ask dns_resolver a:example.org x"), Err(EPERM));
    assert_eq!(world.ended(1).history[0].outcome, Some(EPERM));
    let mut own = world.container_with("own", &[Namespace::Net]);
    world.intercept("own", "dns_resolver", queue("desk"));
    own.tell("value dns_resolver a:example.org x");
    let request = world.pending();
    assert_eq!(request.type_, "dns_resolver");
    world.answer(request.id, "192.0.2.1\0").unwrap();
    assert_eq!(own.hear(), Ok("192.0.2.1".into()));
}

#[test]
fn a_request_made_while_answering_one_of_its_type_is_refused() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "*", Target::Agent(String::new()));
    let mut agent = world.agent("helper", &[]);
    web.tell("value user a x");
    let outer = agent.next().id;
    // A child of the agent enters the container and takes an id from there, as a handler does.
    let mut handler = world.child_in(&web);
    handler.do_("join").unwrap();
    // The control: before that, what it asks for with ids of the host is the host's business.
    assert_eq!(handler.do_("ask user b x"), Err(ENOKEY));
    assert_eq!(world.list().history, []);
    handler.do_(&format!("become {}", web.uid())).unwrap();
    handler.do_("join").unwrap();
    assert_eq!(handler.do_("ask user c x"), Err(EDEADLK));
    // And: it is not the ancestry alone that is refused.
    handler.tell("ask logon x:c y");
    let inner = agent.next().id;
    agent.reject(inner, EACCES).unwrap();
    assert_eq!(handler.hear(), Err(EACCES));
    agent.complete(outer, "done").unwrap();
    assert_eq!(web.hear(), Ok("done".into()));
}

#[test]
fn an_answer_reaches_no_key_of_the_requester() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", Target::Agent(String::new()));
    let mut agent = world.agent("helper", &[]);
    let private: i32 = web.do_("add user private hidden").unwrap().parse().unwrap();
    web.tell("value user a x");
    let request = agent.next();
    // This process is root and the agent; it knows all serials there are.
    let target = KeySerial::new(request.key);
    assert!(key::assume_authority(target).is_err());
    let session = KeySerial::new(request.keyrings[2]);
    for serial in [KeySerial::new(private), session] {
        let read = key::read(serial).map_err(|e| e.raw_os_error());
        assert_eq!(read, Err(Some(EACCES)));
    }
    agent.complete(request.id, "y").unwrap();
    assert_eq!(web.hear(), Ok("y".into()));
    assert!(key::assume_authority(target).is_err());
    // The control: its owner can.
    assert_eq!(web.do_("find user private"), Ok("hidden".into()));
}

#[test]
fn a_payload_that_names_another_key_is_not_given_to_the_kernel() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "encrypted", queue("desk"));
    web.do_("add user master 0123456789abcdef").unwrap();
    web.tell("ask encrypted e x");
    let id = world.pending().id;
    for master in ["master", "absent"] {
        let refused = world.answer(id, &format!("new user:{master} 32"));
        assert_eq!(refused.unwrap_err().errno, Some(EOPNOTSUPP), "{master}");
    }
    // It goes on, and its end is what was chosen for it.
    assert_eq!(world.pending().id, id);
    let response = reject(EACCES);
    world.call(&Answer { id, response }).unwrap();
    assert_eq!(web.hear(), Err(EACCES));
}

#[test]
fn payloads_are_in_no_log_event_or_listing() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    let mut events = world.runtime.block_on(async {
        let client = Client::connect(world.socket()).await.unwrap();
        client.subscribe(&Subscribe {}).await.unwrap()
    });
    let canary = unique("canary");
    web.tell("value user a x");
    let id = world.pending().id;
    world.answer(id, &canary).unwrap();
    assert_eq!(web.hear(), Ok(canary.clone()));
    web.tell("value user b x");
    let id = world.pending().id;
    assert!(world.answer(id, &canary.repeat(4000)).is_err());
    world
        .call(&Answer {
            id,
            response: reject(EACCES),
        })
        .unwrap();
    let mut seen = Vec::new();
    let mut names = BTreeSet::new();
    while names.len() < 4 {
        let event = world.runtime.block_on(events.next()).unwrap().unwrap();
        names.insert(event.event.clone());
        seen.push(serde_json::to_string(&event).unwrap());
    }
    let expected = [
        "subscribed",
        "upcall-answered",
        "upcall-arrived",
        "upcall-rejected",
    ];
    assert_eq!(
        names.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    seen.push(world.log());
    let history: Vec<UpcallInfo> = world.list().history;
    seen.push(serde_json::to_string(&history).unwrap());
    let container = containers::Show {
        container: "web".into(),
    };
    seen.push(serde_json::to_string(&world.call(&container).unwrap()).unwrap());
    let all = seen.concat();
    assert!(
        all.contains("\"web\""),
        "the control: the right things were looked at"
    );
    assert!(!all.contains(&canary));
    assert!(!all.contains(&data(&canary)));
}

/// The beginning of a text as it stands in JSON payloads.
fn data(text: &str) -> String {
    let payload = serde_json::to_string(&keyns_interfaces::Payload::new(text.into())).unwrap();
    payload
        .trim_matches('"')
        .trim_end_matches('=')
        .chars()
        .take(16)
        .collect()
}

//! Requests of real denizens, through the real `/sbin/request-key`, to whoever answers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod upcall_world;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyns_interfaces::ErrorKind;
use keyns_interfaces::containers::{self, Kill};
use keyns_interfaces::keys::{Add, GrantTo};
use keyns_interfaces::upcalls::{
    Answer, Intercept, ListRules, Query, Rejection, Response, Subscribe, Target, Unintercept,
    UpcallInfo,
};
use keyns_interfaces::{ByteText, Client, Empty, Payload};
use keyns_sys::{KeySerial, key};
use keyns_tests::unique;
use upcall_world::{World, kind, queue, rule};

const EACCES: i32 = 13;
const EPERM: i32 = 1;
const ETIMEDOUT: i32 = 110;
const EDEADLK: i32 = 35;
const ENOKEY: i32 = 126;
const EKEYREJECTED: i32 = 129;

fn reject(errno: i32) -> Response {
    Response::Reject(Rejection { errno, timeout: 1 })
}

#[test]
fn a_request_is_answered_by_hand_with_its_true_requester_shown() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    // The description claims to be somebody else, as in past attacks.
    web.tell("value user pid=1;uid=0;container=db callout");
    let request = world.pending();
    assert_eq!(request.type_, "user");
    assert_eq!(request.description.bytes(), b"pid=1;uid=0;container=db");
    assert_eq!(request.callout.bytes(), b"callout");
    assert_eq!(request.state, "queued");
    assert_eq!(request.handler.as_deref(), Some("queue desk"));
    let requester = &request.requester;
    assert_eq!(requester.container.as_deref(), Some("web"));
    assert_eq!((requester.pid, requester.tid), (web.pid, web.pid));
    assert_eq!((requester.container_uid, requester.container_gid), (0, 0));
    assert_ne!(
        requester.uid, 0,
        "root of the container is not root of the host"
    );
    assert_eq!(requester.command.bytes(), b"asker");
    assert!(requester.verified);
    let answered = world.answer(request.id, "secret").unwrap();
    assert_eq!(answered.outcome, 0);
    assert_eq!(web.hear(), Ok("secret".into()));
    let ended = world.call(&Query { id: request.id }).unwrap().upcall;
    assert_eq!((ended.state.as_str(), ended.outcome), ("answered", Some(0)));
    assert_eq!(
        kind(world.answer(request.id, "again")),
        ErrorKind::WrongState
    );
    assert_eq!(
        kind(world.answer(request.id + 1000, "x")),
        ErrorKind::NoSuchUpcall
    );
}

#[test]
fn the_chosen_error_arrives() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    web.tell("ask user a x");
    let id = world.pending().id;
    let answered = world
        .call(&Answer {
            id,
            response: reject(EKEYREJECTED),
        })
        .unwrap();
    assert_eq!(answered.outcome, EKEYREJECTED);
    assert_eq!(web.hear(), Err(EKEYREJECTED));

    let errno = Rejection {
        errno: EACCES,
        timeout: 1,
    };
    world.intercept("web", "user", Target::Reject(errno));
    let begun = Instant::now();
    assert_eq!(web.do_("ask user b x"), Err(EACCES));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn the_chosen_error_arrives_also_at_the_turn_of_a_second() {
    let world = World::start();
    let mut web = world.container("web");
    let errno = Target::Reject(Rejection {
        errno: EACCES,
        timeout: 1,
    });
    let fast = Intercept {
        rate: Some(10_000),
        ..rule("web", "user", errno)
    };
    world.call(&fast).unwrap();
    let into_the_second = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Duration::from_nanos(now.subsec_nanos().into())
    };
    // Failed requests count against the denizen's 200 keys for minutes, so it asks only then.
    for turn in 0..4 {
        let before = Duration::from_millis(980).saturating_sub(into_the_second());
        std::thread::sleep(before);
        for n in 0..30 {
            let asked = web.do_(&format!("ask user {turn}-{n} x"));
            assert_eq!(
                asked,
                Err(EACCES),
                "{:?} into the second",
                into_the_second()
            );
            let here = into_the_second();
            if here > Duration::from_millis(10) && here < Duration::from_millis(900) {
                break;
            }
        }
    }
}

#[test]
fn a_payload_the_type_refuses_leaves_the_request_waiting() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    web.tell("value user a x");
    let id = world.pending().id;
    let error = world.answer(id, "").unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(
        error.message.ends_with("type user refused the payload"),
        "{}",
        error.message
    );
    // 32,767 bytes are the most a key of this type holds.
    assert_eq!(
        kind(world.answer(id, &"x".repeat(32_768))),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(world.answer(id, &"x".repeat(1 << 20))),
        ErrorKind::TooLarge
    );
    assert_eq!(world.pending().id, id);
    world.answer(id, "good").unwrap();
    assert_eq!(web.hear(), Ok("good".into()));
}

#[test]
fn an_agent_answers_rejects_and_passes_on() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "*", Target::Agent("helper".into()));
    let mut agent = world.agent("helper", &["web"]);
    let _other = world.agent("unrelated", &[]);
    web.tell("value user a x");
    let request = agent.next();
    assert_eq!(request.requester.container.as_deref(), Some("web"));
    assert_eq!(request.state, "offered");
    assert_eq!(agent.complete(request.id, "from agent").unwrap().outcome, 0);
    assert_eq!(web.hear(), Ok("from agent".into()));
    assert_eq!(
        kind(agent.complete(request.id, "late")),
        ErrorKind::WrongState
    );

    web.tell("ask user b x");
    let id = agent.next().id;
    assert_eq!(agent.reject(id, EACCES).unwrap().outcome, EACCES);
    assert_eq!(web.hear(), Err(EACCES));

    let mut second = world.agent("helper", &[]);
    web.tell("value user c x");
    // The one that was not used yet.
    let id = second.next().id;
    assert_eq!(second.pass_on(id), Ok(Empty {}));
    assert_eq!(agent.next().id, id);
    assert_eq!(
        kind(second.complete(id, "mine after all")),
        ErrorKind::WrongState
    );
    agent.complete(id, "first").unwrap();
    assert_eq!(web.hear(), Ok("first".into()));
}

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
fn the_innermost_container_goes_first_and_the_exact_type_before_the_wildcard() {
    let world = World::start();
    let _web = world.container("web");
    let mut db = world.container("web.db");
    for (container, type_, name) in [
        ("web", "*", "outer-rest"),
        ("web", "user", "outer-user"),
        ("web.db", "logon", "inner-logon"),
        ("web.db", "*", "inner-rest"),
    ] {
        world.intercept(container, type_, queue(name));
    }
    let mut n = 0;
    let mut goes_to = |type_: &str| {
        n += 1;
        db.tell(&format!("ask {type_} x:{n} callout"));
        let request = world.pending();
        assert_eq!(request.requester.container.as_deref(), Some("web.db"));
        world
            .call(&Answer {
                id: request.id,
                response: reject(EACCES),
            })
            .unwrap();
        assert_eq!(db.hear(), Err(EACCES));
        request.handler.unwrap()
    };
    assert_eq!(goes_to("logon"), "queue inner-logon");
    assert_eq!(goes_to("user"), "queue inner-rest");
    let remove = |container: &str, type_: &str| {
        let call = Unintercept {
            container: container.into(),
            type_: type_.into(),
        };
        world.call(&call)
    };
    assert_eq!(remove("web.db", "*"), Ok(Empty {}));
    assert_eq!(goes_to("user"), "queue outer-user");
    assert_eq!(goes_to("logon"), "queue inner-logon");
    assert_eq!(remove("web", "user"), Ok(Empty {}));
    assert_eq!(goes_to("user"), "queue outer-rest");
    assert_eq!(kind(remove("web", "user")), ErrorKind::NoSuchRule);
    let rules = world.call(&ListRules { container: None }).unwrap().rules;
    let shown: Vec<_> = rules
        .iter()
        .map(|r| (r.container.as_str(), r.type_.as_str()))
        .collect();
    assert_eq!(shown, [("web", "*"), ("web.db", "logon")]);
}

#[test]
fn without_a_rule_a_request_fails_at_once_and_reaches_no_program_of_the_host() {
    let world = World::start();
    let mut web = world.container("web");
    let begun = Instant::now();
    assert_eq!(web.do_("ask user a x"), Err(ENOKEY));
    assert!(begun.elapsed() < Duration::from_secs(1));
    let ended = &world.list().history;
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].state.as_str(), ended[0].outcome),
        ("rejected", Some(ENOKEY))
    );
}

#[test]
fn a_name_that_only_the_kernel_gives_is_refused_and_never_shown_to_agents() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "*", Target::Agent(String::new()));
    let mut agent = world.agent("helper", &[]);
    assert_eq!(web.do_("ask user .dns:example.org x"), Err(EPERM));
    assert_eq!(agent.next_within(Duration::from_millis(200)), None);
    assert_eq!(world.list().history[0].outcome, Some(EPERM));
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
    assert_eq!(world.list().history[0].state, "expired");
}

#[test]
fn a_request_waits_a_moment_for_an_agent_to_come() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", Target::Agent(String::new()));
    web.tell("value user a x");
    world.pending();
    let mut agent = world.agent("late", &[]);
    let id = agent.next().id;
    agent.complete(id, "still").unwrap();
    assert_eq!(web.hear(), Ok("still".into()));
    drop(agent);
    let begun = Instant::now();
    assert_eq!(web.do_("ask user b x"), Err(ENOKEY));
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(1900) && took < Duration::from_secs(4),
        "{took:?}"
    );
}

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
fn a_busy_agent_gets_the_next_request_when_it_is_done() {
    let world = World::start();
    let mut web = world.container("web");
    let mut db = world.container("db");
    world.intercept("web", "user", Target::Agent(String::new()));
    world.intercept("db", "user", Target::Agent(String::new()));
    let mut agent = world.agent_for_one();
    web.tell("value user a x");
    let first = agent.next().id;
    db.tell("value user b x");
    // Longer than a request waits where there is no agent at all.
    assert_eq!(agent.next_within(Duration::from_millis(2500)), None);
    agent.complete(first, "one").unwrap();
    let second = agent.next();
    assert_eq!(second.requester.container.as_deref(), Some("db"));
    agent.complete(second.id, "two").unwrap();
    assert_eq!(
        (web.hear(), db.hear()),
        (Ok("one".into()), Ok("two".into()))
    );
}

#[test]
fn a_request_made_while_answering_one_of_its_type_is_refused() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "*", Target::Agent(String::new()));
    let mut agent = world.agent("helper", &[]);
    web.tell("value user a x");
    let outer = agent.next().id;
    // A child of the agent enters the container, as a handler might.
    let mut handler = world.child_in(&web);
    handler.do_("join").unwrap();
    assert_eq!(handler.do_("ask user b x"), Err(EDEADLK));
    // The control: it is not the ancestry alone that is refused.
    handler.tell("ask logon x:c y");
    let inner = agent.next().id;
    agent.reject(inner, EACCES).unwrap();
    assert_eq!(handler.hear(), Err(EACCES));
    agent.complete(outer, "done").unwrap();
    assert_eq!(web.hear(), Ok("done".into()));
}

#[test]
fn a_denizen_that_lost_its_keyring_is_served_from_it_and_gets_it_back() {
    let world = World::start();
    let mut web = world.container("web");
    let add = Add {
        container: "web".into(),
        type_: "user".into(),
        description: ByteText::from("granted"),
        payload: Payload::new(b"treasure".to_vec()),
        timeout: None,
    };
    world.call(&add).unwrap();
    let grant = GrantTo {
        key: ByteText::from("web/user:granted"),
        container: "web".into(),
        rights: vec!["search".into(), "read".into()],
        accept_implied: vec!["inval".into(), "read".into()],
        duration: None,
        dry_run: false,
    };
    world.call(&grant).unwrap();
    assert_eq!(web.do_("find user granted"), Ok("treasure".into()));
    web.do_("join").unwrap();
    assert_eq!(web.do_("find user granted"), Err(ENOKEY));
    // Asked with callout information, so that there is an upcall at all.
    assert_eq!(web.do_("value user granted x"), Ok("treasure".into()));
    assert_eq!(web.do_("value user other x"), Err(ENOKEY));
    // The container keyring itself is there again, not only a copy of the one key.
    let more = Add {
        description: ByteText::from("second"),
        ..add
    };
    world.call(&more).unwrap();
    let key = ByteText::from("web/user:second");
    world.call(&GrantTo { key, ..grant }).unwrap();
    assert_eq!(web.do_("find user second"), Ok("treasure".into()));
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
    world_fills(&world);
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

/// Waits until the limit is reached.
fn world_fills(world: &World) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.list().upcalls.len() < 16 {
        assert!(
            Instant::now() < deadline,
            "{:?}",
            world.list().upcalls.len()
        );
    }
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

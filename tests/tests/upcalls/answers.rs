//! Who answers a request, and what the requester gets.

use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyns_interfaces::containers::Kill;
use keyns_interfaces::keys::{Add, GrantTo};
use keyns_interfaces::upcalls::{
    Answer, Intercept, ListRules, Query, Rejection, Target, Unintercept,
};
use keyns_interfaces::{ByteText, Empty, ErrorKind, Payload};

use crate::world::{Denizen, World, kind, queue, reject, rule};
use crate::{EACCES, EDQUOT, EKEYREJECTED, ENOKEY};

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
    assert!(requester.executable.bytes().ends_with(b"/asker"));
    assert_ne!(
        requester.capabilities, 0,
        "it is root of its user namespace"
    );
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
fn a_waiting_request_is_offered_while_its_answer_is_typed() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    // A description that would act on a terminal, and look like a value to be inserted.
    web.tell("value user x\u{1b}[2J;$(id) callout");
    let request = world.pending();
    let offered = || {
        let output = std::process::Command::new(keyns_tests::bin_dir().join("keyctl-ns"))
            .args(["__complete", "4", "keyctl-ns", "--socket"])
            .arg(world.socket())
            .args(["answer", ""])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut text = offered();
    // The daemon has 40 ms to answer, which a loaded machine may not give it.
    while text.is_empty() && Instant::now() < deadline {
        text = offered();
    }
    let (value, remark) = text.trim_end().split_once('\t').unwrap();
    assert_eq!(value, request.id.to_string());
    assert_eq!(remark, "web  user: x\\x1b[2J;$(id)");
    world.answer(request.id, "secret").unwrap();
    assert_eq!(web.hear(), Ok("secret".into()));
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
    let ended = &world.ended(1).history;
    assert_eq!(ended.len(), 1);
    assert_eq!(
        (ended[0].state.as_str(), ended[0].outcome),
        ("rejected", Some(ENOKEY))
    );
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
fn containers_take_turns_at_an_agent_that_is_busy() {
    let world = World::start();
    let mut web = world.container("web");
    let mut db = world.container("db");
    world.intercept("web", "user", Target::Agent(String::new()));
    world.intercept("db", "user", Target::Agent(String::new()));
    let mut agent = world.agent_for_one();
    web.tell("flood 8 8 x");
    world.fills(8);
    let mut id = agent.next().id;
    db.tell("value user b x");
    world.fills(9);
    let mut served = Vec::new();
    for _ in 0..8 {
        agent.complete(id, "y").unwrap();
        let next = agent.next();
        served.push(next.requester.container.unwrap());
        id = next.id;
    }
    agent.complete(id, "y").unwrap();
    assert_eq!(served.first().map(String::as_str), Some("db"));
    assert_eq!((web.hear(), db.hear()), (Ok("0=8".into()), Ok("y".into())));
}

/// A key for “web”, and the grant of it.
fn granted() -> (Add, GrantTo) {
    let add = Add {
        container: "web".into(),
        type_: "user".into(),
        description: ByteText::from("granted"),
        payload: Payload::new(b"treasure".to_vec()),
        timeout: None,
    };
    let grant = GrantTo {
        key: ByteText::from("web/user:granted"),
        container: "web".into(),
        rights: vec!["search".into(), "read".into()],
        accept_implied: vec!["inval".into(), "read".into()],
        duration: None,
        dry_run: false,
    };
    (add, grant)
}

#[test]
fn a_denizen_that_lost_its_keyring_gets_copies_and_its_session_is_left_alone() {
    let world = World::start();
    let mut web = world.container("web");
    let (add, grant) = granted();
    world.call(&add).unwrap();
    world.call(&grant).unwrap();
    assert_eq!(web.do_("find user granted"), Ok("treasure".into()));
    web.do_("join").unwrap();
    assert_eq!(web.do_("find user granted"), Err(ENOKEY));
    // Asked with callout information, so that there is an upcall at all.
    assert_eq!(web.do_("value user granted x"), Ok("treasure".into()));
    assert_eq!(web.do_("value user other x"), Err(ENOKEY));
    // To link the keyring there would take a search of all that the denizen put together.
    let more = Add {
        description: ByteText::from("second"),
        ..add
    };
    world.call(&more).unwrap();
    let key = ByteText::from("web/user:second");
    world.call(&GrantTo { key, ..grant }).unwrap();
    assert_eq!(web.do_("find user second"), Err(ENOKEY));
    assert_eq!(web.do_("value user second x"), Ok("treasure".into()));
}

/// Has a denizen of “web” ask for the key it was granted, which nobody looks for until the worker goes on.
pub(crate) fn ask_a_stopped_worker(world: &World, web: &mut Denizen) -> JoinHandle<bool> {
    let (add, grant) = granted();
    world.call(&add).unwrap();
    world.call(&grant).unwrap();
    web.do_("join").unwrap();
    let worker = world.stop_key_worker();
    web.tell("value user granted x");
    assert_eq!(world.pending().handler.as_deref(), Some("keyring"));
    worker
}

#[test]
fn a_request_that_waits_for_the_key_worker_ends_with_its_container() {
    let world = World::start();
    let mut web = world.container("web");
    let worker = ask_a_stopped_worker(&world, &mut web);
    let begun = Instant::now();
    let killed = world.call_aside(Kill {
        container: "web".into(),
        signal: None,
        process: None,
    });
    // Rejected first: a process that waits for a key cannot be killed.
    assert_eq!(web.hear(), Err(ENOKEY));
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(1500), "{took:?}");
    assert!(!worker.is_finished(), "the key worker was not stopped");
    assert_eq!(world.ended(1).upcalls, []);
    assert!(killed.join().unwrap());
    worker.join().unwrap();
}

#[test]
fn a_payload_beyond_the_requesters_quota_ends_the_request_with_edquot() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    web.tell("value user a x");
    let id = world.pending().id;
    // Whoever is not root has 20,000 bytes; the type would take 32,767.
    let refused = world.answer(id, &"x".repeat(30_000)).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::QuotaExceeded);
    assert_eq!(refused.errno, Some(EDQUOT));
    assert_eq!(web.hear(), Err(EDQUOT));
    let ended = world.call(&Query { id }).unwrap().upcall;
    assert_eq!(
        (ended.state.as_str(), ended.outcome),
        ("rejected", Some(EDQUOT))
    );
}

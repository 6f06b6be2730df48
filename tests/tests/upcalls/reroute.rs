//! Requests that are given to somebody else while they wait.

use std::time::{Duration, Instant};

use keyns_interfaces::upcalls::{Intercept, Query, Rejection, Reroute, Target, UpcallInfo};
use keyns_interfaces::{Error, ErrorKind};

use crate::answers::ask_a_stopped_worker;
use crate::world::{World, kind, queue, rule};
use crate::{EACCES, ENOKEY, ETIMEDOUT};

fn reroute(world: &World, id: u64, target: Target) -> Result<UpcallInfo, Error> {
    let call = Reroute {
        id,
        target,
        deadline_ms: None,
    };
    world.call(&call).map(|done| done.upcall)
}

fn agents(name: &str) -> Target {
    Target::Agent(name.to_owned())
}

#[test]
fn a_request_goes_from_an_agent_to_a_queue_and_to_another_agent() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", agents("slow"));
    let mut slow = world.agent("slow", &[]);
    let mut quick = world.agent("quick", &["web"]);
    web.tell("value user a x");
    let id = slow.next().id;

    let moved = reroute(&world, id, queue("desk")).unwrap();
    assert_eq!(moved.state, "queued");
    assert_eq!(moved.handler.as_deref(), Some("queue desk"));
    // The ten seconds of a rule for agents are little for a person.
    let left = moved.deadline_ms.unwrap();
    assert!((30_000..=60_000).contains(&left), "{left}");
    assert_eq!(kind(slow.complete(id, "late")), ErrorKind::WrongState);

    reroute(&world, id, agents("quick")).unwrap();
    let offered = quick.next();
    assert_eq!((offered.id, offered.state.as_str()), (id, "offered"));
    assert_eq!(quick.complete(id, "from quick").unwrap().outcome, 0);
    assert_eq!(web.hear(), Ok("from quick".into()));
    let ended = world.call(&Query { id }).unwrap().upcall;
    assert!(ended.handler.unwrap().contains("quick"));
    // The rule is as it was.
    web.tell("value user b x");
    let id = slow.next().id;
    slow.complete(id, "from slow").unwrap();
    assert_eq!(web.hear(), Ok("from slow".into()));
}

#[test]
fn an_agent_is_free_for_others_when_its_request_goes_elsewhere() {
    let world = World::start();
    let mut web = world.container("web");
    let mut other = world.container("db");
    world.intercept("web", "user", agents("one"));
    world.intercept("db", "user", agents("one"));
    let mut one = world.agent_for_one();
    web.tell("value user a x");
    let first = one.next().id;
    other.tell("value user b x");
    assert!(one.next_within(Duration::from_millis(300)).is_none());
    reroute(&world, first, queue("desk")).unwrap();
    let second = one.next().id;
    assert_ne!(second, first);
    // It waits for the agent now, which has something else to do.
    reroute(&world, first, agents("")).unwrap();
    assert!(one.next_within(Duration::from_millis(300)).is_none());
    one.complete(second, "b").unwrap();
    assert_eq!(other.hear(), Ok("b".into()));
    assert_eq!(one.next().id, first);
    one.complete(first, "a").unwrap();
    assert_eq!(web.hear(), Ok("a".into()));
}

#[test]
fn a_request_that_nobody_would_take_stays_where_it_is() {
    let world = World::start();
    let mut web = world.container("web");
    world.intercept("web", "user", queue("desk"));
    web.tell("value user a x");
    let id = world.pending().id;
    let error = reroute(&world, id, agents("nobody")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSuchAgent);
    assert!(error.message.contains("“nobody”"), "{}", error.message);
    assert!(error.hint.unwrap().contains("agent list"));
    let _elsewhere = world.agent("helper", &["web"]);
    assert_eq!(
        kind(reroute(&world, id, agents("nobody"))),
        ErrorKind::NoSuchAgent
    );
    let refusal = Target::Reject(Rejection {
        errno: EACCES,
        timeout: 1,
    });
    let error = reroute(&world, id, refusal).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.hint.unwrap().contains("--reject"));
    for name in ["", "a b", "\u{7f}", &"x".repeat(65)] {
        assert_eq!(
            kind(reroute(&world, id, queue(name))),
            ErrorKind::InvalidArgument
        );
    }
    assert_eq!(
        kind(reroute(&world, id + 1000, queue("desk"))),
        ErrorKind::NoSuchUpcall
    );
    let request = world.pending();
    assert_eq!(request.handler.as_deref(), Some("queue desk"));
    world.answer(id, "here").unwrap();
    assert_eq!(web.hear(), Ok("here".into()));
    assert_eq!(
        kind(reroute(&world, id, queue("desk"))),
        ErrorKind::WrongState
    );
}

#[test]
fn a_new_deadline_counts_from_the_arrival_and_is_kept() {
    let world = World::start();
    let mut web = world.container("web");
    let short = Intercept {
        deadline_ms: Some(2000),
        ..rule("web", "user", queue("desk"))
    };
    world.call(&short).unwrap();
    let later = |id, milliseconds| {
        let call = Reroute {
            id,
            target: queue("night"),
            deadline_ms: Some(milliseconds),
        };
        world.call(&call).map(|done| done.upcall)
    };
    web.tell("value user a x");
    let id = world.pending().id;
    for milliseconds in [0, 999, 60_001, u32::MAX] {
        assert_eq!(kind(later(id, milliseconds)), ErrorKind::InvalidArgument);
    }
    later(id, 30_000).unwrap();
    // Longer than its rule would let it, and than the program was told at first.
    std::thread::sleep(Duration::from_millis(2800));
    let error = later(id, 1000).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.message.contains("waited longer"), "{}", error.message);
    world.answer(id, "at last").unwrap();
    assert_eq!(web.hear(), Ok("at last".into()));

    let begun = Instant::now();
    web.tell("value user b x");
    let id = world.pending().id;
    later(id, 3000).unwrap();
    assert_eq!(web.hear(), Err(ETIMEDOUT));
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(2500), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_request_without_a_rule_that_is_given_to_a_queue_waits_there() {
    let world = World::start();
    let mut web = world.container("web");
    // Such a request waits for the key worker only, and no longer than that takes.
    let worker = ask_a_stopped_worker(&world, &mut web);
    let id = world.pending().id;
    reroute(&world, id, queue("desk")).unwrap();
    assert!(!worker.is_finished(), "the key worker was not stopped");
    // What it finds in the end is not the answer any more.
    drop(worker.join());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(world.pending().handler.as_deref(), Some("queue desk"));
    world.answer(id, "by hand").unwrap();
    assert_eq!(web.hear(), Ok("by hand".into()));
    assert_eq!(web.do_("ask user b x"), Err(ENOKEY));
}

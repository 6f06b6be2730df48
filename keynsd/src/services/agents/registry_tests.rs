//! Which agent gets a request, and who may answer for it.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::services::upcalls::testing::upcall_info;

const WEB: ContainerId = ContainerId(1);
const DB: ContainerId = ContainerId(2);
const NESTED: ContainerId = ContainerId(3);

fn caller() -> Caller {
    let (a, _b) = UnixStream::pair().unwrap();
    Caller::of(a.as_fd()).unwrap()
}

fn offer(name: &str, types: &[&str], scope: &[ContainerId], room: u32) -> Offer {
    Offer {
        name: name.into(),
        types: types.iter().map(|t| (*t).to_owned()).collect(),
        scope: scope.iter().map(|id| (*id, id.to_string())).collect(),
        max_in_flight: room,
    }
}

fn register(registry: &Registry, id: AgentId, offer: Offer) -> Registered {
    let process = Process::of(&caller()).unwrap();
    let token = Token::random().unwrap();
    registry
        .register(id, offer, process, 0, token, Box::new(|_| true))
        .unwrap()
}

fn wanted(request: RequestId) -> Wanted<'static> {
    Wanted {
        request,
        name: "",
        type_: b"user",
        lineage: &[WEB],
        process: 1,
        tried: &[],
    }
}

fn deliver(registry: &Registry, wanted: &Wanted<'_>) -> Delivery {
    let (commands, _) = mpsc::channel(1);
    registry.deliver(wanted, &commands, |_| {
        Some(upcall_info(wanted.request, "user"))
    })
}

/// The agent that gets the request, which then holds it.
fn taker(registry: &Registry, wanted: &Wanted<'_>) -> Option<Slot> {
    match deliver(registry, wanted) {
        Delivery::To(slot) => Some(slot),
        Delivery::Busy | Delivery::Nobody => None,
    }
}

#[test]
fn equals_take_turns_oldest_first() {
    let registry = Registry::default();
    let _a = register(&registry, 1, offer("x", &["user"], &[], 4));
    let _b = register(&registry, 2, offer("x", &["*"], &[], 4));
    let turns: Vec<_> = (0..4)
        .map(|n| taker(&registry, &wanted(n)).unwrap().agent())
        .collect();
    assert_eq!(turns, [1, 2, 1, 2]);
}

#[test]
fn name_type_container_and_process_must_fit() {
    let registry = Registry::default();
    let _a = register(&registry, 1, offer("x", &["user"], &[WEB], 4));
    let fits = |w: &Wanted<'_>| taker(&registry, w).is_some();
    assert!(fits(&wanted(1)));
    assert!(fits(&Wanted {
        name: "x",
        ..wanted(1)
    }));
    assert!(fits(&Wanted {
        lineage: &[NESTED, WEB],
        ..wanted(1)
    }));
    assert!(!fits(&Wanted {
        name: "y",
        ..wanted(1)
    }));
    assert!(!fits(&Wanted {
        type_: b"logon",
        ..wanted(1)
    }));
    assert!(!fits(&Wanted {
        type_: b"*",
        ..wanted(1)
    }));
    assert!(!fits(&Wanted {
        lineage: &[DB],
        ..wanted(1)
    }));
    assert!(!fits(&Wanted {
        process: std::process::id(),
        ..wanted(1)
    }));
    assert!(!fits(&Wanted {
        tried: &[1],
        ..wanted(1)
    }));
}

#[test]
fn a_busy_agent_is_not_nobody() {
    let registry = Registry::default();
    assert!(matches!(deliver(&registry, &wanted(1)), Delivery::Nobody));
    let _a = register(&registry, 1, offer("x", &["user"], &[], 1));
    let slot = taker(&registry, &wanted(1)).unwrap();
    assert!(matches!(deliver(&registry, &wanted(2)), Delivery::Busy));
    drop(slot);
    assert!(matches!(deliver(&registry, &wanted(2)), Delivery::To(_)));
}

#[test]
fn a_container_that_asks_without_end_leaves_a_place_to_others() {
    let registry = Registry::default();
    let _a = register(&registry, 1, offer("x", &["user"], &[], 4));
    let mut slots: Vec<_> = (0..3)
        .map(|n| taker(&registry, &wanted(n)).unwrap())
        .collect();
    assert!(taker(&registry, &wanted(3)).is_none());
    let other = Wanted {
        lineage: &[DB],
        ..wanted(4)
    };
    slots.push(taker(&registry, &other).unwrap());
    // An agent for one container has nobody to keep a place for.
    let _b = register(&registry, 2, offer("y", &["user"], &[WEB], 4));
    let own = |n| Wanted {
        name: "y",
        ..wanted(n)
    };
    slots.extend((10..14).map(|n| taker(&registry, &own(n)).unwrap()));
}

#[tokio::test]
async fn a_place_that_comes_free_goes_to_the_container_that_was_served_longest_ago() {
    let registry = Registry::default();
    let _a = register(&registry, 1, offer("x", &["user"], &[], 1));
    let first = taker(&registry, &wanted(1)).unwrap();
    let other = Wanted {
        lineage: &[DB],
        ..wanted(20)
    };
    let seeker = registry.seeker(20);
    // Those of one container come first, and wake first.
    for mine in 2..10 {
        assert!(taker(&registry, &wanted(mine)).is_none());
    }
    assert!(taker(&registry, &other).is_none());
    drop(first);
    assert!(taker(&registry, &wanted(2)).is_none());
    let second = taker(&registry, &other).unwrap();
    drop(second);
    let third = taker(&registry, &wanted(2)).unwrap();
    // A request whose turn it is and that ends instead lets the others know.
    assert!(taker(&registry, &other).is_none());
    drop(third);
    assert!(taker(&registry, &wanted(3)).is_none());
    let changed = registry.changed();
    tokio::pin!(changed);
    changed.as_mut().enable();
    drop(seeker);
    changed.await;
    assert!(taker(&registry, &wanted(3)).is_some());
}

#[test]
fn an_agent_that_does_not_read_gets_nothing() {
    let registry = Registry::default();
    let process = Process::of(&caller()).unwrap();
    let offer = offer("x", &["user"], &[], 4);
    let token = Token::random().unwrap();
    let full: Stream = Box::new(|_| false);
    let _agent = registry
        .register(1, offer, process, 0, token, full)
        .unwrap();
    assert!(matches!(deliver(&registry, &wanted(1)), Delivery::Busy));
    assert_eq!(registry.list().first().map(|a| a.in_flight), Some(0));
}

#[test]
fn a_token_works_for_its_requests_only() {
    let registry = Registry::default();
    let token = Token::random().unwrap();
    let process = Process::of(&caller()).unwrap();
    let offer = offer("x", &["user"], &[], 4);
    let sent = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&sent);
    let stream: Stream = Box::new(move |reply| {
        seen.borrow_mut().push(reply.request.unwrap().id);
        true
    });
    let agent = registry
        .register(1, offer, process, 0, token, stream)
        .unwrap();
    let slot = taker(&registry, &wanted(7)).unwrap();
    assert_eq!(*sent.borrow(), [7]);
    let text = token.to_string();
    assert!(registry.claim(&caller(), &text, 7).unwrap().1.is_some());
    assert!(registry.claim(&caller(), &text, 8).unwrap().1.is_none());
    for wrong in ["", "0", &"0".repeat(32), &format!("+{}", &text[1..])] {
        let error = registry.claim(&caller(), wrong, 7).unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoSuchAgent);
    }
    slot.answered();
    assert!(registry.claim(&caller(), &text, 7).unwrap().1.is_none());
    assert_eq!(
        registry.list().first().map(|a| (a.answered, a.in_flight)),
        Some((1, 0))
    );
    drop(agent);
    assert!(registry.claim(&caller(), &text, 7).is_err());
}

#[tokio::test]
async fn requests_learn_that_their_agent_is_gone() {
    let registry = Registry::default();
    let agent = register(&registry, 1, offer("x", &["user"], &[], 4));
    let (commands, mut rx) = mpsc::channel(4);
    let info = |_: &str| Some(upcall_info(1, "user"));
    let Delivery::To(_slot) = registry.deliver(&wanted(1), &commands, info) else {
        panic!("not delivered");
    };
    drop(agent);
    assert!(matches!(rx.recv().await, Some(Command::AgentGone(1))));
}

#[test]
fn a_uid_has_at_most_16_agents() {
    let registry = Registry::default();
    let agents: Vec<_> = (0..16)
        .map(|id| register(&registry, id, offer("x", &["*"], &[], 1)))
        .collect();
    let process = || Process::of(&caller()).unwrap();
    let more = |uid| {
        let offer = offer("x", &["*"], &[], 1);
        registry.register(
            99,
            offer,
            process(),
            uid,
            Token::random().unwrap(),
            Box::new(|_| true),
        )
    };
    assert_eq!(more(0).unwrap_err().kind, ErrorKind::LimitReached);
    assert!(more(1).is_ok());
    drop(agents);
    assert!(more(0).is_ok());
}

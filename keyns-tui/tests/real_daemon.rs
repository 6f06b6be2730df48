//! What the dashboard asks for, asked of a daemon of its own and of the kernel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::process::Stdio;

use keyctl_ns::args::NAMESPACES;
use keyctl_ns::command::grant::GrantArgs;
use keyns_interfaces::ErrorKind as Refusal;
use keyns_interfaces::containers::{ContainerInfo, Root, State};
use keyns_interfaces::upcalls::Target;
use keyns_sys::KeySerial;
use keyns_sys::key as sys;
use keyns_tests::instance::Instance;
use keyns_tui::client::daemon::Daemon;
use keyns_tui::client::{Client, Contents, Failure, Named, NewRule, Reply, Request};

struct World {
    instance: Instance,
    daemon: Daemon,
}

impl World {
    fn start() -> Self {
        let instance = Instance::start("dashboard");
        let daemon = Daemon::new(vec![instance.socket()]);
        Self { instance, daemon }
    }

    #[track_caller]
    fn ok(&mut self, request: &Request) -> Reply {
        match self.daemon.ask(request) {
            Ok(reply) => reply,
            Err(error) => panic!("{request:?}: {error:?}\n{}", self.instance.log()),
        }
    }

    #[track_caller]
    fn done(&mut self, request: &Request) -> String {
        assert!(request.changes());
        match self.ok(request) {
            Reply::Done(done) => done,
            other => panic!("{request:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(&mut self, request: &Request) -> Failure {
        match self.daemon.ask(request) {
            Err(failure) => failure,
            Ok(reply) => panic!("{request:?}: {reply:?}"),
        }
    }

    fn create(&mut self, name: &str) -> Named {
        let namespaces = NAMESPACES.map(|(namespace, _)| namespace).to_vec();
        let create = Request::Create {
            name: name.to_owned(),
            namespaces,
            root: Root::Usr,
        };
        assert!(self.done(&create).contains("is created"));
        Named::from(&self.container(name).unwrap())
    }

    fn container(&mut self, name: &str) -> Option<ContainerInfo> {
        let Reply::Containers(all) = self.ok(&Request::Containers) else {
            panic!("no containers");
        };
        all.into_iter().find(|it| it.name == name)
    }

    fn contents(&mut self, name: &str) -> Contents {
        match self.ok(&Request::Contents(name.to_owned())) {
            Reply::Contents(contents) => *contents,
            other => panic!("{other:?}"),
        }
    }

    /// Puts a key into the store of a container and returns how the daemon names it.
    fn add(&mut self, container: &str, description: &str, payload: &[u8]) -> String {
        let arguments = ["add", "user", description, "--container", container];
        let mut command = self.instance.command(&arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(payload).unwrap();
        assert!(child.wait().unwrap().success());
        let keys = self.contents(container).shown.keys;
        let key = keys
            .iter()
            .find(|key| key.description.bytes() == description.as_bytes())
            .unwrap();
        format!("{container}/{}", key.serial)
    }
}

fn grant(key: &str, to: &str, accept: Option<&str>, dry_run: bool) -> Request {
    Request::Grant(Box::new(GrantArgs {
        key: key.parse().unwrap(),
        subject: to.parse().unwrap(),
        rights: "search".parse().unwrap(),
        accept_implied: accept.map(|rights| rights.parse().unwrap()),
        duration: None,
        dry_run,
    }))
}

#[test]
fn a_grant_is_previewed_made_shown_and_taken_back() {
    let mut world = World::start();
    world.create("web");
    let key = world.add("web", "token", b"secret");
    let refused = world.refused(&grant(&key, "container:web", None, true));
    assert_eq!(refused.refusal, Some(Refusal::ImpliedRights));
    assert_eq!(refused.rights, ["read", "inval"]);

    let accept = Some("read,inval");
    let Reply::Preview(preview) = world.ok(&grant(&key, "container:web", accept, true)) else {
        panic!("no preview");
    };
    assert_eq!(preview.rights, "read,search,inval");
    assert_eq!(preview.implied, "read,inval");
    assert!(preview.is_copy);
    assert!(world.contents("web").copies.is_empty(), "only a preview");

    let done = world.done(&grant(&key, "container:web", accept, false));
    assert!(done.contains("has read,search,inval"), "{done}");
    assert_eq!(world.contents("web").copies.len(), 1);
    let Reply::Acl(acl) = world.ok(&Request::Acl(key.as_str().into())) else {
        panic!("no list");
    };
    let ace = acl
        .entries
        .iter()
        .find(|ace| ace.subject == "container:web");
    assert_eq!(ace.unwrap().enforcer, "kernel");

    world.done(&Request::Ungrant {
        key: key.as_str().into(),
        container: "web".to_owned(),
    });
    assert!(world.contents("web").copies.is_empty());
    world.instance.stop();
}

#[test]
fn a_key_of_the_own_is_lent_for_a_grant_and_given_back() {
    let mut world = World::start();
    world.create("web");
    let own = sys::add_key(c"user", c"dashboard-own", b"x", KeySerial::THREAD).unwrap();
    // The possessor needs the right to link it.
    sys::set_perm(own, 0x3f3f_0000).unwrap();
    let key = own.to_string();
    let accept = Some("read,inval");
    world.ok(&grant(&key, "container:web", accept, true));
    world.refused(&Request::Acl(key.as_str().into()));
    world.done(&grant(&key, "container:web", accept, false));
    let Reply::Acl(acl) = world.ok(&Request::Acl(key.as_str().into())) else {
        panic!("no list");
    };
    assert!(acl.lent);
    let done = world.done(&Request::Ungrant {
        key: key.as_str().into(),
        container: "web".to_owned(),
    });
    assert!(done.contains("given back"), "{done}");
    world.instance.stop();
}

#[test]
fn keys_move_between_stores_and_are_read_and_invalidated_there() {
    let mut world = World::start();
    world.create("web");
    world.create("db");
    let key = world.add("web", "token", b"secret");
    let Reply::Payload(payload) = world.ok(&Request::RevealStored(key.as_str().into())) else {
        panic!("no payload");
    };
    assert_eq!(payload.bytes(), b"secret");
    world.done(&Request::MoveStored {
        key: key.as_str().into(),
        to: "db".to_owned(),
        replace: false,
    });
    assert!(world.contents("web").shown.keys.is_empty());
    let serial = world.contents("db").shown.keys[0].serial;
    let gone = Request::InvalidateStored("db".to_owned(), KeySerial::new(serial));
    world.done(&gone);
    assert!(world.contents("db").shown.keys.is_empty());
    world.instance.stop();
}

#[test]
fn requests_are_routed_and_containers_end() {
    let mut world = World::start();
    let web = world.create("web");
    world.done(&Request::Intercept(Box::new(NewRule {
        container: web.clone(),
        type_: "user".to_owned(),
        target: Target::Queue("manual".to_owned()),
        deadline_ms: Some(5000),
        rate: Some(7),
        pending: None,
    })));
    let rules = world.contents("web").shown.rules;
    assert_eq!((rules[0].deadline_ms, rules[0].rate), (5000, 7));
    world.done(&Request::Unintercept {
        container: web.clone(),
        type_: "user".to_owned(),
    });
    assert!(world.contents("web").shown.rules.is_empty());

    let taken = world.refused(&Request::Create {
        name: "web".to_owned(),
        namespaces: Vec::new(),
        root: Root::Usr,
    });
    assert!(taken.message.contains("web"), "{taken}");

    let done = world.done(&Request::Kill(web.clone()));
    assert!(done.contains("container “web” is dead"), "{done}");
    assert_eq!(world.container("web").unwrap().state, State::Dead);
    world.done(&Request::Remove(web.clone()));
    assert!(world.container("web").is_none());

    // Another container of the name is another container.
    let second = world.create("web");
    world.refused(&Request::Kill(web));
    world.done(&Request::Kill(second));
    world.instance.stop();
}

#[test]
fn a_daemon_that_is_started_again_is_found_again() {
    let mut world = World::start();
    world.create("web");
    world.instance.kill_daemon();
    let lost = world.refused(&Request::Containers);
    assert_eq!(lost.kind, keyctl_ns::error::ErrorKind::Unreachable);
    world.instance.start_daemon();
    assert!(world.container("web").is_some());
    world.instance.stop();
}

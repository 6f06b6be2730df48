//! The steps, in the order and under the names of the demo.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::puppet::{Puppet, SESSION};
use super::varlink::{Connection, base64};
use super::world::{World, cgroups, status, until, yes};

/// What is carried from step to step.
struct Cast {
    manager: Puppet,
    stranger: Puppet,
    inside: Puppet,
    container: Value,
    token: String,
    private: String,
    copy: String,
}

pub(crate) fn play(world: &mut World) {
    let mut manager = Puppet::on_host(&world.puppet);
    let mut stranger = Puppet::on_host(&world.puppet);
    ground(world, &mut manager, &mut stranger);
    let mut cast = container(world, manager, stranger);
    keyring(world, &mut cast);
    add(world, &mut cast);
    grant(world, &mut cast);
    isolated(world, &mut cast);
    nested(world, &mut cast);
    update(world, &mut cast);
    ungrant(world, &mut cast);
    identity(world, &mut cast);
    agent(world, &mut cast);
    rejected(world, &mut cast);
    wildcard(world, &mut cast);
    flood(world, &mut cast);
    daemon_killed(world, &mut cast);
    container_killed(world, cast);
    give_back(world);
}

fn ground(world: &mut World, manager: &mut Puppet, stranger: &mut Puppet) {
    world.step("features");
    let features = world.call("Manager.GetFeatures", json!({}))["features"].clone();
    let features = features.as_array().unwrap();
    let known = ["kernel", "daemon", "advisory", "unavailable"];
    let odd: Vec<&str> = features
        .iter()
        .filter(|row| !known.contains(&row["enforcer"].as_str().unwrap()))
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    world.found("enforcers", odd.join(","));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    world.found("kernel", release.trim());
    let bytes = manager.ask("capabilities").unwrap();
    let names = u8::from_str_radix(&bytes[2..4], 16).unwrap() & 1 != 0;
    world.found("capabilities", yes(names));

    world.step("take-over");
    let program = fs::canonicalize("/sbin/request-key").unwrap();
    let ours = fs::read(world.programs.join("keyns-upcall")).unwrap();
    assert!(
        fs::read(program).unwrap() == ours,
        "/sbin/request-key is not keyns-upcall"
    );
    let begin = Instant::now();
    let (answer, _) = stranger.get("user", "raw:host", "-");
    world.found("host-answer", answer);
    world.found(
        "host-in-time",
        yes(begin.elapsed() < Duration::from_secs(1)),
    );
}

fn container(world: &mut World, manager: Puppet, stranger: Puppet) -> Cast {
    world.step("container");
    world.create("demo");
    let (inside, pid) = world.inside("demo", true);
    let container = world.show("demo")["container"].clone();
    assert_eq!(container["init_pid"], pid);
    let own: Vec<&str> = ["user", "pid", "mnt", "net", "ipc", "uts"]
        .into_iter()
        .filter(|kind| {
            let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{kind}")).unwrap();
            of("self") != of(&pid.to_string())
        })
        .collect();
    world.found("namespaces", own.join(","));
    world.found(
        "pid-inside",
        status(pid, "NSpid").split_whitespace().last().unwrap(),
    );
    let uid = status(pid, "Uid");
    let uid = uid.split_whitespace().next().unwrap();
    assert!(uid != "0" && container["uid_base"] == uid.parse::<u32>().unwrap());
    world.found(
        "root",
        fs::read_dir(format!("/proc/{pid}/root/")).unwrap().count(),
    );
    let (token, private, copy) = Default::default();
    Cast {
        manager,
        stranger,
        inside,
        container,
        token,
        private,
        copy,
    }
}

/// `type;uid;gid;mask;description` as the kernel has it.
fn described(puppet: &mut Puppet, serial: &str) -> Vec<String> {
    let text = puppet.ask(&format!("describe {serial}")).unwrap();
    text.trim_end_matches('\0')
        .splitn(5, ';')
        .map(str::to_owned)
        .collect()
}

fn keyring(world: &mut World, cast: &mut Cast) {
    world.step("keyring");
    let serial = cast.container["keyring"].to_string();
    let about = described(&mut cast.manager, &serial);
    world.found("description", &about[4]);
    world.found("permissions", format!("mask {}", about[3]));
    let session = cast.inside.list(SESSION);
    world.found(
        "in-session",
        yes(session.len() == 1 && session[0].to_string() == serial),
    );
    world.found("empty", cast.inside.list(&serial).len());
}

fn add(world: &mut World, cast: &mut Cast) {
    world.step("add");
    cast.token = cast.manager.ask("add user demo:token s3cret-1 -3").unwrap();
    cast.private = cast
        .manager
        .ask("add user demo:private private-1 -3")
        .unwrap();
    let payload = base64(b"stored-1");
    let call = json!({"container": "demo", "type": "user", "description": "demo:stored", "payload": payload});
    let stored = world.call("Keys.Add", call)["key"]["serial"].to_string();
    world.found("payload", cast.manager.read(&cast.token));
    let about = described(&mut cast.manager, &stored);
    world.found("stored", format!("uid {}, mask {}", about[1], about[3]));
    world.found("not-granted", cast.inside.get("user", "demo:stored", "~").0);
}

/// Grants search on a key; one of the manager's own is lent on the same connection.
fn try_grant(
    world: &World,
    cast: &mut Cast,
    key: &str,
    accepted: &[&str],
    dry_run: bool,
) -> super::varlink::Reply {
    let mut connection = world.daemon.open();
    if key == cast.token {
        let drop = connection.call("Keys.Lend", json!({})).unwrap()["keyring"].to_string();
        cast.manager.ask(&format!("link {key} {drop}")).unwrap();
    }
    let call = json!({"key": key, "container": "demo", "rights": ["search"], "accept_implied": accepted, "dry_run": dry_run});
    connection.call("Keys.Grant", call)
}

fn grant(world: &mut World, cast: &mut Cast) {
    world.step("grant-refused");
    let token = cast.token.clone();
    let (error, details) = try_grant(world, cast, &token, &[], false).unwrap_err();
    // The exit code that the command line has for it.
    world.found(
        "exit",
        if error == "ImpliedRights" {
            "8"
        } else {
            error.as_str()
        },
    );
    let rights: Vec<&str> = details["rights"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r.as_str().unwrap())
        .collect();
    world.found("named", yes(rights == ["read", "inval"]));
    world.found("inside", cast.inside.get("user", "demo:token", "~").0);

    let accepted = ["read", "inval"];
    let dry = try_grant(world, cast, &token, &accepted, true).unwrap();
    assert_eq!(dry["applied"], false);
    world.found("accepted", 0);

    world.step("grant");
    let granted = try_grant(world, cast, &token, &accepted, false).unwrap();
    cast.copy = granted["grant"]["copy"].to_string();
    let stored = try_grant(world, cast, "demo/user:demo:stored", &accepted, false).unwrap();
    let stored = stored["grant"]["copy"].to_string();
    let copy = cast.copy.clone();
    world.found(
        "copy",
        format!("mask {}", described(&mut cast.manager, &copy)[3]),
    );
    world.found(
        "stored-copy",
        format!("mask {}", described(&mut cast.manager, &stored)[3]),
    );
    world.found("own-copy", yes(copy != token));

    world.step("use-inside");
    let (payload, serial) = cast.inside.get("user", "demo:token", "~");
    assert_eq!(serial.to_string(), copy);
    world.found("payload", payload);
    world.found(
        "stored-payload",
        cast.inside.get("user", "demo:stored", "~").0,
    );
}

fn isolated(world: &mut World, cast: &mut Cast) {
    world.step("isolated");
    let (private, copy) = (cast.private.clone(), cast.copy.clone());
    world.found(
        "private-by-name",
        cast.inside.get("user", "demo:private", "~").0,
    );
    world.found("private-by-number", cast.inside.read(&private));
    world.found("manager", cast.manager.get("user", "demo:private", "~").0);
    world.found(
        "copy-by-name",
        cast.stranger.get("user", "demo:token", "~").0,
    );
    let mut nobody = Puppet::on_host(&world.puppet);
    nobody.ask("uid 65534").unwrap();
    world.found("copy-by-number", nobody.read(&copy));
    world.found("copy-inside", cast.inside.read(&copy));
    // Unsharing keeps the session keyring.
    let mut plain = Puppet::on_host(&world.puppet);
    plain.ask("add user demo:private private-1 -3").unwrap();
    plain.ask("unshare").unwrap();
    world.found("unshare", plain.get("user", "demo:private", "~").0);
}

fn nested(world: &mut World, cast: &mut Cast) {
    world.step("nested");
    world.create("demo.inner");
    let (mut inner, _) = world.inside("demo.inner", true);
    world.found("inner", inner.get("user", "demo:token", "~").0);
    world.found("inner-by-number", inner.read(&cast.copy));
    world.found("outer", cast.inside.get("user", "demo:token", "~").0);
    world.call("Containers.Kill", json!({"container": "demo.inner"}));
}

fn update(world: &mut World, cast: &mut Cast) {
    world.step("update");
    let payload = base64(b"stored-2");
    world.call(
        "Keys.Update",
        json!({"key": "demo/user:demo:stored", "payload": payload}),
    );
    world.found("stored", cast.inside.get("user", "demo:stored", "~").0);
    world.found("before", cast.inside.get("user", "demo:token", "~").0);
    let begin = Instant::now();
    cast.manager
        .ask(&format!("update {} s3cret-2", cast.token))
        .unwrap();
    let mut seen = String::new();
    until("the new payload", || {
        seen = cast.inside.get("user", "demo:token", "~").0;
        seen == "s3cret-2"
    });
    world.found("lent", seen);
    world.found("in-time", yes(begin.elapsed() < Duration::from_secs(2)));
}

fn ungrant(world: &mut World, cast: &mut Cast) {
    world.step("ungrant");
    world.found("before", cast.inside.get("user", "demo:token", "~").0);
    world.call(
        "Keys.Ungrant",
        json!({"key": cast.token, "container": "demo"}),
    );
    let mut inside = String::new();
    // Until the kernel has collected the copy, its link leads to a key that is revoked.
    until("the end of the copy", || {
        inside = cast.inside.get("user", "demo:token", "~").0;
        inside != "EKEYREVOKED"
    });
    world.found("inside", inside);
    let copy = cast.copy.clone();
    world.found("copy", cast.manager.read(&copy));
    let token = cast.token.clone();
    world.found("manager", cast.manager.read(&token));
}

fn manual() -> Value {
    json!({"queue": "manual"})
}

fn reject(errno: i32) -> Value {
    json!({"reject": {"errno": errno, "timeout": 2}})
}

fn identity(world: &mut World, cast: &mut Cast) {
    const CLAIM: &str = "pid:1;uid:0;demo:ticket";
    world.step("upcall-identity");
    world.intercept("user", manual(), json!({}));
    let (mut asking, pid) = world.inside("demo", false);
    let inner_pid = asking.ask("pid").unwrap();
    asking.tell(&format!("request user {CLAIM} trust-me"));
    let upcall = world.arrival(CLAIM);
    let by = &upcall["requester"];
    // The process that was started here, by the number that the kernel gave it.
    assert_eq!(by["pid"], pid);
    assert_eq!(
        status(pid, "NSpid").split_whitespace().last().unwrap(),
        inner_pid
    );
    assert_eq!(by["uid"], cast.container["uid_base"]);
    assert_eq!(by["container_uid"], 0);
    world.found("container", by["container"].as_str().unwrap());
    world.found("verified", yes(by["verified"] == true));
    world.found("claim", upcall["description"].as_str().unwrap());
    world.answer(&upcall["id"], "ticket-1");
    world.found("payload", asking.got().unwrap().0);
}

/// An agent that answers everything with one text; it ends with its connection.
struct Agent {
    requests: Connection,
    token: Value,
}

impl Agent {
    fn serve(world: &World, types: &[&str]) -> Self {
        let mut requests = world.daemon.open();
        let call =
            json!({"name": "demo", "types": types, "containers": ["demo"], "max_in_flight": 4});
        requests.subscribe("Agents.Serve", call);
        let token = requests.receive().unwrap()["registration"]["token"].clone();
        Self { requests, token }
    }

    fn answer(&mut self, world: &World, payload: impl Fn(&Value) -> String) {
        let request = self.requests.receive().unwrap()["request"].clone();
        let payload = base64(payload(&request).as_bytes());
        let call = json!({"token": self.token, "id": request["id"], "payload": payload});
        world.call("Agents.Complete", call);
    }
}

fn agent(world: &mut World, cast: &mut Cast) {
    world.step("agent-answers");
    world.intercept("user", json!({"agent": "demo"}), json!({}));
    let (_, serial) = cast.inside.get("user", "demo:lease-0", "-");
    world.found("no-agent", yes(serial != 0));
    let mut agent = Agent::serve(world, &["user"]);
    cast.inside.tell("request user demo:lease-1 -");
    agent.answer(world, |request| {
        let by = &request["requester"];
        format!(
            "lease of {}, uid {}",
            by["container"].as_str().unwrap(),
            by["container_uid"]
        )
    });
    world.found("payload", cast.inside.got().unwrap().0);
}

fn rejected(world: &mut World, cast: &mut Cast) {
    world.step("rejected");
    world.intercept("user", reject(111), json!({}));
    world.found("rule", cast.inside.get("user", "demo:no-1", "-").0);
    world.intercept("user", manual(), json!({}));
    cast.inside.tell("request user demo:no-2 -");
    let upcall = world.arrival("demo:no-2");
    world.call(
        "Upcalls.Answer",
        json!({"id": upcall["id"], "response": reject(116)}),
    );
    world.found("by-hand", cast.inside.got().unwrap().0);
}

fn wildcard(world: &mut World, cast: &mut Cast) {
    world.step("wildcard-rule");
    world.intercept("user", reject(13), json!({}));
    world.found("no-rule", cast.inside.get("logon", "demo:wild-0", "-").0);
    world.intercept("*", json!({"agent": "demo"}), json!({}));
    let mut agent = Agent::serve(world, &["user", "logon"]);
    cast.inside.tell("request logon demo:wild-1 -");
    agent.answer(world, |_| "wild-secret".to_owned());
    let (unread, serial) = cast.inside.got().unwrap();
    assert_eq!(unread, "EOPNOTSUPP");
    world.found("other-type", yes(serial != 0));
    world.found("exact-type", cast.inside.get("user", "demo:wild-1", "-").0);
    world.call(
        "Upcalls.Unintercept",
        json!({"container": "demo", "type": "*"}),
    );
}

/// How many requests of a flood ended with an error.
fn count(answer: &str, errno: i32) -> usize {
    let prefix = format!("{errno}:");
    answer
        .split(' ')
        .find_map(|word| word.strip_prefix(&prefix)?.parse().ok())
        .unwrap_or(0)
}

fn flood(world: &mut World, cast: &mut Cast) {
    world.step("flood");
    world.intercept("user", manual(), json!({"pending": 4, "deadline_ms": 3000}));
    cast.inside.tell("flood user demo:flood- 40");
    until("the flood", || world.pending() >= 4);
    world.found("waiting", world.waiting().len());
    let begin = Instant::now();
    cast.stranger.get("user", "raw:host-flood", "-");
    let took = begin.elapsed();
    world.found(
        "host-in-time",
        yes(took < Duration::from_secs(1) && world.pending() > 0),
    );
    let answer = cast.inside.hear().unwrap().unwrap();
    world.found("cut-off", count(&answer, 11));
    world.found("expired", count(&answer, 110));

    world.intercept(
        "user",
        json!({"agent": "demo"}),
        json!({"pending": 128, "rate": 1000}),
    );
    let mut agent = Agent::serve(world, &["user"]);
    cast.inside.tell("flood user demo:tide- 40");
    for _ in 0..40 {
        agent.answer(world, |_| "flood-secret".to_owned());
    }
    let answer = cast.inside.hear().unwrap().unwrap();
    world.found("answered", count(&answer, 0));
}

fn daemon_killed(world: &mut World, cast: &mut Cast) {
    world.step("daemon-killed");
    world.intercept("user", manual(), json!({}));
    let (mut asking, pid) = world.inside("demo", false);
    asking.tell("request user demo:patient -");
    let upcall = world.arrival("demo:patient");
    world.kill();
    // The exit code of the command line for a daemon that does not answer.
    let gone = Connection::open(&world.daemon.socket).is_err();
    world.found("daemon", if gone { "6" } else { "0" });
    world.found("waits", &status(pid, "State")[..1]);
    let init = cast.container["init_pid"].to_string();
    world.found("lives", fs::metadata(format!("/proc/{init}")).is_ok());
    world.start();
    let again = world.arrival("demo:patient");
    assert_eq!(
        (&again["key"], &again["requester"]["pid"]),
        (&upcall["key"], &pid.into())
    );
    assert_eq!(
        world.show("demo")["container"]["init_pid"].to_string(),
        init
    );
    world.answer(&again["id"], "patience-1");
    world.found("payload", asking.got().unwrap().0);
}

fn container_killed(world: &mut World, mut cast: Cast) {
    world.step("container-killed");
    let (mut asking, _) = world.inside("demo", false);
    asking.tell("request user demo:doomed -");
    world.arrival("demo:doomed");
    let before = world.remains(&cast.container, &mut cast.manager);
    world.found("before", before.len());
    let begin = Instant::now();
    world.call("Containers.Kill", json!({"container": "demo"}));
    world.found("in-time", yes(begin.elapsed() < Duration::from_secs(1)));
    let mut left = before;
    let patience = Instant::now();
    while !left.is_empty() && patience.elapsed() < Duration::from_secs(5) {
        left = world.remains(&cast.container, &mut cast.manager);
    }
    world.found("remains", left.into_iter().collect::<Vec<_>>().join(", "));
    // It may have heard of the rejection before it was killed, but of no key.
    let key = asking.got().is_some_and(|(_, serial)| serial != 0);
    world.found("requester", yes(key));
    world.found("upcalls", world.pending());
}

fn give_back(world: &mut World) {
    world.step("give-back");
    let payloads = [
        "s3cret",
        "stored-",
        "private-1",
        "ticket-1",
        "patience-1",
        "flood-secret",
    ];
    let log = fs::read_to_string(&world.log).unwrap();
    assert!(!log.is_empty());
    world.found(
        "log",
        payloads
            .iter()
            .filter(|payload| log.contains(**payload))
            .count(),
    );
    assert!(
        !dumps_core(world.pid()),
        "payloads could get into a core file"
    );
    world.stop();
    let instance = world.instance.clone();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let left = [
        mounts.contains(&instance),
        cgroups().join(format!("keyns-{instance}")).exists(),
        fs::metadata(format!("/var/lib/keyns/{instance}")).is_ok(),
    ];
    world.found("machine", left.iter().filter(|left| **left).count());
    world.found(
        "instance",
        yes(fs::metadata(format!("/run/keyns/{instance}")).is_ok()),
    );
}

/// Whether the daemon could leave a core file, by its limit.
fn dumps_core(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    line.split_whitespace().nth(4) != Some("0")
}

//! Calls that no client of ours makes.

use std::fs::File;
use std::os::fd::OwnedFd;

use keyns_interfaces::blocking::Client;
use keyns_interfaces::containers::{Exec, Run};
use keyns_interfaces::{ClientError, ErrorKind, Method};
use keyns_tests::instance::PATIENCE;
use serde_json::{Value, json};

use crate::*;

#[test]
fn parameters_that_no_client_of_ours_sends() {
    let instance = world("raw");
    let before = picture(&instance);
    let exec = |member: &str, value: Value| {
        let mut call = json!({"container": "web", "command": ["true"], "terminal": true});
        call[member] = value;
        call
    };
    let intercept = |member: &str, value: Value| {
        let mut call = json!({"container": "web", "type": "user", "target": {"queue": "q"}});
        call[member] = value;
        call
    };
    let grant = |member: &str, value: Value| {
        let mut call = json!({"key": "web/user:token", "container": "web", "rights": ["search"],
                              "accept_implied": ["read", "inval"]});
        call[member] = value;
        call
    };
    let answer = |id: Value| json!({"id": id, "response": {"payload": "eA=="}});
    #[rustfmt::skip]
    let cases = [
        ("Containers.Exec", exec("command", json!(["a\\x00b"])), "InvalidArgument", "NUL"),
        ("Containers.Exec", exec("environment", json!(["A=\\x00"])), "InvalidArgument", "NUL"),
        ("Containers.Exec", exec("environment", json!(["A"])), "InvalidArgument", "NAME=value"),
        ("Containers.Exec", exec("command", json!([])), "InvalidArgument", "no program"),
        ("Containers.Exec", exec("command", json!("true")), "InvalidParameter", "command"),
        ("Containers.Exec", exec("uid", json!(-1)), "InvalidParameter", "uid"),
        ("Containers.Exec", exec("uid", json!(4_294_967_296_u64)), "InvalidParameter", "uid"),
        ("Containers.Exec", exec("uid", json!(4_294_967_295_u64)), "InvalidArgument", "4294967295"),
        ("Containers.Exec", exec("program_passed", json!(true)), "InvalidArgument", "1 descriptors"),
        ("Containers.Exec", exec("colour", json!(true)), "InvalidParameter", "colour"),
        ("Containers.Wait", json!({"container": "web", "process": -1}), "InvalidParameter", "process"),
        ("Containers.Kill", json!({"container": "web", "signal": 0}), "InvalidArgument", "signal"),
        ("Containers.Kill", json!({"container": "web", "signal": 1_000_000}), "InvalidArgument", "signal"),
        ("Containers.Create", json!({"name": "x", "namespaces": ["time"]}), "InvalidParameter", "namespaces"),
        ("Containers.Create", json!({"name": "x", "namespaces": [], "root": {"dir": "relative"}}), "InvalidArgument", ""),
        ("Containers.Create", json!({"name": "x", "namespaces": ["mount"], "root": {"dir": "/tmp/../"}}), "InvalidArgument", ""),
        ("Containers.Create", json!({"name": "x", "namespaces": ["mount"], "root": {"usr": {}, "empty": {}}}), "InvalidParameter", "root"),
        ("Upcalls.Intercept", intercept("deadline_ms", json!(0)), "InvalidArgument", "1000"),
        ("Upcalls.Intercept", intercept("deadline_ms", json!(61_000)), "InvalidArgument", "60000"),
        ("Upcalls.Intercept", intercept("pending", json!(0)), "InvalidArgument", "256"),
        ("Upcalls.Intercept", intercept("pending", json!(257)), "InvalidArgument", "256"),
        ("Upcalls.Intercept", intercept("rate", json!(0)), "InvalidArgument", "rate"),
        ("Upcalls.Intercept", intercept("burst", json!(0)), "InvalidArgument", "burst"),
        ("Upcalls.Intercept", intercept("rate", json!(-1)), "InvalidParameter", "rate"),
        ("Upcalls.Intercept", intercept("rate", json!(1e300)), "InvalidParameter", "rate"),
        ("Upcalls.Intercept", intercept("type", json!("a b")), "InvalidArgument", "a b"),
        ("Upcalls.Intercept", intercept("type", json!("x".repeat(32))), "InvalidArgument", "31"),
        ("Upcalls.Intercept", intercept("target", json!({"reject": {"errno": 0, "timeout": 5}})), "InvalidArgument", "1 to 4094"),
        ("Upcalls.Intercept", intercept("target", json!({"reject": {"errno": 126, "timeout": 61}})), "InvalidArgument", "60"),
        ("Upcalls.Intercept", intercept("target", json!({})), "InvalidParameter", "target"),
        ("Upcalls.Answer", answer(json!(4711)), "NoSuchUpcall", "4711"),
        ("Upcalls.Answer", answer(json!(-1)), "InvalidParameter", "id"),
        ("Upcalls.Answer", answer(json!(u64::MAX)), "NoSuchUpcall", "18446744073709551615"),
        ("Upcalls.Answer", json!({"id": 1, "response": {"payload": "no base64!"}}), "InvalidParameter", "response"),
        ("Upcalls.List", json!({"history": -1}), "InvalidParameter", "history"),
        ("Agents.Complete", json!({"token": "guessed", "id": 1, "payload": "eA=="}), "NoSuchAgent", ""),
        ("Keys.Grant", grant("rights", json!(["fly"])), "InvalidArgument", "fly"),
        ("Keys.Grant", grant("rights", json!([])), "InvalidArgument", "no right"),
        ("Keys.Grant", grant("duration", json!(0)), "InvalidArgument", "one second"),
        ("Keys.Grant", grant("key", json!("@s")), "InvalidArgument", "@s"),
        ("Keys.Grant", grant("key", json!("%user:x")), "InvalidArgument", "serial"),
        ("Keys.Grant", grant("key", json!("web/user:to\\x00ken")), "InvalidArgument", "NUL"),
        ("Keys.Grant", grant("key", json!("2147483647")), "NoSuchKey", "2147483647"),
        ("Keys.Add", json!({"container": "web", "type": "user", "description": "x", "payload": "eA==", "timeout": 0}), "InvalidArgument", "one second"),
        ("Keys.Add", json!({"container": "web", "type": "user", "description": "x\\x00", "payload": "eA=="}), "InvalidArgument", "NUL"),
        ("Keys.Add", json!({"container": "web", "type": "user", "description": "\\xZZ", "payload": "eA=="}), "InvalidParameter", "description"),
        ("Keys.Add", json!({"container": "web"}), "InvalidParameter", "type"),
        ("Keys.Frobnicate", json!({}), "MethodNotFound", "Frobnicate"),
        ("Nonsense.List", json!({}), "InterfaceNotFound", "Nonsense"),
    ];
    for (method, parameters, error, says) in cases {
        let (named, text) = sent(&instance, method, &parameters);
        assert_eq!(named, error, "{method} {parameters}: {text}");
        assert!(
            text.contains(says),
            "{method} {parameters}: no “{says}” in {text}"
        );
    }
    assert_eq!(timeless(&picture(&instance)), timeless(&before));
    instance.stop();
}

#[test]
fn a_call_has_exactly_the_descriptors_it_needs() {
    let instance = world("fds");
    let exec = Exec(Run {
        container: "web".into(),
        command: vec!["true".into()],
        environment: Vec::new(),
        uid: 0,
        gid: 0,
        terminal: false,
        program_passed: false,
    });
    let call = |count: usize| {
        let fds: Vec<OwnedFd> = (0..count)
            .map(|_| File::open("/dev/null").unwrap().into())
            .collect();
        let mut client = Client::connect(instance.socket())
            .unwrap()
            .with_timeout(PATIENCE);
        client.call(&exec, fds).map(|(started, _)| started.process)
    };
    for count in [0, 2, 4, 8] {
        let Err(ClientError::Refused(error)) = call(count) else {
            panic!("{} with {count} descriptors", Exec::NAME)
        };
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.cause.unwrap().contains(&format!("not {count}")));
    }
    // More than any message may carry costs the connection, nothing else.
    assert!(call(9).is_err());
    assert!(call(200).is_err());
    call(3).unwrap();
    instance.stop();
}

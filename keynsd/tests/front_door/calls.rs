//! What a well-behaved client gets.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keyns_interfaces::blocking::Client;
use keyns_interfaces::manager::GetStatus;
use keyns_interfaces::{ClientError, Error, ErrorKind, Payload, containers, keys, upcalls};

use crate::server::Server;

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Error {
    match result {
        Err(ClientError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn run() -> containers::Run {
    containers::Run {
        container: "web".to_owned(),
        command: vec!["true".into()],
        environment: vec![],
        uid: 0,
        gid: 0,
        terminal: false,
        program_passed: false,
    }
}

#[test]
fn a_call_gets_its_reply_and_the_caller_is_known() {
    let server = Server::start();
    let (status, fds) = server.client().call(&GetStatus {}, vec![]).unwrap();
    assert!(fds.is_empty());
    assert_eq!(status.version, "0", "uid");
    assert_eq!(status.pid, std::process::id());
    let known = keyns_sys::kernel_probe::has_peer_pidfd().unwrap();
    assert_eq!(status.kernel, known.to_string(), "there is a pidfd");
}

#[test]
fn a_connection_serves_many_calls() {
    let server = Server::start();
    let mut client = server.client();
    for size in 0..200 {
        let call = keys::Update {
            key: "k".into(),
            payload: Payload::new(vec![1; size]),
        };
        assert_eq!(
            client.call(&call, vec![]).unwrap().0.key.serial,
            size as i32
        );
    }
}

#[test]
fn large_calls_and_replies_pass() {
    let server = Server::start();
    let mut client = server.client();
    let call = keys::Update {
        key: "k".into(),
        payload: Payload::new(vec![1; 1 << 20]),
    };
    assert_eq!(client.call(&call, vec![]).unwrap().0.key.serial, 1 << 20);
    for size in [2_usize << 20, 8 << 20] {
        let read = keys::Read {
            key: size.to_string().as_str().into(),
        };
        let (reply, _) = client.call(&read, vec![]).unwrap();
        assert_eq!(reply.payload.bytes(), vec![7; size]);
    }
}

#[test]
fn too_large_a_reply_or_call_is_an_error_of_its_own() {
    let server = Server::start();
    let mut client = server.client();
    let read = keys::Read {
        key: (13 << 20).to_string().as_str().into(),
    };
    assert_eq!(
        refusal(client.call(&read, vec![])).kind,
        ErrorKind::TooLarge
    );
    let call = keys::Update {
        key: "k".into(),
        payload: Payload::new(vec![1; 2 << 20]),
    };
    assert_eq!(
        refusal(client.call(&call, vec![])).kind,
        ErrorKind::TooLarge
    );
    client
        .call(&GetStatus {}, vec![])
        .expect("the connection is still good");
}

#[test]
fn descriptors_go_and_come() {
    let server = Server::start();
    let (input, mut feed) = std::io::pipe().unwrap();
    let (mut result, output) = std::io::pipe().unwrap();
    let extra: OwnedFd = File::open("/dev/null").unwrap().into();
    feed.write_all(b"through the daemon").unwrap();
    drop(feed);
    let fds = vec![input.into(), output.into(), extra];
    let (started, back) = server.client().call(&run(), fds).unwrap();
    assert_eq!((started.process, back.len()), (3, 1));
    let mut text = String::new();
    result.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through the daemon", "the daemon closed its copies");
    let flags = rustix::io::fcntl_getfd(&back[0]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn errors_arrive_whole() {
    let server = Server::start();
    let grant = keys::GrantTo {
        key: "7".into(),
        container: "web".to_owned(),
        rights: vec!["search".to_owned()],
        accept_implied: vec![],
        duration: None,
        dry_run: false,
    };
    let error = refusal(server.client().call(&grant, vec![]));
    let expected = Error::new(ErrorKind::ImpliedRights, "cannot grant search on key 7")
        .cause("the kernel has no such bit")
        .hint("accept read")
        .errno(1)
        .rights(vec!["read".to_owned()]);
    assert_eq!(error, expected);
}

#[test]
fn what_is_not_there_has_the_standard_errors() {
    let server = Server::start();
    let mut raw = server.raw();
    let mut error = |call: &str| raw.send(call).error();
    assert_eq!(
        error(r#"{"method": "org.keyns.Keys.Nonsense"}"#),
        "org.varlink.service.MethodNotFound"
    );
    assert_eq!(
        error(r#"{"method": "org.example.Keys.Add"}"#),
        "org.varlink.service.InterfaceNotFound"
    );
    assert_eq!(
        error(r#"{"method": ""}"#),
        "org.varlink.service.InterfaceNotFound"
    );
    // Described, but not registered by this test's daemon.
    assert_eq!(
        error(r#"{"method": "org.keyns.Agents.List"}"#),
        "org.varlink.service.MethodNotImplemented"
    );
    assert_eq!(
        error(r#"{"method": "org.keyns.Containers.Subscribe"}"#),
        "org.varlink.service.ExpectedMore"
    );
    assert_eq!(
        error(r#"{"method": "org.varlink.service.Nonsense"}"#),
        "org.varlink.service.MethodNotFound"
    );
    assert_eq!(
        error(r#"{"method": "org.keyns.Manager.GetStatus", "upgrade": true}"#),
        "org.varlink.service.InvalidParameter"
    );
}

#[test]
fn a_wrong_parameter_is_named() {
    let server = Server::start();
    let mut raw = server.raw();
    let call = r#"{"method": "org.keyns.Keys.Update", "parameters": {"key": "k", "payload": 1}}"#;
    let reply = raw.send(call).reply().unwrap();
    assert_eq!(reply["error"], "org.varlink.service.InvalidParameter");
    assert_eq!(reply["parameters"]["parameter"], "payload");
}

#[test]
fn the_client_translates_the_standard_errors() {
    let server = Server::start();
    let mut client = server.client();
    let list = keyns_interfaces::agents::List {};
    assert_eq!(
        refusal(client.call(&list, vec![])).kind,
        ErrorKind::Unsupported
    );
}

#[test]
fn pipelined_calls_are_answered_in_order() {
    let server = Server::start();
    let mut raw = server.raw();
    let mut calls = String::new();
    for size in [3, 0, 300, 9] {
        let payload = "QUFB".repeat(size);
        calls += &format!(
            "{{\"method\": \"org.keyns.Keys.Update\", \
             \"parameters\": {{\"key\": \"k\", \"payload\": \"{payload}\"}}}}\0"
        );
    }
    std::io::Write::write_all(&mut raw.0, calls.as_bytes()).unwrap();
    let sizes: Vec<_> = (0..4)
        .map(|_| raw.reply().unwrap()["parameters"]["key"]["serial"].clone())
        .collect();
    assert_eq!(sizes, [9, 0, 900, 27]);
}

#[test]
fn oneway_calls_are_carried_out_without_a_reply() {
    let server = Server::start();
    let mut raw = server.raw();
    raw.send(
        r#"{"method": "org.keyns.Keys.Invalidate", "parameters": {"key": "k"}, "oneway": true}"#,
    );
    raw.send(r#"{"method": "org.keyns.Keys.Nonsense", "oneway": true}"#);
    raw.send(r#"{"method": "org.keyns.Manager.GetStatus"}"#);
    assert_eq!(raw.reply().unwrap()["parameters"]["instance"], "test");
    assert_eq!(server.counts.invalidated.load(Ordering::SeqCst), 1);
}

#[test]
fn the_service_describes_itself() {
    let server = Server::start();
    let mut raw = server.raw();
    let info = raw
        .send(r#"{"method": "org.varlink.service.GetInfo"}"#)
        .reply()
        .unwrap();
    assert_eq!(info["parameters"]["product"], "keynsd");
    let interfaces = info["parameters"]["interfaces"].as_array().unwrap();
    assert_eq!(
        interfaces.len(),
        keyns_interfaces::idl::INTERFACES.len() + 1
    );
    for interface in interfaces {
        let call = format!(
            r#"{{"method": "org.varlink.service.GetInterfaceDescription",
                 "parameters": {{"interface": {interface}}}}}"#
        );
        let reply = raw.send(&call).reply().unwrap();
        let text = reply["parameters"]["description"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(text.contains(&format!("\ninterface {}\n", interface.as_str().unwrap())));
    }
}

#[test]
fn a_call_given_up_does_not_leave_its_reply_to_the_next() {
    let server = Server::start();
    let mut client = Client::connect(server.path())
        .unwrap()
        .with_timeout(Duration::from_millis(50));
    let kill = containers::Kill {
        container: "web".to_owned(),
        signal: None,
        process: None,
    };
    assert!(matches!(
        client.call(&kill, vec![]),
        Err(ClientError::TimedOut)
    ));
    let next = client.call(&GetStatus {}, vec![]);
    assert!(matches!(next, Err(ClientError::Disconnected)), "{next:?}");
}

#[test]
fn nobody_listening_is_unreachable() {
    let mut server = Server::start();
    let path = server.path();
    server.stop();
    let error = Client::connect(&path).unwrap_err();
    assert!(
        matches!(&error, ClientError::Unreachable { path: at, .. } if *at == path),
        "{error}"
    );
}

#[test]
fn the_daemon_ending_disconnects() {
    let mut server = Server::start();
    let subscription = server.client().subscribe(&upcalls::Subscribe {}).unwrap();
    server.stop();
    let last = subscription.last().unwrap();
    assert!(matches!(last, Err(ClientError::Disconnected)), "{last:?}");
}

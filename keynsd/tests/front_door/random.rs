//! Random bytes, and calls that are nearly right.

use std::io::Write;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::server::Server;

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn nearly_a_call() -> impl Strategy<Value = Vec<u8>> {
    let call =
        r#"{"method": "org.keyns.Keys.Update", "parameters": {"key": "k", "payload": "QUFB"}}"#;
    let edit = (0..call.len(), any::<u8>());
    proptest::collection::vec(edit, 0..6).prop_map(move |edits| {
        let mut bytes = call.as_bytes().to_vec();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        bytes.push(0);
        bytes
    })
}

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000),
        proptest::collection::vec(
            prop_oneof![Just(0_u8), Just(b'{'), Just(b'"'), any::<u8>()],
            0..300
        ),
        proptest::collection::vec(nearly_a_call(), 1..20).prop_map(|calls| calls.concat()),
    ]
}

#[test]
fn random_bytes_do_no_harm_and_leave_nothing() {
    let server = Server::start();
    let rounds = |cases| {
        let mut runner = TestRunner::new(Config {
            cases,
            failure_persistence: None,
            ..Config::default()
        });
        runner
            .run(&garbage(), |bytes| {
                let mut raw = server.raw();
                // The daemon may hang up in the middle.
                let _ = raw.0.write_all(&bytes);
                drop(raw);
                server.assert_serving();
                Ok(())
            })
            .unwrap();
    };
    rounds(300);
    let before = resident();
    rounds(1500);
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 10, "grew by {grown} KiB");
}

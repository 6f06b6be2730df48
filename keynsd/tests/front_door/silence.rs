//! Payloads stay out of traces, whatever is traced.

use std::io::Write;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use keyns_interfaces::{Payload, keys};
use keynsd::front::Limits;

use crate::server::Server;

const CANARY: &str = "canary-7c1f-do-not-log";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn everything(log: &Log) -> tracing::Dispatch {
    let log = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || log.clone())
        .finish();
    tracing::Dispatch::new(subscriber)
}

#[test]
fn no_payload_reaches_a_subscriber_at_any_level() {
    let log = Log::default();
    let encoded = base64::engine::general_purpose::STANDARD.encode(CANARY);
    {
        let server = Server::watched(Limits::default(), everything(&log));
        tracing::dispatcher::with_default(&everything(&log), || {
            let payload = Payload::new(CANARY.as_bytes().to_vec());
            server
                .client()
                .call(
                    &keys::Update {
                        key: "k".into(),
                        payload,
                    },
                    vec![],
                )
                .unwrap();
        });
        for call in [
            // Not base64; of the wrong type; under the wrong name; outside the parameters.
            format!(
                r#"{{"method": "org.keyns.Keys.Update", "parameters": {{"key": "k", "payload": "{CANARY}"}}}}"#
            ),
            format!(
                r#"{{"method": "org.keyns.Keys.Update", "parameters": {{"key": "k", "payload": ["{CANARY}"]}}}}"#
            ),
            format!(
                r#"{{"method": "org.keyns.Containers.Wait", "parameters": {{"container": "a", "process": "{CANARY}"}}}}"#
            ),
            format!(r#"{{"method": "org.keyns.Keys.Update", "more": "{CANARY}"}}"#),
            format!(r#"{{"method": "org.keyns.Keys.Update", "parameters": {{"{CANARY}": 1}}}}"#),
            CANARY.to_owned(),
            format!(
                r#"{{"method": "org.keyns.Keys.Update", "parameters": {{"payload": "{encoded}" "key": 1}}}}"#
            ),
        ] {
            server.raw().send(&call).reply();
        }
        let mut raw = server.raw();
        // Too large, so the daemon hangs up before all of it is written.
        let _ = raw.0.write_all(CANARY.repeat(200_000).as_bytes());
        raw.reply();
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("no varlink call"),
        "the daemon does trace: {log}"
    );
    assert!(!log.contains(CANARY) && !log.contains(&encoded), "{log}");
}

#[test]
fn the_level_that_would_show_frames_is_compiled_out() {
    assert_eq!(
        tracing::level_filters::STATIC_MAX_LEVEL,
        tracing::Level::DEBUG
    );
}

#[test]
fn types_that_hold_payloads_do_not_show_them() {
    let call = keys::Update {
        key: "k".into(),
        payload: Payload::new(CANARY.into()),
    };
    assert!(!format!("{call:?}").contains(CANARY));
}

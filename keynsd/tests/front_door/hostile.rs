//! Frames that are cut, oversized, nested, wrongly typed, slow, or laden with descriptors.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::server::Server;

const SOON: Duration = Duration::from_secs(2);

#[test]
fn cut_frames_end_their_connection_only() {
    let server = Server::start();
    let call = r#"{"method": "org.keyns.Manager.GetStatus"}"#;
    for length in 0..call.len() {
        let mut raw = server.raw();
        raw.0.write_all(&call.as_bytes()[..length]).unwrap();
        raw.0.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(raw.is_closed_within(SOON), "cut after {length} bytes");
    }
    server.assert_serving();
}

#[test]
fn frames_over_the_limit_are_not_read_on() {
    let server = Server::start();
    let mut raw = server.raw();
    let chunk = vec![b' '; 64 << 10];
    let mut sent = 0;
    while raw.0.write_all(&chunk).is_ok() {
        sent += chunk.len();
        assert!(sent < 8 << 20, "the daemon reads on and on");
    }
    assert!(sent >= 2 << 20, "refused after {sent} bytes only");
    server.assert_serving();
}

#[test]
fn a_call_just_below_the_limit_is_read() {
    let server = Server::start();
    let mut raw = server.raw();
    let call = r#"{"method": "org.keyns.Manager.GetStatus"}"#;
    let padding = " ".repeat((2 << 20) - call.len());
    raw.send(&format!("{padding}{call}"));
    assert_eq!(raw.reply().unwrap()["parameters"]["instance"], "test");
    let mut raw = server.raw();
    let _ = raw.0.write_all(format!(" {padding}{call}\0").as_bytes());
    assert!(raw.is_closed_within(SOON), "one byte more");
}

#[test]
fn deep_nesting_is_refused() {
    let server = Server::start();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(300_000), close.repeat(300_000));
        for call in [
            format!(
                r#"{{"method": "org.keyns.Containers.Wait", "parameters": {{"container": {deep}}}}}"#
            ),
            format!(r#"{{"method": "org.keyns.Containers.Wait", "parameters": {deep}}}"#),
            format!(r#"{{"method": "org.keyns.Containers.Wait", "parameters": {{"x": {deep}}}}}"#),
            format!(r#"{{"method": "org.keyns.Manager.GetStatus", "x": {deep}}}"#),
            format!(r#"{{"method": {deep}}}"#),
            deep.clone(),
        ] {
            // Not all of them are errors (an unknown member of the call is ignored), none may harm.
            let mut raw = server.raw();
            let _ = raw
                .0
                .write_all(call.as_bytes())
                .and_then(|()| raw.0.write_all(b"\0"));
            raw.reply();
            server.assert_serving();
        }
    }
}

#[test]
fn wrong_types_get_an_error_or_end_the_connection() {
    let server = Server::start();
    let update = |parameters: &str| {
        format!(r#"{{"method": "org.keyns.Keys.Update", "parameters": {parameters}}}"#)
    };
    for parameters in [
        "[]",
        "1",
        "\"x\"",
        "true",
        "{}",
        r#"{"key": {}}"#,
        r#"{"key": "k", "payload": []}"#,
        r#"{"key": "\\q", "payload": ""}"#,
        r#"{"key": "k", "payload": "?"}"#,
        r#"{"key": "k", "payload": "", "more": true}"#,
        r#"{"key": "k", "key": "k", "payload": ""}"#,
        r#"{"key": "k", "payload": "AA=A"}"#,
        r#"{"key": 1e999, "payload": ""}"#,
    ] {
        let error = server.raw().send(&update(parameters)).error();
        assert_eq!(
            error, "org.varlink.service.InvalidParameter",
            "{parameters}"
        );
    }
    for call in [
        "",
        " ",
        "null",
        "1",
        "[]",
        "{}",
        "\"\"",
        r#"{"method": 1}"#,
        r#"{"method": null}"#,
        r#"{"method": "a.b", "more": 1}"#,
        r#"{"method": "a.b"} x"#,
        "{\"method\": \"\u{1}\"}",
        r#"{"method": "a.b", "method": "a.b"}"#,
        r#"{"method": "\ud800"}"#,
        "{",
    ] {
        let mut raw = server.raw();
        raw.send(call);
        assert!(raw.is_closed_within(SOON), "{call}");
    }
    let mut raw = server.raw();
    raw.0.write_all(b"{\"method\": \"\xff\xfe\"}\0").unwrap();
    assert!(raw.is_closed_within(SOON), "invalid UTF-8");
    server.assert_serving();
}

#[test]
fn a_frame_of_one_byte_per_second_is_given_up_after_five() {
    let server = Server::start();
    let mut raw = server.raw();
    let begun = Instant::now();
    for byte in br#"{"method": "org.keyns.Manager.GetStatus"}"# {
        if raw.0.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let lasted = begun.elapsed();
    assert!(
        lasted > Duration::from_secs(4) && lasted < Duration::from_secs(9),
        "{lasted:?}"
    );
    server.assert_serving();
}

#[test]
fn a_frame_in_pieces_is_a_frame() {
    let server = Server::start();
    let mut raw = server.raw();
    for byte in b"{\"method\": \"org.keyns.Manager.GetStatus\"}\0" {
        raw.0.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(raw.reply().unwrap()["parameters"]["instance"], "test");
}

/// Sends `bytes` in one write with `count` descriptors of /dev/null.
fn send_with_descriptors(raw: &crate::server::Raw, bytes: &[u8], count: usize) {
    let files: Vec<_> = (0..count)
        .map(|_| File::open("/dev/null").unwrap())
        .collect();
    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(
        &raw.0,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

const STATUS: &[u8] = b"{\"method\": \"org.keyns.Manager.GetStatus\"}\0";

#[test]
fn at_most_eight_descriptors_are_taken() {
    let server = Server::start();
    let mut raw = server.raw();
    for (sent, taken) in [(1, 1), (8, 8), (9, 8), (253, 8)] {
        send_with_descriptors(&raw, STATUS, sent);
        assert_eq!(raw.reply().unwrap()["parameters"]["containers"], taken);
    }
    // The same in many small writes of one frame.
    for byte in STATUS {
        send_with_descriptors(&raw, &[*byte], 5);
    }
    assert_eq!(raw.reply().unwrap()["parameters"]["containers"], 8);
    // And none is left to the call that follows.
    raw.0.write_all(STATUS).unwrap();
    assert_eq!(raw.reply().unwrap()["parameters"]["containers"], 0);
}

#[test]
fn descriptors_belong_to_the_call_they_came_with() {
    let server = Server::start();
    let mut raw = server.raw();
    // While this runs, the others pile up in the socket.
    let kill = r#"{"method": "org.keyns.Containers.Kill", "parameters": {"container": "web"}}"#;
    raw.send(kill);
    raw.0.write_all(STATUS).unwrap();
    send_with_descriptors(&raw, STATUS, 2);
    raw.0.write_all(STATUS).unwrap();
    send_with_descriptors(&raw, STATUS, 3);
    raw.reply().unwrap();
    let counts: Vec<_> = (0..4)
        .map(|_| raw.reply().unwrap()["parameters"]["containers"].clone())
        .collect();
    assert_eq!(counts, [0, 2, 0, 3]);
}

#[test]
fn descriptors_of_calls_that_fail_are_closed() {
    let server = Server::start();
    server.assert_serving();
    let mut raw = server.raw();
    let before = open_descriptors();
    for _ in 0..200 {
        send_with_descriptors(&raw, b"{\"method\": \"org.keyns.Keys.Nonsense\"}\0", 8);
        raw.error();
        send_with_descriptors(&raw, b"{\"method\": \"org.keyns.Keys.Update\"}\0", 8);
        raw.error();
    }
    // Other tests of this process open and close theirs meanwhile.
    crate::server::eventually("they are closed", || open_descriptors() < before + 500);
}

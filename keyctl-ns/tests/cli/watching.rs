//! `watch` with a key, `watch_add`, `watch_rm`, `watch_sync`.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::session::Session;
use insta::assert_snapshot;
use keyns_sys::key as sys;

fn can_notify(session: &Session) -> bool {
    session.run(["supports", "notify"]).code == 0
}

#[test]
fn changes_of_a_key_are_shown_where_the_kernel_notifies() {
    let session = Session::new();
    let key = session.add("token", b"x");
    if !can_notify(&session) {
        assert_snapshot!(session.run(["watch", "%user:token"]), @r"
        error: cannot watch key %user:token
          cause: this kernel has no notifications about keys (CONFIG_WATCH_QUEUE)
          hint: keyctl-ns supports notify; keyctl-ns watch keys shows those of containers
        [1]
        ");
        return;
    }
    let mut child = session
        .command(["watch", "-f", "pv", "%user:token", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It says nothing when it begins: an event that comes too early is repeated.
    let mut first = None;
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| lines.next().unwrap().unwrap());
        while !reader.is_finished() {
            sys::update(key, b"y").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        first = reader.join().ok();
    });
    let first = first.unwrap();
    let json: serde_json::Value = serde_json::from_str(first.trim_start_matches('\x1e')).unwrap();
    assert_eq!(
        (&json["event"], &json["key"]),
        (&"updated".into(), &key.raw().into())
    );
    sys::invalidate(key).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn topics_and_keys_are_told_apart_and_not_mixed() {
    let session = Session::new();
    session.add("keys", b"x");
    // A topic is the daemon's.
    assert_eq!(session.run(["watch", "keys"]).code, 6);
    assert_eq!(session.run(["watch", "keys", "containers", "keys"]).code, 6);
    assert_snapshot!(session.run(["watch", "keys", "@s"]), @r"
    error: cannot watch key @s with others
      cause: the kernel shows one key, the daemon shows topics
      hint: keyctl-ns watch @s
    [2]
    ");
    assert_snapshot!(session.run(["watch", "kyes"]), @r"
    error: cannot use “kyes” as TOPIC|KEY
      cause: it is neither containers, keys, upcalls nor a key: “kyes” is no key: it is no number (decimal, or hexadecimal with 0x); write a serial, @s, %TYPE:DESC or CONTAINER/TYPE:DESC
      hint: keyctl-ns watch --help
    [2]
    ");
    for (words, code) in [
        (&["watch", "@s", "@u"][..], 2),
        (&["watch", "-f", "l"], 2),
        (&["watch", "-f", "l", "keys"], 2),
        (&["watch", "-f", "x", "@s"], 2),
        (&["watch", "web/user:x"], 2),
        (&["watch", "%user:none"], 4),
    ] {
        let output = session.run(words);
        assert_eq!((output.code, output.stdout()), (code, ""), "{output}");
    }
}

#[test]
fn a_descriptor_that_is_no_queue_is_refused() {
    let session = Session::new();
    session.add("token", b"x");
    for command in ["watch_add", "watch_rm"] {
        let output = session.run([command, "0", "%user:token"]);
        assert_eq!((output.code, output.stdout()), (1, ""), "{output}");
        assert_eq!(session.run([command, "-1", "%user:token"]).code, 2);
        assert_eq!(session.run([command, "x", "%user:token"]).code, 2);
        assert_eq!(session.run([command, "0", "%user:none"]).code, 4);
        assert_eq!(session.run([command, "0", "web/user:x"]).code, 2);
    }
    assert_snapshot!(session.run(["watch_sync", "77"]), @r"
    error: cannot wait for descriptor 77
      cause: no such descriptor is open
    [1]
    ");
    assert_eq!(session.run(["watch_sync"]).code, 2);
    // A pipe that is empty and closed.
    let output = session.run(["watch_sync", "0"]);
    assert_eq!((output.code, output.to_string().as_str()), (0, "[0]"));
}

#[test]
fn a_watched_session_runs_its_program_where_the_kernel_notifies() {
    let session = Session::new();
    let logs = tempfile::tempdir().unwrap();
    let log = |name: &str| logs.path().join(name).into_os_string();
    let mut words = vec!["watch_session".into(), log("events"), log("ends")];
    words.extend(["5", "sh", "-c", "exit 3", "--json"].map(Into::into));
    let output = session.run(&words);
    if can_notify(&session) {
        assert_eq!(output.code, 3, "{output}");
    } else {
        assert_eq!((output.code, output.stdout()), (1, ""), "{output}");
        assert!(
            output.stderr().contains("no notifications about keys"),
            "{output}"
        );
        // Nothing was begun.
        assert!(!logs.path().join("events").exists());
    }
    assert_eq!(session.run(["watch_session"]).code, 2);
    assert_eq!(session.run(["--json", "watch_session", "a"]).code, 2);
}

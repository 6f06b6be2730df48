//! Wrong input through the real programs: what each gets is a sentence that names the object and the
//! reason, and the documented exit code; nothing changes, and the daemon serves on.
//!
//! Each table reads: what is typed, the exit code, and fragments of what is said.

mod keys;
mod sent;
mod typed;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use keyns_tests::instance::{Instance, PATIENCE, Ran};
use serde_json::{Value, json};

pub(crate) const FAILURE: i32 = 1;
pub(crate) const USAGE: i32 = 2;
pub(crate) const DENIED: i32 = 3;
pub(crate) const NO_SUCH: i32 = 4;
pub(crate) const UNREACHABLE: i32 = 6;
pub(crate) const NOT_ENFORCEABLE: i32 = 8;

/// What is typed, split at blanks; the exit code; what is said.
pub(crate) type Case<'a> = (&'a str, i32, &'a [&'a str]);

/// `web` runs and has two keys, `idle` was never started, number 3 is dead.
pub(crate) fn world(what: &str) -> Instance {
    let instance = Instance::start(what);
    instance.ok(&["container", "create", "web"]);
    instance.ok(&["container", "run", "--detach", "web", "--", "sleep", "1000"]);
    instance.ok(&["container", "create", "idle"]);
    instance.ok(&["container", "create", "gone"]);
    instance.ok(&["container", "run", "gone", "--", "true"]);
    instance.until("the container is dead", || {
        instance.json(&["container", "show", "3"])["container"]["state"] == "dead"
    });
    add(&instance, "user", "token", b"value");
    add(&instance, "logon", "app:token", b"value");
    instance
}

pub(crate) fn add(instance: &Instance, type_: &str, description: &str, payload: &[u8]) {
    let ran = fed(
        instance,
        &["add", type_, description, "--container", "web"],
        payload,
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
}

/// Runs a command with something on its standard input.
pub(crate) fn fed(instance: &Instance, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = instance
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap().into()
}

/// All that a refused command could have changed.
pub(crate) fn picture(instance: &Instance) -> Value {
    let web = instance.json(&["container", "show", "web"]);
    json!({
        "containers": instance.json(&["container", "list"]),
        "keys": web["keys"],
        "processes": web["processes"],
        "rules": instance.json(&["intercept", "list"]),
        "copies": instance.json(&["container", "keyring", "web"])["keys"],
        "upcalls": instance.json(&["upcalls"]),
        "agents": instance.json(&["agent", "list"]),
    })
}

/// What every refusal looks like, and what this one says.
#[track_caller]
pub(crate) fn assert_refused(what: &str, ran: &Ran, code: i32, says: &[&str]) {
    let text = &ran.err;
    assert_eq!(ran.code, code, "{what}: {text}{}", ran.out);
    assert!(ran.out.is_empty(), "{what}: {}", ran.out);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{what}: {text}");
    for line in lines {
        let named = ["  cause: ", "  hint: "];
        assert!(named.iter().any(|n| line.starts_with(n)), "{what}: {text}");
    }
    // Neither Rust's phrases nor control characters nor floods.
    for foreign in ["os error", "panicked", "Err(", "..=", "target type", "\x1b"] {
        assert!(!text.contains(foreign), "{what}: {text}");
    }
    assert!(text.len() < 700, "{what}: {text}");
    for fragment in says {
        assert!(text.contains(fragment), "{what}: no “{fragment}” in {text}");
    }
}

/// Runs a table, and shows that nothing of it had an effect.
#[track_caller]
pub(crate) fn refuse_all(instance: &Instance, cases: &[Case<'_>]) {
    let before = picture(instance);
    for (line, code, says) in cases {
        let arguments: Vec<&str> = line
            .split(' ')
            .map(|w| if w == "''" { "" } else { w })
            .collect();
        assert_refused(line, &instance.run(&arguments), *code, says);
    }
    let after = picture(instance);
    for part in before.as_object().unwrap().keys() {
        // Times since and until something go on.
        assert_eq!(timeless(&before[part]), timeless(&after[part]), "{part}");
    }
}

pub(crate) fn timeless(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !["expires_in", "age_ms"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), timeless(value)))
            .collect(),
        Value::Array(items) => items.iter().map(timeless).collect(),
        other => other.clone(),
    }
}

/// Sends a call as it is; returns the last part of the error's name, and its text.
#[track_caller]
pub(crate) fn sent(instance: &Instance, method: &str, parameters: &Value) -> (String, String) {
    let mut stream = UnixStream::connect(instance.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let call = json!({"method": format!("org.keyns.{method}"), "parameters": parameters});
    stream.write_all(format!("{call}\0").as_bytes()).unwrap();
    let mut frame = Vec::new();
    BufReader::new(stream).read_until(0, &mut frame).unwrap();
    assert_eq!(frame.pop(), Some(0), "{method} {parameters}: no reply");
    let reply: Value = serde_json::from_slice(&frame).unwrap();
    let error = reply["error"]
        .as_str()
        .unwrap_or_else(|| panic!("{method} {parameters}: {reply}"));
    (
        error.rsplit('.').next().unwrap().to_owned(),
        reply["parameters"].to_string(),
    )
}

//! Programs that others have written: `busctl`, `gdbus`, and a client and agent in Python.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use keyns_interfaces::bus::{CONTAINER, MANAGER, NAME, PATH};
use keyns_tests::bin_dir;

use crate::world::World;

/// Runs a program to its end, which must be a success; what it printed.
fn ok(command: &mut Command) -> String {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {said}{wrong}");
    said
}

fn busctl(world: &World, arguments: &[&str]) -> String {
    let mut command = Command::new("busctl");
    command.arg(format!("--address={}", world.bus.address()));
    ok(command.args(arguments))
}

fn gdbus(world: &World, arguments: &[&str]) -> String {
    let mut command = Command::new("gdbus");
    let (verb, rest) = arguments.split_first().unwrap();
    command.args([verb, "--address", &world.bus.address(), "--dest", NAME]);
    ok(command.args(rest))
}

#[test]
fn busctl_sees_and_does_all() {
    let world = World::start("busctl");
    let made = busctl(
        &world,
        &[
            "call",
            NAME,
            PATH,
            MANAGER,
            "CreateContainer",
            "sa{sv}",
            "web",
            "1",
            "namespaces",
            "as",
            "2",
            "user",
            "pid",
        ],
    );
    assert_eq!(made.trim(), "o \"/org/keyns/container/1\"");
    let path = "/org/keyns/container/1";
    let tree = busctl(&world, &["tree", "--list", NAME]);
    assert!(tree.contains(path), "{tree}");
    let shown = busctl(&world, &["introspect", NAME, path]);
    for member in [".Run ", ".Wait ", ".Exit ", ".Ended "] {
        assert!(shown.contains(member), "{shown}");
    }
    let name = busctl(
        &world,
        &["get-property", NAME, path, CONTAINER, "Name", "State"],
    );
    assert_eq!(name, "s \"web\"\ns \"created\"\n");
    let added = busctl(
        &world,
        &[
            "call",
            NAME,
            path,
            CONTAINER,
            "AddKey",
            "ssaya{sv}",
            "user",
            "db",
            "2",
            "104",
            "105",
            "0",
        ],
    );
    assert!(added.contains("\"description\" s \"db\""), "{added}");
    let json = busctl(
        &world,
        &[
            "--json=short",
            "call",
            NAME,
            PATH,
            MANAGER,
            "ListKeys",
            "s",
            "web",
        ],
    );
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["data"][0][0]["type"]["data"], "user");
    let mut refused = Command::new("busctl");
    refused.arg(format!("--address={}", world.bus.address()));
    let out = refused
        .args(["call", NAME, PATH, MANAGER, "GetContainer", "s", "none"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("there is no container “none”"), "{said}");
    world.instance.stop();
}

#[test]
fn gdbus_sees_and_does_all() {
    let world = World::start("gdbus");
    let options = "{'namespaces': <['user', 'pid']>}";
    let method = |name: &str| format!("{MANAGER}.{name}");
    let create = method("CreateContainer");
    let made = gdbus(
        &world,
        &[
            "call",
            "--object-path",
            PATH,
            "--method",
            &create,
            "web",
            options,
        ],
    );
    assert_eq!(made.trim(), "(objectpath '/org/keyns/container/1',)");
    let shown = gdbus(&world, &["introspect", "--recurse", "--object-path", PATH]);
    assert!(shown.contains("interface org.keyns.Container1"), "{shown}");
    assert!(shown.contains("readonly s State = 'created'"), "{shown}");
    let list = method("ListContainers");
    let listed = gdbus(
        &world,
        &["call", "--object-path", PATH, "--method", &list, "false"],
    );
    assert!(listed.contains("'name': <'web'>"), "{listed}");
    let managed = "org.freedesktop.DBus.ObjectManager.GetManagedObjects";
    let all = gdbus(
        &world,
        &["call", "--object-path", PATH, "--method", managed],
    );
    assert!(all.contains("'KillOnClose': <false>"), "{all}");
    world.instance.stop();
}

#[test]
fn an_agent_in_python_answers_a_request() {
    let world = World::start("python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dbus/agent.py");
    // That of the distribution, which its jeepney belongs to.
    let mut agent = Command::new("/usr/bin/python3")
        .arg(script)
        .arg(world.bus.address())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "registered");
    let probe = bin_dir().join("keyns-probe");
    let probe = probe.to_str().unwrap();
    let said = world.instance.ok(&[
        "container",
        "run",
        "python",
        "--program",
        probe,
        "--",
        "probe",
        "request",
        "user",
        "a-key",
        "callout",
    ]);
    assert!(said.contains("python says a-key"), "{said}");
    assert_eq!(lines.next().unwrap().unwrap(), "answered");
    assert!(agent.wait().unwrap().success());
    world.instance.stop();
}

//! Clients and servers that know the daemon's interfaces only from their descriptions: the package
//! varlink of Python, and `varlinkctl`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use keyns_tests::instance::Instance;
use keyns_tests::{bin_dir, lab};

/// A Python with the package varlink.
fn python() -> String {
    let found = Command::new("tools/lab/python.sh")
        .current_dir(lab::repository())
        .output()
        .unwrap();
    said(&found).trim_end().to_owned()
}

#[track_caller]
fn said(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn file(name: &str) -> PathBuf {
    let directory = "tests/tests/varlink_clients";
    lab::repository().join(directory).join(name)
}

#[test]
fn python_calls_every_interface_from_its_description() {
    let instance = Instance::start("python");
    let run = Command::new(python())
        .arg(file("client.py"))
        .arg(instance.socket())
        .output()
        .unwrap();
    let text = said(&run);
    let methods = lab::repository().join("interfaces");
    let methods: usize = std::fs::read_dir(methods)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("org.keyns."))
        .filter(|path| path.extension().is_some_and(|e| e == "varlink"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .map(|text| text.lines().filter(|l| l.starts_with("method ")).count())
        .sum();
    let expected = format!(
        "methods {methods}\n\
         instance {}\n\
         event subscribed\n\
         created python\n\
         event container-created\n\
         error org.keyns.Containers.AlreadyExists | cannot create container “python”\n\
         invalid client.call.container\n\
         listed python\n",
        instance.name
    );
    assert_eq!(text, expected);
    instance.stop();
}

#[test]
fn pythons_command_line_shows_and_calls_the_daemon() {
    let python = python();
    let instance = Instance::start("pythoncli");
    let at = format!("unix:{}", instance.socket().display());
    let run = |command: &str, argument: &str| {
        let mut all = Command::new(&python);
        all.args(["-m", "varlink.cli", command, argument]);
        said(&all.output().unwrap())
    };
    assert!(run("info", &at).contains("\n   org.keyns.Upcalls\n"));
    for name in ["Manager", "Containers", "Keys", "Upcalls", "Agents"] {
        let text = run("help", &format!("{at}/org.keyns.{name}"));
        assert!(
            text.contains(&format!("interface org.keyns.{name}\n")),
            "{text}"
        );
    }
    let status = run("call", &format!("{at}/org.keyns.Manager.GetStatus"));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["instance"], instance.name.as_str());
    instance.stop();
}

#[test]
fn keyctl_ns_is_served_by_python() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let mut server = Command::new(python())
        .arg(file("server.py"))
        .arg(&socket)
        .arg(lab::repository().join("interfaces"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "listening\n");
    let run = Command::new(bin_dir().join("keyctl-ns"))
        .arg("--socket")
        .arg(&socket)
        .args(["features", "--json"])
        .output();
    server.kill().unwrap();
    server.wait().unwrap();
    let shown: serde_json::Value = serde_json::from_str(&said(&run.unwrap())).unwrap();
    let row = &shown["features"][0];
    assert_eq!(row["name"], "from-python");
    assert_eq!(row["detail"], "Said by “Python”.");
}

#[test]
fn varlinkctl_shows_and_calls_the_daemon() {
    let varlinkctl = |arguments: &[&str]| Command::new("varlinkctl").args(arguments).output();
    if varlinkctl(&["--version"]).is_err() {
        eprintln!("there is no varlinkctl, which systemd has from version 255 on: not tried");
        return;
    }
    let instance = Instance::start("varlinkctl");
    let at = instance.socket();
    let at = at.to_str().unwrap();
    let listed = said(&varlinkctl(&["list-interfaces", at]).unwrap());
    assert!(listed.contains("org.keyns.Upcalls\n"), "{listed}");
    for name in ["Manager", "Containers", "Keys", "Upcalls", "Agents"] {
        let name = format!("org.keyns.{name}");
        let text = said(&varlinkctl(&["introspect", at, &name]).unwrap());
        assert!(text.contains(&format!("interface {name}")), "{text}");
    }
    let status = said(&varlinkctl(&["call", at, "org.keyns.Manager.GetStatus", "{}"]).unwrap());
    assert!(status.contains(&instance.name), "{status}");
    instance.stop();
}

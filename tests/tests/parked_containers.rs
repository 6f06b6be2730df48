//! Containers of the kernel that a service manager keeps a second copy of. On a stock kernel there is
//! nothing to keep: `features` says so, and these tests look at that first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use keyns::engine::EngineChoice;
use keyns_tests::instance::PATIENCE;
use keyns_tests::manager::Managed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A service with a store of descriptors, or `None` where the kernel has no containers.
fn service(name: &str, places: Option<&str>) -> Option<Managed> {
    let mut service = Managed::new(name);
    if let Some(places) = places {
        service.set("FDSTORE", places);
    }
    service.start(&[]);
    service.ready();
    let rows = ok(&service, &["features", "--json"]);
    let rows: Value = serde_json::from_str(&rows).unwrap();
    let rows = rows["features"].as_array().unwrap();
    let row = rows.iter().find(|row| row["name"] == "grant-inval-apart");
    if row.unwrap()["enforcer"] == "unavailable" {
        assert_ne!(keyns_tests::engine(), EngineChoice::Patched);
        service.signal(Signal::SIGTERM);
        service.wait();
        return None;
    }
    Some(service)
}

#[track_caller]
fn ok(service: &Managed, words: &[&str]) -> String {
    let ran = service.run(words);
    assert_eq!(ran.code, 0, "{words:?}: {}\n{}", ran.err, service.log());
    ran.out
}

/// “web” runs, “idle” has not run anything yet.
fn two_containers(service: &Managed) {
    for name in ["web", "idle"] {
        ok(service, &["container", "create", name, "--root", "usr"]);
    }
    ok(
        service,
        &["container", "run", "--detach", "web", "--", "sleep", "1000"],
    );
}

/// The names of the containers in the store.
fn kept(service: &Managed) -> Vec<String> {
    let names = service.store.iter().map(|(name, _)| name.clone());
    let mut names: Vec<_> = names
        .filter(|name| name.starts_with("container-"))
        .collect();
    names.sort();
    names
}

/// What the list says of a container, or nothing where it is not among those that live.
fn state(service: &Managed, name: &str) -> String {
    let listed: Value =
        serde_json::from_str(&ok(service, &["container", "list", "--json"])).unwrap();
    let all = listed["containers"].as_array().unwrap();
    let found = all.iter().find(|one| one["name"] == name);
    found.map_or_else(String::new, |one| one["state"].as_str().unwrap().to_owned())
}

/// Kills the monitors of the instance, whose command line names its cgroup.
fn kill_monitors(service: &Managed, expected: usize) {
    let group = format!("keyns-{}", service.name);
    let mut killed = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let pid = path.file_name().unwrap().to_str().unwrap().parse();
        if let Ok(pid) = pid
            && words.contains("monitor")
            && words
                .split('\0')
                .any(|word| Path::new(word).iter().any(|part| part == group.as_str()))
        {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
            killed.push(path);
        }
    }
    assert_eq!(killed.len(), expected, "{killed:?}");
    let deadline = Instant::now() + PATIENCE;
    while killed
        .iter()
        .any(|path| fs::read(path.join("cmdline")).is_ok_and(|words| !words.is_empty()))
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn containers_outlive_daemon_and_monitors_with_the_service_manager() {
    let Some(mut service) = service("parked", Some("8")) else {
        return;
    };
    two_containers(&service);
    ok(
        &service,
        &["container", "create", "web.db", "--root", "usr"],
    );
    for _ in 0..3 {
        service.until("FDNAME=container-");
    }
    assert_eq!(
        kept(&service),
        ["container-1", "container-2", "container-3"]
    );
    service.crash();
    kill_monitors(&service, 3);

    service.start(&[]);
    let said = service.ready();
    // All of it is there, and none is given twice.
    assert!(
        !said.iter().any(|text| text.contains("FDSTORE")),
        "{said:?}"
    );
    assert_eq!(state(&service, "web"), "running");
    assert_eq!(state(&service, "idle"), "created");
    assert_eq!(state(&service, "web.db"), "created");
    // Each gets another monitor with the next process, whose end is reported.
    let exec = ["container", "exec", "web", "--", "sh", "-c", "exit 7"];
    assert_eq!(service.run(&exec).code, 7, "{}", service.log());
    let run = [
        "container",
        "run",
        "--detach",
        "idle",
        "--",
        "sleep",
        "1000",
    ];
    ok(&service, &run);
    assert_eq!(state(&service, "idle"), "running");

    // What has ended is kept no longer.
    ok(&service, &["container", "kill", "web"]);
    // With what is nested in it.
    service.until("FDSTOREREMOVE=1\nFDNAME=container-3\n");
    service.until("FDSTOREREMOVE=1\nFDNAME=container-1\n");
    assert_eq!(kept(&service), ["container-2"]);
    ok(&service, &["container", "kill", "idle"]);
    service.until("FDNAME=container-2\n");
    assert_eq!(kept(&service), Vec::<String>::new());
}

#[test]
fn without_a_store_nothing_is_started_any_more_in_what_lost_its_monitor() {
    let Some(mut service) = service("unparked", None) else {
        return;
    };
    two_containers(&service);
    service.crash();
    kill_monitors(&service, 2);
    service.start(&[]);
    service.ready();
    // What runs goes on, and nothing can be added.
    assert_eq!(state(&service, "web"), "running");
    let exec = ["container", "exec", "web", "--", "true"];
    let refused = service.run(&exec);
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("monitor"), "{}", refused.err);
    // What nothing ran in is made anew.
    assert_eq!(state(&service, "idle"), "created");
    let run = ["container", "run", "idle", "--", "sh", "-c", "exit 8"];
    assert_eq!(service.run(&run).code, 8, "{}", service.log());
    ok(&service, &["container", "kill", "web"]);
}

#[test]
fn a_daemon_that_lives_gives_a_container_another_monitor() {
    let Some(service) = service("monitors", None) else {
        return;
    };
    two_containers(&service);
    kill_monitors(&service, 2);
    let exec = ["container", "exec", "web", "--", "sh", "-c", "exit 7"];
    assert_eq!(service.run(&exec).code, 7, "{}", service.log());
    let run = ["container", "run", "idle", "--", "sh", "-c", "exit 8"];
    assert_eq!(service.run(&run).code, 8, "{}", service.log());
    // That one knows nothing of the first process, whose end ends the container all the same.
    let shown = ok(&service, &["container", "show", "web", "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let first = shown["container"]["init_pid"].as_i64().unwrap();
    kill(Pid::from_raw(first.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !state(&service, "web").is_empty() {
        assert!(Instant::now() < deadline, "{}", service.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_descriptor_that_is_not_the_container_it_should_be_is_closed_and_said() {
    let Some(mut service) = service("unfit-container", Some("8")) else {
        return;
    };
    two_containers(&service);
    for _ in 0..2 {
        service.until("FDNAME=container-");
    }
    service.crash();
    // Each under the name of the other, a file, and one that nobody has made.
    for (name, _) in &mut service.store {
        *name = match name.as_str() {
            "container-1" => "container-2".to_owned(),
            "container-2" => "container-1".to_owned(),
            other => other.to_owned(),
        };
    }
    let (_, other) = &service.store[0];
    let more = [
        ("container-9".to_owned(), other.try_clone().unwrap()),
        (
            "container-02".to_owned(),
            File::open("/dev/null").unwrap().into(),
        ),
    ];
    service.start(&more);
    let said = service.ready();
    let forgotten: Vec<_> = said
        .iter()
        .filter_map(|text| text.strip_prefix("FDSTOREREMOVE=1\nFDNAME="))
        .collect();
    assert_eq!(
        forgotten,
        [
            "container-02\n",
            "container-1\n",
            "container-2\n",
            "container-9\n"
        ],
        "{}",
        service.log()
    );
    for why in [
        "is another",
        "there is no such container any more",
        "no such name",
    ] {
        assert!(service.log().contains(why), "{why}: {}", service.log());
    }
    // Their monitors have them, so that they are given to the manager again.
    assert_eq!(kept(&service), ["container-1", "container-2"]);
    assert_eq!(state(&service, "web"), "running");

    // A file in the place of a container that its monitor has.
    service.crash();
    for (name, descriptor) in &mut service.store {
        if name == "container-2" {
            *descriptor = File::open("/dev/null").unwrap().into();
        }
    }
    service.start(&[]);
    service.ready();
    assert!(
        service.log().contains("it is no container"),
        "{}",
        service.log()
    );
    let exec = ["container", "exec", "web", "--", "true"];
    assert_eq!(service.run(&exec).code, 0, "{}", service.log());
    ok(&service, &["container", "kill", "web"]);
    ok(&service, &["container", "kill", "idle"]);
}

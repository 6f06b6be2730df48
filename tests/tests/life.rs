//! Containers through daemon and command line: processes, exit statuses, terminals, leases, and a
//! daemon that is killed at any instant.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyns::engine::pin;
use keyns_tests::instance::Instance;
use keyns_tests::{bin_dir, service_uid, unique};

fn state(instance: &Instance, name: &str) -> String {
    let listing = instance.json(&["container", "list"]);
    listing["containers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"] == name)
        .map_or("none".into(), |c| c["state"].as_str().unwrap().to_owned())
}

/// Number of containers' cgroups.
fn groups(instance: &Instance) -> usize {
    let entries = fs::read_dir(instance.cgroup()).unwrap().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<u64>().is_ok())
        })
        .count()
}

fn serial(instance: &Instance, name: &str) -> i64 {
    instance.json(&["container", "keyring", name])["keyring"]["serial"]
        .as_i64()
        .unwrap()
}

/// Starts a first process that lives until it is killed.
fn start(instance: &Instance, name: &str) {
    instance.ok(&["container", "create", name]);
    instance.ok(&["container", "run", "--detach", name, "--", "sleep", "1000"]);
}

#[test]
fn the_exit_code_of_a_process_is_that_of_run_and_exec() {
    let instance = Instance::start("exit");
    instance.ok(&["container", "create", "one"]);
    let ran = instance.run(&[
        "container",
        "run",
        "one",
        "--",
        "sh",
        "-c",
        "echo out; exit 41",
    ]);
    assert_eq!((ran.out.as_str(), ran.code), ("out\n", 41), "{}", ran.err);
    start(&instance, "two");
    let ran = instance.run(&[
        "container",
        "exec",
        "two",
        "--",
        "sh",
        "-c",
        "echo err >&2; exit 3",
    ]);
    assert_eq!((ran.err.as_str(), ran.code), ("err\n", 3), "{}", ran.out);
    let ran = instance.run(&["container", "exec", "two", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(ran.code, 137, "{}", ran.err);
    instance.ok(&["container", "kill", "two"]);
    instance.stop();
}

#[test]
fn a_container_runs_one_first_process_and_is_dead_after_it() {
    let instance = Instance::start("first");
    start(&instance, "web");
    let again = instance.run(&["container", "run", "web", "--", "true"]);
    assert_eq!(again.code, 1, "{}", again.err);
    assert!(
        again.err.contains("runs already") && again.err.contains("exec"),
        "{}",
        again.err
    );
    instance.ok(&["container", "kill", "web", "--signal", "KILL"]);
    instance.until("the container is dead", || {
        state(&instance, "web") == "none"
    });
    let late = instance.run(&["container", "exec", "web", "--", "true"]);
    assert_eq!(late.code, 4, "{}", late.err);
    // Its name is free again, for a container that has nothing of the old one.
    instance.ok(&["container", "create", "web"]);
    instance.stop();
}

#[test]
fn a_program_that_does_not_exist_leaves_the_container_as_it_was() {
    let instance = Instance::start("typo");
    instance.ok(&["container", "create", "web"]);
    let typo = instance.run(&["container", "run", "web", "--", "/usr/bin/slep"]);
    assert_eq!(typo.code, 1);
    assert!(
        typo.err.contains("slep") && typo.err.contains("--program"),
        "{}",
        typo.err
    );
    assert_eq!(state(&instance, "web"), "created");
    assert_eq!(
        instance
            .run(&["container", "run", "web", "--", "true"])
            .code,
        0
    );
    instance.stop();
}

#[test]
fn waiting_returns_how_the_first_process_ended() {
    let instance = Instance::start("wait");
    start(&instance, "web");
    let waiting = instance
        .command(&["container", "wait", "web"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    instance.ok(&["container", "kill", "web", "--signal", "KILL"]);
    let output = waiting.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("KILL") || text.contains('9'), "{text}");
    instance.stop();
}

#[test]
fn killing_a_container_ends_everything_in_it_and_in_those_nested_in_it() {
    let instance = Instance::start("tree");
    start(&instance, "outer");
    instance.ok(&["container", "create", "outer.inner"]);
    let sleep = ["outer.inner", "--", "sleep", "1000"];
    instance.ok(&[&["container", "run", "--detach"], &sleep[..]].concat());
    for _ in 0..3 {
        instance.ok(&[
            "container",
            "exec",
            "--detach",
            "outer",
            "--",
            "sleep",
            "1000",
        ]);
    }
    instance.ok(&["container", "kill", "outer"]);
    assert_eq!(state(&instance, "outer"), "none");
    assert_eq!(state(&instance, "outer.inner"), "none");
    assert_eq!(groups(&instance), 0);
    instance.stop();
}

#[test]
fn what_is_nested_in_a_container_without_a_process_does_not_start_yet() {
    let instance = Instance::start("early");
    instance.ok(&["container", "create", "outer"]);
    // A kernel that has containers makes one in another only from a process in there.
    let early = instance.run(&["container", "create", "outer.inner"]);
    let by_kernel = instance.enforcer("container-nesting") == "kernel";
    let refused = if by_kernel {
        early
    } else {
        assert_eq!(early.code, 0, "{}", early.err);
        instance.run(&["container", "run", "outer.inner", "--", "true"])
    };
    assert!(
        refused.err.contains("container “outer” has no process yet"),
        "{}",
        refused.err
    );
    assert!(
        refused.err.contains("keyctl-ns container run outer -- "),
        "{}",
        refused.err
    );
    let sleep = ["outer", "--", "sleep", "1000"];
    instance.ok(&[&["container", "run", "--detach"], &sleep[..]].concat());
    if by_kernel {
        instance.ok(&["container", "create", "outer.inner"]);
    }
    let said = instance.ok(&["container", "run", "outer.inner", "--", "echo", "inside"]);
    assert!(said.contains("inside"), "{said}");
    instance.ok(&["container", "kill", "outer"]);
    instance.stop();
}

#[test]
fn a_container_has_a_terminal_of_its_own() {
    let instance = Instance::start("tty");
    start(&instance, "web");
    // A terminal around the command line makes it ask for one inside.
    let pty = nix::pty::openpty(
        Some(&nix::pty::Winsize {
            ws_row: 33,
            ws_col: 97,
            ws_xpixel: 0,
            ws_ypixel: 0,
        }),
        None,
    )
    .unwrap();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut child = instance
        .command(&["container", "exec", "web", "--", "sh"])
        .stdin(terminal())
        .stdout(terminal())
        .stderr(terminal())
        .spawn()
        .unwrap();
    drop(pty.slave);
    let mut master = fs::File::from(pty.master);
    master
        .write_all(b"tty; stty size; echo done-$((40+2)); exit 5\n")
        .unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    // The end of the last holder of the terminal is EIO here.
    while let Ok(count) = master.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if count == 0 {
            break;
        }
    }
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(5), "{text}");
    assert!(text.contains("/dev/pts/0"), "{text}");
    assert!(text.contains("33 97"), "{text}");
    assert!(text.contains("done-42"), "{text}");
    instance.stop();
}

#[test]
fn a_container_dies_with_its_lease_and_survives_the_daemon_with_it() {
    let mut instance = Instance::start("lease");
    let hold = |instance: &Instance, name: &str| {
        let child = instance
            .command(&["container", "create", "--kill-on-close", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        instance.until("the container is created", || {
            state(instance, name) == "created"
        });
        child
    };
    let mut first = hold(&instance, "first");
    let mut second = hold(&instance, "second");
    instance.ok(&[
        "container",
        "run",
        "--detach",
        "first",
        "--",
        "sleep",
        "1000",
    ]);
    instance.kill_daemon();
    // One lease ends while there is no daemon.
    second.kill().unwrap();
    second.wait().unwrap();
    instance.start_daemon();
    instance.until("the one without a holder dies", || {
        state(&instance, "second") == "none"
    });
    assert_eq!(state(&instance, "first"), "running");
    drop(first.stdin.take());
    first.wait().unwrap();
    instance.until("the other one dies with its holder", || {
        state(&instance, "first") == "none"
    });
    instance.stop();
}

#[test]
fn a_killed_daemon_finds_its_containers_keys_and_grants_again() {
    let mut instance = Instance::start("restart");
    start(&instance, "web");
    instance.ok(&["container", "create", "idle"]);
    let add = |instance: &Instance, description: &str| {
        let mut child = instance
            .command(&["add", "user", description, "--container", "web"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"before").unwrap();
        assert!(child.wait().unwrap().success());
    };
    add(&instance, "kept");
    let grant = ["container:web", "search,read", "--accept-implied", "inval"];
    instance.ok(&[&["grant", "web/user:kept"], &grant[..]].concat());
    let before = (serial(&instance, "web"), serial(&instance, "idle"));
    instance.kill_daemon();
    instance.start_daemon();
    assert_eq!(
        (serial(&instance, "web"), serial(&instance, "idle")),
        before
    );
    assert_eq!(
        (state(&instance, "web"), state(&instance, "idle")),
        ("running".into(), "created".into())
    );
    let exec = instance.run(&["container", "exec", "web", "--", "sh", "-c", "exit 9"]);
    assert_eq!(exec.code, 9, "{}", exec.err);
    assert!(
        instance
            .ok(&["acl", "web/user:kept"])
            .contains("container:web")
    );
    add(&instance, "new");
    instance.ok(&[&["grant", "web/user:new"], &grant[..]].concat());
    instance.ok(&["ungrant", "web/user:kept", "container:web"]);
    instance.ok(&[
        "container",
        "run",
        "--detach",
        "idle",
        "--",
        "sleep",
        "1000",
    ]);
    instance.ok(&["container", "kill", "web"]);
    instance.ok(&["container", "kill", "idle"]);
    instance.stop();
}

#[test]
fn a_daemon_killed_at_any_instant_leaves_no_container_half_done() {
    let mut instance = Instance::start("crash");
    // Pauses that step through the whole life of a container, on machines fast and slow.
    for round in 0..24u64 {
        let name = format!("round{round}");
        let busy = std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let began = Instant::now();
                instance.run(&["container", "create", &name]);
                instance.run(&["container", "run", "--detach", &name, "--", "sleep", "1000"]);
                instance.run(&[
                    "container",
                    "exec",
                    "--detach",
                    &name,
                    "--",
                    "sleep",
                    "1000",
                ]);
                instance.run(&["container", "kill", &name]);
                began.elapsed()
            });
            std::thread::sleep(Duration::from_millis(3 + round * 7));
            let pid = daemon_pid(&instance);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
            worker.join().unwrap()
        });
        instance.kill_daemon();
        instance.start_daemon();
        // Whatever state it was caught in, it is a container with a state or it is gone.
        match state(&instance, &name).as_str() {
            // One that was being ended is ended in the background.
            "none" | "dying" => {}
            "created" => {
                let ran = instance.run(&["container", "run", &name, "--", "true"]);
                assert_eq!(
                    ran.code,
                    0,
                    "round {round} ({busy:?}): {}\n{}",
                    ran.err,
                    instance.log()
                );
            }
            "running" => {
                let ran = instance.run(&["container", "exec", &name, "--", "true"]);
                assert_eq!(
                    ran.code,
                    0,
                    "round {round} ({busy:?}): {}\n{}",
                    ran.err,
                    instance.log()
                );
                instance.ok(&["container", "kill", &name]);
            }
            other => panic!("round {round}: {other}"),
        }
        instance.until("nothing is left of it", || {
            state(&instance, &name) == "none"
        });
    }
    let pins = pin::of_containers(&instance.runtime().join("ns")).unwrap();
    assert_eq!(
        (pins.len(), groups(&instance)),
        (0, 0),
        "{}",
        instance.log()
    );
    instance.stop();
}

fn daemon_pid(instance: &Instance) -> nix::unistd::Pid {
    let wanted = format!("--instance\0{}\0", instance.name);
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains("keynsd\0") && line.contains(&wanted) {
            return nix::unistd::Pid::from_raw(pid);
        }
    }
    panic!("the daemon of {} does not run", instance.name);
}

#[test]
fn root_inside_cannot_look_into_a_process_that_is_being_started() {
    let instance = Instance::start("spy");
    instance.ok(&["container", "create", "web"]);
    // Reads what it can of every process it sees, as fast as a shell can.
    let spy = "while :; do for p in /proc/[0-9]*; do \
               echo \"exe $(readlink $p/exe 2>/dev/null)\"; \
               for f in $p/fd/*; do echo \"fd $(readlink $f 2>/dev/null)\"; done; \
               done; done > /tmp/seen 2>/dev/null";
    instance.ok(&[
        "container",
        "run",
        "--detach",
        "web",
        "--",
        "bash",
        "-c",
        spy,
    ]);
    for _ in 0..60 {
        instance.ok(&["container", "exec", "web", "--", "true"]);
    }
    // What makes a container in there is a process of it for a moment.
    for _ in 0..20 {
        instance.ok(&["container", "create", "web.inner"]);
        instance.ok(&["container", "kill", "web.inner"]);
    }
    let seen = instance.ok(&["container", "exec", "web", "--", "cat", "/tmp/seen"]);
    // The control: it does see processes, its own ones for instance.
    assert!(seen.contains("exe /usr/bin/bash"), "{}", seen.len());
    assert!(!seen.contains("memfd:"), "it saw a helper's executable");
    // Its own processes have no sockets, and nothing of the kernel's without a file.
    let foreign = ["/run/keyns", "socket:", "anon_inode:"];
    let seen_of_others = seen
        .lines()
        .filter(|line| line.starts_with("fd "))
        .find(|line| foreign.iter().any(|what| line.contains(what)));
    assert_eq!(seen_of_others, None);
    instance.stop();
}

#[test]
fn whoever_stops_all_in_a_container_stops_nothing_outside() {
    let instance = Instance::start("stopper");
    start(&instance, "outer");
    let stop = "while :; do kill -STOP -1; done";
    let exec = [
        "container",
        "exec",
        "--detach",
        "outer",
        "--",
        "sh",
        "-c",
        stop,
    ];
    instance.ok(&exec);
    for _ in 0..3 {
        let begun = Instant::now();
        let made = instance.run(&["container", "create", "outer.inner"]);
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        if made.code == 0 {
            let begun = Instant::now();
            let run = ["container", "run", "--detach", "outer.inner", "--", "true"];
            let _ = instance.run(&run);
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{:?}",
                begun.elapsed()
            );
            let _ = instance.run(&["container", "kill", "outer.inner"]);
        } else {
            assert!(made.err.contains("outer.inner"), "{}", made.err);
        }
        // Others do not notice.
        let begun = Instant::now();
        instance.ok(&["container", "create", "other"]);
        instance.ok(&["container", "kill", "other"]);
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
    }
    instance.ok(&["container", "kill", "outer"]);
    assert_eq!(groups(&instance), 0);
    instance.stop();
}

#[test]
fn a_first_process_that_cannot_be_prepared_leaves_the_container_as_it_was() {
    let instance = Instance::start("unready");
    instance.ok(&["container", "create", "--root", "empty", "web"]);
    let probe = keyns_tests::bin_dir().join("keyns-probe");
    let program = [
        "container",
        "run",
        "web",
        "--program",
        probe.to_str().unwrap(),
        "--",
        "keyns-probe",
        "ring",
    ];
    // A terminal, which an empty root has none for.
    let pty = nix::pty::openpty(None, None).unwrap();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let mut command = instance.command(&program);
    let refused = command
        .stdin(terminal())
        .stdout(terminal())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("devpts"),
        "{said}"
    );
    assert_eq!(state(&instance, "web"), "created");
    let ring = instance.ok(&program);
    assert!(ring.contains("KEYCTL_READ"), "{ring}");
    instance.stop();
}

#[test]
fn a_second_daemon_of_an_instance_is_refused() {
    let instance = Instance::start("twice");
    let second = std::process::Command::new(keyns_tests::bin_dir().join("keynsd"))
        .args(["--instance", &instance.name])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{text}");
    assert!(text.contains("has a daemon already"), "{text}");
    instance.ok(&["container", "list"]);
    instance.stop();
}

#[test]
fn an_instance_can_be_made_right_after_the_last_one_was_removed() {
    let (name, uid) = (unique("again"), service_uid().to_string());
    // The kernel finds the keyrings of the one before for some milliseconds.
    for turn in 0..30 {
        let mut daemon = Command::new(bin_dir().join("keynsd"))
            .args(["--instance", &name, "--transient", "--service-uid", &uid])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = std::io::BufReader::new(daemon.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("ready") {
            let read = std::io::BufRead::read_line(&mut log, &mut said).unwrap();
            assert!(read > 0, "turn {turn}: {said}");
        }
        let pid = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(daemon.wait().unwrap().success(), "turn {turn}");
    }
}

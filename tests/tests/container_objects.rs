//! What a kernel with container objects enforces and a stock kernel does not. On a stock kernel there
//! is nothing to see: `features` says so, and these tests look at that first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use keyns::engine::EngineChoice;
use keyns_tests::bin_dir;
use keyns_tests::instance::{Instance, PATIENCE, Ran};

fn container(instance: &Instance, name: &str) {
    instance.ok(&["container", "create", name, "--root", "usr"]);
    let run = ["container", "run", "--detach", name, "--", "sleep", "1000"];
    instance.ok(&run);
}

/// Runs `keyctl` inside, in a process and a session keyring of its own.
fn keyctl(instance: &Instance, container: &str, words: &[&str]) -> Ran {
    let program = bin_dir().join("keyctl");
    let program = program.to_str().unwrap();
    let exec = [
        "container",
        "exec",
        container,
        "--program",
        program,
        "--",
        "keyctl",
    ];
    instance.run(&[&exec[..], words].concat())
}

#[test]
fn a_container_has_what_it_was_granted_and_its_neighbour_has_nothing() {
    let instance = Instance::start("exact");
    if instance.has("grant-inval-apart") {
        for name in ["web", "db"] {
            container(&instance, name);
        }
        let mut add = instance
            .command(&["add", "user", "k", "--container", "web"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        add.stdin.take().unwrap().write_all(b"secret").unwrap();
        assert!(add.wait().unwrap().success());
        let grant = ["web/user:k", "container:web", "search,view"];
        instance.ok(&[&["grant"], &grant[..], &["--accept-implied", "read"]].concat());

        let found = keyctl(&instance, "web", &["request", "user", "k"]);
        assert_eq!(found.code, 0, "{}", found.err);
        let serial = found.out.trim();
        let printed = keyctl(&instance, "web", &["print", serial]);
        assert_eq!(printed.out.trim(), "secret", "{}", printed.err);
        for forbidden in [
            &["invalidate", serial][..],
            &["revoke", serial],
            &["update", serial, "other"],
            &["setperm", serial, "0x3f3f3f3f"],
            &["link", serial, "@s"],
        ] {
            let ran = keyctl(&instance, "web", forbidden);
            assert!(
                ran.err.contains("Permission denied"),
                "{forbidden:?} {}",
                ran.err
            );
        }
        // Its neighbour knows the number and can do nothing with it.
        for useless in [&["describe", serial][..], &["print", serial]] {
            let ran = keyctl(&instance, "db", useless);
            assert!(
                ran.err.contains("Permission denied"),
                "{useless:?} {}",
                ran.err
            );
        }
        let absent = keyctl(&instance, "db", &["request", "user", "k"]);
        assert!(
            absent.err.contains("Required key not available"),
            "{}",
            absent.err
        );
        let still = keyctl(&instance, "web", &["print", serial]);
        assert_eq!(still.out.trim(), "secret", "{}", still.err);
    }
    instance.stop();
}

#[test]
fn the_container_keyring_cannot_be_destroyed_from_inside() {
    let instance = Instance::start("ring");
    if instance.has("grant-inval-apart") {
        container(&instance, "web");
        let shown = keyctl(&instance, "web", &["rlist", "@s"]);
        let keyring = shown.out.trim().to_owned();
        assert_eq!(shown.code, 0, "{}", shown.err);
        for forbidden in [
            &["invalidate", &keyring][..],
            &["clear", &keyring],
            &["add", "user", "x", "y", &keyring],
            &["setperm", &keyring, "0x3f3f3f3f"],
        ] {
            let ran = keyctl(&instance, "web", forbidden);
            assert!(
                ran.err.contains("Permission denied"),
                "{forbidden:?} {}",
                ran.err
            );
        }
    }
    instance.stop();
}

#[test]
fn the_kernel_knows_the_container_by_its_name_as_long_as_it_lives() {
    let instance = Instance::start("named");
    let listed = || fs::read_to_string("/proc/containers").unwrap();
    // Nobody else's container has such a name.
    let name = format!("n{}", std::process::id());
    // A dead one is listed until nobody refers to it any more; 2 is DEAD in the column of flags.
    let line = |text: &str| {
        text.lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>())
            .filter(|columns| columns[0] == name)
            .any(|columns| u32::from_str_radix(columns[3], 16).unwrap() & 2 == 0)
    };
    if instance.has("container-membership-without-namespaces")
        && fs::exists("/proc/containers").unwrap()
    {
        container(&instance, &name);
        assert!(line(&listed()), "{}", listed());
        let status = instance.ok(&["container", "exec", &name, "--", "cat", "/proc/self/status"]);
        assert!(status.contains("Container:\t"), "{status}");
        instance.ok(&["container", "kill", &name]);
        assert!(!line(&listed()), "{}", listed());
        // The name is free again.
        container(&instance, &name);
    }
    instance.stop();
}

#[test]
fn a_request_is_answered_out_of_the_kernels_queue_and_no_program_is_started() {
    let instance = Instance::start("queue");
    if instance.has("upcall-killable") {
        container(&instance, "web");
        instance.ok(&["intercept", "web", "user", "--to", "desk"]);
        let keyctl = bin_dir().join("keyctl");
        let words = ["keyctl", "request2", "user", "wanted", "please", "@s"];
        let exec = [
            "container",
            "exec",
            "web",
            "--program",
            keyctl.to_str().unwrap(),
            "--",
        ];
        let asker = instance
            .command(&[&exec[..], &words].concat())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !instance.ok(&["upcalls"]).contains("wanted") {
            assert!(Instant::now() < deadline, "{}", instance.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let programs = fs::read_dir("/proc").unwrap().filter(|process| {
            let comm = process.as_ref().unwrap().path().join("comm");
            fs::read_to_string(comm).is_ok_and(|name| name.starts_with("keyns-upcall"))
        });
        assert_eq!(programs.count(), 0, "the kernel has started a program");
        let mut answer = instance
            .command(&["answer", "1", "--payload-stdin"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        answer.stdin.take().unwrap().write_all(b"here").unwrap();
        assert!(answer.wait().unwrap().success());
        let asked = asker.wait_with_output().unwrap();
        assert!(asked.status.success());
    }
    instance.stop();
}

#[test]
fn a_daemon_started_anew_keeps_to_the_engine_of_the_containers_that_live() {
    let mut instance = Instance::start("engines");
    // An idle daemon has nothing of the former engine's.
    instance.kill_daemon();
    instance.start_daemon_by(EngineChoice::Mainline);
    container(&instance, "web");
    instance.kill_daemon();
    let refused = instance.refused_daemon(EngineChoice::Patched);
    assert!(
        refused.contains(
            "container “web” lives and is one of the engine “mainline”: with --engine auto"
        ),
        "{refused}"
    );
    instance.start_daemon_by(EngineChoice::Auto);
    let listed = instance.ok(&["container", "list"]);
    assert!(listed.contains("running"), "{listed}");
    assert!(!instance.has("grant-inval-apart"));
    instance.ok(&["container", "kill", "web"]);
    // Where the kernel has containers, they are used from here on.
    instance.kill_daemon();
    instance.start_daemon_by(EngineChoice::Auto);
    assert_eq!(
        instance.has("grant-inval-apart"),
        instance.has("kernel-containers") && instance.has("kernel-key-acls")
    );
    container(&instance, "web");
    if instance.has("grant-inval-apart") {
        instance.kill_daemon();
        let refused = instance.refused_daemon(EngineChoice::Mainline);
        assert!(refused.contains("one of the engine “patched”"), "{refused}");
        instance.start_daemon();
    }
    instance.stop();
}

//! The daemon as a service, whose manager is played by the test: what it is told, and what it hands over.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use keyns_tests::manager::{Managed, packets};
use nix::sys::signal::Signal;

/// Asks for the daemon's status without waiting for the answer.
fn ask(socket: &Path) -> UnixStream {
    let mut client = UnixStream::connect(socket).unwrap();
    client
        .write_all(b"{\"method\":\"org.keyns.Manager.GetStatus\"}\0")
        .unwrap();
    client
}

/// The process that answers.
fn answered(client: UnixStream) -> u64 {
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut reply = Vec::new();
    BufReader::new(client).read_until(0, &mut reply).unwrap();
    reply.pop();
    let reply: serde_json::Value = serde_json::from_slice(&reply).unwrap();
    reply["parameters"]["pid"].as_u64().unwrap()
}

#[test]
fn ready_is_said_when_the_first_call_is_answered_and_the_end_before_it_comes() {
    let mut service = Managed::new("told");
    service.start(&[]);
    let said = service.ready();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("\nSTATUS=engine "), "{said:?}");
    assert_eq!(service.run(&["container", "list"]).code, 0);
    service.signal(Signal::SIGTERM);
    assert!(service.message().starts_with("STOPPING=1\n"));
    assert_eq!(service.wait(), Some(0));
    // As without a manager: it has made the sockets, and takes them along.
    assert!(!service.paths().runtime().exists());
}

#[test]
fn sockets_that_are_handed_over_are_served_and_stay() {
    let mut service = Managed::new("handed");
    let listeners = service.listen();
    // Before there is a daemon.
    let early = ask(&service.paths().socket());
    service.start(&listeners);
    let said = service.ready();
    assert_eq!(said.len(), 1, "{said:?}");
    let first = answered(early);

    service.crash();
    let waiting = [
        ask(&service.paths().socket()),
        ask(&service.paths().admin_socket()),
    ];
    service.start(&listeners);
    service.ready();
    for client in waiting {
        assert_ne!(answered(client), first);
    }

    service.signal(Signal::SIGTERM);
    assert_eq!(service.wait(), Some(0));
    let mut left: Vec<_> = fs::read_dir(service.paths().runtime())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_socket())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["admin", "keynsd", "upcall"]);
    // A stop is followed by a start with the same sockets.
    let waiting = ask(&service.paths().socket());
    service.start(&listeners);
    service.ready();
    answered(waiting);
}

#[test]
fn sockets_of_its_own_are_kept_where_there_is_a_store() {
    let mut service = Managed::new("kept");
    service.set("FDSTORE", "8");
    service.start(&[]);
    let said = service.ready();
    assert_eq!(said.len(), 4, "{said:?}");
    let kept: Vec<_> = service.store.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(kept, ["stored-varlink", "stored-admin", "stored-upcall"]);
    let first = answered(ask(&service.paths().socket()));

    for end in [Signal::SIGKILL, Signal::SIGTERM] {
        service.signal(end);
        service.wait();
        let waiting = ask(&service.paths().socket());
        service.start(&[]);
        let said = service.ready();
        // Nothing is given twice, and nothing refused.
        assert!(
            !said.iter().any(|message| message.contains("FDSTORE")),
            "{said:?}"
        );
        assert_eq!(service.store.len(), 3);
        assert_ne!(answered(waiting), first);
    }
}

#[test]
fn a_store_that_is_full_or_not_there_is_no_reason_to_fail() {
    let mut service = Managed::new("full");
    service.set("FDSTORE", "1");
    service.start(&[]);
    service.ready();
    assert_eq!(service.store.len(), 1);
    assert!(
        service.log().contains("store of descriptors is full"),
        "{}",
        service.log()
    );
    // Lost, as when the unit has failed: made anew.
    service.crash();
    service.store.clear();
    service.start(&[]);
    service.ready();
    answered(ask(&service.paths().socket()));
}

#[test]
fn descriptors_that_do_not_fit_are_closed_and_said() {
    let mut service = Managed::new("unfit");
    let runtime = service.paths().runtime();
    fs::create_dir_all(&runtime).unwrap();
    let elsewhere = service.directory().join("elsewhere");
    let deaf = |path: &Path| -> OwnedFd {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            None,
        )
        .unwrap();
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(path).unwrap()).unwrap();
        socket
    };
    let unfit: Vec<(&str, OwnedFd, &str)> = vec![
        (
            "varlink",
            File::open("/dev/null").unwrap().into(),
            "it is no socket",
        ),
        (
            "varlink",
            std::io::pipe().unwrap().0.into(),
            "it is no socket",
        ),
        (
            "varlink",
            UnixDatagram::unbound().unwrap().into(),
            "type Datagram",
        ),
        (
            "varlink",
            packets(&service.directory().join("packets")),
            "type SeqPacket",
        ),
        (
            "upcall",
            UnixListener::bind(&elsewhere).unwrap().into(),
            "type Stream",
        ),
        (
            "varlink",
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
            "no Unix socket",
        ),
        (
            "admin",
            deaf(&service.directory().join("deaf")),
            "does not listen",
        ),
        (
            "admin",
            UnixStream::pair().unwrap().0.into(),
            "does not listen",
        ),
        (
            "varlink",
            UnixListener::bind(service.directory().join("other"))
                .unwrap()
                .into(),
            "does not listen at",
        ),
        (
            "unknown",
            File::open("/dev/null").unwrap().into(),
            "no such name",
        ),
        ("", File::open("/dev/null").unwrap().into(), "no such name"),
        (
            "stored-door",
            File::open("/dev/null").unwrap().into(),
            "no such name",
        ),
        (
            "container-",
            File::open("/dev/null").unwrap().into(),
            "no such name",
        ),
    ];
    let mut descriptors = Vec::new();
    let mut reasons = Vec::new();
    for (name, descriptor, why) in unfit {
        descriptors.push((name.to_owned(), descriptor));
        reasons.push(why);
    }
    // One that fits, a second one of its kind, and one whose file is gone.
    let fit = UnixListener::bind(service.paths().admin_socket()).unwrap();
    descriptors.push(("admin".to_owned(), fit.try_clone().unwrap().into()));
    descriptors.push(("stored-admin".to_owned(), fit.into()));
    reasons.push("another of its kind");
    let orphan = packets(&service.paths().upcall());
    fs::remove_file(service.paths().upcall()).unwrap();
    descriptors.push(("stored-upcall".to_owned(), orphan));
    reasons.push("is gone");
    // Looked at when it is known which containers there are.
    let file = File::open("/dev/null").unwrap().into();
    descriptors.push(("container-1".to_owned(), file));
    reasons.push("no such container");

    service.start(&descriptors);
    let said = service.ready();
    let forgotten = said.iter().filter(|m| m.starts_with("FDSTOREREMOVE=1\n"));
    assert_eq!(forgotten.count(), reasons.len(), "{said:?}");
    let log = service.log();
    let refused: Vec<_> = log
        .lines()
        .filter(|l| l.contains("closed a descriptor"))
        .collect();
    assert_eq!(refused.len(), reasons.len(), "{log}");
    for (line, why) in refused.iter().zip(reasons) {
        assert!(line.contains(why), "{line}: {why}");
    }
    let pid = answered(ask(&service.paths().socket()));
    assert_eq!(answered(ask(&service.paths().admin_socket())), pid);
    // None of them is open in the daemon.
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert_ne!(link, Path::new("/dev/null"), "{log}");
    }
}

#[test]
fn descriptors_announced_without_sense_are_a_reason_to_stop() {
    for (name, value) in [
        ("LISTEN_FDS", "three"),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_FDS", "65"),
        ("LISTEN_FDS", "2"),
        ("LISTEN_PID", "self"),
        ("LISTEN_FDNAMES", "varlink:admin:upcall:more"),
    ] {
        let mut service = Managed::new("senseless");
        service.set(name, value);
        let listeners = service.listen();
        service.start(&listeners);
        assert_eq!(service.wait(), Some(1), "{name}={value}");
        let log = service.log();
        assert!(log.contains("error: keynsd cannot run\n"), "{log}");
        assert!(
            log.contains(name) || log.contains("LISTEN_FDNAMES"),
            "{name}={value}: {log}"
        );
    }
}

#[test]
fn descriptors_for_another_process_are_left_alone() {
    let mut service = Managed::new("others");
    service.set("LISTEN_PID", "1");
    let other = UnixListener::bind(service.directory().join("other")).unwrap();
    service.start(&[("varlink".to_owned(), other.into())]);
    let said = service.ready();
    assert_eq!(said.len(), 1, "{said:?}");
    answered(ask(&service.paths().socket()));
}

#[test]
fn more_descriptors_announced_than_open_are_said() {
    let mut service = Managed::new("fewer");
    service.set("LISTEN_FDS", "5");
    service.set("LISTEN_FDNAMES", "varlink:admin:upcall:varlink:admin");
    let listeners = service.listen();
    service.start(&listeners);
    service.ready();
    assert_eq!(
        service.log().matches("it is not open").count(),
        2,
        "{}",
        service.log()
    );
    answered(ask(&service.paths().socket()));
}

#[test]
fn the_watchdog_is_fed_by_the_thread_that_serves() {
    let mut service = Managed::new("watched");
    service.set("WATCHDOG_USEC", "200000");
    service.start(&[]);
    service.ready();
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(service.message(), "WATCHDOG=1\n");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    service.signal(Signal::SIGSTOP);
    while service.message_within(Duration::from_millis(400)).is_some() {}
    service.signal(Signal::SIGCONT);
    assert_eq!(service.message(), "WATCHDOG=1\n");
}

#[test]
fn a_broken_manager_keeps_nothing_from_working() {
    for (name, value) in [
        ("NOTIFY_SOCKET", "/nowhere/notify"),
        ("NOTIFY_SOCKET", "relative"),
        ("NOTIFY_SOCKET", "vsock:2:1234"),
        ("NOTIFY_SOCKET", "/dev/null"),
        ("WATCHDOG_USEC", "soon"),
        ("WATCHDOG_USEC", "0"),
        ("FDSTORE", "much"),
    ] {
        let mut service = Managed::new("broken");
        service.set(name, value);
        service.start(&[]);
        let deadline = Instant::now() + Duration::from_secs(20);
        while service.run(&["container", "list"]).code != 0 {
            assert!(
                Instant::now() < deadline,
                "{name}={value}: {}",
                service.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(
            service.log().contains("WARN"),
            "{name}={value}: {}",
            service.log()
        );
        service.signal(Signal::SIGTERM);
        assert_eq!(service.wait(), Some(0), "{}", service.log());
    }
}

#[test]
fn settings_are_read_again_and_a_mistake_changes_nothing() {
    let mut service = Managed::new("reloaded");
    let file = service.directory().join("keyns.conf");
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("[connections]\nidle-seconds = 30\n");
    service.options = vec!["--config".into(), file.to_string_lossy().into_owned()];
    service.start(&[]);
    service.ready();
    let two = |service: &Managed| {
        let first = ask(&service.paths().socket());
        let second = ask(&service.paths().socket());
        let mut reply = Vec::new();
        BufReader::new(second).read_until(0, &mut reply).unwrap();
        answered(first);
        String::from_utf8(reply).unwrap()
    };
    assert!(two(&service).contains("\"pid\""));

    let reload = |service: &mut Managed| {
        service.signal(Signal::SIGHUP);
        let begun = service.message();
        let usec = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
        let said = usec.trim_end().parse::<i64>().unwrap() / 1_000_000;
        assert!((now - 5..=now).contains(&said), "{begun}");
        service.message()
    };
    write("log = 'warn'\n[connections]\nper-user = 1\n");
    assert!(reload(&mut service).starts_with("READY=1\nSTATUS=engine "));
    assert!(two(&service).contains("LimitReached"));

    write("log = 'info'\n\n[connections]\nper-user = 0\n");
    let said = reload(&mut service);
    assert!(
        said.starts_with("READY=1\nSTATUS=settings are as before"),
        "{said}"
    );
    assert!(
        said.contains("keyns.conf:4: connections.per-user = 0"),
        "{said}"
    );
    // Also what was right in that file does not count.
    assert!(two(&service).contains("LimitReached"));
    let log = service.log();
    assert_eq!(log.matches("keyns.conf:4: ").count(), 1, "{log}");

    write("engine = 'patched'\nlog = 'info'\n");
    assert!(reload(&mut service).starts_with("READY=1\nSTATUS=engine mainline"));
    assert!(two(&service).contains("\"pid\""));
    assert!(
        service.log().contains("changed by the next start"),
        "{}",
        service.log()
    );
    fs::remove_file(&file).unwrap();
    assert!(reload(&mut service).contains("there is no such file"));
}

#[test]
fn a_mistake_in_the_settings_is_a_reason_not_to_start() {
    let mut service = Managed::new("mistaken");
    let file = service.directory().join("keyns.conf");
    fs::write(&file, "\nengnie = 'auto'\n").unwrap();
    service.options = vec!["--config".into(), file.to_string_lossy().into_owned()];
    service.start(&[]);
    assert_eq!(service.wait(), Some(1));
    let log = service.log();
    let told = format!("  cause: {}:2: unknown field `engnie`", file.display());
    assert!(log.contains(&told), "{log}");
    assert!(!service.paths().runtime().exists());
}

#[test]
fn options_of_the_command_line_go_before_the_settings() {
    let mut service = Managed::new("options");
    let file = service.directory().join("keyns.conf");
    fs::write(&file, "engine = 'patched'\nlog = 'warn'\n").unwrap();
    service.options = vec!["--config".into(), file.to_string_lossy().into_owned()];
    service
        .options
        .extend(["--engine".to_owned(), "mainline".to_owned()]);
    service.start(&[]);
    assert!(service.ready()[0].contains("STATUS=engine mainline"));
    assert!(!service.log().contains("INFO"), "{}", service.log());
}

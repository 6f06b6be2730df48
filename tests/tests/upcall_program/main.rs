//! `keyns-upcall` behind the real `/sbin/request-key` of this machine, asked by real processes in
//! namespaces of their own; only the daemon is played by the test.
//!
//! Needs root and the built program in `KEYNS_BIN_DIR`. There is one `/sbin/request-key`, but the
//! routing table tells the requests of these tests apart, so they run side by side; only a test
//! that changes what requests of the host meet runs alone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "everything here is a test, also what is not within a test function"
)]

mod daemon;
mod denizen;
mod original;
mod places;
mod program;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use daemon::Daemon;
use denizen::{CONTAINER, Denizen, wish};
use keyns::routing::{DIRECTORY, RoutingEntry, RoutingKey, RoutingTable};
use keyns::takeover::{TakeOver, TakeOverError, take_over};
use keyns_sys::upcall_wire::{Doubts, RequesterFd, ToUpcall};
use keyns_sys::waiting_place::{self, WaitingPlace};
use keyns_tests::{bin_dir, unique};

const EPERM: i32 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;
const ENOKEY: i32 = 126;
const EKEYREVOKED: i32 = 128;
const EKEYREJECTED: i32 = 129;

fn program() -> PathBuf {
    let program = bin_dir().join("keyns-upcall");
    assert!(
        program.exists(),
        "{} is missing; make programs builds it",
        program.display()
    );
    program
}

static HOST: RwLock<()> = RwLock::new(());

/// `/sbin/request-key` is ours as long as this lives.
struct Taken<G> {
    _over: TakeOver,
    _guard: G,
}

/// Takes over; waits while a run with another program has it.
fn over() -> TakeOver {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match take_over(&program()) {
            Ok(over) => return over,
            Err(TakeOverError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn taken() -> Taken<RwLockReadGuard<'static, ()>> {
    let guard = HOST
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Taken {
        _over: over(),
        _guard: guard,
    }
}

fn taken_alone() -> Taken<RwLockWriteGuard<'static, ()>> {
    let guard = HOST
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Taken {
        _over: over(),
        _guard: guard,
    }
}

/// A place for a socket, and the entries that lead there.
struct Route {
    dir: tempfile::TempDir,
    table: RoutingTable,
    published: Vec<(RoutingKey, RoutingEntry)>,
    instance: String,
}

impl Route {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            table: RoutingTable::open(Path::new(DIRECTORY)).unwrap(),
            published: Vec::new(),
            instance: unique("test"),
        }
    }

    /// Routes one namespace or cgroup to our socket, whatever ids the processes in there have: most
    /// of these tests are root of the host, under whatever name.
    fn add(&mut self, key: RoutingKey) {
        self.add_any_id();
        self.add_only(key);
    }

    /// Tells that our container has processes with ids of the host.
    fn add_any_id(&mut self) {
        self.add_only(RoutingKey::AnyId {
            instance: self.instance.clone(),
            container: 1,
        });
    }

    /// Routes one namespace or cgroup to our socket.
    fn add_only(&mut self, key: RoutingKey) {
        let cgroup = match &key {
            RoutingKey::Cgroup(path) => Some(path.clone()),
            RoutingKey::Pid(_) | RoutingKey::User(_) | RoutingKey::AnyId { .. } => None,
        };
        let instance = self.instance.clone();
        let entry = RoutingEntry {
            instance,
            container: 1,
            socket: self.socket(),
            cgroup,
        };
        self.table.publish(&key, &entry).unwrap();
        self.published.push((key, entry));
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("upcall.sock")
    }

    fn daemon(&self) -> Daemon {
        Daemon::listen(&self.socket())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        for (key, entry) in &self.published {
            self.table.withdraw(key, entry).unwrap();
        }
        self.table.remove_if_empty();
    }
}

/// A denizen of a container whose PID namespace leads to our socket.
fn routed(wish: &denizen::Wish) -> (Denizen, Route) {
    let denizen = Denizen::start(CONTAINER, wish);
    let mut route = Route::new();
    route.add(RoutingKey::Pid(denizen.pid_ns));
    (denizen, route)
}

fn own_ns(kind: &str) -> u64 {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let digits: String = link
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

#[test]
fn a_request_arrives_with_what_the_kernel_says_and_gets_its_payload() {
    let _taken = taken();
    // Whatever it claims in its description, its true thread is shown.
    let claim = "pid=1 tid=1 uid=0 container=other";
    let (mut denizen, route) = routed(&wish(claim));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, fd) = daemon.next();
    assert_eq!(request.description, claim.as_bytes());
    assert_eq!(request.type_name, b"user");
    assert_eq!(request.callout.as_slice(), b"information");
    assert_eq!(request.comm, b"requester");
    assert_eq!(request.exe, env!("CARGO_BIN_EXE_requester").as_bytes());
    assert_eq!(request.pid_ns, [denizen.pid_ns, own_ns("pid")]);
    assert_eq!(request.user_ns, [denizen.user_ns, own_ns("user")]);
    assert_eq!(request.net_ns, own_ns("net"));
    assert_eq!((request.fsuid, request.uids), (0, [0; 4]));
    assert_eq!(request.tid, request.tgid);
    assert_ne!(request.permitted, 0, "root of its own user namespace");
    assert_eq!(request.doubts, Doubts::default());
    assert_eq!(request.attempt, 0);
    let status = fs::read_to_string(format!("/proc/{}/status", request.tid)).unwrap();
    let inner = status
        .lines()
        .find_map(|l| l.strip_prefix("NSpid:"))
        .unwrap();
    assert_eq!(
        inner.split_ascii_whitespace().collect::<Vec<_>>(),
        [&request.tid.to_string(), "1"]
    );
    let held = if keyns::probe::has_thread_pidfd().unwrap() {
        RequesterFd::Thread
    } else {
        RequesterFd::ProcDirectory
    };
    assert_eq!(request.fd, held);
    assert_eq!(thread_of(&fd), request.tid);
    peer.accepted(10_000);
    peer.instantiate("the payload");
    assert_eq!(peer.outcome(), (0, true));
    assert!(peer.is_closed());
    assert_eq!(denizen.answer(), Ok("the payload".into()));
}

/// The thread that a pidfd or a directory of `/proc` stands for.
fn thread_of(fd: &impl AsRawFd) -> u32 {
    let fd = fd.as_raw_fd();
    let what = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    if what.starts_with("/proc") {
        return what.file_name().unwrap().to_str().unwrap().parse().unwrap();
    }
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
    info.lines()
        .find_map(|l| l.strip_prefix("Pid:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// The requester where any uid can execute it.
fn requester_for_everyone() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("requester");
    fs::copy(env!("CARGO_BIN_EXE_requester"), &copy).unwrap();
    let copy = copy.to_str().unwrap().to_owned();
    (dir, copy)
}

#[test]
fn a_rejection_arrives_with_its_errno() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("rejected"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, _, _fd) = daemon.next();
    peer.accepted(10_000);
    peer.reject(EKEYREJECTED, 1);
    assert_eq!(peer.outcome(), (0, true));
    assert_eq!(denizen.answer(), Err(EKEYREJECTED));
}

#[test]
fn a_payload_the_type_refuses_can_be_followed_by_a_better_one() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("second try"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, _, _fd) = daemon.next();
    peer.accepted(10_000);
    // A key of type `user` holds 1 to 32767 bytes.
    peer.instantiate("");
    assert_eq!(peer.outcome(), (EINVAL, false));
    peer.instantiate(&"x".repeat(32768));
    assert_eq!(peer.outcome(), (EINVAL, false));
    peer.instantiate("good");
    assert_eq!(peer.outcome(), (0, true));
    assert_eq!(denizen.answer(), Ok("good".into()));
}

#[test]
fn a_payload_in_a_memfd_counts_only_when_it_is_sealed_and_of_the_right_size() {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("memfd"));
    let daemon = route.daemon();
    denizen.ask();
    let payload = "y".repeat(30_000);
    let memfd = |seals: SealFlags| {
        let fd = memfd_create("test", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&fd, payload.as_bytes()).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK;
    for (seals, length) in [(SealFlags::GROW | SealFlags::SHRINK, 30_000), (all, 29_999)] {
        let (peer, _, _fd) = daemon.next();
        let message = ToUpcall::InstantiateFd { length }.encode().unwrap();
        peer.send_bytes(message.as_slice(), Some(memfd(seals).as_fd()));
        assert!(peer.is_closed(), "taken for rubbish");
    }
    let (peer, request, _fd) = daemon.next();
    assert_eq!(request.attempt, 2);
    let message = ToUpcall::InstantiateFd { length: 30_000 }.encode().unwrap();
    peer.send_bytes(message.as_slice(), Some(memfd(all).as_fd()));
    assert_eq!(peer.outcome(), (0, true));
    assert_eq!(denizen.answer(), Ok(payload));
}

#[test]
fn a_daemon_that_dies_finds_the_request_again_when_it_is_back() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("restart"));
    denizen.ask();
    // It is asked before there is a daemon at all.
    std::thread::sleep(Duration::from_millis(100));
    let daemon = route.daemon();
    let (peer, first, _fd) = daemon.next();
    peer.accepted(30_000);
    drop(peer);
    drop(daemon);
    std::thread::sleep(Duration::from_millis(300));
    let daemon = route.daemon();
    let (peer, second, _fd) = daemon.next();
    assert!(
        second.attempt > first.attempt && second.waited_ms >= 400,
        "{second:?}"
    );
    assert_eq!((second.target, second.auth), (first.target, first.auth));
    assert_eq!(second.callout.as_slice(), b"information");
    peer.accepted(30_000);
    peer.instantiate("after the restart");
    assert_eq!(peer.outcome(), (0, true));
    assert_eq!(denizen.answer(), Ok("after the restart".into()));
}

#[test]
fn without_a_daemon_the_request_times_out_after_ten_seconds() {
    let _taken = taken();
    let (mut denizen, _route) = routed(&wish("nobody"));
    let start = Instant::now();
    assert_eq!(denizen.ask_and_wait(), Err(ETIMEDOUT));
    let took = start.elapsed().as_secs_f32();
    assert!((9.5..12.0).contains(&took), "{took}");
}

#[test]
fn without_a_place_nobody_waits_for_a_daemon_that_is_gone_or_hangs() {
    let _taken = taken();
    for hangs in [false, true] {
        let (mut denizen, route) = routed(&wish("no place"));
        let daemon = hangs.then(|| route.daemon());
        let _places = places(&route, 0..128);
        let start = Instant::now();
        assert_eq!(denizen.ask_and_wait(), Err(EAGAIN), "{hangs}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(took >= Duration::from_millis(500), hangs, "{took:?}");
        drop(daemon);
    }
}

#[test]
fn a_request_that_was_let_in_finds_a_place_when_new_ones_find_none() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("let in"));
    let _places = places(&route, 0..128);
    let daemon = route.daemon();
    denizen.ask();
    let (peer, _, _fd) = daemon.next();
    peer.accepted(30_000);
    // Once accepted it needs none.
    std::thread::sleep(Duration::from_millis(700));
    drop((peer, daemon));
    std::thread::sleep(Duration::from_millis(300));
    let daemon = route.daemon();
    let (peer, _, _fd) = daemon.next();
    peer.instantiate("still");
    assert_eq!(denizen.answer(), Ok("still".into()));
}

/// Takes places of those that wait for the daemon.
fn places(route: &Route, range: std::ops::Range<u16>) -> Vec<WaitingPlace> {
    let file = route.socket().with_file_name(waiting_place::FILE_NAME);
    let take = |n| WaitingPlace::take(&file, n..n + 1).unwrap().unwrap();
    range.map(take).collect()
}

#[test]
fn a_daemon_that_connects_as_another_user_is_not_believed() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("impostor"));
    let impostor = r#"
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1])
os.setegid(65534); os.seteuid(65534)
s.listen(8)
s.settimeout(3)
c, _ = s.accept()
print(c.recv(100000))
"#;
    let socket = route.socket();
    let mut python = Command::new("python3");
    python
        .args(["-c", impostor])
        .arg(&socket)
        .stdout(std::process::Stdio::piped());
    let child = python.spawn().unwrap();
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    denizen.ask();
    let heard = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&heard.stdout).trim(),
        "b''",
        "it was told nothing"
    );
    fs::remove_file(&socket).unwrap();
    let daemon = route.daemon();
    let (peer, _, _fd) = daemon.next();
    peer.instantiate("the true one");
    assert_eq!(denizen.answer(), Ok("the true one".into()));
}

#[test]
fn the_deadline_is_kept_by_the_program_itself() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("silence"));
    let daemon = route.daemon();
    let start = Instant::now();
    denizen.ask();
    let (peer, _, _fd) = daemon.next();
    peer.accepted(400);
    assert_eq!(peer.outcome(), (ETIMEDOUT, true));
    assert!(peer.is_closed());
    assert_eq!(denizen.answer(), Err(ETIMEDOUT));
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(400) && took < Duration::from_secs(3),
        "{took:?}"
    );
}

#[test]
fn rubbish_is_rejected_within_the_deadline() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("rubbish"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, _, _fd) = daemon.next();
    peer.accepted(1500);
    peer.send_bytes(b"\x01\x00\x63\x00", None);
    assert!(peer.is_closed());
    for rubbish in [
        &b"x"[..],
        &[1, 0, 3, 0, 255, 255, 255, 255],
        &[0xff; 120_000],
    ] {
        let (peer, _, _fd) = daemon.next();
        peer.send_bytes(rubbish, None);
        assert!(peer.is_closed());
    }
    let start = Instant::now();
    assert_eq!(denizen.answer(), Err(ETIMEDOUT));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_daemon_of_another_version_rejects_by_being_one() {
    let _taken = taken();
    for answer in [&[9, 0, 3, 0, 1, 0, 0, 0, b'x'][..], &[9, 0, 0, 0]] {
        let (mut denizen, route) = routed(&wish("version"));
        let daemon = route.daemon();
        denizen.ask();
        let (peer, _, _fd) = daemon.next();
        peer.send_bytes(answer, None);
        assert_eq!(denizen.answer(), Err(ENOKEY));
    }
}

#[test]
fn a_reserved_name_is_refused_whatever_the_daemon_says_and_without_one() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish(".reserved"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    assert_eq!(
        request.description, b".reserved",
        "the daemon may take note of it"
    );
    peer.accepted(10_000);
    peer.instantiate("granted");
    assert_eq!(peer.outcome(), (EPERM, true));
    assert_eq!(denizen.answer(), Err(EPERM));

    let (mut denizen, _route) = routed(&wish(".reserved"));
    let start = Instant::now();
    assert_eq!(denizen.ask_and_wait(), Err(EPERM));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_reserved_name_is_refused_the_same_by_a_daemon_that_hangs_and_when_terminated() {
    let _taken = taken();
    for terminate in [false, true] {
        let (mut denizen, route) = routed(&wish(".reserved"));
        let daemon = route.daemon();
        let start = Instant::now();
        denizen.ask();
        let (peer, _, _fd) = daemon.next();
        if terminate {
            let program = peer.program_pid();
            rustix::process::kill_process(program, rustix::process::Signal::TERM).unwrap();
        }
        assert_eq!(peer.outcome(), (EPERM, true));
        assert_eq!(denizen.answer(), Err(EPERM));
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn a_terminated_program_still_rejects() {
    let _taken = taken();
    let (mut denizen, route) = routed(&wish("terminated"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, _, _fd) = daemon.next();
    peer.accepted(30_000);
    rustix::process::kill_process(peer.program_pid(), rustix::process::Signal::TERM).unwrap();
    assert_eq!(peer.outcome(), (EINTR, true));
    assert_eq!(denizen.answer(), Err(ENOKEY));
}

#[test]
fn callout_information_arrives_up_to_the_most_that_the_kernel_takes() {
    let _taken = taken();
    let page = Command::new("getconf").arg("PAGESIZE").output().unwrap();
    let page: usize = String::from_utf8(page.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let longest: &'static str = "c".repeat(page - 1).leak();
    let (mut denizen, route) = routed(&denizen::Wish {
        callout: longest,
        ..wish("longest")
    });
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    assert_eq!(request.callout.as_slice(), longest.as_bytes());
    peer.instantiate("all of it");
    assert_eq!(denizen.answer(), Ok("all of it".into()));
    let mut denizen = Denizen::start(
        CONTAINER,
        &denizen::Wish {
            callout: "c".repeat(page).leak(),
            ..wish("too long")
        },
    );
    assert_eq!(denizen.ask_and_wait(), Err(EINVAL));
}

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

#[path = "upcall_program/daemon.rs"]
mod daemon;
#[path = "upcall_program/denizen.rs"]
mod denizen;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use daemon::Daemon;
use denizen::{Answer, CONTAINER, Denizen, wish};
use keyns::routing::{DIRECTORY, RoutingEntry, RoutingKey, RoutingTable};
use keyns::takeover::{Root, TakeOver, status, take_over};
use keyns_sys::upcall_wire::{Doubts, RequesterFd, ToUpcall};
use keyns_tests::{bin_dir, unique};

const EPERM: i32 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EINVAL: i32 = 22;
const ETIMEDOUT: i32 = 110;
const ENOKEY: i32 = 126;
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

fn taken() -> Taken<RwLockReadGuard<'static, ()>> {
    let guard = HOST
        .read()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Taken {
        _over: take_over(&program()).unwrap(),
        _guard: guard,
    }
}

fn taken_alone() -> Taken<RwLockWriteGuard<'static, ()>> {
    let guard = HOST
        .write()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Taken {
        _over: take_over(&program()).unwrap(),
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

    /// Routes one namespace or cgroup to our socket.
    fn add(&mut self, key: RoutingKey) {
        let cgroup = match &key {
            RoutingKey::Cgroup(path) => Some(path.clone()),
            RoutingKey::Pid(_) | RoutingKey::User(_) => None,
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

fn asks_on_host(description: &str) -> Answer {
    Denizen::start(&[], &wish(description)).ask_and_wait()
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
    assert_eq!(request.fd, RequesterFd::Thread);
    assert_eq!(pid_of(&fd), request.tid);
    peer.accepted(10_000);
    peer.instantiate("the payload");
    assert_eq!(peer.outcome(), (0, true));
    assert!(peer.is_closed());
    assert_eq!(denizen.answer(), Ok("the payload".into()));
}

/// The thread a pidfd stands for.
fn pid_of(fd: &impl AsRawFd) -> u32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    info.lines()
        .find_map(|l| l.strip_prefix("Pid:"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn a_thread_is_told_from_its_process() {
    let _taken = taken();
    let (mut denizen, route) = routed(&denizen::Wish {
        by_thread: true,
        ..wish("by a thread")
    });
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, fd) = daemon.next();
    assert_ne!(request.tid, request.tgid);
    assert_eq!(pid_of(&fd), request.tid);
    let tasks = fs::read_dir(format!("/proc/{}/task", request.tgid)).unwrap();
    let tasks: Vec<_> = tasks.map(|t| t.unwrap().file_name()).collect();
    assert!(tasks.contains(&request.tid.to_string().into()));
    peer.instantiate("without being accepted first");
    assert_eq!(peer.outcome(), (0, true));
    assert_eq!(denizen.answer(), Ok("without being accepted first".into()));
}

#[test]
fn a_uid_beyond_two_to_the_31_is_itself() {
    let _taken = taken();
    let uid = (1u32 << 31) + 5;
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("requester");
    fs::copy(env!("CARGO_BIN_EXE_requester"), &copy).unwrap();
    let (uid_text, mut below) = (
        uid.to_string(),
        vec!["unshare", "--pid", "--fork", "--mount-proc"],
    );
    below.extend([
        "setpriv",
        "--clear-groups",
        "--reuid",
        &uid_text,
        "--regid",
        &uid_text,
    ]);
    let mut denizen = Denizen::start_program(&below, copy.to_str().unwrap(), &wish("huge uid"));
    let mut route = Route::new();
    route.add(RoutingKey::Pid(denizen.pid_ns));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    assert_eq!((request.fsuid, request.fsgid), (uid, uid));
    assert_eq!((request.uids, request.gids), ([uid; 4], [uid; 4]));
    assert!(!request.doubts.other_ids);
    peer.reject(EKEYREJECTED, 1);
    assert_eq!(denizen.answer(), Err(EKEYREJECTED));
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
fn an_entry_that_cannot_be_read_rejects_and_reaches_no_program() {
    let _taken = taken();
    let mut denizen = Denizen::start(CONTAINER, &wish("undecidable"));
    let _keep = Route::new();
    let entry = Path::new(DIRECTORY).join(format!("user-{}", denizen.user_ns));
    fs::write(&entry, "version=2\n").unwrap();
    let answer = denizen.ask_and_wait();
    fs::remove_file(&entry).unwrap();
    assert_eq!(answer, Err(EAGAIN));
}

#[test]
fn two_daemons_that_claim_one_requester_are_both_not_asked() {
    let _taken = taken();
    let mut denizen = Denizen::start(CONTAINER, &wish("claimed twice"));
    let (mut one, mut other) = (Route::new(), Route::new());
    one.add(RoutingKey::Pid(denizen.pid_ns));
    other.add(RoutingKey::User(denizen.user_ns));
    assert_eq!(denizen.ask_and_wait(), Err(EAGAIN));
}

#[test]
fn a_namespace_within_the_container_belongs_to_it() {
    let _taken = taken();
    let nested: Vec<&str> = CONTAINER.iter().chain(CONTAINER).copied().collect();
    let mut denizen = Denizen::start(&nested, &wish("nested"));
    // The outer namespaces are those of the parent of the nested `unshare`.
    let outer = parent_namespaces(denizen.pid_ns);
    for (key, other) in [("pid", outer.0), ("user", outer.1)] {
        assert_ne!(other, own_ns(key));
    }
    let mut route = Route::new();
    route.add(RoutingKey::User(outer.1));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    assert_eq!(request.pid_ns, [denizen.pid_ns, outer.0, own_ns("pid")]);
    assert_eq!(request.user_ns, [denizen.user_ns, outer.1, own_ns("user")]);
    peer.instantiate("from the outer container");
    assert_eq!(denizen.answer(), Ok("from the outer container".into()));
}

/// PID and user namespace of the process that made a PID namespace.
fn parent_namespaces(pid_ns: u64) -> (u64, u64) {
    let number = |path: String| -> Option<u64> {
        let link = fs::read_link(path).ok()?;
        link.to_string_lossy()
            .chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
            .parse()
            .ok()
    };
    let inside = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        (number(format!("/proc/{pid}/ns/pid")) == Some(pid_ns)).then_some(pid)
    });
    let init = inside.min().unwrap();
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
    let unshare: u32 = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    // `unshare` itself has entered the nested user namespace, so its parent's is read.
    let pid = number(format!("/proc/{unshare}/ns/pid")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{unshare}/stat")).unwrap();
    let outer: u32 = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    (pid, number(format!("/proc/{outer}/ns/user")).unwrap())
}

#[test]
fn a_container_without_namespaces_is_known_by_its_cgroup() {
    let _taken = taken();
    let name = unique("keyns-upcall-test");
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let point = words.next()?;
        (words.next() == Some("cgroup2")).then(|| point.to_owned())
    });
    let group = Path::new(&mount.unwrap()).join(&name);
    fs::create_dir_all(group.join("inner")).unwrap();
    let enter = format!(
        "echo $$ > {}/inner/cgroup.procs; exec \"$@\"",
        group.display()
    );
    let mut denizen = Denizen::start(&["sh", "-c", &enter, "sh"], &wish("by cgroup"));
    assert_eq!(denizen.pid_ns, own_ns("pid"));
    let mut route = Route::new();
    route.add(RoutingKey::Cgroup(format!("/{name}").into_bytes()));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    assert_eq!(request.cgroup, format!("/{name}/inner").into_bytes());
    peer.instantiate("by cgroup");
    assert_eq!(denizen.answer(), Ok("by cgroup".into()));
    drop(denizen);
    fs::remove_dir(group.join("inner")).unwrap();
    fs::remove_dir(&group).unwrap();
}

#[test]
fn the_daemon_may_hand_a_request_to_the_original_program() {
    let _taken = taken_alone();
    let original = FakeOriginal::install();
    let (mut denizen, route) = routed(&wish("handed on"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    peer.send(&ToUpcall::Original);
    assert!(peer.is_closed());
    assert_eq!(denizen.answer(), Err(ENOKEY));
    let report = original.report();
    assert_eq!(report.arguments[1], request.target.to_string());
    assert_eq!(
        (report.oom_score_adj.as_str(), report.blocked.as_str()),
        ("0", "0000000000000000")
    );
}

#[test]
fn a_request_of_the_host_reaches_the_original_program_as_from_the_kernel() {
    let _taken = taken_alone();
    let original = FakeOriginal::install();
    // First with whatever the table holds, then certainly with an entry of somebody else.
    for with_entry in [false, true] {
        let mut route = Route::new();
        if with_entry {
            route.add(RoutingKey::Pid(1));
        }
        assert_eq!(
            asks_on_host(&unique("host")),
            Err(ENOKEY),
            "as the program left it"
        );
        let report = original.report();
        assert_eq!(report.program, "/run/keyns/request-key.orig");
        let [operation, _, fsuid, fsgid, _, _, _] = &report.arguments[..] else {
            panic!("{:?}", report.arguments)
        };
        assert_eq!([operation, fsuid, fsgid], ["create", "0", "0"]);
        assert_eq!(
            report.environment,
            ["HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"]
        );
        // The kernel leaves 0 to 2 closed as well.
        assert!(report.descriptors.is_empty(), "{:?}", report.descriptors);
        assert_eq!(report.oom_score_adj, "0");
        assert_eq!(report.ignored, "0000000000000000");
    }
}

/// A program in the place of the original that writes down how it was started.
struct FakeOriginal {
    dir: tempfile::TempDir,
    place: PathBuf,
    created: bool,
}

#[derive(Debug)]
struct Report {
    program: String,
    arguments: Vec<String>,
    environment: Vec<String>,
    descriptors: Vec<String>,
    oom_score_adj: String,
    blocked: String,
    ignored: String,
}

impl FakeOriginal {
    fn install() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("original");
        let to = dir.path().join("report");
        // The shell reads its script through a descriptor of its own, 10 and above.
        let text = format!(
            "#!/bin/sh\n(echo \"$0\"; echo \"$*\"; tr '\\0' ' ' </proc/$$/environ; echo; \
             ls /proc/$$/fd | grep -v '^1[0-9]' | tr '\\n' ' '; echo; \
             cat /proc/$$/oom_score_adj; \
             sed -n 's/^Sig[BI][lg][kn]:\\t//p' /proc/$$/status) >{}\n",
            to.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let place = match status(&Root::default()).unwrap().original {
            Some((original, _)) => original,
            None => Path::new("/run/keyns/request-key.orig").to_path_buf(),
        };
        let created = !place.exists();
        if created {
            fs::write(&place, "").unwrap();
        }
        rustix::mount::mount_bind(&script, &place).unwrap();
        Self {
            dir,
            place,
            created,
        }
    }

    fn report(&self) -> Report {
        let text = fs::read_to_string(self.dir.path().join("report")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect();
        let [
            program,
            arguments,
            environment,
            descriptors,
            oom,
            blocked,
            ignored,
        ] = lines[..]
        else {
            panic!("{text}")
        };
        Report {
            program: program.into(),
            arguments: words(arguments),
            environment: words(environment),
            descriptors: words(descriptors),
            oom_score_adj: oom.into(),
            blocked: blocked.into(),
            ignored: ignored.into(),
        }
    }
}

impl Drop for FakeOriginal {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH).unwrap();
        if self.created {
            fs::remove_file(&self.place).unwrap();
        }
    }
}

#[test]
fn a_request_of_the_host_asks_no_daemon() {
    let _taken = taken();
    let (_denizen, route) = routed(&wish("not asked"));
    let _daemon = route.daemon();
    let start = Instant::now();
    // Both the missing and the stock program, which has no rule for it, leave ENOKEY.
    assert_eq!(asks_on_host(&unique("host")), Err(ENOKEY));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn keys_that_everybody_may_view_hide_no_requester() {
    let _taken = taken();
    let lines = "x\n00000001 I--Q---     1 perm 0b010000     0     0 .request_ key:1 pid:1 ci:1";
    let serials: Vec<_> = (0..24)
        .map(|n| {
            let name = std::ffi::CString::new(format!("{lines}{n}")).unwrap();
            let process = keyns_sys::KeySerial::PROCESS;
            let serial = keyns_sys::key::add_key(c"user", &name, b"x", process).unwrap();
            keyns_sys::key::set_perm(serial, 0x3f01_0101).unwrap();
            serial
        })
        .collect();
    let (mut denizen, route) = routed(&wish("among others"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    assert_eq!(request.pid_ns.first(), Some(&denizen.pid_ns));
    peer.instantiate("found");
    assert_eq!(denizen.answer(), Ok("found".into()));
    for serial in serials {
        keyns_sys::key::invalidate(serial).unwrap();
    }
}

#[test]
fn the_program_needs_nothing_but_itself() {
    let content = fs::read(program()).unwrap();
    let number = |at: usize, bytes: usize| {
        content[at..at + bytes]
            .iter()
            .rev()
            .fold(0usize, |n, b| n << 8 | usize::from(*b))
    };
    // The ELF header of 64-bit files: table of segments at 32, size of one at 54, their number at 56.
    assert_eq!(&content[..5], b"\x7fELF\x02");
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|n| number(table + n * size, 4)).collect();
    let (load, dynamic, interpreter) = (1, 2, 3);
    assert!(kinds.contains(&load));
    assert!(
        !kinds.contains(&interpreter) && !kinds.contains(&dynamic),
        "{kinds:?}"
    );

    let root = tempfile::tempdir().unwrap();
    fs::copy(program(), root.path().join("keyns-upcall")).unwrap();
    let mut chroot = Command::new("chroot");
    let output = chroot
        .arg(root.path())
        .args(["/keyns-upcall", "--version"])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(", protocol 1\n"));
}

#[test]
fn started_by_hand_it_says_what_it_is_for() {
    let output = Command::new(program()).arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.starts_with("usage: keyns-upcall create KEY UID GID") && text.lines().count() == 1
    );
}

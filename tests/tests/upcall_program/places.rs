//! Who a requester is, and to which container it belongs.

use std::fs;
use std::path::Path;

use keyns::routing::{DIRECTORY, RoutingKey};
use keyns_tests::unique;

use crate::denizen::{self, CONTAINER, Denizen, wish};
use crate::{
    EAGAIN, EKEYREJECTED, Route, own_ns, requester_for_everyone, routed, taken, thread_of,
};

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
    assert_eq!(thread_of(&fd), request.tid);
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
    let (_dir, copy) = requester_for_everyone();
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
    let mut denizen = Denizen::start_program(&below, &copy, &wish("huge uid"));
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
fn an_entry_that_cannot_be_read_rejects_and_reaches_no_program() {
    let _taken = taken();
    let mut denizen = Denizen::start(CONTAINER, &wish("undecidable"));
    // The table exists as long as it has an entry, here one of nobody.
    let mut keep = Route::new();
    keep.add(RoutingKey::Pid(1));
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

//! Who a caller is, and what it may do then.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keyns_interfaces::blocking::Client;
use keyns_interfaces::manager::GetStatus;
use keyns_interfaces::{ClientError, ErrorKind, Payload, containers, keys};
use keynsd::authority::Caller;
use keynsd::front::Sockets;
use keynsd::upcall_link::UpcallListener;
use rustix::process::Uid;

use crate::server::{Raw, Server, eventually};

/// Runs `work` on a thread with this uid; ids are per thread in the kernel.
pub(crate) fn as_user<T: Send + 'static>(uid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(move || {
        let uid = Some(Uid::from_raw(uid));
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    })
    .join()
    .unwrap()
}

fn update(payload: usize) -> keys::Update {
    keys::Update {
        key: "k".into(),
        payload: Payload::new(vec![1; payload]),
    }
}

#[test]
fn others_may_ask_for_the_status_and_nothing_else() {
    let server = Server::start();
    // Uids beyond 2^31 are uids.
    for uid in [65_534, 1 << 31, u32::MAX - 1] {
        let path = server.path();
        as_user(uid, move || {
            let mut client = Client::connect(path).unwrap();
            let (status, _) = client.call(&GetStatus {}, vec![]).unwrap();
            assert_eq!(status.version, uid.to_string());
            for error in [
                client.call(&update(1), vec![]).unwrap_err(),
                client
                    .call(&keys::Read { key: "1".into() }, vec![])
                    .unwrap_err(),
                client.call(&keys::Lend {}, vec![]).unwrap_err(),
            ] {
                let ClientError::Refused(error) = error else {
                    panic!("{error}")
                };
                assert_eq!(error.kind, ErrorKind::NotPermitted);
                assert!(error.message.contains("org.keyns.Keys."), "{error}");
                assert!(error.message.contains(&uid.to_string()), "{error}");
                assert!(error.hint.unwrap().contains("root"));
            }
            let refused = client.subscribe(&containers::Subscribe {}).unwrap_err();
            assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
        });
    }
}

#[test]
fn a_refusal_comes_before_any_look_at_the_parameters() {
    let server = Server::start();
    let path = server.path();
    let error = as_user(65_534, move || {
        let mut raw = Raw::new(std::os::unix::net::UnixStream::connect(path).unwrap());
        raw.send(r#"{"method": "org.keyns.Keys.Update", "parameters": 1}"#)
            .error()
    });
    assert_eq!(error, "org.keyns.Keys.NotPermitted");
}

#[test]
fn others_have_a_smaller_frame() {
    let server = Server::start();
    let path = server.path();
    as_user(65_534, move || {
        let mut client = Client::connect(&path).unwrap();
        let refused = client.call(&update(40 << 10), vec![]);
        assert!(
            matches!(refused, Err(ClientError::Refused(_))),
            "{refused:?}"
        );
        let cut = client.call(&update(64 << 10), vec![]);
        assert!(matches!(cut, Err(ClientError::Disconnected)), "{cut:?}");
    });
    server.client().call(&update(64 << 10), vec![]).unwrap();
}

#[test]
fn the_admin_socket_is_for_root() {
    let server = Server::start();
    Client::connect(server.admin())
        .unwrap()
        .call(&GetStatus {}, vec![])
        .unwrap();
    let path = server.admin();
    let error = as_user(65_534, move || Client::connect(path).unwrap_err());
    let ClientError::Unreachable { source, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::PermissionDenied);
    // And were its file opened up, the daemon itself would refuse.
    std::fs::set_permissions(server.admin(), PermissionsExt::from_mode(0o666)).unwrap();
    let path = server.admin();
    let error = as_user(65_534, move || {
        Client::connect(path)
            .unwrap()
            .call(&GetStatus {}, vec![])
            .unwrap_err()
    });
    let ClientError::Refused(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind, ErrorKind::NotPermitted);
}

#[test]
fn the_admin_socket_has_its_own_places() {
    let server = Server::start();
    let mut held: Vec<_> = (0..8)
        .map(|_| Client::connect(server.admin()).unwrap())
        .collect();
    for client in &mut held {
        client.call(&GetStatus {}, vec![]).unwrap();
    }
    let mut ninth = Client::connect(server.admin()).unwrap();
    let Err(ClientError::Refused(error)) = ninth.call(&GetStatus {}, vec![]) else {
        panic!()
    };
    assert_eq!(error.kind, ErrorKind::LimitReached);
    server.assert_serving();
}

#[tokio::test]
async fn sockets_have_their_modes_and_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let mode = |name: &str| {
        let metadata = std::fs::metadata(directory.path().join(name)).unwrap();
        assert!(metadata.file_type().is_socket());
        metadata.permissions().mode() & 0o777
    };
    let sockets = Sockets::bind(directory.path()).unwrap();
    assert_eq!((mode("keynsd"), mode("admin")), (0o666, 0o600));
    let second = Sockets::bind(directory.path()).unwrap_err();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    assert_eq!(
        (mode("keynsd"), mode("admin")),
        (0o666, 0o600),
        "the first one's are untouched"
    );
    drop(sockets);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    // What a killed daemon leaves behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(directory.path().join("keynsd")).unwrap());
    Sockets::bind(directory.path()).unwrap();
}

/// The client end of the tests below: run by them in a process of its own.
#[test]
fn report_as_a_child() {
    let Some(path) = std::env::var_os("KEYNS_TEST_SOCKET").map(PathBuf::from) else {
        return;
    };
    let mut client = Client::connect(path).unwrap();
    let uid = match client.call(&GetStatus {}, vec![]) {
        Ok((status, _)) => status.version,
        Err(error) => format!("{error}"),
    };
    let change = match client.call(&update(1), vec![]) {
        Ok(_) => "done".to_owned(),
        Err(ClientError::Refused(error)) => format!("{}", error.kind),
        Err(error) => format!("{error}"),
    };
    println!("\nreport: seen as {uid}, change {change}");
}

/// What the client says when `enter` (a program and its arguments) runs it.
fn report_from(socket: &Path, enter: &[&str]) -> String {
    // Where the build lies, other uids may not be able to go.
    let directory = tempfile::tempdir_in(socket.parent().unwrap()).unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = directory.path().join("client");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new(enter[0])
        .args(&enter[1..])
        .arg(&program)
        .args(["--exact", "identity::report_as_a_child", "--nocapture"])
        .env("KEYNS_TEST_SOCKET", socket)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = text
        .lines()
        .find_map(|line| line.strip_prefix("report: "))
        .map(str::to_owned);
    report.unwrap_or_else(|| panic!("{output:?}"))
}

/// A user namespace whose uid and gid 0 are the host's 100000, held by a sleeping process.
struct Mapped(std::process::Child);

impl Mapped {
    fn new() -> Self {
        let holder = Command::new("unshare")
            .args(["--user", "sleep", "60"])
            .spawn()
            .unwrap();
        let file = |name: &str| format!("/proc/{}/{name}", holder.id());
        let ours = std::fs::read_link("/proc/self/ns/user").unwrap();
        eventually("the namespace is there", || {
            std::fs::read_link(file("ns/user")).unwrap() != ours
        });
        for map in ["uid_map", "gid_map"] {
            std::fs::write(file(map), "0 100000 1").unwrap();
        }
        Self(holder)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn root_of_another_user_namespace_is_not_root() {
    let server = Server::start();
    let report = |enter: &[&str]| report_from(&server.path(), enter);
    // The control: the same program in the host's user namespace.
    assert_eq!(report(&["unshare", "--uts"]), "seen as 0, change done");
    // Uid 0 inside, another one outside.
    let mapped = Mapped::new();
    let holder = mapped.0.id().to_string();
    let enter = [
        "nsenter",
        "--user",
        "--target",
        &holder,
        "--setuid=0",
        "--setgid=0",
    ];
    assert_eq!(report(&enter), "seen as 100000, change NotPermitted");
    // Uid 0 inside and outside: the kernel reports 0, the namespace tells the difference.
    assert_eq!(
        report(&["unshare", "--map-root-user"]),
        "seen as 0, change NotPermitted"
    );
    // Not mapped at all: still the host's uid 0, without its capabilities.
    assert_eq!(
        report(&["unshare", "--user"]),
        "seen as 0, change NotPermitted"
    );
}

#[test]
fn descriptors_are_taken_from_root_only() {
    let server = Server::start();
    let path = server.path();
    let ask = move || {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let fds = vec![read, write];
        // The server of these tests tells in this field how many descriptors came along.
        let mut client = Client::connect(path).unwrap();
        client.call(&GetStatus {}, fds).unwrap().0.containers
    };
    assert_eq!(ask.clone()(), 2, "the control");
    assert_eq!(as_user(65_534, ask), 0);
}

#[test]
fn what_root_of_another_user_namespace_says_about_requesters_is_not_heard() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("upcall");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _guard = runtime.enter();
    let listener = UpcallListener::bind(&path).unwrap();
    let says = |enter: &[&str]| {
        let mut child = Command::new(enter[0])
            .args(&enter[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "identity::knock_as_a_child"])
            .env("KEYNS_TEST_KNOCK", &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let admitted = runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(1500), listener.accept())
                .await
                .is_ok()
        });
        assert!(child.wait().unwrap().success(), "it could connect");
        admitted
    };
    assert!(says(&["unshare", "--uts"]), "the control");
    assert!(!says(&["unshare", "--map-root-user"]));
    assert!(!says(&["unshare", "--user"]));
}

/// Connects to an upcall socket and waits for the end of the connection, or a second.
#[test]
fn knock_as_a_child() {
    let Some(path) = std::env::var_os("KEYNS_TEST_KNOCK") else {
        return;
    };
    let kind = rustix::net::SocketType::SEQPACKET;
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
    let address = rustix::net::SocketAddrUnix::new(Path::new(&path)).unwrap();
    rustix::net::connect(&socket, &address).unwrap();
    let second = rustix::time::Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let mut end = [rustix::event::PollFd::new(
        &socket,
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut end, Some(&second)).unwrap();
}

#[test]
fn a_peer_that_is_gone_is_not_root() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "identity::connect_as_a_child"])
        .env("KEYNS_TEST_CONNECT", &path)
        .stdout(std::process::Stdio::null())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (alive, _) = listener.accept().unwrap();
    assert!(Caller::of(alive.as_fd()).unwrap().is_root(), "the control");
    drop(child.stdin.take());
    child.wait().unwrap();
    let (gone, _) = listener.accept().unwrap();
    assert!(!Caller::of(gone.as_fd()).is_ok_and(|caller| caller.is_root()));
}

/// Connects twice and waits until it is told to end.
#[test]
fn connect_as_a_child() {
    let Some(path) = std::env::var_os("KEYNS_TEST_CONNECT") else {
        return;
    };
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let _second = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_socket_without_a_peer_has_no_credentials() {
    let family = rustix::net::AddressFamily::UNIX;
    let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None).unwrap();
    assert!(Caller::of(socket.as_fd()).is_err());
    let internet = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(Caller::of(internet.as_fd()).is_err());
}

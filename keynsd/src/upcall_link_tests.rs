//! The link against the client end that `keyns-upcall` uses.

use std::os::fd::AsFd;
use std::thread;

use keyns_sys::KeySerial;
use keyns_sys::upcall_socket::{UpcallSocket, read_sealed};
use keyns_sys::upcall_wire::{Doubts, RequesterFd};

use super::*;

fn request() -> Request {
    Request {
        target: KeySerial::new(1),
        auth: KeySerial::new(2),
        fsuid: 3,
        fsgid: 4,
        thread_keyring: KeySerial::NONE,
        process_keyring: KeySerial::NONE,
        session_keyring: KeySerial::new(5),
        attempt: 0,
        waited_ms: 0,
        tid: 6,
        tgid: 6,
        start_time: 7,
        fd: RequesterFd::ProcDirectory,
        doubts: Doubts::default(),
        uids: [0; 4],
        gids: [0; 4],
        permitted: 0,
        net_ns: 8,
        pid_ns: vec![9],
        user_ns: vec![10],
        cgroup: b"/".to_vec(),
        type_name: b"user".to_vec(),
        description: b"x".to_vec(),
        callout: SecretBytes::zeroed(0),
        comm: b"c".to_vec(),
        exe: b"/e".to_vec(),
    }
}

fn connect_and_send(path: &Path, bytes: &[u8]) -> UpcallSocket {
    let socket = UpcallSocket::connect(path).unwrap();
    let directory = fs::File::open("/proc/self").unwrap();
    socket.send(bytes, Some(directory.as_fd())).unwrap();
    socket
}

fn encoded() -> SecretBytes {
    ToDaemon::Request(Box::new(request())).encode().unwrap()
}

/// The next message and the payload of a memfd, waiting for it.
fn next(socket: &UpcallSocket) -> (ToUpcall, Option<SecretBytes>) {
    let packet = loop {
        match socket.receive(MAX_MESSAGE) {
            Ok(packet) => break packet.unwrap(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(e) => panic!("{e}"),
        }
    };
    let message = ToUpcall::decode(packet.bytes.as_slice()).unwrap();
    let payload = match message {
        ToUpcall::InstantiateFd { length } => {
            Some(read_sealed(packet.fd.unwrap().as_fd(), length as usize).unwrap())
        }
        _ => None,
    };
    (message, payload)
}

fn outcome(socket: &UpcallSocket, errno: i32, settled: bool) {
    let message = ToDaemon::Outcome { errno, settled };
    socket
        .send(message.encode().unwrap().as_slice(), None)
        .unwrap();
}

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("upcall.sock");
    Place { _dir: dir, path }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(20), test).await.unwrap() });
}

#[test]
fn a_refused_payload_is_followed_by_another_answer() {
    run(async {
        let place = place();
        let listener = UpcallListener::bind(&place.path).unwrap();
        let path = place.path.clone();
        let program = thread::spawn(move || {
            let socket = connect_and_send(&path, encoded().as_slice());
            let accepted = ToUpcall::Accepted {
                request: 77,
                deadline_ms: 9000,
            };
            assert_eq!(next(&socket).0, accepted);
            assert!(matches!(next(&socket).0, ToUpcall::Instantiate(p) if p.as_slice() == b"one"));
            outcome(&socket, 22, false);
            let large = next(&socket).1.unwrap();
            assert_eq!(large.as_slice(), vec![7; MAX_INLINE_PAYLOAD + 1]);
            outcome(&socket, 0, true);
        });
        let peer = listener.accept().await;
        assert_eq!(peer.pid(), std::process::id());
        let incoming = peer.recv_request().await.unwrap();
        assert_eq!(*incoming.request, request());
        assert!(
            rustix::fs::openat(
                &incoming.requester,
                "status",
                rustix::fs::OFlags::RDONLY,
                rustix::fs::Mode::empty()
            )
            .is_ok()
        );
        peer.accepted(77, Duration::from_secs(9)).await.unwrap();
        peer.instantiate(b"one").await.unwrap();
        assert_eq!(
            peer.outcome().await.unwrap(),
            Outcome {
                errno: 22,
                settled: false
            }
        );
        peer.instantiate(&vec![7; MAX_INLINE_PAYLOAD + 1])
            .await
            .unwrap();
        assert_eq!(
            peer.outcome().await.unwrap(),
            Outcome {
                errno: 0,
                settled: true
            }
        );
        assert_eq!(peer.closed().await, None);
        program.join().unwrap();
    });
}

#[test]
fn another_version_is_answered_with_unsupported() {
    run(async {
        let place = place();
        let listener = UpcallListener::bind(&place.path).unwrap();
        let mut bytes = encoded().as_slice().to_vec();
        bytes[0] = 2;
        let socket = connect_and_send(&place.path, &bytes);
        let refused = listener.accept().await.recv_request().await;
        assert!(matches!(
            refused,
            Err(LinkError::Wire(WireError::Version(2)))
        ));
        assert_eq!(next(&socket).0, ToUpcall::Unsupported);
    });
}

#[test]
fn rubbish_on_one_connection_ends_that_one_only() {
    run(async {
        let place = place();
        let listener = UpcallListener::bind(&place.path).unwrap();
        for bytes in [
            &b"x"[..],
            &[1, 0, 1, 0, 9],
            &[1, 0, 7, 0, 0, 0, 0, 0, 1],
            &[0; 200_000],
        ] {
            let _socket = connect_and_send(&place.path, bytes);
            assert!(listener.accept().await.recv_request().await.is_err());
        }
        let without_fd = UpcallSocket::connect(&place.path).unwrap();
        without_fd.send(encoded().as_slice(), None).unwrap();
        let refused = listener.accept().await.recv_request().await;
        assert!(matches!(refused, Err(LinkError::Unexpected(_))));
        let _good = connect_and_send(&place.path, encoded().as_slice());
        assert!(listener.accept().await.recv_request().await.is_ok());
    });
}

#[test]
fn a_silent_peer_is_given_up() {
    run(async {
        let place = place();
        let listener = UpcallListener::bind(&place.path).unwrap();
        let _silent = UpcallSocket::connect(&place.path).unwrap();
        let refused = listener.accept().await.recv_request().await;
        assert!(matches!(refused, Err(LinkError::Late(_))));
    });
}

#[test]
fn a_program_that_gives_up_or_dies_is_noticed_while_an_agent_works() {
    run(async {
        let place = place();
        let listener = UpcallListener::bind(&place.path).unwrap();
        let first = connect_and_send(&place.path, encoded().as_slice());
        let peer = listener.accept().await;
        peer.recv_request().await.unwrap();
        let pending = timeout(Duration::from_millis(50), peer.closed()).await;
        assert!(pending.is_err(), "nothing has happened yet");
        outcome(&first, 110, true);
        assert_eq!(
            peer.closed().await,
            Some(Outcome {
                errno: 110,
                settled: true
            })
        );
        drop(first);
        assert_eq!(peer.closed().await, None);
        assert!(matches!(
            peer.accepted(1, Duration::ZERO).await,
            Err(LinkError::Gone)
        ));
    });
}

#[test]
fn the_last_words_are_heard_although_the_answer_was_not() {
    run(async {
        let place = place();
        let listener = UpcallListener::bind(&place.path).unwrap();
        let socket = connect_and_send(&place.path, encoded().as_slice());
        let peer = listener.accept().await;
        peer.recv_request().await.unwrap();
        peer.accepted(1, Duration::from_secs(1)).await.unwrap();
        outcome(&socket, 4, true);
        drop(socket);
        assert_eq!(
            peer.outcome().await.unwrap(),
            Outcome {
                errno: 4,
                settled: true
            }
        );
        assert!(matches!(peer.outcome().await, Err(LinkError::Gone)));
    });
}

#[test]
fn a_payload_over_the_kernels_limit_is_refused_before_anything_is_sent() {
    run(async {
        let place = place();
        let listener = UpcallListener::bind(&place.path).unwrap();
        let socket = connect_and_send(&place.path, encoded().as_slice());
        let peer = listener.accept().await;
        peer.recv_request().await.unwrap();
        let refused = peer
            .instantiate(&vec![0; keyns_sys::key::MAX_PAYLOAD + 1])
            .await;
        assert!(matches!(refused, Err(LinkError::Wire(WireError::Range(_)))));
        peer.instantiate(&vec![1; keyns_sys::key::MAX_PAYLOAD])
            .await
            .unwrap();
        assert_eq!(next(&socket).1.unwrap().len(), keyns_sys::key::MAX_PAYLOAD);
    });
}

#[test]
fn a_socket_left_behind_is_replaced_and_the_own_one_removed() {
    run(async {
        let place = place();
        let former = UpcallListener::bind(&place.path).unwrap();
        let present = UpcallListener::bind(&place.path).unwrap();
        drop(former);
        let mode = fs::metadata(&place.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let _socket = UpcallSocket::connect(&place.path).unwrap();
        present.accept().await;
        drop(present);
        assert!(!place.path.exists());
    });
}

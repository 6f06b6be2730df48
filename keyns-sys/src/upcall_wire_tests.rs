//! Every message survives the way there and back, and no bytes make the reader panic.

use proptest::prelude::*;

use super::*;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=most)
}

prop_compose! {
    fn request()(
        serials in any::<[i32; 5]>(),
        fs in any::<[u32; 2]>(),
        counts in any::<[u32; 4]>(),
        start_time in any::<u64>(),
        thread in any::<bool>(),
        doubts in any::<[bool; 2]>(),
        uids in any::<[u32; 4]>(),
        gids in any::<[u32; 4]>(),
        masks in any::<[u64; 2]>(),
        pid_ns in prop::collection::vec(any::<u64>(), 0..=MAX_LEVELS),
        user_ns in prop::collection::vec(any::<u64>(), 0..=MAX_LEVELS),
        texts in (bytes(64), bytes(MAX_TYPE), bytes(300), bytes(2000), bytes(MAX_COMM), bytes(64)),
    ) -> Request {
        let [target, auth, thread_keyring, process_keyring, session_keyring] =
            serials.map(KeySerial::new);
        let (cgroup, type_name, description, callout, comm, exe) = texts;
        Request {
            target, auth, thread_keyring, process_keyring, session_keyring,
            fsuid: fs[0], fsgid: fs[1],
            attempt: counts[0], waited_ms: counts[1], tid: counts[2], tgid: counts[3],
            start_time,
            fd: if thread { RequesterFd::Thread } else { RequesterFd::ProcDirectory },
            doubts: Doubts { not_waiting: doubts[0], other_ids: doubts[1] },
            uids, gids, permitted: masks[0], net_ns: masks[1], pid_ns, user_ns,
            cgroup, type_name, description, callout: SecretBytes::new(callout), comm, exe,
        }
    }
}

fn example() -> Request {
    Request {
        target: KeySerial::new(0x0102_0304),
        auth: KeySerial::new(5),
        fsuid: u32::MAX - 1,
        fsgid: 1 << 31,
        thread_keyring: KeySerial::NONE,
        process_keyring: KeySerial::NONE,
        session_keyring: KeySerial::new(6),
        attempt: 0,
        waited_ms: 1,
        tid: 7,
        tgid: 8,
        start_time: 9,
        fd: RequesterFd::Thread,
        doubts: Doubts {
            not_waiting: false,
            other_ids: true,
        },
        uids: [1, 2, 3, 4],
        gids: [5, 6, 7, 8],
        permitted: 0x1ff,
        net_ns: 10,
        pid_ns: vec![11, 12],
        user_ns: vec![13],
        cgroup: b"/k".to_vec(),
        type_name: b"user".to_vec(),
        description: b"d".to_vec(),
        callout: SecretBytes::from(&b"info"[..]),
        comm: b"c".to_vec(),
        exe: b"/x".to_vec(),
    }
}

proptest! {
    #[test]
    fn a_request_comes_back_as_it_was(request in request()) {
        let message = ToDaemon::Request(Box::new(request));
        let bytes = message.encode().unwrap();
        prop_assert_eq!(ToDaemon::decode(bytes.as_slice()).unwrap(), message);
    }

    #[test]
    fn an_answer_comes_back_as_it_was(
        number in any::<u64>(),
        deadline_ms in any::<u32>(),
        payload in bytes(5000),
        length in 0..=MAX_PAYLOAD as u32,
        errno in 1..500i32,
        seconds in any::<u32>(),
    ) {
        for message in [
            ToUpcall::Unsupported,
            ToUpcall::Accepted { request: number, deadline_ms },
            ToUpcall::Instantiate(SecretBytes::new(payload)),
            ToUpcall::InstantiateFd { length },
            ToUpcall::Reject(Rejection::new(errno, seconds).unwrap()),
            ToUpcall::Original,
        ] {
            let bytes = message.encode().unwrap();
            prop_assert_eq!(ToUpcall::decode(bytes.as_slice()).unwrap(), message);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(kind in 0..10u16, body in bytes(400)) {
        let mut message = VERSION.to_le_bytes().to_vec();
        message.extend_from_slice(&kind.to_le_bytes());
        message.extend_from_slice(&body);
        let _ = ToDaemon::decode(&message);
        let _ = ToUpcall::decode(&message);
        let _ = ToDaemon::decode(&body);
        let _ = ToUpcall::decode(&body);
    }

    #[test]
    fn a_damaged_request_is_an_error_or_another_request(
        request in request(), at in any::<prop::sample::Index>(), value in any::<u8>(),
    ) {
        let bytes = ToDaemon::Request(Box::new(request)).encode().unwrap();
        let mut damaged = bytes.as_slice().to_vec();
        let at = at.index(damaged.len());
        damaged[at] = value;
        let _ = ToDaemon::decode(&damaged);
        prop_assert!(ToDaemon::decode(&damaged[..at]).is_err());
    }
}

#[test]
fn the_bytes_of_a_request_are_frozen() {
    let bytes = ToDaemon::Request(Box::new(example())).encode().unwrap();
    let mut expected: Vec<u8> = vec![1, 0, 1, 0, 4, 3, 2, 1, 5, 0, 0, 0];
    expected.extend([0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0x80]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0]);
    expected.extend([0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0]);
    expected.extend([9, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    for id in [1, 2, 3, 4, 5, 6, 7, 8] {
        expected.extend([id, 0, 0, 0]);
    }
    expected.extend([0xff, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([2, 0, 11, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend([1, 0, 13, 0, 0, 0, 0, 0, 0, 0]);
    for text in ["/k", "user", "d", "info", "c", "/x"] {
        expected.extend([text.len() as u8, 0, 0, 0]);
        expected.extend(text.bytes());
    }
    assert_eq!(bytes.as_slice(), expected);
}

#[test]
fn the_bytes_of_the_answers_are_frozen() {
    let bytes = |m: ToUpcall| m.encode().unwrap().as_slice().to_vec();
    assert_eq!(bytes(ToUpcall::Unsupported), [1, 0, 0, 0]);
    assert_eq!(
        bytes(ToUpcall::Accepted {
            request: 258,
            deadline_ms: 10_000
        }),
        [1, 0, 2, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0x10, 0x27, 0, 0]
    );
    let payload = SecretBytes::from(&b"ab"[..]);
    assert_eq!(
        bytes(ToUpcall::Instantiate(payload)),
        [1, 0, 3, 0, 2, 0, 0, 0, b'a', b'b']
    );
    assert_eq!(
        bytes(ToUpcall::InstantiateFd { length: 65537 }),
        [1, 0, 4, 0, 1, 0, 1, 0]
    );
    let rejection = Rejection::new(libc::ENOKEY, 5).unwrap();
    assert_eq!(
        bytes(ToUpcall::Reject(rejection)),
        [1, 0, 5, 0, 126, 0, 0, 0, 5, 0, 0, 0]
    );
    assert_eq!(bytes(ToUpcall::Original), [1, 0, 6, 0]);
    let outcome = ToDaemon::Outcome {
        errno: libc::EINVAL,
        settled: false,
    };
    assert_eq!(
        outcome.encode().unwrap().as_slice(),
        [1, 0, 7, 0, 22, 0, 0, 0, 0]
    );
}

#[test]
fn another_version_is_told_apart_from_rubbish() {
    assert_eq!(
        ToUpcall::decode(&[2, 0, 3, 0, 1]),
        Err(WireError::Version(2))
    );
    assert_eq!(
        ToUpcall::decode(&[2, 0, 0, 0, 1, 2, 3]),
        Ok(ToUpcall::Unsupported)
    );
    assert_eq!(ToUpcall::decode(&[2, 0, 3]), Err(WireError::Truncated));
}

#[test]
fn a_field_over_its_limit_is_refused_when_written_and_when_read() {
    let mut long = example();
    long.callout = SecretBytes::zeroed(MAX_CALLOUT + 1);
    let message = ToDaemon::Request(Box::new(long));
    assert_eq!(message.encode(), Err(WireError::Range("callout")));
    let mut bytes = vec![1, 0, 3, 0];
    bytes.extend((MAX_INLINE_PAYLOAD as u32 + 1).to_le_bytes());
    bytes.resize(8 + MAX_INLINE_PAYLOAD + 1, 0);
    assert_eq!(ToUpcall::decode(&bytes), Err(WireError::Range("payload")));
}

#[test]
fn the_longest_request_fits_a_message() {
    let mut longest = example();
    longest.callout = SecretBytes::zeroed(MAX_CALLOUT);
    longest.description = vec![0; MAX_DESCRIPTION];
    longest.type_name = vec![0; MAX_TYPE];
    longest.cgroup = vec![0; MAX_PATH];
    longest.exe = vec![0; MAX_PATH];
    longest.comm = vec![0; MAX_COMM];
    longest.pid_ns = vec![0; MAX_LEVELS];
    longest.user_ns = vec![0; MAX_LEVELS];
    let bytes = ToDaemon::Request(Box::new(longest)).encode().unwrap();
    assert!(bytes.len() <= MAX_MESSAGE);
}

#[test]
fn a_request_is_encoded_without_growing_its_buffer() {
    let mut empty = example();
    empty.callout = SecretBytes::default();
    for text in [
        &mut empty.description,
        &mut empty.type_name,
        &mut empty.cgroup,
    ] {
        text.clear();
    }
    empty.pid_ns.clear();
    for request in [example(), empty] {
        let room = request.room();
        let bytes = ToDaemon::Request(Box::new(request)).encode().unwrap();
        assert!(bytes.len() <= room, "{} in {room}", bytes.len());
    }
}

#[test]
fn a_rejection_is_one_the_kernel_takes() {
    for errno in [i32::MIN, -1, 0, 512, 513, 514, 516, 4095, i32::MAX] {
        assert_eq!(Rejection::new(errno, 5), None, "{errno}");
    }
    assert_eq!(Rejection::new(libc::EPERM, 0).unwrap().seconds(), 1);
    assert_eq!(Rejection::new(libc::EPERM, u32::MAX).unwrap().seconds(), 60);
}

#[test]
fn debug_shows_no_callout_information() {
    let mut request = example();
    request.callout = SecretBytes::from(&b"hunter2"[..]);
    assert!(!format!("{request:?}").contains("hunter2"));
    assert!(!format!("{request:?}").contains("104, 117"));
}

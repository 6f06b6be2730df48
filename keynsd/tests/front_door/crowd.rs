//! Many connections at once.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use keyns_interfaces::blocking::Client;
use keyns_interfaces::manager::GetStatus;
use keyns_interfaces::{ClientError, ErrorKind};
use keynsd::front::{Limits, raise_descriptor_limit};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::identity::as_user;
use crate::server::{Raw, Server, eventually};

const NOBODY: u32 = 65_534;

fn refused_for_lack_of_room(server: &Server) -> bool {
    let Ok(mut client) = Client::connect(server.path()) else {
        return false;
    };
    match client.call(&GetStatus {}, vec![]) {
        Err(ClientError::Refused(error)) => error.kind == ErrorKind::LimitReached,
        _ => false,
    }
}

/// How many of `sockets` the daemon has not closed.
fn alive(sockets: &mut [UnixStream]) -> usize {
    let mut byte = [0; 512];
    sockets
        .iter_mut()
        .filter_map(|socket| {
            socket.set_nonblocking(true).unwrap();
            // A refusal is sent before the end.
            let ended = loop {
                match socket.read(&mut byte) {
                    Ok(0) => break true,
                    Ok(_) => {}
                    Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
                }
            };
            (!ended).then_some(())
        })
        .count()
}

fn admin_answers_in(server: &Server) -> Duration {
    let begun = Instant::now();
    let mut admin = Client::connect(server.admin()).unwrap();
    admin.call(&GetStatus {}, vec![]).unwrap();
    begun.elapsed()
}

/// The machine may be busy with something else for a moment; a door that is shut is shut each time.
fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn one_uid_has_its_share_and_gets_it_back() {
    let server = Server::start();
    let mut held: Vec<_> = (0..64).map(|_| server.client()).collect();
    for client in &mut held {
        client.call(&GetStatus {}, vec![]).unwrap();
    }
    assert!(refused_for_lack_of_room(&server));
    // The share of one is not that of another.
    let path = server.path();
    let other = as_user(NOBODY, move || {
        Client::connect(path)
            .unwrap()
            .call(&GetStatus {}, vec![])
            .map(|(status, _)| status)
    });
    assert_eq!(other.unwrap().version, NOBODY.to_string());
    held.pop();
    eventually("a place is free again", || {
        !refused_for_lack_of_room(&server)
    });
}

#[test]
fn all_together_have_their_share_and_that_of_root_is_kept() {
    let server = Server::with(Limits {
        total: 10,
        per_uid: 4,
        ..Limits::default()
    });
    let many = |uid| {
        let path = server.path();
        as_user(uid, move || {
            let mut held: Vec<_> = (0..5)
                .map(|_| Raw::new(UnixStream::connect(&path).unwrap()))
                .collect();
            held.retain_mut(|raw| {
                // One that was refused is closed already.
                let _ = raw
                    .0
                    .write_all(b"{\"method\": \"org.keyns.Manager.GetStatus\"}\0");
                raw.reply()
                    .is_some_and(|reply| reply.get("error").is_none())
            });
            held
        })
    };
    // Two uids of one user take six places: four of ten are root's.
    let (one, other) = (many(NOBODY), many(NOBODY - 1));
    assert_eq!((one.len(), other.len()), (4, 2));
    let mut root: Vec<_> = (0..4).map(|_| server.client()).collect();
    for client in &mut root {
        client.call(&GetStatus {}, vec![]).unwrap();
    }
    assert!(refused_for_lack_of_room(&server));
}

#[test]
fn idle_connections_are_closed_and_subscriptions_are_not_idle() {
    let idle = Duration::from_millis(300);
    let server = Server::with(Limits {
        idle,
        ..Limits::default()
    });
    let mut raw = server.raw();
    let mut subscriber = server.raw();
    subscriber
        .send(r#"{"method": "org.keyns.Containers.Subscribe", "more": true}"#)
        .reply();
    let begun = Instant::now();
    assert!(raw.is_closed_within(Duration::from_secs(3)));
    assert!(begun.elapsed() >= Duration::from_millis(250));
    assert!(!subscriber.is_closed_within(Duration::from_secs(1)));
}

#[test]
fn two_thousand_idle_connections_of_each_do_not_lock_out_the_administrator() {
    // Both ends are in this process; a hard limit below this would have to be stated.
    assert!(raise_descriptor_limit().unwrap() >= 8_000);
    let server = Server::start();
    let path = server.path();
    let crowd = |path: &std::path::Path| -> Vec<UnixStream> {
        (0..2_000)
            .map(|_| UnixStream::connect(path).unwrap())
            .collect()
    };
    let mut of_root = crowd(&path);
    let mut of_nobody = as_user(NOBODY, move || crowd(&path));
    eventually("all but the shares are refused", || {
        alive(&mut of_root) == 64 && alive(&mut of_nobody) == 64
    });
    assert!(refused_for_lack_of_room(&server));
    let typical = median((0..21).map(|_| admin_answers_in(&server)));
    assert!(typical < Duration::from_millis(100), "{typical:?}");
    drop((of_root, of_nobody));
    eventually("everyone is served again", || {
        !refused_for_lack_of_room(&server)
    });
}

#[test]
fn the_administrator_is_served_while_connections_pour_in() {
    let server = Server::start();
    let path = server.path();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let flood = std::thread::spawn(move || {
        let mut made = 0_u32;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            drop(UnixStream::connect(&path));
            made += 1;
        }
        made
    });
    let typical = median((0..51).map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        admin_answers_in(&server)
    }));
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(flood.join().unwrap() > 100);
    assert!(typical < Duration::from_millis(100), "{typical:?}");
}

#[test]
fn a_daemon_out_of_descriptors_serves_again_when_it_has_some() {
    // In a process of its own: the limit is the process's.
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crowd::starve_as_a_child"])
        .env("KEYNS_TEST_STARVE", "1")
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn starve_as_a_child() {
    if std::env::var_os("KEYNS_TEST_STARVE").is_none() {
        return;
    }
    let limit = Rlimit {
        current: Some(100),
        maximum: Some(100),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let server = Server::start();
    server.assert_serving();
    let mut waiting = Vec::new();
    for spare in [1, 2, 3] {
        let mut hoard = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        hoard.truncate(hoard.len() - spare);
        while let Ok(socket) = UnixStream::connect(server.path()) {
            waiting.push(socket);
        }
        assert!(!waiting.is_empty());
        std::thread::sleep(Duration::from_millis(100));
        drop(hoard);
        server.assert_serving();
        assert!(
            Client::connect(server.admin())
                .unwrap()
                .call(&GetStatus {}, vec![])
                .is_ok()
        );
    }
}

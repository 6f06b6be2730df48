//! Daemons that stop answering, talk rubbish, go away and come back.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use keyns_tests::instance::Instance;
use keyns_tests::terminal::Terminal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dashboard;

/// A daemon that is stopped, and goes on whatever becomes of the test.
struct Stopped(Pid);

impl Stopped {
    fn new(daemon: Pid) -> Self {
        kill(daemon, Signal::SIGSTOP).unwrap();
        Self(daemon)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

/// The dashboard with a daemon that has a container.
fn watching(instance: &Instance) -> Terminal {
    instance.ok(&["container", "create", "web"]);
    let terminal = Terminal::start(&dashboard(&["--instance", &instance.name]), 100, 30);
    terminal.shows(&format!("keynsd {}", &instance.name[..6]));
    terminal.shows("container web");
    terminal
}

/// How long it takes until a key has an effect.
fn reacts(terminal: &Terminal) -> Duration {
    let begun = Instant::now();
    terminal.press("?");
    terminal.shows(" Help ");
    let took = begun.elapsed();
    terminal.press("\u{3}");
    terminal.until("no dialog", |text| !text.contains(" Help "));
    took
}

#[test]
fn a_daemon_that_stops_answering_is_stale_and_holds_nobody_up() {
    let instance = Instance::start("hang");
    let mut terminal = watching(&instance);
    let stopped = Stopped::new(instance.daemon_pid());
    // Questions to it hang now; keys, the screen and own keys do not.
    terminal.press("r");
    let took = reacts(&terminal);
    assert!(took < Duration::from_secs(1), "{took:?}");
    terminal.shows("stale since ");
    // What was known stays.
    terminal.shows("container web");
    let took = reacts(&terminal);
    assert!(took < Duration::from_secs(1), "{took:?}");
    drop(stopped);
    terminal.until("the daemon again", |text| !text.contains("stale since"));
    instance.ok(&["container", "create", "later"]);
    terminal.shows("container later");
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_as_before();
    drop(terminal);
    instance.stop();
}

#[test]
fn it_can_be_ended_while_the_daemon_does_not_answer() {
    let instance = Instance::start("hang");
    let mut terminal = watching(&instance);
    let stopped = Stopped::new(instance.daemon_pid());
    terminal.press("r");
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    terminal.is_as_before();
    drop(stopped);
    drop(terminal);
    instance.stop();
}

#[test]
fn a_daemon_that_restarts_is_found_again() {
    let mut instance = Instance::start("again");
    let mut terminal = watching(&instance);
    instance.kill_daemon();
    terminal.shows("stale since ");
    terminal.shows("container web");
    instance.start_daemon();
    terminal.until("the daemon again", |text| !text.contains("stale since"));
    instance.ok(&["container", "create", "later"]);
    terminal.shows("container later");
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
    drop(terminal);
    instance.stop();
}

#[test]
fn a_daemon_that_comes_later_is_found() {
    let mut instance = Instance::start("late");
    instance.kill_daemon();
    let mut terminal = Terminal::start(&dashboard(&["--instance", &instance.name]), 100, 30);
    terminal.shows("no keynsd: only your own keys");
    terminal.shows("@s");
    instance.start_daemon();
    terminal.shows("keynsd late");
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
    drop(terminal);
    instance.stop();
}

#[test]
fn rubbish_from_a_socket_is_said_and_harms_nobody() {
    let long = vec![b'x'; 3 << 20];
    let nested = ["[".repeat(100_000).as_bytes(), b"\0"].concat();
    let answers: [&[u8]; 8] = [
        b"",
        b"\0\0\0\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n\0",
        b"\xff\xfe\x00\x1b[2J\x1b]0;title\x07\0",
        b"{\"parameters\":{\"instance\":7}}\0",
        b"{\"error\":\"org.keyns.\x1b[31mNo\",\"parameters\":{}}\0",
        &long,
        &nested,
    ];
    for answer in answers {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("keynsd");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = answer.to_vec();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(mut client) = client else { return };
                let answer = answer.clone();
                std::thread::spawn(move || {
                    let _ = client.read(&mut [0; 4096]);
                    let _ = client.write_all(&answer);
                });
            }
        });
        let socket = socket.to_str().unwrap();
        let mut terminal = Terminal::start(&dashboard(&["--socket", socket]), 100, 30);
        terminal.shows("@s");
        terminal.until("what is wrong", |text| {
            text.lines()
                .next()
                .is_some_and(|row| row.contains("keynsd: ") || row.contains("only your own keys"))
        });
        assert!(reacts(&terminal) < Duration::from_secs(1));
        terminal.press("q");
        assert_eq!(terminal.ends().code(), Some(0));
        terminal.is_as_before();
        let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
        assert!(
            !bytes.contains("\u{1b}]0;") && !bytes.contains("\u{1b}[31mNo"),
            "{bytes}"
        );
    }
}

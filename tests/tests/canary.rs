//! Payloads go where they are sent and nowhere else: random texts pass through every way a payload
//! takes, and are then looked for in all that keyns writes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use keyns::takeover::{TakeOver, TakeOverError, take_over};
use keyns_tests::instance::{Instance, Ran};
use keyns_tests::{bin_dir, unique};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A text that is nowhere else on this machine.
fn canary() -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    // 30 bytes: base64 without padding, and one line of hexadecimal.
    format!(
        "canary{}",
        random.trim().replace('-', "").get(..24).unwrap()
    )
}

/// What is looked for.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    fn new(canaries: &[&String]) -> Self {
        let mut needles = Vec::new();
        for text in canaries {
            let bytes = text.as_bytes();
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            needles.push(((*text).clone(), bytes.to_vec()));
            needles.push((format!("{text} in base64"), base64(bytes).into_bytes()));
            needles.push((format!("{text} in hexadecimal"), hex.into_bytes()));
            // As `{:?}` prints bytes.
            needles.push((
                format!("{text} as numbers"),
                numbers.join(", ").into_bytes(),
            ));
        }
        Self(needles)
    }

    fn found_in(&self, haystack: &[u8]) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|(_, needle)| haystack.windows(needle.len()).any(|part| part == needle));
        found.map(|(name, _)| name.as_str())
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert_eq!(bytes.len() % 3, 0);
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[bits >> shift & 63]));
        }
    }
    text
}

/// Runs a command with a payload on its standard input.
fn fed(instance: &Instance, arguments: &[&str], payload: &str) -> Ran {
    let mut child = instance
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(payload.as_bytes());
    child.wait_with_output().unwrap().into()
}

/// A process in the container that asks for keys.
struct Denizen {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Denizen {
    fn start(instance: &Instance, container: &str) -> Self {
        let asker = env!("CARGO_BIN_EXE_asker");
        let mut child = instance
            .command(&[
                "container",
                "run",
                "--program",
                asker,
                container,
                "--",
                "asker",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// Takes over `/sbin/request-key`; waits while a run with other programs has it.
fn taken() -> TakeOver {
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        match take_over(&bin_dir().join("keyns-upcall")) {
            Ok(taken) => return taken,
            Err(TakeOverError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// All files below a directory that can be read.
fn files(directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&path, found);
        } else if kind.is_file() {
            // Pins of namespaces cannot be read.
            found.extend(
                fs::read(&path)
                    .ok()
                    .map(|text| (path.display().to_string(), text)),
            );
        }
    }
}

/// A command that runs beside, with all it prints in a file; interrupted when this is dropped.
struct Beside(Child);

impl Beside {
    fn start(instance: &Instance, arguments: &[&str], file: &Path) -> Self {
        let log = File::create(file).unwrap();
        let mut command = instance.command(arguments);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        Self(child.unwrap())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        // It may have ended with the daemon.
        let _ = kill(pid, Signal::SIGINT);
        self.0.wait().unwrap();
    }
}

#[test]
fn a_payload_is_only_where_it_was_sent() {
    let _taken = taken();
    let instance = Instance::start_logging(unique("canary"), "trace");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let (added, updated, answered, served, refused) =
        (canary(), canary(), canary(), canary(), canary());
    let needles = Needles::new(&[&added, &updated, &answered, &served, &refused]);
    let mut printed: Vec<(String, Vec<u8>)> = Vec::new();
    let mut keep = |what: &[&str], ran: Ran| {
        let text = format!("{}{}", ran.out, ran.err).into_bytes();
        printed.push((what.join(" "), text));
        ran.code
    };
    let _watch = Beside::start(&instance, &["--json", "watch"], &file("watch"));
    instance.until("the watch has begun", || {
        fs::read_to_string(file("watch"))
            .unwrap()
            .matches("subscribed")
            .count()
            == 3
    });

    // Added, updated, granted, read inside.
    instance.ok(&["container", "create", "web"]);
    let mut denizen = Denizen::start(&instance, "web");
    let add = ["--json", "add", "user", "token", "--container", "web"];
    assert_eq!(keep(&add, fed(&instance, &add, &added)), 0);
    let grant = [
        "--json",
        "grant",
        "web/user:token",
        "container:web",
        "search",
        "--accept-implied",
        "read,inval",
    ];
    assert_eq!(keep(&grant, instance.run(&grant)), 0);
    denizen.tell("find user token");
    assert_eq!(denizen.hear(), format!("ok {added}"));
    let update = ["--json", "update", "web/user:token"];
    assert_eq!(keep(&update, fed(&instance, &update, &updated)), 0);
    denizen.tell("find user token");
    assert_eq!(denizen.hear(), format!("ok {updated}"));

    // Answered by hand.
    instance.ok(&["intercept", "web", "user"]);
    denizen.tell("value user by-hand callout");
    let mut id = String::new();
    instance.until("the request waits", || {
        let waiting = instance.json(&["upcalls"]);
        id = waiting["upcalls"][0]["id"].to_string();
        id != "null"
    });
    let answer = ["--json", "answer", &id, "--payload-stdin"];
    assert_eq!(keep(&answer, fed(&instance, &answer, &answered)), 0);
    assert_eq!(denizen.hear(), format!("ok {answered}"));

    // Answered by an agent; and by one whose program prints the payload and fails.
    instance.ok(&["intercept", "web", "user", "--agent", "good"]);
    instance.ok(&["intercept", "web", "logon", "--agent", "bad"]);
    fs::write(file("payload"), &served).unwrap();
    let payload = file("payload");
    let good = [
        "agent",
        "serve",
        "user",
        "--name",
        "good",
        "--",
        "cat",
        payload.to_str().unwrap(),
    ];
    let script = format!("cat {}; exit 3", payload.display());
    let bad = [
        "agent", "serve", "logon", "--name", "bad", "--", "sh", "-c", &script,
    ];
    let _agents = [
        Beside::start(&instance, &good, &file("good")),
        Beside::start(&instance, &bad, &file("bad")),
    ];
    instance.until("the agents are there", || {
        instance.json(&["agent", "list"])["agents"]
            .as_array()
            .unwrap()
            .len()
            == 2
    });
    denizen.tell("value user by-agent callout");
    assert_eq!(denizen.hear(), format!("ok {served}"));
    denizen.tell("value logon app:by-agent callout");
    assert_eq!(denizen.hear(), format!("err {}", libc::ENOKEY));

    // Refused, with the payload in hand.
    #[rustfmt::skip]
    let refusals: [&[&str]; 7] = [
        &["add", "user", "token", "--container", "web"],
        &["add", "nonsense", "x", "--container", "web"],
        &["add", "logon", "no-colon", "--container", "web"],
        &["add", "user", "x", "--container", "nowhere"],
        &["update", "web/user:none"],
        &["answer", "4711", "--payload-stdin"],
        &["answer", &id, "--payload-stdin"],
    ];
    for arguments in refusals {
        let ran = fed(&instance, arguments, &refused);
        assert_ne!(keep(arguments, ran), 0, "{arguments:?}");
        let json = [&["--json"], arguments].concat();
        assert_ne!(
            keep(&json, fed(&instance, &json, &refused)),
            0,
            "{arguments:?}"
        );
    }

    // All that shows something.
    #[rustfmt::skip]
    let shows: [&[&str]; 15] = [
        &["container", "list"], &["container", "show", "web"], &["container", "keyring", "web"],
        &["list", "--all"], &["list", "--container", "web"], &["tree"],
        &["describe", "web/user:token"], &["agent", "list"], &["acl", "web/user:token"],
        &["upcalls"], &["upcalls", "--history", "9"], &["query", &id], &["intercept", "list"],
        &["features"], &["ungrant", "web/user:token", "container:web"],
    ];
    for arguments in shows {
        let plain = instance.run(arguments);
        assert_eq!(plain.code, 0, "{arguments:?}: {}", plain.err);
        keep(arguments, plain);
        let json = [&["--json"], arguments].concat();
        keep(&json, instance.run(&json));
    }

    // The controls: where it was sent, it is found.
    let read = instance
        .command(&["read", "web/user:token"])
        .output()
        .unwrap();
    assert_eq!(read.stdout, updated.as_bytes());
    assert!(needles.found_in(&read.stdout).is_some());
    let json = instance.ok(&["--json", "read", "web/user:token"]);
    assert!(
        needles
            .found_in(json.as_bytes())
            .unwrap()
            .ends_with("base64"),
        "{json}"
    );
    // A dump has lines; where they break depends on the payload's length.
    let hex: String = instance
        .ok(&["read", "--hex", "web/user:token"])
        .split_whitespace()
        .collect();
    assert!(
        needles
            .found_in(hex.as_bytes())
            .unwrap()
            .ends_with("hexadecimal"),
        "{hex}"
    );
    let saved = instance
        .command(&["read", "web/user:token"])
        .stdout(File::create(file("saved")).unwrap())
        .status()
        .unwrap();
    assert!(saved.success());
    assert_eq!(fs::read(file("saved")).unwrap(), updated.as_bytes());

    denizen.end();
    instance.until("the watch has seen the end", || {
        fs::read_to_string(file("watch"))
            .unwrap()
            .contains("container-dead")
    });
    let mut written = printed;
    for output in ["watch", "good", "bad"] {
        let text = fs::read(file(output)).unwrap();
        assert!(!text.is_empty(), "{output} printed nothing");
        written.push((output.to_owned(), text));
    }
    let events = fs::read_to_string(file("watch")).unwrap();
    for event in [
        "key-added",
        "key-updated",
        "key-granted",
        "upcall-answered",
        "upcall-rejected",
    ] {
        assert!(events.contains(event), "{event}: {events}");
    }
    let log = instance.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    written.push(("the daemon's log".to_owned(), log.into_bytes()));
    let before = written.len();
    files(&instance.runtime(), &mut written);
    files(
        &Path::new("/var/lib/keyns").join(&instance.name),
        &mut written,
    );
    files(Path::new("/run/keyns/live"), &mut written);
    assert!(written.len() > before + 3, "hardly any files");
    for (place, text) in &written {
        if let Some(found) = needles.found_in(text) {
            panic!("{found} is in {place}: {}", String::from_utf8_lossy(text));
        }
    }
    instance.stop();
}

#[test]
fn a_payload_is_not_shown_on_a_terminal_unless_that_is_wanted() {
    let instance = Instance::start("reveal");
    instance.ok(&["container", "create", "web"]);
    let text = canary();
    let added = fed(
        &instance,
        &["add", "user", "token", "--container", "web"],
        &text,
    );
    assert_eq!(added.code, 0, "{}", added.err);
    let on_terminal = |arguments: &[&str]| {
        let pty = nix::pty::openpty(None, None).unwrap();
        let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command: Command = instance.command(arguments);
        let mut child = command
            .stdin(terminal())
            .stdout(terminal())
            .stderr(terminal())
            .spawn()
            .unwrap();
        drop((command, pty.slave));
        let (mut shown, mut buffer) = (String::new(), [0; 4096]);
        let mut master = File::from(pty.master);
        // The end of the last holder of the terminal is EIO here.
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        (shown, child.wait().unwrap().code().unwrap())
    };
    let (shown, code) = on_terminal(&["read", "web/user:token"]);
    assert_ne!(code, 0, "{shown}");
    assert!(
        shown.contains("--reveal") && !shown.contains(&text),
        "{shown}"
    );
    let (shown, code) = on_terminal(&["--json", "read", "web/user:token"]);
    assert_ne!(code, 0, "{shown}");
    assert!(!shown.contains(&base64(text.as_bytes())), "{shown}");
    let (shown, code) = on_terminal(&["read", "--reveal", "web/user:token"]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(&text), "{shown}");
    let silent = instance.ok(&["read", "web/user:token"]);
    assert_eq!(silent, text, "to a pipe it goes as it is");
    instance.stop();
}

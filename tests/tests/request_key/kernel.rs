//! Requests by the kernel itself, served by either program in the place of the original.
//!
//! There is one `/sbin/request-key` per machine, so that these tests run one after the other, and
//! requests of others fail meanwhile. None of the handlers asks for a key that does not exist.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use keyns::takeover::{Root, TakeOver, TakeOverError, status, take_over};
use keyns_sys::{KeySerial, key};
use keyns_tests::{bin_dir, unique};

use crate::{Program, Scratch, libraries, packages};

const ENOKEY: i32 = 126;
const EKEYREJECTED: i32 = 129;

static ALONE: Mutex<()> = Mutex::new(());

/// While this lives, requests of the host are served by one of the programs, which reads the
/// configuration in a scratch directory and writes its messages there.
struct Serving {
    place: PathBuf,
    created: bool,
    messages: PathBuf,
    _over: TakeOver,
    _alone: MutexGuard<'static, ()>,
}

impl Serving {
    fn start(program: Program, scratch: &Scratch) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let over = take();
        let library = libraries();
        let (program, library) = (program.path(), library.display().to_string());
        // One that does not end must not hold a requester, which nobody can kill, for ever.
        let script = scratch.script(
            "request-key",
            &format!(
                "cd {} || exit 1\nLD_LIBRARY_PATH={library} exec timeout -k 1 20 {} -lnv \"$@\" \
                 2>>messages",
                scratch.path().display(),
                program.display()
            ),
        );
        let found = status(&Root::default()).unwrap();
        assert!(found.means.is_some(), "no take-over is known of");
        let place = match found.original {
            Some((original, _)) => original,
            None => "/run/keyns/request-key.orig".into(),
        };
        let created = !place.exists();
        if created {
            fs::write(&place, "").unwrap();
        }
        rustix::mount::mount_bind(Path::new(&script), &place).unwrap();
        Self {
            place,
            created,
            messages: scratch.path().join("messages"),
            _over: over,
            _alone: alone,
        }
    }

    fn messages(&self) -> String {
        fs::read_to_string(&self.messages).unwrap_or_default()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH).unwrap();
        if self.created {
            fs::remove_file(&self.place).unwrap();
        }
    }
}

/// Takes over; waits while a run with another program has it.
fn take() -> TakeOver {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match take_over(&bin_dir().join("keyns-upcall")) {
            Ok(over) => return over,
            Err(TakeOverError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// A session keyring of its own, in which keys are asked for; it goes with its thread.
fn in_session<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            key::join_session_keyring(None).unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

fn ask(description: &str, callout: &str) -> Result<Vec<u8>, i32> {
    let (description, callout) = (CString::new(description), CString::new(callout));
    let (description, callout) = (description.unwrap(), callout.unwrap());
    let errno = |error: std::io::Error| error.raw_os_error().unwrap();
    let serial = key::request_key(c"user", &description, Some(&callout), KeySerial::SESSION);
    key::read(serial.map_err(errno)?).map_err(errno)
}

/// A `keyctl` that finds its library.
fn keyctl(scratch: &Scratch) -> String {
    let (program, library) = (packages().join("bin/keyctl"), libraries());
    let (program, library) = (program.display(), library.display());
    scratch.script(
        "keyctl",
        &format!("LD_LIBRARY_PATH={library} exec {program} \"$@\" >/dev/null"),
    )
}

/// A rule and what a requester gets of it: from ours, and from the C program.
struct Case {
    name: &'static str,
    command: String,
    negate: Option<String>,
    callout: &'static str,
    expected: [Result<Vec<u8>, i32>; 2],
}

impl Case {
    fn new(name: &'static str, command: impl Into<String>, expected: Result<&[u8], i32>) -> Self {
        let expected = expected.map(<[u8]>::to_vec);
        Self {
            name,
            command: command.into(),
            negate: None,
            callout: "information",
            expected: [expected.clone(), expected],
        }
    }
}

fn cases(scratch: &Scratch) -> Vec<Case> {
    let keyctl = keyctl(scratch);
    let script = |name: &str, text: &str| scratch.script(name, text);
    let fails = script("fails", "echo complaint >&2; cat >/dev/null; exit 3");
    let nothing = || Err(ENOKEY);
    let zeros = |n: usize| vec![0; n];
    let mut negated = Case::new("negated", format!("|{fails}"), nothing());
    negated.negate = Some(format!("{keyctl} reject %k 1 rejected %S"));
    // The C program runs the program again instead.
    negated.expected[0] = Err(EKEYREJECTED);
    let mut silent = Case::new(
        "silent",
        format!("{keyctl} instantiate %k none%c %S"),
        Ok(b"none%c"),
    );
    silent.callout = "";
    let mut cut = Case::new(
        "token",
        format!("{keyctl} instantiate %k %{{user:reqkey-token}} %S"),
        Ok(b"a token"),
    );
    cut.callout = "x";
    vec![
        Case::new(
            "instantiated",
            format!("{keyctl} instantiate %k %c %S"),
            Ok(b"information"),
        ),
        silent,
        cut,
        Case::new("nowhere", format!("{keyctl} instantiate %k x 0"), Ok(b"x")),
        Case::new("negative", format!("{keyctl} negate %k 1 %S"), nothing()),
        Case::new(
            "rejected",
            format!("{keyctl} reject %k 1 rejected %S"),
            Err(EKEYREJECTED),
        ),
        Case::new("untouched", "/bin/true %k", nothing()),
        Case::new("unknown", "/nonexistent/program %k", nothing()),
        Case::new("bad-macro", format!("{keyctl} negate %k 1 %Z"), nothing()),
        Case::new("piped", "|/bin/cat", Ok(b"information")),
        Case::new("piped-unknown", "|/nonexistent/program", nothing()),
        Case::new("piped-failing", format!("|{fails}"), nothing()),
        negated,
        Case::new(
            "piped-killed",
            format!("|{}", script("killed", "kill -9 $$")),
            nothing(),
        ),
        // A key of type `user` holds 1 to 32767 bytes.
        Case::new(
            "piped-empty",
            format!("|{}", script("empty", "exit 0")),
            nothing(),
        ),
        Case::new(
            "piped-32767",
            format!("|{}", script("s32767", "exec head -c 32767 /dev/zero")),
            Ok(&zeros(32767)),
        ),
        Case::new(
            "piped-32768",
            format!("|{}", script("s32768", "exec head -c 32768 /dev/zero")),
            nothing(),
        ),
        Case::new(
            "piped-endless",
            format!("|{}", script("endless", "exec yes 2>/dev/null")),
            nothing(),
        ),
        Case::new(
            "piped-deaf",
            format!("|{}", script("deaf", "exec <&-; sleep 0.2; printf deaf")),
            Ok(b"deaf"),
        ),
        Case::new(
            "piped-slow",
            format!("|{}", script("slow", "sleep 0.7; printf slow")),
            Ok(b"slow"),
        ),
        Case::new("piped-no-slash", "|cat", nothing()),
    ]
}

#[test]
fn requesters_get_the_same_answers() {
    let scratch = Scratch::new();
    let cases = cases(&scratch);
    let mut rules = String::new();
    for case in &cases {
        let name = case.name;
        rules += &format!("create user reqkey:{name}:* * {}\n", case.command);
        if let Some(command) = &case.negate {
            rules += &format!("negate user reqkey:{name}:* * {command}\n");
        }
    }
    scratch.file("request-key.conf", rules);
    for (program, which) in Program::BOTH.into_iter().zip(0..) {
        let serving = Serving::start(program, &scratch);
        for case in &cases {
            let description = unique(&format!("reqkey:{}:", case.name));
            let start = Instant::now();
            let answer = in_session(|| {
                let token = c"reqkey-token";
                key::add_key(c"user", token, b"a token", KeySerial::SESSION).unwrap();
                ask(&description, case.callout)
            });
            let took = start.elapsed();
            assert!(
                answer == case.expected[which],
                "{program:?} {}: {:?}\n{}",
                case.name,
                answer.map(|payload| payload.len()),
                serving.messages()
            );
            assert!(took < Duration::from_secs(15), "{program:?} {}", case.name);
            if case.name == "piped-slow" {
                assert!(took >= Duration::from_millis(700), "it is waited for");
            }
        }
        let said = serving.messages();
        assert!(said.contains("Child: complaint\n"), "{said}");
        assert!(said.contains("instantiation successful\n"), "{said}");
        assert!(
            said.contains("Too much data read from query program\n"),
            "{said}"
        );
        assert!(!said.contains("a token\n"), "{said}");
        fs::remove_file(&serving.messages).unwrap();
    }
}

#[test]
fn a_negative_answer_lasts_as_long_as_its_rule_says() {
    let scratch = Scratch::new();
    let count = scratch.path().join("count");
    let handler = scratch.script(
        "handler",
        &format!(
            "echo x >>{}; exec {} \"$@\"",
            count.display(),
            keyctl(&scratch)
        ),
    );
    let rule = format!("create user reqkey:* * {handler} negate %k 2 %S\n");
    scratch.file("request-key.conf", rule);
    let _serving = Serving::start(Program::Ours, &scratch);
    let runs = || fs::read_to_string(&count).unwrap().lines().count();
    let description = unique("reqkey:expiring");
    in_session(|| {
        assert_eq!(ask(&description, "x"), Err(ENOKEY));
        assert_eq!((ask(&description, "x"), runs()), (Err(ENOKEY), 1));
        std::thread::sleep(Duration::from_millis(3200));
        assert_eq!((ask(&description, "x"), runs()), (Err(ENOKEY), 2));
    });
}

#[test]
fn a_request_that_no_line_is_for_fails_and_executes_nothing() {
    let scratch = Scratch::with("create user other * /bin/true\n");
    let serving = Serving::start(Program::Ours, &scratch);
    let answer = in_session(|| ask(&unique("reqkey:none"), "secret callout"));
    assert_eq!(answer, Err(ENOKEY));
    assert!(serving.messages().ends_with(": No matching action\n"));
}

/// Runs `keyns-upcall` as the kernel would, in a mount namespace of its own where `/sbin` holds what
/// `prepare` puts there, and the programs that serve the host say what they are called.
fn reached(prepare: &str) -> String {
    let scratch = Scratch::new();
    let program = scratch.script("program", "echo reached $0 $*");
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/keyns && mount -t tmpfs none /usr/sbin && \
         put() {{ cp $PROGRAM $1; }} && cp $UPCALL /sbin/request-key && {prepare} && \
         exec timeout 10 /sbin/request-key create 77 0 0 0 0 1"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
        .env("UPCALL", bin_dir().join("keyns-upcall"))
        .env("PROGRAM", program)
        .output()
        .unwrap();
    let heard = [output.stdout, output.stderr].concat();
    let heard = String::from_utf8_lossy(&heard).into_owned();
    heard
        .split_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_host_is_served_by_what_was_chosen_then_the_original_then_by_the_spare() {
    let (chosen, spare) = ("/sbin/request-key.keyns", "/sbin/request-key.keyns-spare");
    let (original, covered) = (
        "/usr/sbin/request-key.distrib",
        "/run/keyns/request-key.orig",
    );
    for (present, expected) in [
        (&[spare][..], spare),
        (&[original, spare], original),
        (&[chosen, original, spare], chosen),
        (&[chosen, spare], chosen),
        // A take-over covers what is there at the time, and is not for good.
        (&[covered, chosen, original, spare], covered),
    ] {
        let prepare = present.iter().map(|place| format!("put {place}"));
        let prepare = prepare.collect::<Vec<_>>().join(" && ");
        assert_eq!(
            reached(&prepare),
            format!("reached {expected}"),
            "{present:?}"
        );
    }
    // Its rejection fails, since no kernel has made the request.
    assert_eq!(reached("true"), "");
}

#[test]
fn installed_for_good_it_serves_the_host_through_keyns_upcall() {
    // Ours itself, as it is installed: without its configuration no line matches, and nothing is
    // said but to the log.
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/keyns && mount -t tmpfs none /usr/sbin && \
         cp $UPCALL /sbin/request-key && cp {} /sbin/request-key.keyns && \
         mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec \"$@\"",
        bin_dir().join("keyns-request-key").display()
    );
    let listen = r#"
import socket, subprocess, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind('/dev/log')
log.settimeout(5)
print(subprocess.run(['/sbin/request-key', 'create', '77', '0', '0', '0', '0', '1']).returncode)
print(log.recv(1000).decode())
"#;
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            &script,
            "sh",
        ])
        .args(["python3", "-c", listen])
        .env("UPCALL", bin_dir().join("keyns-upcall"))
        .output()
        .unwrap();
    let heard = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        heard,
        "1\n<83>request-key: Failed to assume authority over key 77 (Required key not available)\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

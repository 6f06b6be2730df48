//! What the executed programs get, and what becomes of what they say. A key that exists stands for
//! the one to be made: whoever passes the callout information along needs no authority.

use std::time::{Duration, Instant};

use keyns_sys::{KeySerial, key};
use keyns_tests::unique;

use crate::{Outcome, Program, Scratch, comparable};

/// A key that root may describe, with a session keyring of its own around it.
pub(super) fn some_key() -> String {
    key::join_session_keyring(None).unwrap();
    let name = std::ffi::CString::new(unique("handlers")).unwrap();
    let serial = key::add_key(c"user", &name, b"x", KeySerial::SESSION).unwrap();
    serial.to_string()
}

fn words<'a>(options: &'a str, key: &'a str, callout: &'a str) -> [&'a str; 9] {
    [options, "create", key, "10", "20", "7", "8", "9", callout]
}

#[test]
fn a_program_gets_the_same_arguments_environment_and_descriptors() {
    let scratch = Scratch::new();
    let show = scratch.script(
        "show",
        "echo $#; printf '[%s]' \"$@\"; echo; env | grep -v '^_=\\|^LD_\\|^PWD=\\|^SHLVL=' | sort; \
         cd /proc/$$/fd; echo ?; cd $OLDPWD; grep '^SigIgn' /proc/$$/status; pwd; cat",
    );
    let rule = format!("create user * * {show} %o %t %c %u %g %T %P %S %%x a%k %kk\n");
    scratch.file("request-key.conf", rule);
    let key = some_key();
    for callout in ["info", "", "two words", "%k", "\u{e9}\n\tx"] {
        let outcome = scratch.same(&words("-ln", &key, callout));
        assert_eq!(outcome.status, Some(0));
        // Bit 12 is SIGPIPE, which has always been ignored in handlers.
        let ignored = outcome.stdout.split("SigIgn:\t").nth(1).unwrap();
        let ignored = u64::from_str_radix(&ignored[..16], 16).unwrap();
        assert_ne!(ignored & (1 << 12), 0, "{outcome:?}");
    }
}

#[test]
fn its_name_is_the_end_of_its_path_and_its_status_is_the_status() {
    let scratch = Scratch::new();
    let link = scratch.path().join("another-name");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    let rule = format!(
        "create user * * {} -c exec</proc/$$/cmdline;read\\ x\n",
        link.display()
    );
    scratch.file("request-key.conf", rule);
    let key = some_key();
    scratch.same(&words("-lnv", &key, "x"));
    for status in [0, 1, 7, 255] {
        let program = scratch.script("program", &format!("exit {status}"));
        scratch.file("request-key.conf", format!("create user * * {program}\n"));
        let outcome = scratch.same(&words("-ln", &key, "x"));
        assert_eq!(outcome.status, Some(status));
    }
}

#[test]
fn what_cannot_be_executed_is_told() {
    let scratch = Scratch::new();
    let plain = scratch.file("plain", "no program").display().to_string();
    let key = some_key();
    for program in ["/nonexistent", "/tmp", &plain, "/etc/passwd/x", "./nothing"] {
        scratch.file(
            "request-key.conf",
            format!("create user * * {program} %k\n"),
        );
        let outcome = scratch.same(&words("-lnv", &key, "x"));
        assert_eq!(outcome.status, Some(1), "{program}");
    }
}

#[test]
fn the_payload_of_another_key_becomes_an_argument() {
    let key = some_key();
    let add = |name, payload: &[u8]| key::add_key(c"user", name, payload, KeySerial::SESSION);
    add(c"plain", b"some data, %k ~!").unwrap();
    add(c"latin", b"a\xe9b").unwrap();
    let scratch = Scratch::with("create user * * /bin/echo %{user:plain} end\n");
    let outcome = scratch.same(&words("-lnv", &key, "x"));
    assert_eq!(outcome.stdout, "some data, %k ~! end\n");
    let keyring = "create user * * /bin/echo %{keyring:nosuchring}\n";
    scratch.file("request-key.conf", keyring);
    scratch.same(&words("-lnv", &key, "x"));

    // Only printable bytes; ours does not say which byte is none.
    scratch.file(
        "request-key.conf",
        "create user * * /bin/echo %{user:latin}\n",
    );
    let [ours, theirs] =
        Program::BOTH.map(|program| scratch.run(program, &words("-lnv", &key, "x")));
    assert_eq!((ours.status, theirs.status), (Some(1), Some(1)));
    assert!(ours.stderr.ends_with(" data not printable\n"), "{ours:?}");
    assert!(
        theirs.stderr.ends_with(" data not printable ('e9')\n"),
        "{theirs:?}"
    );
}

/// Both run a piped program that succeeds: the payload comes as far as the kernel, which refuses to
/// instantiate a key that exists.
#[track_caller]
fn piped(script: &str, callout: &str) -> Outcome {
    let scratch = Scratch::new();
    let program = scratch.script("program", script);
    scratch.file(
        "request-key.conf",
        format!("create user * * |{program} %k\n"),
    );
    scratch.same(&words("-lnv", &some_key(), callout))
}

#[test]
fn the_output_of_a_piped_program_is_the_payload() {
    let told = |outcome: &Outcome| {
        let lines = outcome.stderr.lines();
        lines.rev().nth(1).unwrap_or_default().to_owned()
    };
    for (script, callout, bytes) in [
        ("exec cat", "info", 4),
        ("exec cat", "", 0),
        ("true", "info", 0),
        ("printf x; cat >/dev/null; printf y", "info", 2),
        ("exec <&-; sleep 0.1; echo hi", "info", 3),
        ("exec >&- 2>&-; sleep 0.1", "info", 0),
        ("head -c 4096 /dev/zero", "", 4096),
        ("head -c 4097 /dev/zero", "", 4097),
        ("head -c 32767 /dev/zero", "", 32767),
        ("head -c 32768 /dev/zero", "", 32768),
        ("printf 'a\\0b'", "", 3),
    ] {
        let outcome = piped(script, callout);
        let expected = format!("instantiate with {bytes} bytes");
        assert_eq!(told(&outcome), expected, "{script}");
        assert!(
            outcome
                .stderr
                .ends_with("instantiate key failed: Operation not permitted\n")
        );
    }
    let large = "x".repeat(100_000);
    let outcome = piped("head -c 30000", &large);
    assert_eq!(told(&outcome), "instantiate with 30000 bytes");
    // It need not read what it is given.
    let outcome = piped("exec <&-; echo deaf", &large);
    assert_eq!(told(&outcome), "instantiate with 5 bytes");
}

#[test]
fn too_much_output_ends_it() {
    for script in [
        "head -c 32769 /dev/zero",
        "head -c 1000000 /dev/zero",
        "yes 2>&-",
    ] {
        let start = Instant::now();
        let outcome = piped(script, "info");
        assert_eq!(outcome.status, Some(1));
        assert!(
            outcome
                .stderr
                .ends_with("Too much data read from query program\n")
        );
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn what_a_piped_program_says_on_standard_error_is_forwarded() {
    let outcome = piped(
        "echo one >&2; echo >&2; printf 'two words %%s\\n' >&2; echo out",
        "",
    );
    for line in ["Child: one\n", "Child: \n", "Child: two words %s\n"] {
        assert!(outcome.stderr.contains(line), "{outcome:?}");
    }
    // Long lines are broken; the parts are where the C program breaks them.
    for length in [511, 512, 513, 600, 1024, 2000] {
        let script = format!(
            "head -c {length} /dev/zero | tr '\\0' x >part; echo >>part; cat part >&2; echo out"
        );
        piped(&script, "");
    }
}

#[test]
fn the_last_words_of_a_piped_program_are_forwarded_too() {
    let scratch = Scratch::new();
    let program = scratch.script("program", "printf last >&2");
    scratch.file("request-key.conf", format!("create user * * |{program}\n"));
    let key = some_key();
    let [ours, theirs] =
        Program::BOTH.map(|program| scratch.run(program, &words("-lnv", &key, "x")));
    assert!(ours.stderr.contains("Child: last\n"), "{ours:?}");
    assert!(!theirs.stderr.contains("Child: last"), "{theirs:?}");
}

/// What of a rule for `negate` is executed after `create` has failed.
fn negated(create: &str, negate: &str, ends: &str) -> [Outcome; 2] {
    let scratch = Scratch::new();
    let program = scratch.script("program", ends);
    let rules = format!("create {create} * * |{program} %k %o\n{negate} /bin/echo negate %o %d\n");
    scratch.file("request-key.conf", rules);
    let key = some_key();
    Program::BOTH.map(|program| comparable(&scratch.run(program, &words("-lnv", &key, "x"))))
}

#[test]
fn after_a_failed_program_the_best_line_for_negating_is_executed() {
    for ends in ["exit 3", "kill -9 $$"] {
        // Where its wildcards cover less than those of the first line, both do the same.
        let [ours, theirs] = negated("*", "negate user * *", ends);
        assert!(
            ours.stdout.starts_with("negate negate handlers-"),
            "{ours:?}"
        );
        assert_eq!((ours.status, &ours.stdout), (Some(0), &theirs.stdout));
        // Where they do not, the C program runs the program a second time instead.
        for create in ["user", "*"] {
            let [ours, theirs] = negated(create, "negate * * *", ends);
            assert_eq!(ours.status, Some(0));
            assert!(
                ours.stdout.starts_with("negate negate handlers-"),
                "{ours:?}"
            );
            assert_eq!(ours.stderr.matches("pipe_to_program(").count(), 1);
            assert_eq!((theirs.status, theirs.stdout.as_str()), (Some(1), ""));
            assert_eq!(theirs.stderr.matches("pipe_to_program(").count(), 2);
        }
    }
}

#[test]
fn without_a_line_for_negating_it_fails_with_the_end_of_the_program() {
    for (ends, told) in [
        ("exit 3", "child exited 3"),
        ("kill -9 $$", "child died on signal 9"),
    ] {
        let outcomes = negated("user", "other * * *", ends);
        for outcome in outcomes {
            assert_eq!(outcome.status, Some(1));
            assert!(outcome.stderr.ends_with(told), "{outcome:?}");
        }
    }
}

#[test]
fn there_is_no_third_look_up() {
    let scratch = Scratch::new();
    let count = scratch.path().join("count");
    let program = scratch.script("program", &format!("echo $1 >>{}; exit 5", count.display()));
    scratch.file("request-key.conf", format!("* * * * |{program} %o\n"));
    let outcome = scratch.run(Program::Ours, &words("-lnv", &some_key(), "x"));
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.stderr.ends_with("child exited 5\n"), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(count).unwrap(), "create\nnegate\n");
}

#[test]
fn a_piped_program_that_cannot_be_executed_is_told_with_its_line() {
    let scratch = Scratch::with("#\ncreate user * * |/nonexistent %k\n");
    let outcome = scratch.run(Program::Ours, &words("-lnv", &some_key(), "x"));
    assert_eq!(outcome.status, Some(1));
    let told = "request-key.conf:2: Failed to execute '/nonexistent': No such file or directory\n";
    assert!(outcome.stderr.contains(told), "{outcome:?}");
    let both = "#\ncreate user * * |/nonexistent %k\nnegate * * * /bin/echo %o\n";
    scratch.file("request-key.conf", both);
    let outcome = scratch.run(Program::Ours, &words("-ln", &some_key(), "x"));
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (Some(0), "negate\n")
    );
}

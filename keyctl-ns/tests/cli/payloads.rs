//! Payloads on their way in and out: `padd`, `pupdate`, the forms of keyctl, `print`, `pipe`,
//! `request2`, `prequest2`.

use std::fs::File;
use std::io::Read as _;

use crate::session::{Session, more_than_the_quota};
use insta::assert_snapshot;
use keyns_sys::KeySerial;
use keyns_sys::key as sys;

fn find(session: &Session, description: &std::ffi::CStr) -> KeySerial {
    sys::search(session.keyring(), c"user", description, KeySerial::NONE).unwrap()
}

#[test]
fn padd_adds_what_comes_in_to_the_keyring_that_is_named() {
    let session = Session::new();
    let ring = session.ring("ring");
    assert_eq!(
        session
            .run_with(["padd", "user", "a", "%:ring"], b"in\0put\n")
            .code,
        0
    );
    let key = sys::search(ring, c"user", c"a", KeySerial::NONE).unwrap();
    assert_eq!(sys::read(key).unwrap(), b"in\0put\n");
    let json = session
        .run_with(["padd", "user", "b", "--json"], b"x")
        .json();
    assert_eq!(json["serial"], find(&session, c"b").raw());
    assert_eq!(
        session.run_with(["padd", "user", "a", "%:none"], b"x").code,
        4
    );
    assert_eq!(
        session
            .run_with(["padd", "user", "a", "@s", "more"], b"x")
            .code,
        2
    );
}

#[test]
fn hexadecimal_text_is_read_as_the_bytes_it_stands_for() {
    let session = Session::new();
    assert_eq!(
        session
            .run_with(["padd", "-x", "user", "a", "@s"], b"00 fF\n0a\n")
            .code,
        0
    );
    assert_eq!(sys::read(find(&session, c"a")).unwrap(), [0x00, 0xff, 0x0a]);
    assert_eq!(
        session
            .run_with(["pupdate", "--hex", "%user:a"], b"0b")
            .code,
        0
    );
    assert_eq!(sys::read(find(&session, c"a")).unwrap(), [0x0b]);
    assert_snapshot!(session.run_with(["padd", "-x", "user", "b"], b"0badc0f"), @r"
    error: cannot read the payload as hexadecimal
      cause: the last of the hexadecimal digits stands alone
    [2]
    ");
    assert_snapshot!(session.run_with(["update", "-x", "%user:a"], b"canary"), @r"
    error: cannot read the payload as hexadecimal
      cause: byte 2 of the text is no hexadecimal digit
    [2]
    ");
    assert_eq!(sys::read(find(&session, c"a")).unwrap(), [0x0b]);
}

#[test]
fn the_largest_hexadecimal_text_is_read_whole_and_a_larger_one_is_refused() {
    let session = Session::new();
    let output = session.run_with(["add", "user", "x", "-x"], &b"20 ".repeat(32_767));
    assert_eq!(output.code, 0, "{output}");
    assert_eq!(sys::read(find(&session, c"x")).unwrap().len(), 32_767);
    let output = session.run_with(["add", "user", "x", "-x"], &b"20".repeat(1024 * 1024));
    assert_eq!(output.code, 1, "{output}");
    assert!(
        output.stderr().contains("longer than 1048575 bytes"),
        "{output}"
    );
}

#[test]
fn a_payload_on_the_command_line_is_taken_with_a_warning() {
    let session = Session::new();
    let output = session.run(["add", "user", "token", "canary-b1", "@s"]);
    let key = find(&session, c"token");
    assert_snapshot!(output.with(key, "KEY"), @r"
    KEY  user: token
    warning: a payload on the command line can be read by every process of this machine; leave it out and pass it on standard input, or with --file
    [0]
    ");
    assert_eq!(sys::read(key).unwrap(), b"canary-b1");
    let output = session.run(["-q", "update", "%user:token", "canary-b2"]);
    assert!(
        output
            .stderr()
            .contains("warning: a payload on the command line"),
        "{output}"
    );
    assert!(!output.to_string().contains("canary"), "{output}");
    assert_eq!(sys::read(key).unwrap(), b"canary-b2");
    assert_eq!(
        session
            .run(["add", "-x", "user", "token", "0aff", "@s"])
            .code,
        0
    );
    assert_eq!(sys::read(key).unwrap(), [0x0a, 0xff]);
}

#[test]
fn a_keyring_is_added_as_keyctl_has_it_without_a_warning() {
    let session = Session::new();
    let output = session.run(["add", "keyring", "ring", "", "@s"]);
    assert_eq!((output.code, output.stderr()), (0, ""));
    assert_eq!(session.run(["list", "%:ring"]).stdout(), "no keys\n");
}

#[test]
fn a_used_up_quota_is_code_5() {
    let session = Session::new();
    let mut outputs = (0..more_than_the_quota(30_000)).map(|n| {
        let words = ["padd", "user", &format!("big{n}")];
        session.run_as(2_100_000_106, words, &[b'x'; 30_000])
    });
    let output = outputs.find(|output| output.code != 0).unwrap();
    assert_eq!(output.code, 5, "{output}");
    let said = "key quota of uid 2100000106 exceeded";
    assert!(output.stderr().contains(said), "{output}");
}

#[test]
fn print_is_one_line_of_text_or_hexadecimal() {
    let session = Session::new();
    session.add("text", b"plain text");
    session.add("bin", b"two\nlines");
    assert_eq!(
        session.run(["print", "%user:text"]).stdout(),
        "plain text\n"
    );
    assert_eq!(
        session.run(["print", "%user:bin"]).stdout(),
        ":hex:74776f0a6c696e6573\n"
    );
    let json = session.run(["print", "%user:text", "--json"]).json();
    assert_eq!(
        (&json["payload"], &json["bytes"]),
        (&"cGxhaW4gdGV4dA==".into(), &10.into())
    );
}

#[test]
fn pipe_is_the_bytes_and_nothing_else() {
    let session = Session::new();
    session.add("bin", b"\0\xff");
    assert_eq!(session.run(["pipe", "%user:bin"]).stdout, b"\0\xff");
    let json = session.run(["pipe", "%user:bin", "--json"]).json();
    assert_eq!(json["payload"], "AP8=");
}

#[test]
fn what_cannot_be_read_is_not_printed() {
    let session = Session::new();
    session.run_with(["padd", "logon", "app:secret"], b"canary-c3");
    let key = session.add("closed", b"canary-c4");
    sys::set_perm(key, 0x1515_0000).unwrap();
    for command in ["print", "pipe"] {
        assert_eq!(
            session.run([command, "%logon:app:secret"]).code,
            1,
            "{command}"
        );
        assert_eq!(
            session.run([command, &key.to_string()]).code,
            3,
            "{command}"
        );
        assert_eq!(session.run([command, "%user:none"]).code, 4, "{command}");
        assert_eq!(session.run([command, "web/user:x"]).code, 6, "{command}");
    }
}

/// Runs the binary with a terminal as its standard output; what it shows, and its exit code.
fn on_terminal(session: &Session, arguments: &[&str]) -> (String, i32) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::os::unix::ffi::OsStrExt as _;
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let name = std::ffi::OsStr::from_bytes(name.as_bytes());
    let terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut command = session.command(arguments);
    command
        .stdin(std::process::Stdio::null())
        .stderr(terminal.try_clone().unwrap())
        .stdout(terminal);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut shown = Vec::new();
    // EIO: the last one that had the terminal open is gone.
    let _ = File::from(master).read_to_end(&mut shown);
    let code = child.wait().unwrap().code().unwrap();
    (String::from_utf8(shown).unwrap(), code)
}

#[test]
fn a_terminal_shows_no_payload_unasked() {
    let session = Session::new();
    session.add("token", b"canary-d5");
    for command in ["read", "print", "pipe"] {
        let (shown, code) = on_terminal(&session, &[command, "%user:token"]);
        assert_eq!(code, 2, "{command}: {shown}");
        assert!(!shown.contains("canary"), "{command}: {shown}");
        assert!(shown.contains("add --reveal"), "{command}: {shown}");
        let (shown, code) = on_terminal(&session, &[command, "%user:token", "--reveal"]);
        assert_eq!(code, 0, "{command}: {shown}");
        assert!(shown.contains("canary-d5"), "{command}: {shown}");
    }
}

#[test]
fn request_takes_its_destination_as_keyctl_has_it() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let ring = session.ring("ring");
    assert_eq!(session.run(["request", "user", "token", "%:ring"]).code, 0);
    assert_eq!(sys::read_keyring(ring).unwrap(), [key]);
    let both = ["request", "user", "token", "%:ring", "--keyring", "@s"];
    assert_eq!(session.run(both).code, 2);
    assert_eq!(
        session.run(["request", "user", "token", "web/user:x"]).code,
        2
    );
}

#[test]
fn a_key_that_is_there_is_found_without_asking_anybody() {
    let session = Session::new();
    let key = session.add("token", b"x");
    let ring = session.ring("ring");
    let output = session.run(["request2", "user", "token", "callout", "%:ring"]);
    assert_snapshot!(output.with(key, "KEY"), @r"
    KEY  user: token
    [0]
    ");
    assert_eq!(sys::read_keyring(ring).unwrap(), [key]);
    let json = session
        .run_with(["prequest2", "user", "token", "--json"], b"callout")
        .json();
    assert_eq!(json["serial"], key.raw());
    let output = session.run_with(["prequest2", "user", "token"], b"call\0out");
    assert_eq!(output.code, 2, "{output}");
    assert!(output.stderr().contains("holds a NUL byte"), "{output}");
    assert_eq!(session.run(["request2", "user", "token"]).code, 2);
}

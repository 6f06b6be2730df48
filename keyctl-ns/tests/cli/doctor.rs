//! Dry runs of requests, on configuration of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::session::{Output, Session};

/// A directory with `request-key.conf` and files of `request-key.d`.
fn config(rules: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let config = tempfile::tempdir().unwrap();
    fs::write(config.path().join("request-key.conf"), rules).unwrap();
    fs::create_dir(config.path().join("request-key.d")).unwrap();
    for (name, text) in files {
        fs::write(config.path().join("request-key.d").join(name), text).unwrap();
    }
    config
}

/// From within the directory, whose own name is another one each time.
fn run(config: &tempfile::TempDir, words: &[&str]) -> Output {
    let session = Session::new();
    let mut command = session.command(["doctor", "upcall", "--config", "."]);
    let output = command.args(words).current_dir(config.path()).output();
    let output = output.unwrap();
    Output {
        code: output.status.code().unwrap(),
        stdout: output.stdout,
        stderr: output.stderr,
    }
}

const RULES: &str = "\
# comment
create dns_resolver * * /nonexistent/resolver %k
create user debug:* negate /bin/true negate %k 30 %S
create user debug:* * /bin/echo %k %d %c %{user:token}
create user debug:loop:* * |/bin/cat
";

#[test]
fn every_line_is_judged_and_the_command_is_shown_with_its_macros() {
    let config = config("create user * * /bin/false\n", &[("a.conf", RULES)]);
    insta::assert_snapshot!(run(&config, &["user", "debug:x", "info"]), @r"
    create “user: debug:x” with callout “info”

    FILE                LINE  COVERS   RESULT
    a.conf                 2           its type “dns_resolver” does not match “user”
    a.conf                 3           its callout “negate” does not match “info”
    a.conf                 4  0,0,1,4  matches, and its wildcards cover least
    a.conf                 5           its description “debug:loop:*” does not match “debug:x”
    ./request-key.conf     1  0,0,7,4  matches, but its wildcards cover more

    would execute /bin/echo
      argv[0]  echo
      argv[1]  %k
      argv[2]  debug:x
      argv[3]  info
      argv[4]  %{user:token}
    note: %k is the serial number of the key, which only a real request has
    note: %{user:token} is the payload of the key “user: token” of the requester; without that key, or if a byte of it cannot be printed, the request fails
    [0]
    ");
}

#[test]
fn a_piped_program_is_followed_by_what_comes_when_it_fails() {
    let rules = format!("{RULES}negate * * * /bin/true %o\n");
    let config = config(&rules, &[]);
    insta::assert_snapshot!(run(&config, &["user", "debug:loop:x"]), @r"
    create “user: debug:loop:x” with callout “”

    FILE                LINE  COVERS   RESULT
    ./request-key.conf     2           its type “dns_resolver” does not match “user”
    ./request-key.conf     3           its callout “negate” does not match “”
    ./request-key.conf     4  0,0,6,0  matches, but its wildcards cover more
    ./request-key.conf     5  0,0,1,0  matches, and its wildcards cover least
    ./request-key.conf     6           its operation “negate” does not match “create”

    would execute /bin/cat, with the callout information as its input and its output as the payload
      argv[0]  cat

    If that program fails, there is one more look-up, for negate:

    FILE                LINE  COVERS    RESULT
    ./request-key.conf     6  0,4,12,0  matches, and its wildcards cover least

    would execute /bin/true
      argv[0]  true
      argv[1]  negate
    [0]
    ");
}

#[test]
fn a_malformed_line_fails_the_request_as_a_real_one() {
    let config = config(RULES, &[("a.conf", "create user debug:x\n")]);
    insta::assert_snapshot!(run(&config, &["user", "debug:x", "info"]), @r"
    create “user: debug:x” with callout “info”

    no line to choose from

    the request fails, and the requester gets ENOKEY: line 1 of a.conf: the line ends before the program it should name
    warning: line 1 of a.conf: the line ends before the program it should name; requests that match it so far fail
    [1]
    ");
    // It is for others; that it is there is said all the same.
    insta::assert_snapshot!(run(&config, &["dns_resolver", "x", ""]), @r"
    create “dns_resolver: x” with callout “”

    FILE                LINE  COVERS   RESULT
    a.conf                 1           its type “user” does not match “dns_resolver”
    ./request-key.conf     2  0,0,1,0  matches, and its wildcards cover least
    ./request-key.conf     3           its type “user” does not match “dns_resolver”
    ./request-key.conf     4           its type “user” does not match “dns_resolver”
    ./request-key.conf     5           its type “user” does not match “dns_resolver”

    the request fails, and the requester gets ENOKEY: line 2 of ./request-key.conf: /nonexistent/resolver cannot be executed: No such file or directory
    note: %k is the serial number of the key, which only a real request has
    warning: line 1 of a.conf: the line ends before the program it should name; requests that match it so far fail
    [1]
    ");
}

#[test]
fn what_would_fail_later_is_told_with_its_line() {
    for (command, told) in [
        (
            "/nonexistent/x %k",
            "/nonexistent/x cannot be executed: No such file or directory",
        ),
        ("/etc/passwd", "/etc/passwd is not executable"),
        ("/etc", "/etc is no file"),
        ("cat", "the path of the program “cat” has no “/”"),
        ("/bin/true %z", "“%z” is no argument: Unsupported macro"),
        (
            "/bin/true %{user:}",
            "“%{user:}” is no argument: Keysub description empty",
        ),
    ] {
        let config = config(&format!("create user * * {command}\n"), &[]);
        let output = run(&config, &["user", "x"]);
        assert_eq!(output.code, 1, "{output}");
        assert!(output.stdout().contains(told), "{output}");
    }
    let many = format!("create user * * /bin/true{}\n", " x".repeat(254));
    let output = run(&config(&many, &[]), &["user", "x"]);
    assert!(
        output.stdout().contains("more than 253 arguments"),
        "{output}"
    );
}

#[test]
fn files_that_others_may_change_are_warned_of() {
    let config = config(RULES, &[]);
    let file = config.path().join("request-key.conf");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let output = run(&config, &["user", "debug:negate", "negate"]);
    assert_eq!(output.code, 0, "{output}");
    let told = "warning: ./request-key.conf may be changed by others than root";
    assert!(output.stdout().contains(told), "{output}");
}

/// Also of a run whose exit code is not 0, unlike [`Output::json`].
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn json_says_the_same() {
    let config = config(RULES, &[]);
    let output = run(&config, &["--json", "user", "debug:loop:x", "abc"]);
    assert_eq!(output.code, 0, "{output}");
    let found = json(&output);
    assert_eq!(found["outcome"], "pipes");
    assert_eq!(found["program"], "/bin/cat");
    assert_eq!(found["argv"], serde_json::json!(["cat"]));
    let chosen: Vec<_> = found["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["chosen"] == true)
        .collect();
    assert_eq!(
        (chosen.len(), &chosen[0]["line"]),
        (1, &serde_json::json!(5))
    );
    assert_eq!(chosen[0]["covered"], serde_json::json!([0, 0, 1, 3]));
    assert_eq!(found["if_it_fails"]["outcome"], "no-rule");
    let output = run(&config, &["--json", "keyring", "x", "abc"]);
    assert_eq!(
        (output.code, &json(&output)["outcome"]),
        (4, &serde_json::json!("no-rule"))
    );
    let output = run(&config, &["--json", "--op", "negate", "user", "debug:x"]);
    assert_eq!(json(&output)["operation"], "negate");
}

#[test]
fn nothing_in_it_acts_on_a_terminal() {
    let config = config(
        "create user \x1b[2J* * /bin/\x1b[2J\ncreate user * * /bin/\x07 %d\n",
        &[],
    );
    let output = run(&config, &["user", "a\x1b]0;title\x07\nb", "\x1b[31m"]);
    assert!(
        output
            .stdout
            .iter()
            .all(|byte| *byte == b'\n' || !byte.is_ascii_control()),
        "{output}"
    );
}

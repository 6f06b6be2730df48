//! Command lines: objects that do not exist, words of no meaning, names, dead containers, programs,
//! and no daemon at all.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use keyns_tests::bin_dir;
use keyns_tests::instance::Ran;
use serde_json::json;

use crate::*;

#[test]
fn what_does_not_exist() {
    let instance = world("none");
    let no_container: &[&str] = &[
        "there is no container “db”",
        "hint: list the containers: keyctl-ns container list",
    ];
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("container show db", NO_SUCH, no_container),
        ("container keyring db", NO_SUCH, no_container),
        ("container run db -- true", NO_SUCH, no_container),
        ("container exec db -- true", NO_SUCH, no_container),
        ("container wait db", NO_SUCH, no_container),
        ("container kill db", NO_SUCH, no_container),
        ("container remove db", NO_SUCH, no_container),
        ("container create db.inner", NO_SUCH, no_container),
        ("container show 4711", NO_SUCH, &["“4711”"]),
        ("list --container db", NO_SUCH, no_container),
        ("describe db/user:token", NO_SUCH, no_container),
        ("intercept db user", NO_SUCH, no_container),
        ("unintercept db user", NO_SUCH, no_container),
        ("intercept list db", NO_SUCH, no_container),
        ("agent serve user --container db -- true", NO_SUCH, no_container),
        ("grant web/user:token container:db search", NO_SUCH, no_container),
        ("move web/user:token web db", NO_SUCH, no_container),
        ("describe web/user:tokn", NO_SUCH,
         &["there is no key “web/user:tokn”", "hint: list the keys: keyctl-ns list --container web"]),
        ("read web/user:tokn", NO_SUCH, &["there is no key “web/user:tokn”"]),
        ("read web/2147483647", NO_SUCH, &["there is no key “web/2147483647”"]),
        ("invalidate web/user:tokn", NO_SUCH, &["there is no key"]),
        ("acl web/user:tokn", NO_SUCH, &["there is no key"]),
        ("grant web/user:tokn container:web search --accept-implied read,inval", NO_SUCH,
         &["there is no key"]),
        ("ungrant web/user:tokn container:web", NO_SUCH, &["there is no key"]),
        ("move web/user:tokn web idle", NO_SUCH, &["there is no key"]),
        ("acl 2147483647", NO_SUCH,
         &["key 2147483647", "does not exist any more, or never did"]),
        ("grant 2147483647 container:web view", NO_SUCH,
         &["key 2147483647", "container “web”"]),
        ("unintercept web user", NO_SUCH,
         &["container “web” has no rule for “user”", "hint: list its rules: keyctl-ns intercept list web"]),
        ("query 4711", NO_SUCH,
         &["there is no upcall 4711", "hint: list those that wait: keyctl-ns upcalls"]),
        ("answer 4711 --negate 5", NO_SUCH, &["there is no upcall 4711"]),
        ("answer 4711 --from-keyring", NO_SUCH, &["there is no upcall 4711"]),
        ("answer 4711 --payload-stdin", NO_SUCH, &["there is no upcall 4711"]),
        ("answer 0 --reject 5 EACCES", NO_SUCH, &["there is no upcall 0"]),
        ("container kill web --signal TERM --process 77", NO_SUCH, &["process 77", "“web”"]),
        ("container wait web --process 77", NO_SUCH, &["process 77", "“web”"]),
    ];
    refuse_all(&instance, cases);
    instance.stop();
}

#[test]
fn words_that_are_not_in_the_language() {
    let instance = world("words");
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("frobnicate", USAGE, &["unknown command “frobnicate”"]),
        ("container list --frob", USAGE,
         &["unknown argument “--frob”", "keyctl-ns container list --help"]),
        ("grant web/user:token container:web fly", USAGE,
         &["unknown right “fly”", "view (v), read (r)"]),
        ("grant web/user:token container:web ''", USAGE, &["a right is missing"]),
        ("grant web/user:token container:web search --accept-implied fly", USAGE,
         &["--accept-implied", "“fly”"]),
        ("grant web/user:token wheel view", USAGE,
         &["unknown subject “wheel”", "container:NAME"]),
        ("grant web/user:token container: view", USAGE, &["at least one character"]),
        ("container create x --namespaces time", USAGE,
         &["unknown namespace “time”", "user, pid, mount"]),
        ("container create x --namespaces ''", USAGE, &["unknown namespace “”"]),
        ("container kill web --signal FOO", USAGE, &["“FOO” as --signal", "TERM"]),
        ("container kill web --signal 65", USAGE, &["1 to 64"]),
        ("container exec web --user root -- true", USAGE, &["“root”", "in numbers"]),
        ("container exec web --user 4294967295 -- true", USAGE, &["“4294967295”"]),
        ("container exec web --env PATH -- true", USAGE, &["“PATH”", "NAME=VALUE"]),
        ("container exec web --env =x -- true", USAGE, &["the name before “=” is empty"]),
        ("describe web/user", USAGE, &["“user” is no key", "CONTAINER/TYPE:DESC"]),
        ("describe web/0", USAGE, &["“0” is no key: no key has the number 0"]),
        ("describe web/99999999999", USAGE, &["“99999999999” is no key", "2147483647"]),
        ("describe web/-5", USAGE, &["a special keyring belongs to a thread"]),
        ("list web", USAGE, &["cannot use “web” as KEYRING"]),
        ("intercept web ''", USAGE, &["the type is empty"]),
        ("intercept web user --deadline 0", USAGE, &["--deadline", "at least one second"]),
        ("intercept web user --deadline 61s", USAGE, &["a deadline is 1 to 60 seconds"]),
        ("intercept web user --pending 0", USAGE,
         &["“0” as --pending", "a number from 1 to 256"]),
        ("intercept web user --pending 257", USAGE, &["a number from 1 to 256"]),
        ("intercept web user --rate 0", USAGE, &["“0” as --rate", "a number from 1 to"]),
        ("intercept web user --rate -5", USAGE, &["“-5”"]),
        ("intercept web user --burst 4294967296", USAGE, &["a number from 1 to 4294967295"]),
        ("intercept web user --rate many", USAGE, &["“many” as --rate", "it is a number"]),
        ("intercept web user --agent ''", USAGE, &["--agent", "the name is empty"]),
        ("intercept web user --reject ENOTHING", USAGE, &["“ENOTHING” is no error"]),
        ("intercept web user --reject ENOKEY:61", USAGE, &["1 to 60 seconds"]),
        ("answer -- -1 --negate 5", USAGE, &[]),
        ("answer 99999999999999999999 --negate 5", USAGE, &["the number is too large"]),
        ("answer 7", USAGE, &["missing"]),
        ("agent serve user --max-in-flight 17 -- true", USAGE, &["a number from 1 to 16"]),
        ("add user x --container web --timeout 0", USAGE, &["at least one second"]),
        ("add user x --container web --timeout 99999999999999", USAGE, &["--timeout"]),
        ("grant web/user:token container:web view --for 0", USAGE, &["at least one second"]),
    ];
    refuse_all(&instance, cases);
    instance.stop();
}

#[test]
fn names_that_no_container_can_have() {
    let instance = world("name");
    let before = picture(&instance);
    let long = "n".repeat(24);
    let longer = "n".repeat(4096);
    let deep = vec!["n"; 33].join(".");
    let names: [(&[u8], &[&str]); 14] = [
        (b"", &["at least one character"]),
        (long.as_bytes(), &["at most 23 bytes, this one has 24"]),
        (longer.as_bytes(), &["at most 23 bytes, this one has 4096"]),
        (deep.as_bytes(), &["at most 32 deep, this path has 33"]),
        (b"a/b", &["“/” at byte 1"]),
        (b"web..a", &["name 2 of the path", "at least one character"]),
        (b".", &["at least one character"]),
        (b"web.", &["at least one character"]),
        (b"<web", &["cannot begin with “<”"]),
        (b"a b", &["blank at byte 1"]),
        (b"a\x1b[2Jb", &["control character 0x1b at byte 1"]),
        (b"a\nb", &["control character 0x0a"]),
        ("zw\u{f6}lf".as_bytes(), &["“ö” at byte 2", "plain ASCII"]),
        (b"a\xffb", &["byte 0xff at 1 is not UTF-8"]),
    ];
    for (name, says) in names {
        for command in ["create", "show", "kill", "keyring"] {
            let mut run = instance.command(&["container", command]);
            let ran = run.arg(OsStr::from_bytes(name)).output().unwrap().into();
            assert_refused(&format!("{command} {name:?}"), &ran, USAGE, says);
        }
        // Not typed but sent: the daemon believes no client.
        if let Ok(name) = std::str::from_utf8(name) {
            for method in ["Containers.Create", "Containers.Show", "Keys.List"] {
                let parameter = if method.ends_with("Create") {
                    "name"
                } else {
                    "container"
                };
                let mut parameters = json!({parameter: name});
                if method.ends_with("Create") {
                    parameters["namespaces"] = json!([]);
                }
                let (error, text) = sent(&instance, method, &parameters);
                assert_eq!(error, "InvalidArgument", "{method} {name:?}: {text}");
                assert!(!text.contains('\x1b'), "{text}");
            }
        }
    }
    let (error, text) = sent(
        &instance,
        "Containers.Create",
        &json!({"name": "12", "namespaces": []}),
    );
    assert!(
        error == "InvalidArgument" && text.contains("taken for a number"),
        "{text}"
    );
    let taken = instance.run(&["container", "create", "web"]);
    assert_refused(
        "web",
        &taken,
        FAILURE,
        &["container “web”", "keyctl-ns container kill web"],
    );
    assert_eq!(picture(&instance), before);
    instance.stop();
}

#[test]
fn a_dead_container() {
    let instance = world("dead");
    let gone: &[&str] = &[
        "there is no container “gone”",
        "its number is 3",
        "keyctl-ns container show 3",
    ];
    let dead: &[&str] = &["container “gone”", "dead"];
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("container run gone -- true", NO_SUCH, gone),
        ("container kill gone", NO_SUCH, gone),
        ("intercept gone user", NO_SUCH, gone),
        ("container create gone.inner", NO_SUCH, gone),
        ("container run 3 -- true", FAILURE, dead),
        ("container exec 3 -- true", FAILURE, dead),
        ("container kill 3", FAILURE, dead),
        ("intercept 3 user", FAILURE, dead),
        ("add user x --container 3", FAILURE, dead),
        ("grant web/user:token container:3 search --accept-implied read,inval", FAILURE, dead),
        ("move web/user:token web 3", FAILURE, dead),
        ("container exec idle -- true", FAILURE,
         &["was not started yet", "keyctl-ns container run idle"]),
        ("container run web -- true", FAILURE,
         &["runs already", "keyctl-ns container exec web"]),
        ("container remove web", FAILURE, &["it still runs", "keyctl-ns container kill web"]),
    ];
    refuse_all(&instance, cases);
    instance.stop();
}

#[test]
fn programs_and_users_that_a_container_does_not_have() {
    let instance = world("exec");
    #[rustfmt::skip]
    let cases: &[Case<'_>] = &[
        ("container exec web --user 65536 -- true", FAILURE,
         &["user 65536 does not exist in container “web”", "0 to 65535"]),
        ("container exec web --user 0:70000 -- true", FAILURE, &["70000", "0 to 65535"]),
        ("container run idle --user 70000 -- true", FAILURE, &["70000"]),
        ("container exec web -- ''", FAILURE, &["no program is named"]),
        ("container exec web -- /nonexistent", FAILURE,
         &["“/nonexistent”", "No such file", "--program FILE"]),
        ("container exec web -- /tmp", FAILURE, &["“/tmp”", "Permission denied"]),
        ("container exec web --program /nonexistent", FAILURE,
         &["/nonexistent", "No such file"]),
        ("container exec web --program /etc/passwd", FAILURE,
         &["/etc/passwd", "Permission denied"]),
        ("container create x --root /nonexistent", FAILURE,
         &["cannot create container “x”", "/nonexistent"]),
        ("container create x --root /etc/passwd", FAILURE, &["/etc/passwd is not a directory"]),
        ("container create x --root /", USAGE, &["the host's own root"]),
        ("container create x --namespaces none --root usr", USAGE,
         &["needs a mount namespace"]),
        ("intercept web .fscache", FAILURE, &["“.fscache”", "on behalf of the whole host"]),
        ("intercept web user --to ''", FAILURE,
         &["“” cannot be the name of a queue", "1 to 64"]),
        ("agent serve user --name '' -- true", FAILURE, &["“” cannot be the name of an agent"]),
    ];
    refuse_all(&instance, cases);
    let long = "x".repeat(130_000);
    let ran = instance.run(&["container", "exec", "web", "--", &long]);
    assert_refused("long", &ran, FAILURE, &["container “web”"]);
    instance.stop();
}

#[test]
fn a_daemon_that_does_not_run() {
    let mut instance = world("off");
    let name = instance.name.clone();
    let socket = instance.socket();
    instance.kill_daemon();
    let start = format!("keynsd --instance {name}");
    // Its socket is still there, but nobody listens.
    let ran = instance.run(&["container", "list"]);
    let shown = socket.to_str().unwrap();
    assert_refused(
        "killed",
        &ran,
        UNREACHABLE,
        &[shown, "nobody listens there", &start],
    );
    instance.start_daemon();
    assert_eq!(
        instance.json(&["container", "show", "web"])["container"]["state"],
        "running"
    );
    let elsewhere = |socket: &str| -> Ran {
        let mut command = Command::new(bin_dir().join("keyctl-ns"));
        let command = command.args(["--socket", socket, "container", "list"]);
        command.output().unwrap().into()
    };
    // The name becomes part of a path, and some names are taken.
    for name in ["", "a/b", "..", "lock", "keyns-upcall", &"n".repeat(33)] {
        for (program, arguments) in [("keyctl-ns", &["container", "list"][..]), ("keynsd", &[])] {
            let mut command = Command::new(bin_dir().join(program));
            let command = command.args(["--instance", name]).args(arguments);
            let ran: Ran = command.output().unwrap().into();
            let text = &ran.err;
            assert_eq!(ran.code, USAGE, "{program} {name}: {text}");
            assert!(text.contains("--instance"), "{text}");
            assert!(
                ["1 to 32 letters", "used by keyns"]
                    .iter()
                    .any(|w| text.contains(w)),
                "{text}"
            );
        }
    }
    let long = format!("/{}", "x".repeat(200));
    #[rustfmt::skip]
    let cases = [
        ("/run/keyns/nobody-has-this/keynsd",
         &["no such socket", "keynsd --instance nobody-has-this", "--socket"][..]),
        ("/tmp/none/keynsd", &["no such socket", "start keynsd"]),
        ("/etc/passwd", &["nobody listens there"]),
        (&long, &["1 to 107 bytes"]),
    ];
    for (socket, says) in cases {
        assert_refused(socket, &elsewhere(socket), UNREACHABLE, says);
    }
    instance.stop();
}

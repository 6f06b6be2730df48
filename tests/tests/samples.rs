//! The examples of the crate that use a kernel's containers by its calls alone, as a manager would
//! without keyns: a container, a service for its requests, a grant by name.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use keyns_tests::{bin_dir, lab};

const PATIENCE: Duration = Duration::from_secs(300);

/// Builds an example and says where it is.
fn example(name: &str) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "-p", "keyns", "--example", name])
        .args(["--message-format", "json"])
        .current_dir(lab::repository())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(built.status.success());
    // The last artefact with a program is the example.
    let text = String::from_utf8(built.stdout).unwrap();
    let (_, rest) = text.rsplit_once(r#""executable":""#).unwrap();
    rest.split('"').next().unwrap().into()
}

#[test]
fn a_container_has_the_root_and_the_processes_it_was_given() {
    let example = example("test-container");
    let inside =
        "set -- /proc/[0-9]*; read -r name </proc/1/comm; echo \"pid $$ of $name, $# in all\"";
    let command = [example.to_str().unwrap(), "/", "/bin/sh", "-c", inside];
    let ran = lab::run_patched(&lab::patched(), &command, PATIENCE);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("foo-test"), "{}", ran.out);
    assert!(
        ran.out.contains("\npid 1 of sh, 1 in all\n"),
        "{}\n{}",
        ran.out,
        ran.err
    );
    assert!(!ran.out.contains("cannot mount"), "{}", ran.out);
}

/// In the container, a request that its own keyrings do not satisfy, once somebody waits for it; and
/// then it lives until its rights were looked at.
const INSIDE: &str = "until [ -e /tmp/watched ]; do sleep 0.1; done
    k=$(keyctl request2 user debug:e a @s)
    echo \"got $k: $(keyctl print $k)\"
    echo \"session keyring $(keyctl id @s)\"
    until [ -e /tmp/listed ]; do sleep 0.1; done";

/// What `/sbin/request-key` runs for it: tells what it was told, and answers.
const DEBUG: &str = "#!/bin/sh
echo \"RQDebug keyid: $1\"
echo \"RQDebug desc: $2\"
echo \"RQDebug callout: $3\"
echo \"RQDebug session keyring: $4\"
exec keyctl instantiate $1 \"Debug $3\" $4
";

/// The value after a label at the beginning of a line.
fn value<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .unwrap_or_else(|| panic!("no “{label}” in:\n{text}"))
        .trim()
}

#[test]
fn a_request_from_inside_is_answered_by_the_service_and_a_key_granted_by_name() {
    let [container, upcall, grant] =
        ["test-container", "test-upcall", "test-cont-grant"].map(|name| {
            let path = example(name);
            path.to_str().unwrap().to_owned()
        });
    let programs = bin_dir();
    let session = format!(
        "cd /tmp
        {container} / /bin/sh -c '{INSIDE}' >container.out 2>&1 &
        made=$!
        until keyctl search @s keyring upcall >queue 2>/dev/null; do
            kill -0 $made
            sleep 0.1
        done
        {upcall} >upcall.out 2>&1 &
        served=$!
        until grep -q Waiting upcall.out; do sleep 0.1; done
        touch watched
        key=$(keyctl add user later x @s)
        {grant} $key
        keyctl list %keyring:_container >granted
        keyctl-ns acl $key >list
        touch listed
        wait $made
        kill $served
        for file in queue container.out upcall.out granted list; do echo \"== $file\"; cat $file; done
        echo \"later is $key\""
    );
    // The service runs what the kernel would run for everybody else.
    let script = format!(
        "export PATH=/tmp/bin:$PATH
        mkdir -p /tmp/bin
        cp {0}/keyctl {0}/keyctl-ns /tmp/bin/
        cp {0}/keyns-request-key /sbin/request-key
        cat >/tmp/bin/debug <<'END'
{DEBUG}END
        chmod 755 /tmp/bin/debug
        echo 'create user debug:* * /tmp/bin/debug %k %d %c %S' >/etc/request-key.conf
        exec keyctl session samples bash -euo pipefail -c \"$1\"",
        programs.display()
    );
    let command = ["bash", "-euo", "pipefail", "-c", &script, "bash", &session];
    let ran = lab::run_patched(&lab::patched(), &command, PATIENCE);
    let said = format!("{}\n{}", ran.out, ran.err);
    assert_eq!(ran.code, 0, "{said}");
    let part = |name: &str| {
        let (_, rest) = ran.out.split_once(&format!("== {name}\n")).unwrap();
        rest.split("== ").next().unwrap()
    };

    // The watcher, the program it has started, and the process inside tell of the same request.
    let (queue, inside, served) = (part("queue"), part("container.out"), part("upcall.out"));
    let target = value(served, "- create ");
    let ring = value(inside, "session keyring ");
    assert_eq!(value(served, "- uid="), "0 gid=0", "{said}");
    let rings = value(served, "- rings=");
    assert_eq!(rings.rsplit(',').next(), Some(ring), "{said}");
    assert_eq!(value(served, "- callout="), "'a'", "{said}");
    assert_eq!(value(served, "RQDebug keyid:"), target, "{said}");
    assert_eq!(value(served, "RQDebug desc:"), "debug:e", "{said}");
    assert_eq!(value(served, "RQDebug callout:"), "a", "{said}");
    assert_eq!(value(served, "RQDebug session keyring:"), ring, "{said}");
    assert_eq!(
        value(inside, "got "),
        format!("{target}: Debug a"),
        "{said}"
    );
    // The link of the request's key into the queue was announced.
    let authorisation = value(served, "Authentication key ");
    let linked = format!("{} change=2 aux={authorisation}", queue.trim());
    assert_eq!(value(served, "KEY "), linked, "{said}");

    let key = value(&ran.out, "later is ");
    assert!(part("granted").contains(&format!("{key}: ")), "{said}");
    let list = part("list");
    let row = list.lines().find(|line| line.contains("container"));
    assert!(row.is_some_and(|row| row.contains("search")), "{said}");
}

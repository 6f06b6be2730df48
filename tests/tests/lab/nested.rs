//! A request program of the host that asks for keys itself.
//!
//! Each such request holds one of the workers on which the kernel starts programs, and a process that
//! waits for a key cannot be killed. So a loop is for a kernel that can be thrown away.

use std::collections::BTreeMap;

use keyns_tests::{bin_dir, lab};

use crate::PATIENCE;

/// Puts the program in place and defines what the tests below use. `ask UID DESCRIPTION` prints the
/// kernel's answer, how many requests there were, and whether it took less than 5 s.
fn prelude() -> String {
    let program = include_str!("request-key.pl");
    let bin = bin_dir();
    let bin = bin.to_str().unwrap();
    let program = program.replace("@PROBE@", &format!("{bin}/keyns-probe"));
    format!(
        r#"export PATH={bin}:$PATH
cat >/sbin/request-key <<'END'
{program}END
chmod 0755 /sbin/request-key
ask() {{
    : >/run/asked
    : >/run/said
    begun=$SECONDS
    keyns-probe as "$1" request user "$2" x || true
    echo "requests: $(wc -l </run/asked)"
    [ $((SECONDS - begun)) -lt 5 ] && echo "in time"
    if grep -q EDEADLK /run/said; then echo "refused: $(grep EDEADLK /run/said)"; fi
}}
"#
    )
}

/// What was printed after each line `== TITLE`.
fn sections(out: &str) -> BTreeMap<&str, &str> {
    out.split("== ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap())
        .collect()
}

const ENDED: &str = "requests: 2\nin time\n";

#[test]
fn a_request_program_may_ask_once_and_a_loop_ends_there() {
    let script = prelude()
        + r#"
echo "== without keyns"
ask 0 loop:free:0
# What failed is remembered for a minute, so every description is used once.
cat >/run/with-keyns <<'END'
tag=$1
for uid in 0 1000; do
    echo "== loop of $uid"
    ask "$uid" "loop:$tag$uid:0"
    echo "== same of $uid"
    ask "$uid" "same:$tag$uid"
    echo "== outer of $uid"
    ask "$uid" "outer:$tag$uid"
done
echo "== afterwards"
for n in $(seq 5); do ask 0 "inner:$tag$n" | grep KEYCTL_READ; done
cat /proc/[0-9]*/comm | grep -E 'request-key|keyns-upcall' || echo "no program is left"
END
echo "== no container"
keynsd upcall with -- bash -euo pipefail -c "$(declare -f ask); . /run/with-keyns idle" |
    sed 's/^== /== idle: /'
echo "== a container"
keynsd --transient 2>/run/log &
daemon=$!
until keyctl-ns container list >/run/list 2>&1; do sleep 0.1; done
keyctl-ns container create web --root empty >/run/list
keynsd upcall with -- bash -euo pipefail -c "$(declare -f ask); . /run/with-keyns busy" |
    sed 's/^== /== busy: /'
kill "$daemon"
wait "$daemon"
"#;
    let ran = lab::script(&script, PATIENCE);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    let said = sections(&ran.out);
    // The control: nothing else ends the loop than the program itself.
    assert!(
        said["without keyns"].contains("requests: 20\n"),
        "{}",
        ran.out
    );
    for containers in ["idle", "busy"] {
        for uid in ["0", "1000"] {
            let about = |what| said[format!("{containers}: {what} of {uid}").as_str()];
            let tag = format!("{containers}{uid}");
            let loops = [
                ("loop", format!("loop:{tag}:2")),
                ("same", format!("same:{tag}")),
            ];
            for (what, refused) in loops {
                let about = about(what);
                assert!(about.contains(" = -1 ENOKEY "), "{what}: {about}");
                assert!(about.contains(ENDED), "{what}: {about}");
                let refused = format!("refused: request_key(\"user\", \"{refused}\", \"x\", 0)");
                assert!(about.contains(&refused), "{what}: {about}");
            }
            let served = about("outer");
            assert!(served.contains(&format!(" \"outer {tag}\"\n")), "{served}");
            assert!(served.ends_with(ENDED), "{served}");
        }
        let afterwards = said[format!("{containers}: afterwards").as_str()];
        for n in 1..=5 {
            assert!(
                afterwards.contains(&format!(" \"{containers}{n}\"\n")),
                "{afterwards}"
            );
        }
        assert!(afterwards.ends_with("no program is left\n"), "{afterwards}");
    }
}

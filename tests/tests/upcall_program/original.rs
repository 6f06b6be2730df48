//! Requests of the host, and what its own program meets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use keyns::routing::RoutingKey;
use keyns::takeover::{Root, status};
use keyns_sys::upcall_wire::ToUpcall;
use keyns_tests::unique;

use crate::denizen::{Answer, CONTAINER, Denizen, wish};
use crate::{EACCES, EKEYREVOKED, ENOKEY, Route, program, routed, taken, taken_alone};

fn asks_on_host(description: &str) -> Answer {
    Denizen::start(&[], &wish(description)).ask_and_wait()
}

#[test]
fn the_daemon_may_hand_a_request_to_the_original_program() {
    let _taken = taken_alone();
    let original = FakeOriginal::install();
    let (mut denizen, route) = routed(&wish("handed on"));
    let daemon = route.daemon();
    denizen.ask();
    let (peer, request, _fd) = daemon.next();
    peer.send(&ToUpcall::Original);
    assert!(peer.is_closed());
    assert_eq!(denizen.answer(), Err(ENOKEY));
    let report = original.report();
    assert_eq!(report.arguments[1], request.target.to_string());
    assert_eq!(
        (report.oom_score_adj.as_str(), report.blocked.as_str()),
        ("0", "0000000000000000")
    );
}

#[test]
fn a_request_of_the_host_reaches_the_original_program_as_from_the_kernel() {
    let _taken = taken_alone();
    let original = FakeOriginal::install();
    // First with whatever the table holds; then with an entry of somebody else, whose processes have
    // ids of their own, so that those of the requester tell; then with one whose processes do not.
    let add: [fn(&mut Route, RoutingKey); 3] = [|_, _| (), Route::add_only, Route::add];
    for add in add {
        let mut route = Route::new();
        add(&mut route, RoutingKey::Pid(1));
        assert_eq!(
            asks_on_host(&unique("host")),
            Err(ENOKEY),
            "as the program left it"
        );
        let report = original.report();
        assert_eq!(report.program, "/run/keyns/request-key.orig");
        let [operation, _, fsuid, fsgid, _, _, _] = &report.arguments[..] else {
            panic!("{:?}", report.arguments)
        };
        assert_eq!([operation, fsuid, fsgid], ["create", "0", "0"]);
        assert_eq!(
            report.environment,
            ["HOME=/", "PATH=/sbin:/bin:/usr/sbin:/usr/bin"]
        );
        // The kernel leaves 0 to 2 closed as well.
        assert!(report.descriptors.is_empty(), "{:?}", report.descriptors);
        assert_eq!(report.oom_score_adj, "0");
        assert_eq!(report.ignored, "0000000000000000");
    }
}

#[test]
fn a_container_with_ids_of_the_host_has_to_say_so() {
    let _taken = taken_alone();
    let original = FakeOriginal::install();
    let mut denizen = Denizen::start(CONTAINER, &wish("as root of the host"));
    let mut route = Route::new();
    let daemon = route.daemon();
    // Control: without the marker its ids are taken for those of a process of the host.
    route.add_only(RoutingKey::Pid(denizen.pid_ns));
    assert_eq!(
        denizen.ask_and_wait(),
        Err(ENOKEY),
        "as the program left it"
    );
    assert_eq!(original.report().program, "/run/keyns/request-key.orig");
    route.add_any_id();
    let mut denizen = Denizen::start(CONTAINER, &wish("as root of the host, again"));
    route.add_only(RoutingKey::Pid(denizen.pid_ns));
    denizen.ask();
    let (peer, _, _fd) = daemon.next();
    peer.instantiate("from the daemon");
    assert_eq!(denizen.answer(), Ok("from the daemon".into()));
}

/// Runs `keyns-upcall` as the kernel would, in a mount namespace of its own where no container is
/// known and `/sbin` holds what `prepare` puts there; prints what the original program says.
fn run_where(prepare: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    fs::write(&original, "#!/bin/sh\necho reached \"$0\" \"$@\"\n").unwrap();
    fs::set_permissions(&original, fs::Permissions::from_mode(0o755)).unwrap();
    // One that does not end fails the test, instead of hanging it.
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/keyns && mount -t tmpfs none /usr/sbin && \
         {prepare} && exec timeout 10 /usr/sbin/request-key create 77 0 0 0 0 1"
    );
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-ec", &script])
        .env("UPCALL", program())
        .env("ORIGINAL", &original)
        .output()
        .unwrap();
    let heard = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&heard).into_owned(),
    )
}

#[test]
fn a_request_caught_by_a_give_back_reaches_what_is_in_place_again() {
    // Given back: while it runs, the original comes to light again where it was executed.
    let given_back = "cp $UPCALL /run/upcall && cp $ORIGINAL /usr/sbin/request-key && \
         exec timeout 10 /run/upcall create 77 0 0 0 0 1";
    let (status, heard) = run_where(given_back);
    assert_eq!(
        (status, heard.trim()),
        (Some(0), "reached /sbin/request-key create 77 0 0 0 0 1")
    );
}

#[test]
fn without_an_original_it_executes_neither_itself_nor_another_of_its_kind_for_ever() {
    for prepare in [
        "cp $UPCALL /usr/sbin/request-key",
        "cp $UPCALL /usr/sbin/request-key && cp $UPCALL /usr/sbin/request-key.distrib",
        "cp $UPCALL /usr/sbin/request-key && cp $UPCALL /run/keyns/request-key.orig",
    ] {
        // Its rejection fails, since no kernel has made the request.
        assert_eq!(run_where(prepare), (Some(1), String::new()), "{prepare}");
    }
}

/// A program in the place of the original that writes down how it was started.
struct FakeOriginal {
    dir: tempfile::TempDir,
    place: PathBuf,
    created: bool,
}

#[derive(Debug)]
struct Report {
    program: String,
    arguments: Vec<String>,
    environment: Vec<String>,
    descriptors: Vec<String>,
    oom_score_adj: String,
    blocked: String,
    ignored: String,
}

impl FakeOriginal {
    fn install() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("report");
        // The shell reads its script through a descriptor of its own, 10 and above.
        let text = format!(
            "#!/bin/sh\n(echo \"$0\"; echo \"$*\"; tr '\\0' ' ' </proc/$$/environ; echo; \
             ls /proc/$$/fd | grep -v '^1[0-9]' | tr '\\n' ' '; echo; \
             cat /proc/$$/oom_score_adj; \
             sed -n 's/^Sig[BI][lg][kn]:\\t//p' /proc/$$/status) >{}\n",
            to.display()
        );
        Self::with(dir, &text)
    }

    fn with(dir: tempfile::TempDir, text: &str) -> Self {
        let script = dir.path().join("original");
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let status = status(&Root::default()).unwrap();
        // Otherwise the kernel would start it directly, also for what it asks for itself.
        assert!(status.means.is_some(), "no take-over is known of");
        let place = match status.original {
            Some((original, _)) => original,
            None => Path::new("/run/keyns/request-key.orig").to_path_buf(),
        };
        let created = !place.exists();
        if created {
            fs::write(&place, "").unwrap();
        }
        rustix::mount::mount_bind(&script, &place).unwrap();
        Self {
            dir,
            place,
            created,
        }
    }

    fn report(&self) -> Report {
        let text = fs::read_to_string(self.dir.path().join("report")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect();
        let [
            program,
            arguments,
            environment,
            descriptors,
            oom,
            blocked,
            ignored,
        ] = lines[..]
        else {
            panic!("{text}")
        };
        Report {
            program: program.into(),
            arguments: words(arguments),
            environment: words(environment),
            descriptors: words(descriptors),
            oom_score_adj: oom.into(),
            blocked: blocked.into(),
            ignored: ignored.into(),
        }
    }
}

impl Drop for FakeOriginal {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.place, rustix::mount::UnmountFlags::DETACH).unwrap();
        if self.created {
            fs::remove_file(&self.place).unwrap();
        }
    }
}

#[test]
fn a_program_that_the_kernel_starts_answers_with_commands_of_keyctl_ns() {
    let _taken = taken_alone();
    let dir = tempfile::tempdir().unwrap();
    // Numbers only: a name would make it ask for a key itself.
    let text = format!(
        "#!/bin/sh\nk={}\nexec >{} 2>&1 </dev/null\n\
         case $($k rdescribe \"$2\") in\n\
         *';piped-'*) printf %s 'from a pipe' | $k pinstantiate \"$2\" \"$7\";;\n\
         *';hex-'*) printf 6865780a | $k instantiate -x \"$2\";;\n\
         *';word-'*) $k instantiate \"$2\" word 0;;\n\
         *';negated-'*) $k negate \"$2\" 1s \"$7\";;\n\
         *';denied-'*) $k reject \"$2\" 1 EACCES 0;;\n\
         *';revoked-'*) $k reject \"$2\" 1 revoked \"$7\";;\n\
         *';empty-'*) : | $k pinstantiate \"$2\" 0 || $k negate \"$2\" 1;;\n\
         esac\n",
        keyns_tests::bin_dir().join("keyctl-ns").display(),
        dir.path().join("said").display(),
    );
    let original = FakeOriginal::with(dir, &text);
    let said = || fs::read_to_string(original.dir.path().join("said")).unwrap();
    for (what, answer) in [
        ("piped", Ok("from a pipe")),
        ("hex", Ok("hex")),
        ("word", Ok("word")),
        ("negated", Err(ENOKEY)),
        ("denied", Err(EACCES)),
        ("revoked", Err(EKEYREVOKED)),
        ("empty", Err(ENOKEY)),
    ] {
        let answer = answer.map(str::to_owned);
        assert_eq!(asks_on_host(&unique(what)), answer, "{what}: {}", said());
        match what {
            "word" => assert!(said().contains("warning: a payload on the command line")),
            "denied" => assert!(
                said().contains("is rejected with EACCES for 1s"),
                "{}",
                said()
            ),
            "empty" => assert!(
                said().contains("a user key holds 1 to 32767 bytes"),
                "{}",
                said()
            ),
            _ => {}
        }
    }
}

#[test]
fn a_request_of_the_host_asks_no_daemon() {
    let _taken = taken();
    let (_denizen, route) = routed(&wish("not asked"));
    let _daemon = route.daemon();
    let start = Instant::now();
    // Both the missing and the stock program, which has no rule for it, leave ENOKEY.
    assert_eq!(asks_on_host(&unique("host")), Err(ENOKEY));
    assert!(start.elapsed() < Duration::from_secs(5));
}

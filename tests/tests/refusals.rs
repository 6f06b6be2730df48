//! Where `keynsd` does not start: it says why in one sentence and leaves nothing; and what those get
//! from a running daemon who are not root of the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use keyns_tests::instance::{Instance, Ran};
use keyns_tests::{bin_dir, keyctl_as, service_uid, unique};

/// An instance whose daemon is not to start.
struct Refused {
    name: String,
    helpers: PathBuf,
}

impl Refused {
    fn new(what: &str) -> Self {
        Self {
            name: unique(what),
            helpers: bin_dir(),
        }
    }

    fn state(&self) -> PathBuf {
        Path::new("/var/lib/keyns").join(&self.name)
    }

    /// Starts the daemon, by way of `wrapper` if there is one.
    fn start(&self, wrapper: &[&str]) -> Ran {
        let keynsd = bin_dir().join("keynsd");
        let mut words = wrapper
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>();
        words.push(keynsd.to_str().unwrap().to_owned());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .args(["--instance", &self.name, "--transient", "--helpers"])
            .arg(&self.helpers)
            .args(["--service-uid", &service_uid().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// All that this instance has on the machine, except its state.
    fn remains(&self) -> Vec<String> {
        let cgroup = keyns::probe::cgroup2_mount().unwrap().unwrap();
        let mut remains: Vec<String> = [
            Path::new("/run/keyns").join(&self.name),
            cgroup.join(format!("keyns-{}", self.name)),
        ]
        .iter()
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = mounts.lines().filter(|line| line.contains(&self.name));
        remains.extend(ours.map(str::to_owned));
        remains
    }

    /// Refused with one sentence that has this in it, and nothing is left.
    #[track_caller]
    fn assert(&self, ran: &Ran, says: &str) {
        assert_eq!(ran.code, 1, "{says}: {}{}", ran.out, ran.err);
        let lines: Vec<&str> = ran.err.lines().collect();
        let [what, why] = lines[..] else {
            panic!("{says}: {}", ran.err)
        };
        assert_eq!(what, "error: keynsd cannot run");
        assert!(
            why.starts_with("  cause: ") && why.contains(says),
            "{says}: {why}"
        );
        assert!(!why.contains("os error"), "{why}");
        assert_eq!(self.remains(), [""; 0], "{says}");
    }
}

#[test]
fn processes_and_machines_it_cannot_work_on() {
    let refused = Refused::new("refuse");
    let without_cgroup2 = "umount --all --types cgroup2 && exec \"$@\"";
    #[rustfmt::skip]
    let cases: &[(&[&str], &str)] = &[
        (&["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"], "needs CAP_SYS_ADMIN"),
        (&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "needs CAP_SYS_ADMIN"),
        (&["unshare", "--user", "--map-root-user"], "in the initial user namespace"),
        (&["unshare", "--pid", "--fork"], "in the initial PID namespace"),
        (&["unshare", "--pid", "--fork", "--mount-proc"], "in the initial PID namespace"),
        (&["unshare", "--mount", "sh", "-c", without_cgroup2, "sh"], "needs cgroup2"),
    ];
    for (wrapper, says) in cases {
        refused.assert(&refused.start(wrapper), says);
        assert!(!refused.state().exists(), "{says}");
    }
}

#[test]
fn programs_that_are_missing_or_are_none() {
    let mut refused = Refused::new("helper");
    let directory = tempfile::tempdir().unwrap();
    refused.helpers = directory.path().join("none");
    refused.assert(&refused.start(&[]), "there is no program");
    refused.helpers = directory.path().to_owned();
    for name in ["keyns-stage", "keyns-monitor", "keyns-shelter"] {
        let ran = refused.start(&[]);
        refused.assert(&ran, &format!("{name}; say with --helpers"));
        fs::copy(bin_dir().join(name), directory.path().join(name)).unwrap();
    }
    fs::write(directory.path().join("keyns-shelter"), "no program").unwrap();
    refused.assert(&refused.start(&[]), "Exec format error");
    assert!(!refused.state().exists());
}

#[test]
fn an_engine_that_the_kernel_is_not_made_for() {
    if Path::new("/proc/sys/kernel/containers/abi").exists() {
        // This kernel is; which of its parts are missing is tested where one lacks them.
        return;
    }
    let refused = Refused::new("engine");
    let patched = ["sh", "-c", "exec \"$@\" --engine patched", "sh"];
    refused.assert(
        &refused.start(&patched),
        "the engine “patched” needs a kernel with container objects",
    );
    assert!(!refused.state().exists());
}

#[test]
fn a_state_that_cannot_be_written_or_read() {
    let refused = Refused::new("state");
    let state = refused.state();
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, "").unwrap();
    refused.assert(&refused.start(&[]), state.to_str().unwrap());
    fs::remove_file(&state).unwrap();

    // A file system that is read-only, for this daemon alone.
    fs::create_dir(&state).unwrap();
    let shown = state.to_str().unwrap();
    let read_only = format!("mount --bind -o ro {shown} {shown} && exec \"$@\"");
    let ran = refused.start(&["unshare", "--mount", "sh", "-c", &read_only, "sh"]);
    refused.assert(&ran, "Read-only file system");

    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    #[rustfmt::skip]
    let cases: &[(&str, &[u8], &str)] = &[
        ("boot-id", b"\xff", "boot-id: it is not a boot id"),
        ("counter/container", b"many", "counter/container is not a number"),
        ("containers/1", b"{\"id\":", "containers/1"),
        ("containers/1", b"", "containers/1"),
        ("rules/1", b"[]", "rules/1"),
        ("keys/1", b"\xff\xff", "keys/1"),
    ];
    for (file, garbage, says) in cases {
        fs::write(state.join("boot-id"), &boot).unwrap();
        let path = state.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, garbage).unwrap();
        refused.assert(&refused.start(&[]), says);
        assert_eq!(
            fs::read(&path).unwrap(),
            *garbage,
            "what could be mended is kept"
        );
        fs::remove_file(&path).unwrap();
    }
    fs::remove_dir_all(&state).unwrap();
}

#[test]
fn what_was_stored_before_another_boot_is_forgotten() {
    let refused = Refused::new("boot");
    let state = refused.state();
    fs::create_dir_all(state.join("containers")).unwrap();
    fs::write(state.join("boot-id"), format!("{}\n", "0".repeat(36))).unwrap();
    fs::write(state.join("containers/1"), "of another boot").unwrap();
    // The control of the refusals above, too: from here it starts.
    let instance = Instance::start_as(refused.name.clone());
    assert_eq!(
        instance.json(&["container", "list"])["containers"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    instance.stop();
}

#[test]
fn nobody_and_root_of_a_container_may_ask_for_status_and_features_only() {
    let instance = Instance::start("others");
    instance.ok(&["container", "create", "web"]);
    let keyctl = bin_dir().join("keyctl-ns");
    let run = |wrapper: &[&str], arguments: &[&str]| -> Ran {
        let mut command = match wrapper {
            [] => keyctl_as(65_534),
            [program, rest @ ..] => {
                let mut command = Command::new(program);
                command.args(rest).arg(&keyctl);
                command
            }
        };
        command.args(["--instance", &instance.name]).args(arguments);
        command.stdin(Stdio::null()).output().unwrap().into()
    };
    let root_inside: &[&str] = &["unshare", "--user", "--map-root-user"];
    for (wrapper, who) in [
        (&[][..], "uid 65534"),
        (root_inside, "root of another user namespace"),
    ] {
        let features = run(wrapper, &["features"]);
        assert_eq!(features.code, 0, "{}", features.err);
        assert!(features.out.contains("kernel"), "{}", features.out);
        for arguments in [
            &["container", "list"][..],
            &["container", "create", "x"],
            &["container", "exec", "web", "--", "true"],
            &["container", "kill", "web"],
            &["describe", "web/user:x"],
            &["grant", "web/user:x", "container:web", "view"],
            &["intercept", "web", "user"],
            &["upcalls"],
            &["answer", "1", "--negate", "5"],
            &["reroute", "1", "--to", "desk"],
            &["agent", "serve", "user", "--", "true"],
            &["watch"],
        ] {
            let ran = run(wrapper, arguments);
            assert_eq!(ran.code, 3, "{who} {arguments:?}: {}{}", ran.out, ran.err);
            let said = format!("error: {who} may not call org.keyns.");
            assert!(
                ran.err.starts_with(&said),
                "{who} {arguments:?}: {}",
                ran.err
            );
            assert!(
                ran.err.contains("hint: run it as root of the host"),
                "{}",
                ran.err
            );
            assert!(ran.out.is_empty(), "{}", ran.out);
        }
    }
    let listing = instance.json(&["container", "list"]);
    assert_eq!(listing["containers"].as_array().unwrap().len(), 1);
    instance.stop();
}

//! `make install` and the diversion of `keyctl`, in a root directory of their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const OURS: &str = "/usr/local/libexec/keyns/keyctl";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// All files and links below a directory, relative to it.
fn files(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap();
                found.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn make(arguments: &[&str]) -> Output {
    Command::new("make")
        .args(["-s", "-C"])
        .arg(repository())
        .args(arguments)
        .output()
        .unwrap()
}

#[track_caller]
fn ok(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// `make` with a destination of its own, and programs that are there already.
struct Installation {
    programs: TempDir,
    destination: TempDir,
}

impl Installation {
    fn new() -> Self {
        let programs = TempDir::new().unwrap();
        let listed = ok(&make(&["--eval", "show: ; @echo $(PROGRAMS)", "show"]));
        for name in listed.split_whitespace() {
            let file = programs.path().join(name);
            fs::write(&file, name).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self {
            programs,
            destination: TempDir::new().unwrap(),
        }
    }

    fn make(&self, target: &str) -> Output {
        make(&[
            target,
            &format!("DESTDIR={}", self.destination.path().display()),
            "PREFIX=/usr",
            &format!("KEYNS_BIN_DIR={}", self.programs.path().display()),
        ])
    }
}

#[test]
fn manual_pages_and_completions_are_installed_where_programs_look_and_removed_again() {
    let installation = Installation::new();
    ok(&installation.make("install"));
    let installed = files(installation.destination.path());
    for file in [
        "usr/bin/keyctl-ns",
        "usr/bin/keyns-tui",
        "usr/sbin/keynsd",
        "usr/share/man/man1/keyctl-ns.1",
        "usr/share/man/man1/keyctl-ns-keyctl.1",
        "usr/share/man/man1/keyns-tui.1",
        "usr/share/man/man5/keyns.conf.5",
        "usr/share/man/man7/keyns.7",
        "usr/share/man/man8/keynsd.8",
        "usr/share/man/man5/org.keyns.5",
        "usr/share/dbus-1/interfaces/org.keyns.Manager1.xml",
        "usr/share/dbus-1/system.d/org.keyns.conf",
        "usr/share/dbus-1/system-services/org.keyns.service",
        "usr/share/polkit-1/actions/org.keyns.policy",
        "usr/share/man/man8/keyns-upcall.8",
        "usr/share/bash-completion/completions/keyctl-ns",
        "usr/share/bash-completion/completions/keynsd",
        "usr/share/zsh/site-functions/_keyctl-ns",
        "usr/share/fish/vendor_completions.d/keyctl-ns.fish",
        "usr/share/bash-completion/completions/keyns-tui",
        "usr/share/zsh/site-functions/_keyns-tui",
        "usr/share/fish/vendor_completions.d/keyns-tui.fish",
        "usr/lib/systemd/system/keynsd.service",
        "usr/lib/systemd/system/keynsd.socket",
        "usr/lib/systemd/system/keynsd-admin.socket",
        "usr/lib/systemd/system/keynsd-upcall.socket",
        "usr/lib/tmpfiles.d/keyns.conf",
        "etc/keyns/keyns.conf",
    ] {
        assert!(installed.contains(file), "{file}: {installed:?}");
    }
    // Names that belong to others are not touched.
    for file in ["usr/bin/keyctl", "usr/sbin/request-key", "sbin/request-key"] {
        assert!(!installed.contains(file), "{file}");
    }
    let page = installation
        .destination
        .path()
        .join("usr/share/man/man1/keyctl-ns.1");
    assert_eq!(page.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    ok(&installation.make("install"));
    assert_eq!(files(installation.destination.path()), installed);
    ok(&installation.make("uninstall"));
    assert_eq!(files(installation.destination.path()), BTreeSet::new());
    ok(&installation.make("uninstall"));
}

#[test]
fn settings_that_somebody_has_written_stay_through_an_upgrade_and_a_removal() {
    let installation = Installation::new();
    ok(&installation.make("install"));
    let settings = installation.destination.path().join("etc/keyns/keyns.conf");
    fs::write(&settings, "log = 'warn'").unwrap();
    ok(&installation.make("install"));
    assert_eq!(fs::read_to_string(&settings).unwrap(), "log = 'warn'");
    ok(&installation.make("uninstall"));
    let left = files(installation.destination.path());
    assert_eq!(left, BTreeSet::from(["etc/keyns/keyns.conf".to_owned()]));
}

#[test]
fn the_service_is_written_for_its_place_and_its_systemd() {
    let service = |version: &str| {
        ok(&Command::new("tools/units.sh")
            .args(["/opt/keyns/sbin", version])
            .current_dir(repository())
            .output()
            .unwrap())
    };
    let (old, new) = (service("252"), service("253"));
    for text in [&old, &new] {
        assert!(
            text.contains("\nExecStart=/opt/keyns/sbin/keynsd\n"),
            "{text}"
        );
        assert!(!text.contains('@') && !text.contains("\n\n\n"), "{text}");
    }
    assert!(
        old.contains("\nType=notify\n") && old.contains("\nExecReload="),
        "{old}"
    );
    assert!(
        new.contains("\nType=notify-reload\n") && !new.contains("ExecReload"),
        "{new}"
    );
}

#[test]
fn systemd_understands_the_units_and_finds_them_no_more_exposed_than_they_say() {
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    if analyze(&["--version"]).is_err() {
        eprintln!("there is no systemd: not tried");
        return;
    }
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mut units = Vec::new();
    for name in [
        "keynsd.socket",
        "keynsd-admin.socket",
        "keynsd-upcall.socket",
    ] {
        fs::copy(repository().join("units").join(name), at(name)).unwrap();
        units.push(at(name));
    }
    // Any program serves: whether it exists is looked at.
    let written = Command::new("tools/units.sh")
        .args(["/usr/sbin", "252"])
        .current_dir(repository())
        .output();
    let text = ok(&written.unwrap()).replace("/usr/sbin/keynsd", "/bin/true");
    fs::write(at("keynsd.service"), &text).unwrap();
    units.push(at("keynsd.service"));
    let mut all = vec!["verify", "--man=no", "--recursive-errors=no"];
    all.extend(units.iter().map(String::as_str));
    let verified = analyze(&all).unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let about: Vec<&str> = said.lines().filter(|line| line.contains("keyns")).collect();
    assert!(about.is_empty(), "{said}");

    let stated = text.split_once("“systemd-analyze security”: ").unwrap().1;
    let stated: f64 = stated.get(..3).unwrap().parse().unwrap();
    let threshold = format!("--threshold={}", (stated * 10.0).round());
    let judged = analyze(&[
        "security",
        "--offline=true",
        &threshold,
        &at("keynsd.service"),
    ]);
    ok(&judged.unwrap());
}

/// A root directory with a dpkg of its own.
struct Machine(TempDir);

impl Machine {
    /// With the directories as they are since `/bin` became a link, and keyns installed.
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in [
            "usr/bin",
            "usr/local/libexec/keyns",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
        ] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        symlink("usr/bin", at("bin")).unwrap();
        // The directories belong to a package, or dpkg would remove them when they are empty.
        fs::write(
            at("var/lib/dpkg/status"),
            "Package: base\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\
             Maintainer: nobody <nobody@example.org>\nDescription: for a test\n",
        )
        .unwrap();
        fs::write(
            at("var/lib/dpkg/info/base.list"),
            "/.\n/bin\n/usr\n/usr/bin\n",
        )
        .unwrap();
        fs::write(at(&OURS[1..]), "ours").unwrap();
        fs::set_permissions(at(&OURS[1..]), fs::Permissions::from_mode(0o755)).unwrap();
        Self(root)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Installs a package `keyutils` whose keyctl has this content.
    fn install_package(&self, place: &str, version: &str, content: &str) {
        let build = TempDir::new().unwrap();
        let directory = build.path().join("package");
        fs::create_dir_all(directory.join("DEBIAN")).unwrap();
        fs::create_dir_all(directory.join(place).parent().unwrap()).unwrap();
        fs::write(directory.join(place), content).unwrap();
        fs::write(
            directory.join("DEBIAN/control"),
            format!(
                "Package: keyutils\nVersion: {version}\nArchitecture: all\n\
                 Maintainer: nobody <nobody@example.org>\nDescription: for a test\n"
            ),
        )
        .unwrap();
        let file = build.path().join("keyutils.deb");
        ok(&Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(&directory)
            .arg(&file)
            .output()
            .unwrap());
        self.dpkg(&["--install", file.to_str().unwrap()]);
    }

    fn dpkg(&self, arguments: &[&str]) {
        ok(&Command::new("dpkg")
            .arg("--root")
            .arg(self.0.path())
            .arg("--force-script-chrootless")
            .args(arguments)
            .output()
            .unwrap());
    }

    fn run(&self, action: &str) -> Output {
        Command::new(repository().join("tools/alternatives.sh"))
            .arg(action)
            .arg(self.0.path())
            .output()
            .unwrap()
    }

    fn diversions(&self) -> String {
        ok(&Command::new("dpkg-divert")
            .arg("--root")
            .arg(self.0.path())
            .arg("--list")
            .output()
            .unwrap())
    }

    #[track_caller]
    fn assert_ours(&self) {
        assert_eq!(
            fs::read_link(self.at("usr/bin/keyctl")).unwrap(),
            Path::new(OURS)
        );
    }

    #[track_caller]
    fn assert_original(&self, content: &str) {
        assert_eq!(
            fs::read_to_string(self.at("usr/bin/keyctl")).unwrap(),
            content
        );
        assert!(!self.at("usr/bin/keyctl").is_symlink());
        let names = files(&self.at("usr/bin"));
        assert_eq!(names, BTreeSet::from(["keyctl".to_owned()]));
        assert_eq!(self.diversions(), "");
    }
}

fn has_dpkg() -> bool {
    let found = Command::new("dpkg-divert")
        .arg("--version")
        .output()
        .is_ok();
    if !found {
        eprintln!("there is no dpkg: not tried");
    }
    found
}

#[test]
fn the_name_is_diverted_and_given_back_and_both_may_be_done_twice() {
    if !has_dpkg() {
        return;
    }
    // Where Debian had it, and where it has it now.
    for place in ["bin/keyctl", "usr/bin/keyctl"] {
        let machine = Machine::new();
        machine.install_package(place, "1", "original");
        for _ in 0..2 {
            ok(&machine.run("install"));
            machine.assert_ours();
            let kept = fs::read_to_string(machine.at("usr/bin/keyctl.distrib")).unwrap();
            assert_eq!(kept, "original");
        }
        for _ in 0..2 {
            ok(&machine.run("remove"));
            machine.assert_original("original");
        }
    }
}

#[test]
fn an_upgrade_of_the_package_leaves_the_diversion_and_is_what_is_given_back() {
    if !has_dpkg() {
        return;
    }
    let machine = Machine::new();
    machine.install_package("usr/bin/keyctl", "1", "old");
    ok(&machine.run("install"));
    machine.install_package("usr/bin/keyctl", "2", "new");
    machine.assert_ours();
    ok(&machine.run("remove"));
    machine.assert_original("new");
}

#[test]
fn a_package_that_comes_or_goes_meanwhile_is_no_obstacle() {
    if !has_dpkg() {
        return;
    }
    for place in ["bin/keyctl", "usr/bin/keyctl"] {
        let machine = Machine::new();
        ok(&machine.run("install"));
        machine.assert_ours();
        machine.install_package(place, "1", "late");
        machine.assert_ours();
        ok(&machine.run("remove"));
        machine.assert_original("late");

        ok(&machine.run("install"));
        machine.dpkg(&["--purge", "keyutils"]);
        machine.assert_ours();
        ok(&machine.run("remove"));
        assert_eq!(files(&machine.at("usr/bin")), BTreeSet::new());
        assert_eq!(machine.diversions(), "");
    }
}

#[test]
fn from_every_interruption_both_directions_lead_to_the_end() {
    if !has_dpkg() {
        return;
    }
    let divert = |machine: &Machine| {
        ok(&Command::new("dpkg-divert")
            .arg("--root")
            .arg(machine.0.path())
            .args([
                "--local",
                "--no-rename",
                "--divert",
                "/usr/bin/keyctl.distrib",
                "--add",
            ])
            .arg("/usr/bin/keyctl")
            .output()
            .unwrap());
    };
    for stage in 0..4 {
        for direction in ["install", "remove"] {
            let machine = Machine::new();
            machine.install_package("usr/bin/keyctl", "1", "original");
            let name = machine.at("usr/bin/keyctl");
            // As far as an installation got.
            if stage >= 1 {
                fs::hard_link(&name, machine.at("usr/bin/keyctl.distrib")).unwrap();
            }
            if stage >= 2 {
                divert(&machine);
            }
            if stage >= 3 {
                symlink(OURS, machine.at("usr/bin/keyctl.keyns-new")).unwrap();
            }
            ok(&machine.run(direction));
            if direction == "install" {
                machine.assert_ours();
                ok(&machine.run("remove"));
            }
            machine.assert_original("original");
        }
    }
    // A removal that got as far as the file, but not to the diversion.
    let machine = Machine::new();
    machine.install_package("usr/bin/keyctl", "1", "original");
    divert(&machine);
    ok(&machine.run("remove"));
    machine.assert_original("original");
}

#[test]
fn what_somebody_else_put_there_is_refused_and_kept() {
    if !has_dpkg() {
        return;
    }
    let refused = |machine: &Machine, action: &str, words: &str| {
        let output = machine.run(action);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.starts_with("error: ") && text.contains(words),
            "{text}"
        );
    };
    let machine = Machine::new();
    machine.install_package("usr/bin/keyctl", "1", "original");
    fs::write(machine.at("usr/bin/keyctl.distrib"), "theirs").unwrap();
    refused(
        &machine,
        "install",
        "there is another /usr/bin/keyctl.distrib",
    );
    let kept = fs::read_to_string(machine.at("usr/bin/keyctl.distrib")).unwrap();
    assert_eq!(kept, "theirs");
    fs::remove_file(machine.at("usr/bin/keyctl.distrib")).unwrap();

    ok(&machine.run("install"));
    fs::remove_file(machine.at("usr/bin/keyctl")).unwrap();
    fs::write(machine.at("usr/bin/keyctl"), "their own").unwrap();
    refused(&machine, "remove", "neither keyns nor the original");
    assert_eq!(
        fs::read_to_string(machine.at("usr/bin/keyctl")).unwrap(),
        "their own"
    );

    let bare = Machine::new();
    fs::remove_file(bare.at(&OURS[1..])).unwrap();
    refused(&bare, "install", "run first: make install");
}

#[test]
fn who_is_not_root_is_refused_with_a_sentence() {
    if !has_dpkg() {
        return;
    }
    let machine = Machine::new();
    // Readable for everybody, so that it is the uid that decides.
    let script = machine.at("alternatives.sh");
    fs::copy(repository().join("tools/alternatives.sh"), &script).unwrap();
    fs::set_permissions(machine.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for action in ["install", "remove"] {
        let output = Command::new("setpriv")
            .args([
                "--reuid",
                "65534",
                "--regid",
                "65534",
                "--clear-groups",
                "bash",
            ])
            .arg(&script)
            .arg(action)
            .arg(machine.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("cause: only root may"), "{text}");
        assert_eq!(files(&machine.at("usr/bin")), BTreeSet::new());
    }
}

#[test]
fn the_program_is_not_removed_while_the_name_leads_to_it() {
    if !has_dpkg() {
        return;
    }
    let machine = Machine::new();
    ok(&machine.run("install"));
    let destination = format!("DESTDIR={}", machine.0.path().display());
    let output = make(&["uninstall", &destination, "PREFIX=/usr/local"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("make uninstall-alternatives"), "{text}");
    assert!(machine.at(&OURS[1..]).exists());
    ok(&make(&["uninstall-alternatives", &destination]));
    fs::remove_file(machine.at(&OURS[1..])).unwrap();
    ok(&make(&["uninstall", &destination, "PREFIX=/usr/local"]));
}

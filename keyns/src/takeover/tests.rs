//! Take-over and installation below a scratch root; the mounts are real ones.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

struct Scratch {
    _dir: tempfile::TempDir,
    root: Root,
    upcall: PathBuf,
}

impl Scratch {
    /// A merged-`/usr` root with an empty dpkg database and some `keyns-upcall` to install.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for directory in [
            "usr/sbin",
            "run",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/info",
        ] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        fs::write(dir.path().join("var/lib/dpkg/status"), "").unwrap();
        symlink("usr/sbin", dir.path().join("sbin")).unwrap();
        let upcall = dir.path().join("built");
        fs::write(&upcall, "upcall").unwrap();
        fs::set_permissions(&upcall, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            root: Root::new(dir.path().into()),
            _dir: dir,
            upcall,
        }
    }

    fn with_original() -> Self {
        let scratch = Self::new();
        fs::write(scratch.program(), "original").unwrap();
        scratch
    }

    fn program(&self) -> PathBuf {
        self.root.path().join("usr/sbin/request-key")
    }

    fn distrib(&self) -> PathBuf {
        self.root.path().join("usr/sbin/request-key.distrib")
    }

    fn shown(&self) -> String {
        fs::read_to_string(self.program()).unwrap_or_default()
    }

    fn diversions(&self) -> String {
        fs::read_to_string(self.root.path().join("var/lib/dpkg/diversions")).unwrap_or_default()
    }

    /// Lets dpkg believe that `keyutils` owns the file under the name Debian 12 has for it.
    fn own_program(&self) {
        let dpkg = self.root.path().join("var/lib/dpkg");
        let status = "Package: keyutils\nStatus: install ok installed\nMaintainer: x <x@x>\n\
             Architecture: all\nVersion: 1\nDescription: x\n";
        fs::write(dpkg.join("status"), status).unwrap();
        fs::write(dpkg.join("info/format"), "1\n").unwrap();
        fs::write(
            dpkg.join("info/keyutils.list"),
            "/.\n/sbin\n/sbin/request-key\n",
        )
        .unwrap();
    }

    /// Nothing of keyns is left but what the test put there.
    fn assert_clean(&self) {
        assert!(!self.root.run("").exists(), "/run/keyns is left");
        let names: Vec<_> = fs::read_dir(self.root.path().join("usr/sbin"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .filter(|n| n != "request-key")
            .collect();
        assert!(names.is_empty(), "{names:?}");
        assert!(!self.root.state().exists());
        let lasting = self.root.lasting("");
        assert!(!lasting.exists(), "{} is left", lasting.display());
    }
}

/// Nobody but the original serves the host.
const ONLY: HostChoice<'static> = HostChoice::Original(None);

#[test]
fn a_program_is_covered_and_uncovered() {
    let s = Scratch::with_original();
    let taken = take_over_in(&s.root, &s.upcall).unwrap();
    assert_eq!(taken.started(), Started::Now);
    assert_eq!(s.shown(), "upcall");
    assert_eq!(
        fs::read_to_string(s.root.run(ORIGINAL)).unwrap(),
        "original"
    );
    let status = status(&s.root).unwrap();
    assert_eq!(
        (status.means, status.effective, status.in_use),
        (Some(Means::Bind), true, true)
    );
    assert_eq!(status.original.unwrap().0, s.root.run(ORIGINAL));
    assert!(taken.give_back().unwrap());
    assert_eq!(s.shown(), "original");
    s.assert_clean();
}

#[test]
fn the_covering_program_cannot_be_written_to() {
    let s = Scratch::with_original();
    let _taken = take_over_in(&s.root, &s.upcall).unwrap();
    let refused = fs::write(s.program(), "x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn without_a_program_a_copy_is_placed_and_removed() {
    let s = Scratch::new();
    let taken = take_over_in(&s.root, &s.upcall).unwrap();
    assert_eq!(s.shown(), "upcall");
    assert_eq!(fs::metadata(s.program()).unwrap().mode() & 0o7777, 0o755);
    let status = status(&s.root).unwrap();
    assert_eq!(
        (status.means, status.effective),
        (Some(Means::Placed), true)
    );
    assert_eq!(status.original, None);
    drop(taken);
    assert!(!s.program().exists());
    s.assert_clean();
}

#[test]
fn a_package_that_came_meanwhile_is_left_alone() {
    let s = Scratch::new();
    let taken = take_over_in(&s.root, &s.upcall).unwrap();
    fs::write(s.program().with_extension("dpkg-new"), "from a package").unwrap();
    fs::rename(s.program().with_extension("dpkg-new"), s.program()).unwrap();
    assert!(!status(&s.root).unwrap().effective);
    taken.give_back().unwrap();
    assert_eq!(s.shown(), "from a package");
    s.assert_clean();
}

#[test]
fn several_users_share_it_and_the_last_gives_back() {
    let s = Scratch::with_original();
    let first = take_over_in(&s.root, &s.upcall).unwrap();
    let second = take_over_in(&s.root, &s.upcall).unwrap();
    assert_eq!(second.started(), Started::AlreadyOurs);
    assert!(!first.give_back().unwrap());
    assert_eq!(s.shown(), "upcall");
    assert!(second.give_back().unwrap());
    assert_eq!(s.shown(), "original");
}

#[test]
fn another_program_is_refused_while_the_first_is_used() {
    let s = Scratch::with_original();
    let _taken = take_over_in(&s.root, &s.upcall).unwrap();
    let other = s.root.path().join("other");
    fs::write(&other, "other").unwrap();
    let refused = take_over_in(&s.root, &other).unwrap_err();
    let process = format!("process {}", std::process::id());
    assert!(
        matches!(&refused, TakeOverError::Held { by } if by.contains(&process)),
        "{refused}"
    );
    assert!(matches!(recover(&s.root), Err(TakeOverError::InUse { .. })));
    assert!(matches!(
        install(&s.root, &s.upcall, ONLY),
        Err(TakeOverError::InUse { .. })
    ));
    assert_eq!(s.shown(), "upcall");
}

/// What a killed run leaves: everything, and no user.
fn abandon(s: &Scratch) {
    let mut taken = take_over_in(&s.root, &s.upcall).unwrap();
    drop(taken.user.take());
}

#[test]
fn what_a_killed_run_left_is_undone_by_recover_and_by_the_next_take_over() {
    for original in ["", "original"] {
        let s = Scratch::new();
        if !original.is_empty() {
            fs::write(s.program(), original).unwrap();
        }
        abandon(&s);
        assert!(!status(&s.root).unwrap().in_use);
        assert!(recover(&s.root).unwrap());
        assert!(!recover(&s.root).unwrap());
        assert_eq!(s.shown(), original);
        s.assert_clean();
        abandon(&s);
        let other = s.root.path().join("other");
        fs::write(&other, "other").unwrap();
        let taken = take_over_in(&s.root, &other).unwrap();
        assert_eq!(
            (s.shown().as_str(), taken.started()),
            ("other", Started::Now)
        );
        taken.give_back().unwrap();
        assert_eq!(s.shown(), original);
        s.assert_clean();
    }
}

#[test]
fn every_unfinished_state_of_a_take_over_can_be_undone() {
    let record = |s: &Scratch, means| {
        fs::create_dir_all(s.root.run("")).unwrap();
        write_record(
            &s.root,
            &Record {
                means,
                program: s.program(),
                copy: Digest::of(&s.upcall).unwrap(),
            },
        )
        .unwrap();
    };
    let steps: [&dyn Fn(&Scratch); 6] = [
        &|s| record(s, Means::Bind),
        &|s| fs::copy(&s.upcall, s.root.run(COPY)).map(drop).unwrap(),
        &|s| File::create(s.root.run(ORIGINAL)).map(drop).unwrap(),
        &|s| mounts::bind(&s.program(), &s.root.run(ORIGINAL)).unwrap(),
        &|s| mounts::bind_executable(&s.root.run(COPY)).unwrap(),
        &|s| {
            mounts::bind(&s.root.run(COPY), &s.program()).unwrap();
            mounts::bind(&s.root.run(COPY), &s.program()).unwrap();
        },
    ];
    for done in 0..=steps.len() {
        let s = Scratch::with_original();
        steps.iter().take(done).for_each(|step| step(&s));
        recover(&s.root).unwrap();
        assert_eq!(s.shown(), "original", "after {done} steps");
        s.assert_clean();
    }
    let s = Scratch::new();
    record(&s, Means::Placed);
    fs::copy(&s.upcall, s.root.run(COPY)).unwrap();
    fs::write(s.program().with_file_name(NEW), "half").unwrap();
    recover(&s.root).unwrap();
    assert!(!s.program().exists());
    s.assert_clean();
}

/// What a reboot leaves of a take-over that was not given back.
fn reboot(s: &Scratch) {
    abandon(s);
    fs::remove_dir_all(s.root.run("")).unwrap();
}

#[test]
fn a_placed_copy_is_recalled_after_a_reboot() {
    let s = Scratch::new();
    reboot(&s);
    let status = status(&s.root).unwrap();
    assert_eq!(
        (status.means, status.effective, status.in_use),
        (Some(Means::Placed), true, false)
    );
    assert!(recover(&s.root).unwrap());
    assert!(!s.program().exists());
    s.assert_clean();

    reboot(&s);
    fs::write(&s.upcall, "newer").unwrap();
    let taken = take_over_in(&s.root, &s.upcall).unwrap();
    assert_eq!(
        (s.shown().as_str(), taken.started()),
        ("newer", Started::Now)
    );
    assert!(taken.give_back().unwrap());
    assert!(!s.program().exists());
    s.assert_clean();

    reboot(&s);
    fs::write(s.program(), "from a package").unwrap();
    recover(&s.root).unwrap();
    assert_eq!(s.shown(), "from a package");
    s.assert_clean();
}

#[test]
fn a_mount_of_somebody_else_on_top_is_not_touched() {
    let s = Scratch::with_original();
    let taken = take_over_in(&s.root, &s.upcall).unwrap();
    let theirs = s.root.path().join("theirs");
    fs::write(&theirs, "theirs").unwrap();
    mounts::bind(&theirs, &s.program()).unwrap();
    assert!(taken.give_back().is_err());
    assert_eq!(s.shown(), "theirs");
    mounts::unbind(&s.program(), "theirs").unwrap();
    recover(&s.root).unwrap();
    assert_eq!(s.shown(), "original");
    s.assert_clean();
}

#[test]
fn a_mount_namespace_of_our_own_is_not_where_the_kernel_looks() {
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "takeover::tests::inner_namespace_check",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("refused: the kernel starts"), "{text}");
    mounts::require_kernels_view().unwrap();
}

#[test]
#[ignore = "run by the test above in a mount namespace of its own"]
fn inner_namespace_check() {
    println!("refused: {}", mounts::require_kernels_view().unwrap_err());
}

#[test]
fn installing_and_removing_leaves_the_original_and_dpkg_as_they_were() {
    let s = Scratch::with_original();
    s.own_program();
    let inode = fs::metadata(s.program()).unwrap().ino();
    install(&s.root, &s.upcall, ONLY).unwrap();
    assert_eq!(s.shown(), "upcall");
    assert_eq!(fs::metadata(s.distrib()).unwrap().ino(), inode);
    // dpkg's own name for the file, and only that one.
    assert_eq!(
        s.diversions(),
        "/sbin/request-key\n/sbin/request-key.distrib\nkeyns\n"
    );
    let status = status(&s.root).unwrap();
    assert_eq!(
        (status.means, status.effective),
        (Some(Means::Installed), true)
    );
    assert_eq!(status.original.unwrap().0, s.distrib());
    assert!(matches!(
        take_over_in(&s.root, &s.upcall),
        Err(TakeOverError::Installed)
    ));
    uninstall(&s.root).unwrap();
    assert_eq!(fs::metadata(s.program()).unwrap().ino(), inode);
    assert_eq!(s.diversions(), "");
    s.assert_clean();
    uninstall(&s.root).unwrap();
}

#[test]
fn without_the_package_both_names_are_diverted_and_nothing_remains() {
    let s = Scratch::new();
    install(&s.root, &s.upcall, ONLY).unwrap();
    assert_eq!(s.shown(), "upcall");
    assert!(
        s.diversions()
            .contains("/sbin/request-key\n/sbin/request-key.distrib\nkeyns\n")
    );
    assert!(s.diversions().contains("/usr/sbin/request-key\n"));
    uninstall(&s.root).unwrap();
    assert!(!s.program().exists());
    assert_eq!(s.diversions(), "");
    s.assert_clean();
}

#[test]
fn a_package_installed_meanwhile_gets_its_place() {
    let s = Scratch::new();
    install(&s.root, &s.upcall, ONLY).unwrap();
    fs::write(s.distrib(), "from a package").unwrap();
    uninstall(&s.root).unwrap();
    assert_eq!(s.shown(), "from a package");
    s.assert_clean();
}

#[test]
fn a_newer_keyns_upcall_replaces_the_older() {
    let s = Scratch::with_original();
    install(&s.root, &s.upcall, ONLY).unwrap();
    fs::write(&s.upcall, "newer").unwrap();
    install(&s.root, &s.upcall, ONLY).unwrap();
    assert_eq!(s.shown(), "newer");
    uninstall(&s.root).unwrap();
    assert_eq!(s.shown(), "original");
    s.assert_clean();
}

/// The states between the steps of an installation, and of a removal, made by hand.
#[test]
fn from_every_interruption_both_directions_lead_to_the_end() {
    type Step = fn(&Scratch);
    let begin: Step = |s| {
        fs::create_dir_all(s.root.state().parent().unwrap()).unwrap();
        fs::write(unfinished(&s.root.state()), "{").unwrap();
    };
    let add: Step = |s| {
        let state = r#"{"programs":[DIGEST],"diverted":["/sbin/request-key"]}"#;
        let digest = serde_json::to_string(&Digest::of(&s.upcall).unwrap()).unwrap();
        fs::rename(unfinished(&s.root.state()), s.root.state()).unwrap();
        fs::write(s.root.state(), state.replace("DIGEST", &digest)).unwrap();
    };
    let divert: Step = |s| {
        let text = "/sbin/request-key\n/sbin/request-key.distrib\nkeyns\n";
        fs::write(s.root.path().join("var/lib/dpkg/diversions"), text).unwrap();
    };
    let link: Step = |s| fs::hard_link(s.program(), s.distrib()).unwrap();
    let copy: Step = |s| {
        fs::copy(&s.upcall, s.program().with_file_name(NEW))
            .map(drop)
            .unwrap()
    };
    let rename: Step = |s| fs::rename(s.program().with_file_name(NEW), s.program()).unwrap();
    // Removal begins where the installation has ended.
    let back: Step = |s| fs::rename(s.distrib(), s.program()).unwrap();
    let undivert: Step = |s| fs::write(s.root.path().join("var/lib/dpkg/diversions"), "").unwrap();
    let steps = [begin, add, divert, link, copy, rename, back, undivert];
    for done in 0..=steps.len() {
        for again in [true, false] {
            let s = Scratch::with_original();
            s.own_program();
            steps.iter().take(done).for_each(|step| step(&s));
            assert!(
                !s.shown().is_empty(),
                "there is a program after {done} steps"
            );
            if again {
                install(&s.root, &s.upcall, ONLY).unwrap();
                assert_eq!(s.shown(), "upcall", "after {done} steps");
                assert_eq!(fs::read_to_string(s.distrib()).unwrap(), "original");
            }
            uninstall(&s.root).unwrap();
            assert_eq!(s.shown(), "original", "after {done} steps");
            assert_eq!(s.diversions(), "");
            s.assert_clean();
        }
    }
}

#[test]
fn an_upgrade_between_two_interrupted_runs_is_not_lost() {
    let s = Scratch::with_original();
    s.own_program();
    install(&s.root, &s.upcall, ONLY).unwrap();
    // Removal was interrupted after the original came back; then dpkg upgraded beside it.
    fs::rename(s.distrib(), s.program()).unwrap();
    fs::write(s.distrib(), "newer original").unwrap();
    uninstall(&s.root).unwrap();
    assert_eq!(s.shown(), "newer original");
    s.assert_clean();
}

#[test]
fn what_dpkg_refuses_is_told() {
    let s = Scratch::with_original();
    s.own_program();
    let text = "/sbin/request-key\n/sbin/request-key.other\nother\n";
    fs::write(s.root.path().join("var/lib/dpkg/diversions"), text).unwrap();
    let refused = install(&s.root, &s.upcall, ONLY).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("dpkg-divert --add /sbin/request-key"),
        "{refused}"
    );
    assert_eq!(s.shown(), "original");
}

/// Installs with a `keyns-request-key` of this content, and says who serves the host.
fn serves(s: &Scratch, own: &str, chosen: bool) -> Option<(HostProgram, PathBuf)> {
    let program = s.root.path().join("own");
    fs::write(&program, own).unwrap();
    let choice = if chosen {
        HostChoice::Keyns(&program)
    } else {
        HostChoice::Original(Some(&program))
    };
    install(&s.root, &s.upcall, choice).unwrap();
    status(&s.root).unwrap().host
}

#[test]
fn our_program_serves_the_host_when_it_is_chosen_and_when_there_is_no_other() {
    let s = Scratch::with_original();
    s.own_program();
    let [chosen, spare] = install::own_places(&s.root);
    let original = Some((HostProgram::Original, s.distrib()));
    assert_eq!(serves(&s, "own", false), original);
    assert!(spare.exists() && !chosen.exists());
    assert_eq!(
        serves(&s, "own", true),
        Some((HostProgram::Keyns, chosen.clone()))
    );
    assert!(!spare.exists() && is_own_chosen(&s.root).unwrap());
    assert_eq!(fs::metadata(&chosen).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(
        serves(&s, "newer", true),
        Some((HostProgram::Keyns, chosen.clone()))
    );
    assert_eq!(fs::read_to_string(&chosen).unwrap(), "newer");
    assert_eq!(serves(&s, "own", false), original);
    uninstall(&s.root).unwrap();
    assert_eq!(s.shown(), "original");
    s.assert_clean();

    let s = Scratch::new();
    let [chosen, spare] = install::own_places(&s.root);
    assert_eq!(
        serves(&s, "own", false),
        Some((HostProgram::Keyns, spare.clone()))
    );
    // A package that comes later serves it, unless ours was chosen.
    fs::write(s.distrib(), "from a package").unwrap();
    let found = status(&s.root).unwrap().host;
    assert_eq!(found, Some((HostProgram::Original, s.distrib())));
    assert_eq!(serves(&s, "own", true), Some((HostProgram::Keyns, chosen)));
    // Without either, nobody does.
    install(&s.root, &s.upcall, ONLY).unwrap();
    fs::remove_file(s.distrib()).unwrap();
    assert_eq!(status(&s.root).unwrap().host, None);
    uninstall(&s.root).unwrap();
    assert_eq!(s.shown(), "");
    s.assert_clean();
}

#[test]
fn a_change_of_who_serves_the_host_can_be_interrupted_anywhere() {
    let s = Scratch::new();
    let [chosen, spare] = install::own_places(&s.root);
    let half = chosen.with_file_name(".request-key.keyns-own-new");
    serves(&s, "own", false);
    // Both names, and half of a copy, are what an interruption can leave at most.
    fs::copy(&spare, &chosen).unwrap();
    fs::write(&half, "ha").unwrap();
    assert_eq!(
        serves(&s, "own", false),
        Some((HostProgram::Keyns, spare.clone()))
    );
    assert!(!chosen.exists() && !half.exists());
    fs::copy(&spare, &chosen).unwrap();
    fs::write(&half, "ha").unwrap();
    uninstall(&s.root).unwrap();
    s.assert_clean();
}

#[test]
fn a_program_of_ours_that_is_missing_changes_nothing() {
    let s = Scratch::with_original();
    s.own_program();
    let missing = s.root.path().join("missing");
    assert!(install(&s.root, &s.upcall, HostChoice::Keyns(&missing)).is_err());
    assert_eq!(
        (s.shown().as_str(), s.diversions().as_str()),
        ("original", "")
    );
    uninstall(&s.root).unwrap();
    s.assert_clean();
}

//! Manual pages and completions are complete, up to date, and free of faults.

use std::process::{Command, Stdio};

use xtask::{check, generated, root};

#[track_caller]
fn assert_none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn everything_on_the_command_lines_has_a_text() {
    assert_none("without a text", &check::without_text());
}

#[test]
fn every_command_and_option_is_in_its_manual_page() {
    let files = generated::files().unwrap();
    assert_none("missing", &check::missing_in_pages(&files));
}

#[test]
fn pages_speak_of_no_option_that_nobody_has() {
    let files = generated::files().unwrap();
    assert_none("unknown", &check::unknown_in_pages(&files));
}

#[test]
fn the_files_that_are_checked_in_are_as_they_would_be_made_now() {
    let files = generated::files().unwrap();
    assert!(files.len() >= 8, "{files:?}");
    assert_eq!(files, generated::files().unwrap(), "not the same twice");
    assert_none("stale", &check::stale(&files));
}

#[test]
fn a_command_that_is_missing_in_its_page_is_noticed() {
    let mut files = generated::files().unwrap();
    for file in &mut files {
        let text = String::from_utf8_lossy(&file.content);
        file.content = text
            .replace(".SS ungrant\n", "")
            .replace("accept\\-implied", "")
            .into();
    }
    let faults = check::missing_in_pages(&files).join("\n");
    assert!(
        faults.contains("keyctl-ns ungrant has no section"),
        "{faults}"
    );
    assert!(
        faults.contains("grant: --accept-implied is missing"),
        "{faults}"
    );
    assert_eq!(check::stale(&files).len(), 1);
}

#[test]
fn roff_finds_nothing_wrong_in_any_page() {
    for page in generated::pages().unwrap() {
        let path = root().join(&page.path);
        let groff = Command::new("groff")
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(&path)
            .stdin(Stdio::null())
            .output()
            .expect("groff is needed; on Debian it is in groff-base");
        let said = String::from_utf8_lossy(&groff.stderr);
        assert!(groff.status.success() && said.is_empty(), "{said}");
        // A second opinion where there is one.
        let Ok(mandoc) = Command::new("mandoc")
            .args(["-Tlint", "-Wwarning"])
            .arg(&path)
            .output()
        else {
            continue;
        };
        let said = String::from_utf8_lossy(&mandoc.stdout);
        assert!(mandoc.status.success(), "{said}");
    }
}

#[test]
fn the_scripts_of_the_completions_are_without_faults() {
    for (shell, files) in [
        (
            "bash",
            ["completions/keyctl-ns.bash", "completions/keynsd.bash"],
        ),
        ("zsh", ["completions/_keyctl-ns", "completions/_keynsd"]),
        (
            "fish",
            ["completions/keyctl-ns.fish", "completions/keynsd.fish"],
        ),
    ] {
        for file in files {
            let Ok(parsed) = Command::new(shell)
                .arg("-n")
                .arg(root().join(file))
                .output()
            else {
                // bash is wherever make works; the others are looked at where they are.
                assert_ne!(shell, "bash");
                continue;
            };
            let said = String::from_utf8_lossy(&parsed.stderr);
            assert!(parsed.status.success() && said.is_empty(), "{file}: {said}");
        }
    }
}

//! Manual pages and completions are complete, up to date, and free of faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::process::{Command, Stdio};

use keyns_tui::config::Config;
use xtask::{check, generated, roff, root};

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
        ("bash", ["keyctl-ns.bash", "keyns-tui.bash", "keynsd.bash"]),
        ("zsh", ["_keyctl-ns", "_keyns-tui", "_keynsd"]),
        ("fish", ["keyctl-ns.fish", "keyns-tui.fish", "keynsd.fish"]),
    ] {
        for file in files {
            let Ok(parsed) = Command::new(shell)
                .arg("-n")
                .arg(root().join("completions").join(file))
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

/// The manual page of the dashboard, without fonts.
fn page_of_the_dashboard() -> String {
    let pages = generated::pages().unwrap();
    let page = pages.iter().find(|page| page.path.ends_with("keyns-tui.1"));
    roff::plain(&String::from_utf8_lossy(&page.unwrap().content))
}

/// What the program says of a configuration.
fn refusal_of(configuration: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), configuration).unwrap();
    Config::read(file.path())
        .err()
        .map(|error| error.cause.unwrap())
}

#[test]
fn every_entry_of_the_configuration_is_in_the_manual_and_in_its_example() {
    let page = page_of_the_dashboard();
    let (_, rest) = page.split_once("An example with every entry:\n").unwrap();
    let (_, rest) = rest.split_once(".nf\n").unwrap();
    let (example, _) = rest.split_once(".fi\n").unwrap();
    assert_eq!(refusal_of(example), None, "{example}");

    // The program itself lists what it knows.
    let known = refusal_of("nothing-like-this = 1\n").unwrap();
    let (_, list) = known.split_once("expected one of ").unwrap();
    let entries: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    assert!(entries.len() >= 5, "{known}");
    for entry in entries {
        assert!(page.contains(&format!(".TP\n.B {entry}\n")), "{entry}");
        let is_used = [format!("\n{entry} = "), format!("\n[{entry}]\n")]
            .iter()
            .any(|line| format!("\n{example}").contains(line));
        assert!(is_used, "{entry} in the example");
    }
}

#[test]
fn every_action_is_in_the_manual_with_its_keys_and_every_key_name_too() {
    let page = page_of_the_dashboard();
    for entry in keyns_tui::action::TABLE {
        let keys: Vec<&str> = entry.keys.split_whitespace().collect();
        let line = format!("{}  ({})\n", keys.join(", "), entry.name);
        assert!(page.contains(&line), "{line}");
    }
    let unknown = refusal_of("[keys]\nquit = \"no-key\"\n").unwrap();
    let (_, rest) = unknown.split_once("single characters, ").unwrap();
    let (names, _) = rest.split_once(", f1 to f12").unwrap();
    assert!(names.split(", ").count() >= 16, "{unknown}");
    for name in names.split(", ") {
        assert!(
            page.contains(&format!("\n.BR {name} ,\n")) || page.contains(&format!("\n.B {name}\n")),
            "{name}"
        );
    }
}

//! Checks on the repository itself: what a reader relies on and no compiler looks at.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// All files that belong to the repository: tracked ones, and new ones that are not ignored.
fn files() -> Vec<String> {
    let git = Command::new("git")
        .args([
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        git.status.success(),
        "{}",
        String::from_utf8_lossy(&git.stderr)
    );
    let list = String::from_utf8(git.stdout).unwrap();
    // A file may be listed and deleted.
    let files: Vec<String> = list
        .split_terminator('\0')
        .filter(|f| root().join(f).is_file())
        .map(str::to_owned)
        .collect();
    assert!(
        files.len() > 100,
        "this is not the whole repository: {files:?}"
    );
    files
}

fn files_ending(suffix: &str) -> Vec<String> {
    files()
        .into_iter()
        .filter(|file| file.ends_with(suffix))
        .collect()
}

fn text(file: &str) -> String {
    String::from_utf8_lossy(&fs::read(root().join(file)).unwrap()).into_owned()
}

#[track_caller]
fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// The pieces of a Markdown text between backquotes, code blocks left out.
fn code_spans(markdown: &str) -> Vec<String> {
    let mut spans = Vec::new();
    let mut in_block = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

#[test]
fn every_rust_file_says_what_it_is() {
    let silent: Vec<String> = files_ending(".rs")
        .into_iter()
        .filter(|file| !text(file).starts_with("//! "))
        .collect();
    assert_none("no text at the head of", &silent);
}

#[test]
fn only_keyns_sys_contains_unsafe_code() {
    // In two pieces, as this file is looked at too.
    let keyword = concat!("uns", "afe");
    let contains = |line: &str| {
        !line.trim_start().starts_with("//")
            && [" {", " fn", " impl", " extern", "_code)"]
                .iter()
                .any(|after| {
                    let found = line.find(&format!("{keyword}{after}"));
                    found.is_some_and(|at| {
                        !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                    })
                })
    };
    assert!(
        files_ending(".rs")
            .iter()
            .any(|file| text(file).lines().any(contains)),
        "not even in keyns-sys: this check sees nothing"
    );
    let outside: Vec<String> = files_ending(".rs")
        .into_iter()
        .filter(|file| !file.starts_with("keyns-sys/") && text(file).lines().any(contains))
        .collect();
    assert_none("outside of keyns-sys", &outside);
    // The compiler's own rule must be in force as well.
    assert!(text("Cargo.toml").contains(&format!("{keyword}_code = \"forbid\"")));
    let without: Vec<String> = files_ending("/Cargo.toml")
        .into_iter()
        .filter(|file| file != "keyns-sys/Cargo.toml")
        .filter(|file| {
            let manifest = text(file);
            !manifest.contains("[lints]\nworkspace = true")
                && !manifest.contains(&format!("{keyword}_code = \"forbid\""))
        })
        .collect();
    assert_none("without the rule", &without);
}

#[test]
fn every_module_file_is_part_of_a_crate() {
    let all: BTreeSet<String> = files_ending(".rs").into_iter().collect();
    let mut orphans = Vec::new();
    for file in &all {
        let path = Path::new(file);
        let directory = path.parent().unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        // Cargo finds these by their place.
        let is_root = ["main", "lib", "build"].contains(&stem)
            || ["src/bin", "benches", "examples", "fuzz_targets"]
                .iter()
                .any(|place| directory.ends_with(place))
            || directory.ends_with("tests") && !file.contains("/src/");
        if is_root {
            continue;
        }
        let (name, home) = match stem {
            "mod" => (
                directory.file_name().unwrap().to_str().unwrap(),
                directory.parent().unwrap(),
            ),
            _ => (stem, directory),
        };
        let declared = all
            .iter()
            .map(Path::new)
            .filter(|other| other.parent() == Some(home) || other.with_extension("") == home)
            .any(|other| {
                text(other.to_str().unwrap()).lines().any(|line| {
                    line.trim().strip_suffix(';').is_some_and(|line| {
                        line == format!("mod {name}") || line.ends_with(&format!(" mod {name}"))
                    })
                })
            });
        let by_path = || {
            let end = format!("{stem}.rs\"]");
            all.iter().any(|other| {
                text(other)
                    .lines()
                    .any(|line| line.trim_start().starts_with("#[path = ") && line.ends_with(&end))
            })
        };
        if !declared && !by_path() {
            orphans.push(file.clone());
        }
    }
    assert_none("no `mod` leads to", &orphans);
}

#[test]
fn what_markdown_speaks_of_exists() {
    let makefile = text("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY: "))
        .flat_map(str::split_whitespace)
        .collect();
    let names: BTreeSet<String> = files().into_iter().collect();
    let is_there = |path: &str| {
        let path = path.trim_end_matches('/');
        root().join(path).exists() || names.iter().any(|name| name.ends_with(&format!("/{path}")))
    };
    let mut wrong = Vec::new();
    for markdown in files_ending(".md") {
        let text = text(&markdown);
        for line in text.lines() {
            let mut words = line.split(|c: char| c.is_whitespace() || "`$()".contains(c));
            while let Some(word) = words.next() {
                // Only what looks like a command: `make` in a span, a block, or after a prompt.
                if word == "make"
                    && (line.contains("`make")
                        || line.trim_start().starts_with("make")
                        || line.contains("$ make"))
                    && let Some(target) = words.next()
                    && target.chars().all(|c| c.is_ascii_lowercase())
                    && !target.is_empty()
                    && !targets.contains(target)
                {
                    wrong.push(format!("{markdown}: make {target}"));
                }
            }
        }
        for span in code_spans(&text) {
            let is_path = span.contains('/')
                && !span.starts_with(['/', '~', '-', '$'])
                && span
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
            let is_file = [".rs", ".md", ".toml", ".sh", ".varlink"]
                .iter()
                .any(|e| span.ends_with(e))
                && !span.contains([' ', '*']);
            let built = span.starts_with("target/");
            if (is_path || is_file) && !built && !is_there(&span) && !is_interface(&span) {
                wrong.push(format!("{markdown}: {span}"));
            }
        }
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") && !root().join(file).exists() {
                wrong.push(format!("{markdown}: link to {link}"));
            }
        }
    }
    assert_none("does not exist", &wrong);
}

/// Sockets, keys in containers and the like have a slash too; they begin with a known word.
fn is_interface(span: &str) -> bool {
    ["containers/", "web/", "CONTAINER/"]
        .iter()
        .any(|start| span.starts_with(start))
}

#[test]
fn the_tests_that_architecture_names_exist() {
    let rust: String = files_ending(".rs").iter().map(|file| text(file)).collect();
    let architecture = text("ARCHITECTURE.md");
    let (_, table) = architecture.split_once("## Invariants").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let mut named = 0;
    let mut missing = Vec::new();
    for row in table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| |"))
    {
        let tests = code_spans(row.rsplit('|').nth(1).unwrap());
        if tests.is_empty() {
            missing.push(format!("no test in: {row}"));
        }
        for test in tests {
            named += 1;
            if !rust.contains(&format!("fn {test}(")) {
                missing.push(test);
            }
        }
    }
    assert!(named > 20, "the table was not found");
    assert_none("not there", &missing);
}

#[test]
fn every_crate_and_program_is_in_the_maps() {
    let architecture = text("ARCHITECTURE.md");
    let makefile = text("Makefile");
    let mut missing = Vec::new();
    for manifest in files_ending("/Cargo.toml") {
        let folder = manifest.strip_suffix("Cargo.toml").unwrap();
        if !architecture.contains(&format!("`{folder}`")) {
            missing.push(format!("{folder} in the map of ARCHITECTURE.md"));
        }
        if !text("Cargo.toml").contains(&format!("\"{}\"", folder.trim_end_matches('/'))) {
            missing.push(format!("{folder} in the list of the workspace"));
        }
        if ["tests/", "bench/", "fuzz/"].contains(&folder) {
            continue;
        }
        let mut programs: Vec<String> = files()
            .iter()
            .filter_map(|file| {
                file.strip_prefix(&format!("{folder}src/bin/"))?
                    .strip_suffix(".rs")
            })
            .map(str::to_owned)
            .collect();
        if root().join(folder).join("src/main.rs").exists() {
            programs.push(folder.trim_end_matches('/').to_owned());
        }
        for program in programs {
            if !makefile.split_whitespace().any(|word| word == program) {
                missing.push(format!("{program} in the Makefile"));
            }
        }
    }
    assert_none("missing", &missing);
}

#[test]
fn every_interface_description_is_served_and_commented() {
    let catalogue = text("interfaces/src/idl.rs");
    let mut wrong = Vec::new();
    for file in files_ending(".varlink") {
        let name = Path::new(&file)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        if !catalogue.contains(&format!("{name}\"")) {
            wrong.push(format!("{file} is not in interfaces/src/idl.rs"));
        }
        let text = text(&file);
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let declares = ["interface ", "method ", "type ", "error "]
                .iter()
                .any(|w| line.starts_with(w));
            if declares && (number == 0 || !lines[number - 1].starts_with('#')) {
                wrong.push(format!("{file}: no comment above: {line}"));
            }
        }
    }
    assert_none("interface descriptions", &wrong);
}

#[test]
fn no_file_names_a_place_of_one_machine_or_a_registry_host() {
    // In pieces, as this file is looked at too.
    let foreign = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/."),
        concat!("static.crates", ".io"),
        concat!("index.crates", ".io"),
        concat!("pypi", ".org"),
        concat!("deb.debian", ".org"),
        concat!("registry.npmjs", ".org"),
    ];
    let mut found = Vec::new();
    for file in files() {
        let text = text(&file);
        for (number, line) in text.lines().enumerate() {
            if foreign.iter().any(|word| line.contains(word)) {
                found.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    assert_none("speaks of one machine", &found);
}

#[test]
fn scripts_are_executable_and_stop_at_the_first_error() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut wrong = Vec::new();
    let mut scripts = files_ending(".sh");
    scripts.push(".ci/run".into());
    for script in &scripts {
        let mode = fs::metadata(root().join(script))
            .unwrap()
            .permissions()
            .mode();
        if mode & 0o111 == 0 {
            wrong.push(format!("{script} is not executable"));
        }
        let text = text(script);
        let strict = if text.starts_with("#!/bin/sh\n") {
            "set -eu\n"
        } else {
            "set -euo pipefail\n"
        };
        if !text.contains(strict) {
            wrong.push(format!("{script} goes on after an error"));
        }
    }
    assert!(scripts.len() > 3, "{scripts:?}");
    assert_none("scripts", &wrong);
}

#[test]
fn both_licences_are_there_and_declared() {
    assert!(text("LICENSE-MIT").contains("Permission is hereby granted, free of charge"));
    assert!(text("LICENSE-APACHE").contains("Version 2.0, January 2004"));
    assert!(text("Cargo.toml").contains("license = \"MIT OR Apache-2.0\""));
    let without: Vec<String> = files_ending("/Cargo.toml")
        .into_iter()
        .filter(|file| {
            let manifest = text(file);
            // Where there is no workspace to inherit it from, it is written out.
            !manifest.contains("license.workspace = true")
                && !manifest.contains("license = \"MIT OR Apache-2.0\"")
        })
        .collect();
    assert_none("no licence in", &without);
}

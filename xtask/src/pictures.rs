//! Pictures of the dashboard: the real program in a terminal, with a daemon of its own that has
//! containers, keys and a request.
//!
//! They show serial numbers and times of the machine on which they were drawn, so that no two drawings are
//! the same. What a test compares with the program are the footers, which change with every key that does
//! something; other changes of a screen are for whoever makes them to draw.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use keyns_sys::key;
use keyns_tests::bin_dir;
use keyns_tests::instance::Instance;
use keyns_tests::terminal::Terminal;

use crate::{root, svg};

const SIZE: (u16, u16) = (120, 30);

/// Draws all of them.
///
/// # Errors
/// What cannot be started or written.
pub fn draw() -> io::Result<()> {
    let directory = root().join("man/pictures");
    std::fs::create_dir_all(&directory)?;
    let programs = tempfile::Builder::new().prefix("keyns-").tempdir()?;
    // The path is on the screen, and is to tell nothing of where this repository lies.
    let probe = programs.path().join("keyns-probe");
    std::fs::copy(bin_dir().join("keyns-probe"), &probe)?;

    let session = key::join_session_keyring(None)?;
    let mail = key::add_key(c"keyring", c"mail", b"", session)?;
    for (keyring, description) in [(session, "backup:s3"), (mail, "imap"), (mail, "smtp")] {
        let description = CString::new(description).map_err(io::Error::other)?;
        key::add_key(c"user", &description, b"x", keyring)?;
    }
    let instance = Instance::start_as("main-pictures".to_owned());
    for container in ["web", "db", "db.replica"] {
        instance.ok(&["container", "create", container]);
    }
    for key in ["db:password", "tls:example.org"] {
        add(&instance, "web", key)?;
        let name = format!("web/user:{key}");
        let accept = ["--accept-implied", "read,inval"];
        instance.ok(&[&["grant", &name, "container:web", "search"], &accept[..]].concat());
    }
    add(&instance, "web", "not:granted")?;
    instance.ok(&["intercept", "web", "user"]);
    instance.ok(&["container", "run", "--detach", "web", "--", "sleep", "600"]);

    let mut command = Command::new(bin_dir().join("keyns-tui"));
    command
        .args(["--instance", &instance.name])
        .env("TERM", "xterm-256color")
        .env("LC_ALL", "C.UTF-8")
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("NO_COLOR");
    let mut terminal = Terminal::start(&command, SIZE.0, SIZE.1);
    terminal.shows("container web");
    go_to(&terminal, "keyring: mail");
    terminal.press("l");
    terminal.shows("user: imap");
    go_to(&terminal, "container web");
    terminal.press("l");
    terminal.shows("its store");
    go_to(&terminal, "its store");
    terminal.press("l");
    terminal.shows("user: not:granted");
    go_to(&terminal, "user: db:password");
    terminal.shows("description db:password");
    save(&terminal, &directory, "keys", "The page of keys")?;

    go_to(&terminal, "user: not:granted");
    terminal.shows("description not:granted");
    terminal.press("g");
    terminal.shows("┌ Grant");
    // From the container to the right to search.
    terminal.press("\t\u{1b}[C\u{1b}[C\u{1b}[C ");
    terminal.shows("not alone");
    save(&terminal, &directory, "grant", "What a grant comes to")?;
    terminal.press("\u{3}");

    // With the take-over of /sbin/request-key as long as the request lasts.
    let mut requester = Command::new(bin_dir().join("keynsd"))
        .args(["upcall", "with", "--"])
        .arg(bin_dir().join("keyctl-ns"))
        .args([
            "--instance",
            &instance.name,
            "container",
            "exec",
            "web",
            "--program",
        ])
        .arg(&probe)
        .args([
            "--",
            "keyns-probe",
            "request",
            "user",
            "api:ticket",
            "for the nightly run",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    terminal.press("3");
    terminal.shows("description api:ticket");
    save(
        &terminal,
        &directory,
        "upcalls",
        "A request that waits for an answer",
    )?;
    terminal.press("n\r");
    requester.wait()?;
    terminal.press("\u{3}q");
    terminal.ends();
    drop(terminal);
    instance.stop();
    Ok(())
}

fn add(instance: &Instance, container: &str, description: &str) -> io::Result<()> {
    use std::io::Write as _;
    let mut command = instance.command(&["add", "--container", container, "user", description]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(b"payload")?;
    }
    child.wait().map(drop)
}

/// Puts the cursor on the row that begins with a text, counted from the first one.
fn go_to(terminal: &Terminal, start: &str) {
    let text = terminal.text();
    let at = text.lines().position(|row| {
        row.trim_start_matches([' ', '▸', '▾', '●', '*'])
            .starts_with(start)
    });
    terminal.press("\u{1b}[H");
    terminal.press(&"j".repeat(at.unwrap_or(1).saturating_sub(1)));
}

fn save(terminal: &Terminal, directory: &Path, name: &str, title: &str) -> io::Result<()> {
    // The last of what was pressed, and what it made the program ask for.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let picture = terminal.look(|screen| svg::draw(screen, title));
    let path = directory.join(name).with_extension("svg");
    std::fs::write(&path, picture)?;
    println!("{}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use keyns_tui::action::{Scope, TABLE};

    use crate::root;

    /// The last row of a picture, its spans joined.
    fn footer(picture: &str) -> String {
        let row = |span: &str| Some(span.split_once(" y=\"")?.1.split_once('"')?.0.to_owned());
        let spans: Vec<&str> = picture.split("<text").skip(1).collect();
        let last = spans.last().and_then(|span| row(span));
        let text = |span: &&str| Some(span.split_once('>')?.1.split_once("</text>")?.0.to_owned());
        spans
            .iter()
            .filter(|span| row(span) == last)
            .filter_map(text)
            .collect()
    }

    #[test]
    fn the_pictures_have_the_footers_of_today() {
        for (name, scope) in [("keys", Scope::Keys), ("upcalls", Scope::Upcalls)] {
            let path = root().join("man/pictures").join(name).with_extension("svg");
            let footer = footer(&std::fs::read_to_string(path).unwrap());
            let entries = TABLE.iter().filter(|entry| entry.scope == scope);
            let words: String = entries
                .filter_map(|entry| Some((entry.keys.split(' ').next()?, entry.footer?)))
                .map(|(key, word)| format!("{key} {word}  "))
                .collect();
            assert!(
                footer.starts_with(&words),
                "{name}.svg is out of date (cargo xtask pictures): {footer:?}, now {words:?}"
            );
        }
    }
}

//! Terminals of every size and kind, and what is none.

use std::process::{Command, Stdio};

use keyns_tests::terminal::Terminal;

use crate::{dashboard, started};

#[test]
fn it_draws_on_every_size_from_one_cell_up() {
    for (columns, rows, shows) in [
        (1, 1, "…"),
        (39, 12, "sorry, this needs 40x12"),
        (40, 11, "sorry, this needs 40x12"),
        (40, 12, "1 Keys "),
        (80, 24, "1 Keys "),
        (500, 200, "1 Keys "),
    ] {
        let mut terminal = Terminal::start(&dashboard(&[]), columns, rows);
        terminal.shows(shows);
        terminal.press("?\u{3}q");
        assert_eq!(terminal.ends().code(), Some(0), "{columns}x{rows}");
        terminal.is_as_before();
    }
}

#[test]
fn a_storm_of_sizes_ends_with_the_right_screen() {
    let mut terminal = started(&[]);
    let mut random = 12_345_u32;
    for _ in 0..400 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let columns = 1 + u16::try_from((random >> 8) % 500).unwrap();
        let rows = 1 + u16::try_from((random >> 20) % 200).unwrap();
        terminal.resize(columns, rows);
        if random.is_multiple_of(16) {
            terminal.press("?j\u{3}");
        }
    }
    terminal.resize(80, 24);
    terminal.until("the whole screen", |text| {
        let rows: Vec<&str> = text.lines().collect();
        rows.len() == 24
            && rows[0].trim_start().starts_with("1 Keys ")
            && rows[23].starts_with("g grant")
    });
    terminal.press("?");
    terminal.shows(" Help ");
    terminal.press("\u{3}q");
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_as_before();
}

#[test]
fn what_cannot_be_drawn_on_is_refused_before_anything_is_changed() {
    for (name, value, cause) in [
        ("TERM", None, "TERM is not set"),
        ("TERM", Some(""), "TERM is not set"),
        ("TERM", Some("dumb"), "TERM is “dumb”"),
    ] {
        let mut command = dashboard(&[]);
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
        let mut terminal = Terminal::start(&command, 80, 24);
        assert_eq!(terminal.ends().code(), Some(2));
        terminal.shows(cause);
        terminal.shows("hint: keyctl-ns tree");
        terminal.is_as_before();
        assert!(!terminal.bytes().windows(6).any(|it| it == b"\x1b[?104"));
    }
}

#[test]
fn what_is_no_terminal_is_refused() {
    let output = dashboard(&[]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("must be a terminal"), "{said}");
    assert!(said.contains("hint: keyctl-ns tree"), "{said}");
    assert_eq!(output.stdout, b"");
    // A terminal on one side only.
    let mut shell = Command::new("sh");
    let program = dashboard(&[]).get_program().to_owned();
    shell.arg("-c").arg("\"$0\" | cat; echo done").arg(program);
    let mut terminal = Terminal::start(&shell, 80, 24);
    terminal.shows("must be a terminal");
    terminal.shows("done");
    terminal.ends();
    terminal.is_as_before();
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "mouse = false\n[keys]\nfly = \"f\"\n").unwrap();
    let path = file.path().to_str().unwrap();
    let mut terminal = Terminal::start(&dashboard(&["--config", path]), 80, 24);
    assert_eq!(terminal.ends().code(), Some(2));
    terminal.shows("line 3: there is no action “fly”");
    terminal.is_as_before();
}

#[test]
fn only_ascii_is_written_in_a_locale_without_utf_8() {
    for locale in ["C", "POSIX", "de_DE.ISO-8859-1"] {
        let mut command = dashboard(&[]);
        command.env("LC_ALL", locale);
        let mut terminal = Terminal::start(&command, 80, 24);
        terminal.shows("@s");
        terminal.press("?");
        terminal.shows(" Help ");
        terminal.press("\u{3}");
        terminal.until("no dialog", |text| !text.contains(" Help "));
        terminal.press("q");
        assert_eq!(terminal.ends().code(), Some(0));
        let bytes = terminal.bytes();
        assert!(
            bytes.is_ascii(),
            "{locale}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    // The same screen with UTF-8 is not: the check above can fail.
    let terminal = started(&[]);
    terminal.press("?");
    terminal.shows(" Help ");
    assert!(!terminal.bytes().is_ascii());
}

/// Whether any cell has a colour, and whether any is reversed.
fn looks(terminal: &Terminal) -> (bool, bool) {
    terminal.look(|screen| {
        let (rows, columns) = screen.size();
        let cells =
            (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        let (mut coloured, mut reversed) = (false, false);
        for (row, column) in cells {
            let Some(cell) = screen.cell(row, column) else {
                continue;
            };
            coloured |=
                cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default;
            reversed |= cell.inverse();
        }
        (coloured, reversed)
    })
}

#[test]
fn no_color_means_none_and_the_cursor_is_seen_all_the_same() {
    let at = |arguments: &[&str], no_color: Option<&str>| {
        let mut command = dashboard(arguments);
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        let terminal = Terminal::start(&command, 80, 24);
        terminal.shows("@s");
        terminal.press("?");
        terminal.shows(" Help ");
        terminal.press("\u{3}");
        terminal.until("no dialog", |text| !text.contains(" Help "));
        looks(&terminal)
    };
    assert_eq!(at(&[], Some("1")), (false, true));
    assert_eq!(at(&["--theme", "mono"], None), (false, true));
    assert_eq!(at(&[], None), (true, true));
    assert_eq!(at(&[], Some("")), (true, true));
    // Who names a theme wants it.
    assert!(at(&["--theme", "high-contrast"], Some("1")).0);
}

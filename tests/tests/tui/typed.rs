//! What terminals send: the mouse, pastes of any length, and what nobody expects.

use std::time::Instant;

use keyns_sys::key;
use keyns_tests::terminal::Terminal;
use keyns_tests::unique;

use crate::{dashboard, started};

#[test]
fn the_mouse_chooses_a_row_and_a_page() {
    let terminal = started(&[]);
    terminal.look(|screen| {
        assert_ne!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert_eq!(
            screen.mouse_protocol_encoding(),
            vt100::MouseProtocolEncoding::Sgr
        );
    });
    terminal.shows("1/");
    // The third row of the screen is the second one of the tree; terminals count from one.
    terminal.press("\u{1b}[<0;20;3M\u{1b}[<0;20;3m");
    terminal.until("the second row", |text| {
        text.lines().any(|row| row.starts_with("2/"))
    });
    terminal.press("\u{1b}[<64;20;3M\u{1b}[<64;20;3M");
    terminal.until("the first row", |text| {
        text.lines().any(|row| row.starts_with("1/"))
    });
}

#[test]
fn the_mouse_stays_with_the_terminal_where_that_is_wanted() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "mouse = false\n").unwrap();
    let path = file.path().to_str().unwrap();
    for arguments in [&["--no-mouse"][..], &["--config", path]] {
        let mut terminal = started(arguments);
        let none = vt100::MouseProtocolMode::None;
        assert_eq!(terminal.look(vt100::Screen::mouse_protocol_mode), none);
        terminal.press("q");
        terminal.ends();
        let bytes = terminal.bytes();
        assert!(
            !bytes.windows(5).any(|it| it == b"\x1b[?10")
                || !String::from_utf8_lossy(&bytes).contains("\u{1b}[?1000h")
        );
        terminal.is_as_before();
    }
}

#[test]
fn a_megabyte_pasted_into_a_field_is_cut_and_harms_nobody() {
    let mut terminal = started(&[]);
    terminal.press("/");
    terminal.until("the line", |text| {
        text.lines().nth(22).is_some_and(|row| row.starts_with('/'))
    });
    let begun = Instant::now();
    let text = "tag:\u{9375}e\u{301}\u{7}\u{202e} \n".repeat(80_000);
    assert!(text.len() > 1_000_000);
    terminal.press(&format!("\u{1b}[200~{text}\u{1b}[201~"));
    terminal.press("END");
    terminal.until("what was pasted", |text| {
        text.lines().nth(22).is_some_and(|row| row.len() > 20)
    });
    terminal.press("\u{15}type:keyring");
    terminal.until("what was typed since", |text| {
        text.lines()
            .nth(22)
            .is_some_and(|row| row.starts_with("/type:keyring"))
    });
    eprintln!("{} bytes took {:?}", text.len(), begun.elapsed());
    let kib = keyns_tests::resident(terminal.pid());
    assert!(kib < 64 * 1024, "{kib} KiB");
    terminal.press("\u{3}");
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_as_before();
}

#[test]
fn a_paste_where_nothing_is_typed_into_presses_no_keys() {
    let terminal = started(&[]);
    terminal.press("\u{1b}[200~qqq?\r\u{1b}[201~");
    terminal.press("?");
    terminal.shows(" Help ");
}

#[test]
fn rubbish_from_the_terminal_neither_ends_nor_confuses_it() {
    let mut terminal = started(&[]);
    let mut random = 99_u32;
    let rubbish: String = (0..4_000)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Without what ends it, stops it, or destroys something after it was confirmed.
            match char::from(u8::try_from(random >> 24).unwrap_or(0)) {
                'q' | '\u{3}' | '\u{1a}' | 'U' | 'R' | 'I' | '\r' | '\n' | 'y' | ':' => ' ',
                // A paste that never ends would swallow all.
                '~' => ';',
                c => c,
            }
        })
        .collect();
    terminal.press(&rubbish);
    // The end of any sequence that was begun, and then out of any line and dialog.
    terminal.press("mMcu~");
    for _ in 0..10 {
        terminal.press("\u{3}");
    }
    assert_eq!(terminal.ends().code(), Some(0));
    terminal.is_as_before();
}

#[test]
fn a_key_that_dies_under_the_cursor_is_gone_from_the_screen() {
    // The session keyring belongs to this thread, and to what it starts.
    let session = key::join_session_keyring(None).unwrap();
    let name = unique("doomed");
    let description = std::ffi::CString::new(name.clone()).unwrap();
    let doomed = key::add_key(c"user", &description, b"x", session).unwrap();
    let mut terminal = Terminal::start(&dashboard(&[]), 80, 24);
    terminal.shows("@s");
    terminal.press("l");
    terminal.shows(&name);
    terminal.press(&format!("/desc:{name}\r"));
    terminal.shows("only /desc:");
    terminal.press("G");
    terminal.until("its details", |text| text.matches(&name).count() > 1);
    // A dialog that names it is open when it dies.
    terminal.press("R");
    terminal.shows("Enter confirm");
    key::invalidate(doomed).unwrap();
    terminal.press("\r");
    terminal.press("\u{1b}");
    terminal.press("r");
    terminal.until("without the key", |text| {
        !text
            .lines()
            .any(|row| row.contains("user: ") && row.contains(&name))
    });
    terminal.press("q");
    assert_eq!(terminal.ends().code(), Some(0));
}

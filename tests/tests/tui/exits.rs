//! Every kind of exit restores every mode of the terminal.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use keyns_tests::bin_dir;
use keyns_tests::terminal::Terminal;
use nix::sys::signal::{Signal, kill};

use crate::{dashboard, plain, started};

#[test]
fn a_key_that_ends_it_gives_the_terminal_back() {
    for keys in ["q", "\u{3}", ":quit\r"] {
        let mut terminal = started(&[]);
        terminal.press(keys);
        assert_eq!(terminal.ends().code(), Some(0), "{keys:?}");
        terminal.is_as_before();
    }
}

#[test]
fn signals_that_end_it_give_the_terminal_back() {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
    ] {
        let mut terminal = started(&[]);
        kill(terminal.pid(), signal).unwrap();
        let status = terminal.ends();
        assert_eq!(
            status.code(),
            Some(128 + signal as i32),
            "{signal} {status}"
        );
        terminal.is_as_before();
    }
}

#[test]
fn a_signal_ends_it_also_in_the_middle_of_a_dialog() {
    let mut terminal = started(&[]);
    terminal.press("?");
    terminal.shows(" Help ");
    kill(terminal.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(terminal.ends().code(), Some(128 + 15));
    terminal.is_as_before();
}

/// The loop of the dashboard around something that fails.
fn failing(how: &str) -> Terminal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_failing-dashboard"));
    command.arg(how);
    plain(&mut command);
    let terminal = Terminal::start(&command, 80, 24);
    terminal.shows("1 Keys ");
    assert!(terminal.is_taken());
    terminal.press("\u{1a}");
    terminal
}

#[test]
fn an_error_gives_the_terminal_back_and_is_shown_on_it() {
    let mut terminal = failing("error");
    assert_eq!(terminal.ends().code(), Some(1));
    terminal.is_as_before();
    terminal.shows("this is the error");
}

#[test]
fn a_panic_gives_the_terminal_back_and_is_shown_on_it() {
    for (how, code, signal) in [
        ("panic", Some(101), None),
        // Nothing is unwound there, as in the program that is installed.
        ("abort", None, Some(6)),
        ("panic-elsewhere", None, Some(6)),
    ] {
        let mut terminal = failing(how);
        let status = terminal.ends();
        assert_eq!((status.code(), status.signal()), (code, signal), "{how}");
        terminal.is_as_before();
        terminal.shows("this is the panic");
    }
}

#[test]
fn it_goes_back_to_the_shell_and_comes_again_as_often_as_one_likes() {
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    plain(&mut shell);
    shell
        .env("PS1", "shell$ ")
        .env("INPUTRC", "/dev/null")
        .env("PROGRAM", bin_dir().join("keyns-tui"));
    let terminal = Terminal::start(&shell, 80, 24);
    terminal.shows("shell$");
    terminal.press("bind 'set enable-bracketed-paste off'; stty -a | md5sum\r");
    terminal.shows(" -\n");
    let settings = |terminal: &Terminal| {
        terminal.press("clear; stty -a | md5sum\r");
        terminal.until("a sum", |text| {
            let row = text.lines().next().unwrap_or_default();
            row.len() == 35 && row.ends_with("  -")
        });
        terminal.row(0)
    };
    let before = settings(&terminal);
    terminal.press("\"$PROGRAM\" --instance none-of-this-name\r");
    terminal.shows("@s");
    for round in 0..3 {
        assert!(terminal.is_taken(), "round {round}");
        terminal.press("\u{1a}");
        terminal.shows("Stopped");
        terminal.until("the shell's screen", |text| text.contains("shell$"));
        assert!(!terminal.is_taken());
        terminal.look(|screen| {
            assert!(
                !screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor()
            );
            assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        });
        assert_eq!(settings(&terminal), before, "round {round}");
        terminal.press("fg\r");
        terminal.shows("@s");
        // Keys reach it again.
        terminal.press("?");
        terminal.shows(" Help ");
        terminal.press("\u{1b}");
        terminal.until("no dialog", |text| !text.contains(" Help "));
    }
    terminal.press("q");
    terminal.shows("shell$");
    assert_eq!(settings(&terminal), before);
    terminal.press("\"$PROGRAM\" --instance none-of-this-name; echo \"code $?\"\r");
    terminal.shows("@s");
    terminal.press("q");
    terminal.shows("code 0");
    assert_eq!(settings(&terminal), before);
}

#[test]
fn the_end_of_the_terminal_ends_it() {
    // Without a signal: nobody has this terminal as the controlling one.
    let mut terminal = Terminal::start_without_control(&mut dashboard(&[]), 80, 24);
    terminal.shows("@s");
    terminal.hang_up();
    assert_eq!(terminal.ends().code(), Some(0));
    // With one.
    let mut terminal = started(&[]);
    terminal.hang_up();
    let code = terminal.ends().code();
    // What notices first: reading, drawing, or the signal.
    assert!(matches!(code, Some(0 | 1 | 129)), "{code:?}");
}

#[test]
fn a_terminal_that_takes_nothing_any_more_does_not_keep_it_from_ending() {
    let mut terminal = started(&[]);
    terminal.freeze();
    // More frames than the kernel keeps for a terminal.
    for _ in 0..100 {
        terminal.press("\u{c}");
    }
    std::thread::sleep(Duration::from_millis(300));
    kill(terminal.pid(), Signal::SIGTERM).unwrap();
    let status = terminal.ends();
    assert_eq!(status.code(), Some(128 + 15));
}

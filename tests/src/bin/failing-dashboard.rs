//! A dashboard that fails in the middle of its work, for tests of what is left of the terminal then.
//!
//! It is made of the parts of the real one, and its loop is the real one. Only what carries out
//! effects is different: as soon as the program is to be suspended (Ctrl-Z) it fails in the way that
//! the first argument says.

use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::mpsc::sync_channel;

use keyctl_ns::error::CommandError;
use keyns_tui::app::shared::Options;
use keyns_tui::app::{App, Setup};
use keyns_tui::client::Answer;
use keyns_tui::input::Input;
use keyns_tui::keymap::Keymap;
use keyns_tui::message::Effect;
use keyns_tui::run::{Clock, World, drive};
use keyns_tui::terminal::Guard;
use keyns_tui::text::Users;
use keyns_tui::{signals, theme};
use ratatui::Terminal;

/// The ways to fail.
enum Failing {
    Error,
    Panic,
    PanicElsewhere,
}

impl World for Failing {
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Answer>, CommandError> {
        if effect != Effect::Suspend {
            return Ok(None);
        }
        match self {
            Self::Error => Err(CommandError::failure("this is the error")),
            Self::Panic => panic!("this is the panic"),
            Self::PanicElsewhere => {
                let thread = std::thread::spawn(|| panic!("this is the panic"));
                let _ = thread.join();
                std::process::abort();
            }
        }
    }
}

fn main() -> ExitCode {
    let mut world = match std::env::args().nth(1).as_deref() {
        Some("error") => Failing::Error,
        Some("panic") => Failing::Panic,
        Some("panic-elsewhere") => Failing::PanicElsewhere,
        Some("abort") => {
            // As in programs that are built without unwinding: nothing is dropped.
            std::panic::set_hook(Box::new(|info| {
                eprintln!("{info}");
                std::process::abort();
            }));
            Failing::Panic
        }
        _ => return ExitCode::from(2),
    };
    match run(&mut world) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{}", error.message);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

fn run(world: &mut dyn World) -> Result<u8, CommandError> {
    let failed = |error: std::io::Error| CommandError::io("cannot start", &error);
    let clock = Clock::start();
    let mut app = App::new(Setup {
        theme: theme::Name::default(),
        keymap: Keymap::default(),
        options: Options {
            read_only: false,
            unicode: true,
        },
        users: Users::read(),
        uid: rustix::process::geteuid().as_raw(),
        now: clock.now(),
    });
    let guard = Guard::new(true)?;
    let mut terminal = ManuallyDrop::new(Terminal::new(guard.backend()?).map_err(failed)?);
    let (to, inbox) = sync_channel(16);
    signals::start(to.clone()).map_err(failed)?;
    let _input = Input::start(to).map_err(failed)?;
    drive(&mut app, &mut terminal, &inbox, world, &clock)
}

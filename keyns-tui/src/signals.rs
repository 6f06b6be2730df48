//! Signals, as messages.

use std::io;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use crossterm::event::Event;
use rustix::stdio::stdout;
use rustix::termios::tcgetwinsize;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::message::Message;
use crate::{shell, terminal};

/// How long the program may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts the thread that receives signals.
///
/// # Errors
/// When the kernel gives no thread or descriptor.
pub fn start(to: SyncSender<Message>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let caught = runtime.block_on(async { Caught::listen() })?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(pass_on(caught, &to)))?;
    Ok(())
}

struct Caught {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    stop: Signal,
    go_on: Signal,
    resize: Signal,
}

enum Kind {
    Fatal(i32),
    Stop,
    Continue,
    Resize,
}

impl Caught {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            stop: signal(SignalKind::from_raw(20))?,
            go_on: signal(SignalKind::from_raw(18))?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Kind {
        let fatal = |kind: SignalKind| Kind::Fatal(kind.as_raw_value());
        tokio::select! {
            _ = self.hangup.recv() => fatal(SignalKind::hangup()),
            _ = self.interrupt.recv() => fatal(SignalKind::interrupt()),
            _ = self.quit.recv() => fatal(SignalKind::quit()),
            _ = self.terminate.recv() => fatal(SignalKind::terminate()),
            _ = self.stop.recv() => Kind::Stop,
            _ = self.go_on.recv() => Kind::Continue,
            _ = self.resize.recv() => Kind::Resize,
        }
    }
}

async fn pass_on(mut caught: Caught, to: &SyncSender<Message>) {
    loop {
        let message = match caught.next().await {
            Kind::Fatal(number) => {
                let _ = to.try_send(Message::Terminated(number));
                // Whoever has the terminal would leave it as it is to whoever comes next.
                shell::hang_up();
                // A program that hangs in a terminal that takes nothing is ended all the same.
                tokio::time::sleep(PATIENCE).await;
                terminal::abandon();
                std::process::exit(128 + number);
            }
            Kind::Stop => Message::Suspended,
            Kind::Continue => Message::Continued,
            Kind::Resize => match tcgetwinsize(stdout()) {
                Ok(size) => Message::Input(Event::Resize(size.ws_col, size.ws_row)),
                Err(_) => continue,
            },
        };
        if to.send(message).is_err() {
            return;
        }
    }
}

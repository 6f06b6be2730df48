//! The program: threads that wait, one channel, and a loop that handles what comes and draws what
//! changed.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser as _;
use keyctl_ns::context::Context;
use keyctl_ns::error::CommandError;
use ratatui::Terminal;
use ratatui::backend::{Backend, ClearType};

use crate::app::shared::{Now, Options};
use crate::app::{App, Damage, Setup};
use crate::cli::Cli;
use crate::client::daemon::Daemon;
use crate::client::kernel::Kernel;
use crate::client::{Answer, Client, Place, Reply, Request};
use crate::config::Config;
use crate::input::Input;
use crate::message::{Effect, Message};
use crate::terminal::{self, Guard};
use crate::text::Users;
use crate::worker::Workers;
use crate::{feed, shell, signals, theme};

/// Messages that may wait. Who sends more is held up: the daemon then counts what it drops.
const WAITING: usize = 1024;
/// The time between two frames that nobody pressed a key for, while there are many.
const FRAME: Duration = Duration::from_millis(50);
/// Frames that are drawn at once after nothing was to be drawn for a while, as at the start: the first
/// answers come within milliseconds of each other.
const AT_ONCE: u32 = 4;
/// How long messages are handled before a frame is drawn.
const BATCH: Duration = Duration::from_millis(8);

/// The program as a command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(cli.global());
    match run(&cli, &context) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            context.ui.error(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

fn run(cli: &Cli, context: &Context) -> Result<u8, CommandError> {
    if let Some(container) = &cli.shell {
        return shell::inside(context, container);
    }
    let config = configuration(cli)?;
    let mouse = !cli.no_mouse && config.mouse.unwrap_or(true);
    let variable = |name: &str| std::env::var(name).ok();
    let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let theme = match (cli.theme, has_colours) {
        (Some(theme), _) => theme,
        (None, false) => theme::Name::Mono,
        (None, true) => config.theme.unwrap_or_default(),
    };
    let ascii = cli.ascii
        || config
            .ascii
            .unwrap_or_else(|| !theme::locale_is_unicode(variable));
    let clock = Clock::start();
    let mut app = App::new(Setup {
        theme,
        keymap: config.keymap,
        options: Options {
            read_only: cli.read_only || config.read_only,
            unicode: !ascii,
        },
        users: Users::read(),
        uid: rustix::process::geteuid().as_raw(),
        now: clock.now(),
    });

    let guard = Guard::new(mouse)?;
    let failed = |error: std::io::Error| CommandError::io("cannot start", &error);
    // The guard gives the cursor back. The terminal would do it again as it is dropped, and panic where
    // it can neither do that nor say so, because there is no terminal any more.
    let mut terminal = ManuallyDrop::new(Terminal::new(guard.backend()?).map_err(failed)?);
    let (to, inbox) = sync_channel(WAITING);
    signals::start(to.clone()).map_err(failed)?;
    let mut outside = Outside::start(context.addresses(), &to).map_err(failed)?;
    drop(to);
    let code = drive(&mut app, &mut terminal, &inbox, &mut outside, &clock)?;
    drop(guard);
    Ok(code)
}

fn configuration(cli: &Cli) -> Result<Config, CommandError> {
    if let Some(path) = &cli.config {
        return Config::read(path);
    }
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    match Config::default_path(variable) {
        Some(path) if path.exists() => Config::read(&path),
        _ => Ok(Config::default()),
    }
}

/// The time since the program started.
#[derive(Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Now {
            since_start: self.0.elapsed(),
            epoch_ms: u64::try_from(epoch.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// What carries out effects.
pub trait World {
    /// Carries one out without waiting for its end. A question that cannot even be asked is answered
    /// at once.
    ///
    /// # Errors
    /// When the terminal cannot be used any more.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Answer>, CommandError>;
}

/// The real one.
struct Outside {
    workers: Workers,
    input: Input,
}

impl Outside {
    fn start(addresses: Vec<PathBuf>, to: &SyncSender<Message>) -> std::io::Result<Self> {
        let kernel = Kernel::default();
        let clients: Vec<(Place, Box<dyn Client>)> = vec![
            (Place::Kernel, Box::new(kernel.clone())),
            (Place::Listing, Box::new(kernel.clone())),
            (Place::Machine, Box::new(kernel)),
            (Place::Daemon, Box::new(Daemon::new(addresses.clone()))),
        ];
        let workers = Workers::start(clients, to)?;
        feed::start(addresses, to.clone())?;
        let input = Input::start(to.clone())?;
        Ok(Self { workers, input })
    }

    /// Leaves the terminal to somebody else until `meanwhile` returns.
    fn hand_over<T>(&self, meanwhile: impl FnOnce() -> T) -> Result<T, CommandError> {
        self.input.pause();
        terminal::leave();
        let result = meanwhile();
        let entered = terminal::enter();
        self.input.resume();
        entered
            .map_err(|error| CommandError::io("cannot come back to the terminal", &error))
            .map(|()| result)
    }

    fn suspend(&self) -> Result<(), CommandError> {
        // Not SIGTSTP, which is caught: whoever waits for us sees the same.
        let stop = rustix::process::Signal::STOP;
        self.hand_over(|| rustix::process::kill_process(rustix::process::getpid(), stop))?
            .map_err(|error| CommandError::io("cannot stop", &error.into()))
    }
}

impl World for Outside {
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Answer>, CommandError> {
        match effect {
            Effect::Ask(ticket, Request::Shell(container)) => {
                let result = self.hand_over(|| shell::run(&container))?.map(Reply::Done);
                return Ok(Some(Answer {
                    ticket,
                    request: Request::Shell(container),
                    result,
                }));
            }
            Effect::Ask(ticket, request) => return Ok(self.workers.ask(ticket, request)),
            Effect::Suspend => self.suspend()?,
            Effect::Redraw | Effect::Quit => {}
        }
        Ok(None)
    }
}

/// When a frame may be drawn that nobody pressed a key for: a few at once, then evenly.
#[derive(Debug, Default)]
struct Pace {
    /// When the frames so far would have been over, had they been drawn evenly.
    over: Duration,
}

impl Pace {
    fn next(&self) -> Duration {
        self.over.saturating_sub(FRAME * (AT_ONCE - 1))
    }

    fn drawn(&mut self, now: Duration) {
        self.over = self.over.max(now) + FRAME;
    }
}

/// Clears the screen, so that the next frame is drawn whole. [`Terminal::clear`] would ask the terminal
/// where its cursor is, and wait for an answer that the thread of [`Input`] takes.
fn wipe<B: Backend>(terminal: &mut Terminal<B>) -> Result<(), B::Error> {
    terminal.backend_mut().clear_region(ClearType::All)?;
    // What is compared with has nothing on it either then.
    terminal.swap_buffers();
    Ok(())
}

/// Handles messages and draws until the program is to end; returns its exit code.
///
/// # Errors
/// When the terminal cannot be used any more.
pub fn drive<B: Backend>(
    app: &mut App,
    terminal: &mut Terminal<B>,
    inbox: &Receiver<Message>,
    world: &mut dyn World,
    clock: &Clock,
) -> Result<u8, CommandError>
where
    B::Error: std::fmt::Display,
{
    let unusable = |error: B::Error| CommandError::failure("cannot draw").cause(error.to_string());
    let mut code = 0;
    let mut effects = app.start();
    effects.reverse();
    let mut pace = Pace::default();
    let mut has_ticked = false;
    loop {
        while let Some(effect) = effects.pop() {
            match effect {
                Effect::Quit => return Ok(code),
                Effect::Redraw => wipe(terminal).map_err(unusable)?,
                effect => {
                    let has_left =
                        matches!(effect, Effect::Suspend | Effect::Ask(_, Request::Shell(_)));
                    if let Some(answer) = world.carry_out(effect)? {
                        effects.extend(app.update(Message::Answer(Box::new(answer)), clock.now()));
                    }
                    if has_left {
                        wipe(terminal).map_err(unusable)?;
                        terminal.draw(|frame| app.draw(frame)).map_err(unusable)?;
                    }
                }
            }
        }
        let now = clock.now().since_start;
        let is_due = match app.damage() {
            Damage::None => false,
            Damage::Soon => pace.next() <= now,
            Damage::Now => true,
        };
        if is_due {
            terminal.draw(|frame| app.draw(frame)).map_err(unusable)?;
            pace.drawn(clock.now().since_start);
        }
        let frame = (app.damage() == Damage::Soon).then(|| pace.next().saturating_sub(now));
        let tick = app.sleeps(now);
        // What is due is done also while messages never end, and the other way round.
        has_ticked = !has_ticked && tick == Some(Duration::ZERO);
        let first = if has_ticked {
            Message::Tick
        } else {
            match [frame, tick].into_iter().flatten().min() {
                Some(most) => match inbox.recv_timeout(most) {
                    Ok(message) => message,
                    Err(RecvTimeoutError::Timeout) => Message::Tick,
                    Err(RecvTimeoutError::Disconnected) => return Ok(code),
                },
                None => match inbox.recv() {
                    Ok(message) => message,
                    Err(_) => return Ok(code),
                },
            }
        };
        let begun = Instant::now();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            if let Message::Terminated(number) = &message {
                code = u8::try_from(128 + (number & 0x7f)).unwrap_or(1);
            }
            effects.extend(app.update(message, clock.now()));
            // Keys that wait already share a frame: one that is held down is not drawn for seconds
            // after it was let go.
            if effects.is_empty() && begun.elapsed() < BATCH {
                next = inbox.try_recv().ok();
            }
        }
        effects.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_frames_come_at_once_and_many_evenly() {
        let mut pace = Pace::default();
        let now = Duration::from_secs(5);
        for _ in 0..AT_ONCE {
            assert!(pace.next() <= now);
            pace.drawn(now);
        }
        assert_eq!(pace.next(), now + FRAME);
        let second = Duration::from_secs(1);
        let mut frames = 0;
        while pace.next() < now + second {
            pace.drawn(pace.next().max(now));
            frames += 1;
        }
        assert!((18..=20).contains(&frames), "{frames}");
        assert!(pace.next() + FRAME * AT_ONCE <= now + second * 2);
    }
}

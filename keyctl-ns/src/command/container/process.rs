//! A process in a container, started and followed from here.
//!
//! It never gets the local terminal itself: whoever holds a terminal can type into it. With a
//! terminal it has one of the container's own, whose other side is relayed; without, those of our
//! three descriptors that are terminals are replaced by pipes that are relayed.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use keyns::name::ContainerPath;
use keyns::text::Escaped;
use keyns_interfaces::containers::{Exec, ExitStatus, Kill, Run, Show, Started, Wait};
use keyns_interfaces::{ByteText, Client, ClientError};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::isatty;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use crate::args::User;
use crate::context::Context;
use crate::daemon::{self, refused};
use crate::error::{CommandError, ErrorKind};
use crate::terminal::{Relay, Restorer, copy_size};
use crate::view;

/// Whether a process gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// When standard input and output are terminals.
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where.
    pub container: ContainerPath,
    /// Program and arguments.
    pub command: Vec<ByteText>,
    /// Variables besides the usual ones.
    pub environment: Vec<ByteText>,
    /// As whom.
    pub user: User,
    /// A file of the host to execute rather than the first word of the command.
    pub file: Option<PathBuf>,
    /// Whether it gets a terminal.
    pub terminal: Terminal,
    /// Whether it is the container's first process.
    pub first: bool,
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts a program without input and output, and prints its number.
///
/// # Errors
/// What the daemon says.
pub fn detached(context: &Context, program: &Program) -> Result<(), CommandError> {
    let null = || {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
            .map_err(|error| CommandError::io("cannot open /dev/null", &error))
    };
    let started = daemon::runtime()?.block_on(async {
        let mut client = daemon::connect(&context.addresses()).await?;
        let descriptors = vec![null()?, null()?, null()?];
        start(&mut client, program, false, descriptors)
            .await
            .map(|(process, _)| process.started)
    })?;
    context.ui.print(&started, |out, started| {
        writeln!(
            out,
            "process {} of container “{}”, pid {}",
            started.process, program.container, started.pid
        )
    })
}

/// Starts a program, joins it to our input and output, and returns its exit code when it has ended.
///
/// # Errors
/// What the daemon says; [`ErrorKind::Unreachable`](crate::error::ErrorKind::Unreachable) if the
/// program's end is not known because the daemon does not come back.
pub fn foreground(context: &Context, program: &Program) -> Result<u8, CommandError> {
    if context.ui.is_json() {
        return Err(CommandError::usage("cannot print JSON here")
            .cause("standard output belongs to the program")
            .hint("use --detach with --json, then container wait --json"));
    }
    let stdin_is_terminal = isatty(rustix::stdio::stdin());
    let terminal = match program.terminal {
        Terminal::Auto => stdin_is_terminal && isatty(rustix::stdio::stdout()),
        Terminal::Always => true,
        Terminal::Never => false,
    };
    let exit = daemon::runtime()?.block_on(async {
        let mut client = daemon::connect(&context.addresses()).await?;
        let mut signals = Signals::listen()
            .map_err(|error| CommandError::io("cannot wait for signals", &error))?;
        if !terminal {
            let (descriptors, relay) = standard()
                .map_err(|error| CommandError::io("cannot pass on input and output", &error))?;
            let (process, _) = start(&mut client, program, false, descriptors).await?;
            let exit = follow(context, client, program, process, &mut signals, None).await?;
            relay.finish();
            return Ok(exit);
        }
        let (process, replied) = start(&mut client, program, true, Vec::new()).await?;
        let master = replied.into_iter().next().ok_or_else(|| {
            CommandError::failure("cannot use the program's terminal")
                .cause("the daemon sent none")
                .hint("keyctl-ns and keynsd must be of the same version")
        })?;
        let unusable = |error: io::Error| CommandError::io("cannot use the terminal", &error);
        let restorer = if stdin_is_terminal {
            Some(Restorer::raw().map_err(unusable)?)
        } else {
            None
        };
        copy_size(master.as_fd());
        let relay = Relay::terminal(master.try_clone().map_err(unusable)?).map_err(unusable)?;
        let exit = follow(
            context,
            client,
            program,
            process,
            &mut signals,
            Some(master.as_fd()),
        )
        .await;
        if exit.is_ok() {
            relay.finish();
        }
        drop(restorer);
        exit
    })?;
    if exit == ExitStatus::Unknown {
        context.ui.warn("the program has ended; nobody saw how");
    }
    Ok(view::exit_code(exit))
}

async fn start(
    client: &mut Client,
    program: &Program,
    terminal: bool,
    mut descriptors: Vec<OwnedFd>,
) -> Result<(Process, Vec<OwnedFd>), CommandError> {
    if let Some(path) = &program.file {
        descriptors.push(open(path)?);
    }
    // By number from here on: a container that dies at once gives its name free before anybody has
    // asked how its process ended.
    let show = Show {
        container: program.container.to_string(),
    };
    let (shown, _) = client.call(&show, Vec::new()).await.map_err(refused)?;
    let container = shown.container.id.to_string();
    let call = Run {
        container: container.clone(),
        command: program.command.clone(),
        environment: environment(program, terminal),
        uid: program.user.uid,
        gid: program.user.gid,
        terminal,
        program_passed: program.file.is_some(),
    };
    let result = if program.first {
        client.call(&call, descriptors).await
    } else {
        client.call(&Exec(call), descriptors).await
    };
    let (started, replied) = result.map_err(|error| {
        let error = refused(error);
        // ENOENT, although the file was opened: it is the loader or interpreter that is missing.
        let cause = error.cause.as_deref().unwrap_or_default();
        let of_execution = program.file.is_some() && cause.starts_with("cannot execute ");
        match (of_execution, error.errno) {
            (true, Some(2)) => error
                .cause("the file needs a loader or interpreter that is not there inside")
                .hint("pass a static program, or create the container with --root usr"),
            _ => error,
        }
    })?;
    Ok((Process { container, started }, replied))
}

/// A process that was started.
struct Process {
    /// Number of the container.
    container: String,
    started: Started,
}

/// What was asked for, after PATH and TERM where these were not.
fn environment(program: &Program, terminal: bool) -> Vec<ByteText> {
    let given = |name: &[u8]| {
        program
            .environment
            .iter()
            .any(|variable| variable.bytes().starts_with(name))
    };
    let mut environment = Vec::new();
    if !given(b"PATH=") {
        environment.push(PATH.into());
    }
    if terminal
        && !given(b"TERM=")
        && let Some(term) = std::env::var_os("TERM")
    {
        use std::os::unix::ffi::OsStrExt as _;
        environment.push(ByteText([b"TERM=", term.as_bytes()].concat()));
    }
    environment.extend(program.environment.iter().cloned());
    environment
}

fn open(path: &Path) -> Result<OwnedFd, CommandError> {
    use std::os::unix::ffi::OsStrExt as _;
    let shown = Escaped::new(path.as_os_str().as_bytes())
        .cut(120)
        .to_string();
    File::open(path)
        .map(OwnedFd::from)
        .map_err(|error| CommandError::io(format!("cannot open the program “{shown}”"), &error))
}

/// Our three descriptors, or pipes to and from those that are terminals.
fn standard() -> io::Result<(Vec<OwnedFd>, Relay)> {
    let mut relay = Relay::default();
    let pipe = || pipe_with(PipeFlags::CLOEXEC);
    let stdin = if isatty(rustix::stdio::stdin()) {
        let (reader, writer) = pipe()?;
        relay.input(writer, None)?;
        reader
    } else {
        rustix::stdio::stdin().try_clone_to_owned()?
    };
    let mut output = |own: BorrowedFd<'static>| {
        if !isatty(own) {
            return own.try_clone_to_owned();
        }
        let (reader, writer) = pipe()?;
        relay.output(reader, own.try_clone_to_owned()?);
        Ok(writer)
    };
    let stdout = output(rustix::stdio::stdout())?;
    let stderr = output(rustix::stdio::stderr())?;
    Ok((vec![stdin, stdout, stderr], relay))
}

/// Signals that are passed on, and the one that says that the window has another size.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
    resize: Signal,
}

enum Caught {
    Resize,
    PassOn(SignalKind),
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    async fn next(&mut self) -> Caught {
        tokio::select! {
            _ = self.resize.recv() => Caught::Resize,
            _ = self.interrupt.recv() => Caught::PassOn(SignalKind::interrupt()),
            _ = self.quit.recv() => Caught::PassOn(SignalKind::quit()),
            _ = self.terminate.recv() => Caught::PassOn(SignalKind::terminate()),
            _ = self.hangup.recv() => Caught::PassOn(SignalKind::hangup()),
        }
    }
}

/// Waits for the process' end. A first signal is passed on to it; after a second one, or when the
/// terminal is gone, it is left to itself.
async fn follow(
    context: &Context,
    client: Client,
    program: &Program,
    process: Process,
    signals: &mut Signals,
    master: Option<BorrowedFd<'_>>,
) -> Result<ExitStatus, CommandError> {
    let call = Wait {
        container: process.container,
        process: Some(process.started.process),
    };
    let mut ended = pin!(wait(context, client, &call));
    let mut signalled = false;
    loop {
        let caught = tokio::select! {
            exit = &mut ended => return exit,
            caught = signals.next() => caught,
        };
        match caught {
            Caught::Resize => {
                if let Some(master) = master {
                    copy_size(master);
                }
            }
            Caught::PassOn(kind) => {
                let number = kind.as_raw_value();
                // A process that cannot be found has just ended.
                let lost = pass_on(context, &call, number)
                    .await
                    .is_err_and(|error| error.kind != ErrorKind::NotFound);
                if signalled || lost || kind == SignalKind::hangup() {
                    return Ok(left(context, program, &process.started, number));
                }
                signalled = true;
            }
        }
    }
}

/// Says that the program goes on without us; our own end is that of a process the signal killed.
fn left(context: &Context, program: &Program, started: &Started, number: i32) -> ExitStatus {
    context.ui.note(&format!(
        "process {} of container “{}” may still be running; keyctl-ns container kill {} ends the container",
        started.process, program.container, program.container
    ));
    ExitStatus::Killed(number)
}

async fn pass_on(context: &Context, process: &Wait, number: i32) -> Result<(), CommandError> {
    let call = Kill {
        container: process.container.clone(),
        signal: Some(number),
        process: process.process,
    };
    let mut client = daemon::connect(&context.addresses()).await?;
    client
        .call(&call, Vec::new())
        .await
        .map(drop)
        .map_err(refused)
}

/// A daemon that is restarted while the process runs is asked again.
async fn wait(
    context: &Context,
    mut client: Client,
    call: &Wait,
) -> Result<ExitStatus, CommandError> {
    const TRIES: u32 = 60;
    let mut failure = match client.call(call, Vec::new()).await {
        Ok((ended, _)) => return Ok(ended.exit),
        Err(ClientError::Disconnected) => refused(ClientError::Disconnected),
        Err(error) => return Err(refused(error)),
    };
    for _ in 0..TRIES {
        sleep(Duration::from_millis(500)).await;
        let mut client = match daemon::connect(&context.addresses()).await {
            Ok(client) => client,
            Err(error) => {
                failure = error;
                continue;
            }
        };
        match client.call(call, Vec::new()).await {
            Ok((ended, _)) => return Ok(ended.exit),
            Err(ClientError::Disconnected) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    Err(failure)
}

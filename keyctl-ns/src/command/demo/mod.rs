//! `demo`

pub mod kernel;
pub mod leftovers;
pub mod machine;
pub mod programs;
pub mod server;
pub mod shell;
pub mod step;
pub mod steps;
pub mod story;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use keyns::takeover::{self, Means, Root};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use self::leftovers::Turn;
use self::machine::Machine;
use self::programs::Programs;
use self::server::Server;
use self::shell::Shell;
use self::step::{Record, Step};
use self::steps::{ACTS, Act};
use self::story::Story;
use crate::context::Context;
use crate::daemon;
use crate::error::CommandError;

/// Show on this machine what keyns does, in 20 steps, and leave the machine as it was
///
/// Starts a daemon of its own, takes over /sbin/request-key for about half a minute, and walks
/// through containers, grants and key requests. Every command line is printed as a user would type
/// it, followed by what the kernel answered and what that was compared with. Most statements about
/// security have a control: the same without the protection, which succeeds.
///
/// Afterwards request-key, mounts, cgroups, /run/keyns and the keys of the run are as before, and
/// that is checked too. What an interrupted run has left is removed by the next one.
///
/// Needs root, and no other container of keyns on this machine. The daemon of the demo is an
/// instance called demo-NUMBER, whatever --instance and --socket say. With --json each step is one
/// record of a JSON text sequence; the last record sums up.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Do not ask before /sbin/request-key is taken over
    #[arg(long, short)]
    pub yes: bool,
}

/// The last record.
#[derive(Serialize)]
struct Sum {
    steps: usize,
    ok: usize,
    failed: Vec<&'static str>,
    not_run: Vec<&'static str>,
}

/// Walks through the steps.
///
/// # Errors
/// When the demo is refused, or a step failed.
pub fn run(context: &Context, args: &DemoArgs) -> Result<(), CommandError> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            CommandError::new(crate::error::ErrorKind::Denied, "cannot run the demo")
                .cause(
                    "it makes containers and takes over /sbin/request-key, which only root may do",
                )
                .hint("run it as root"),
        );
    }
    let programs = Programs::find()?;
    let turn = Turn::take()?;
    for instance in leftovers::remove(&turn, &programs)? {
        context.ui.note(&format!(
            "removed what an interrupted demo had left: instance {instance}"
        ));
    }
    refuse_if_in_use()?;
    if !args.yes {
        ask(context)?;
    }
    let instance = leftovers::own_instance();
    let interrupted = listen()?;
    let before = Machine::look(&instance)?;
    let server = Server::new(programs.clone(), &instance);
    let shell = Shell::new(programs.clone(), server.socket(), interrupted);
    let mut story = Story::new(programs, server, before, instance);
    introduce(context, &story)?;
    let records = play(context, &shell, &mut story)?;
    drop(turn);
    sum_up(context, &records)
}

/// Refuses while something of keyns is in use that the demo would disturb, or that would disturb it.
fn refuse_if_in_use() -> Result<(), CommandError> {
    let refused = |cause: String| CommandError::failure("cannot run the demo").cause(cause);
    let status = takeover::status(&Root::default())
        .map_err(|error| refused(format!("/sbin/request-key cannot be looked at: {error}")))?;
    if status.means == Some(Means::Installed) {
        return Err(refused(
            "keyns-upcall is installed behind /sbin/request-key permanently".into(),
        )
        .hint("take it away for the demo: keynsd upcall uninstall"));
    }
    if machine::has_containers() {
        return Err(refused("a container of keyns lives on this machine".into())
            .hint("end it first: keyctl-ns container list, keyctl-ns container kill NAME"));
    }
    Ok(())
}

fn ask(context: &Context) -> Result<(), CommandError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() || context.ui.is_json() {
        return Err(CommandError::usage("the demo was not confirmed")
            .cause(
                "it takes over /sbin/request-key for about half a minute, and nobody can be asked",
            )
            .hint("add --yes"));
    }
    context.ui.note(
        "the demo takes over /sbin/request-key of this machine for about half a minute; requests \
         for keys from elsewhere are served as ever meanwhile",
    );
    let mut err = io::stderr().lock();
    // An answer that cannot be asked for is no.
    let _ = write!(err, "Continue? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    match (read, answer.trim()) {
        (Ok(_), "y" | "Y" | "yes") => Ok(()),
        _ => Err(CommandError::usage("the demo was not confirmed")),
    }
}

/// A flag that is set when the demo is told to end; it then stops where it is and cleans up.
fn listen() -> Result<Arc<AtomicBool>, CommandError> {
    let flag = Arc::new(AtomicBool::new(false));
    let runtime = daemon::runtime()?;
    let set = Arc::clone(&flag);
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
            ];
            let [Ok(mut first), Ok(mut second), Ok(mut third)] = kinds.map(signal) else {
                return;
            };
            loop {
                let caught = tokio::select! {
                    caught = first.recv() => caught,
                    caught = second.recv() => caught,
                    caught = third.recv() => caught,
                };
                if caught.is_none() {
                    return;
                }
                set.store(true, Ordering::Relaxed);
            }
        });
    });
    Ok(flag)
}

fn introduce(context: &Context, story: &Story) -> Result<(), CommandError> {
    if context.ui.is_json() {
        return Ok(());
    }
    context.ui.print(&(), |out, ()| {
        writeln!(
            out,
            "keyns demo: {} steps. What begins with $ can be typed; for that:",
            ACTS.len()
        )?;
        writeln!(out, "      $ {} &", story.server.line())?;
        writeln!(
            out,
            "      $ export KEYNS_SOCKET={}",
            story.server.socket().display()
        )?;
        writeln!(out, "      $ PROBE={}", story.programs.probe.display())
    })
}

/// Plays the steps up to the first that fails, and the last one in any case.
fn play(
    context: &Context,
    shell: &Shell,
    story: &mut Story,
) -> Result<Vec<Option<Record>>, CommandError> {
    let count = ACTS.len();
    let mut records: Vec<Option<Record>> = Vec::new();
    let started = story.server.start();
    // The manager: a thread with a session keyring of its own, which ends with it. The keys of the
    // run are in it, so that nothing of them stays where the demo was started from.
    let manager = std::thread::scope(|scope| {
        let manager = scope.spawn(|| {
            let mut records = Vec::new();
            let session = keyns_sys::key::join_session_keyring(None)
                .map_err(|error| CommandError::io("cannot make a session keyring", &error));
            let mut ready = session.map(|session| {
                story.made.serials.insert(session.raw());
            });
            ready = started.and(ready);
            for (number, act) in (1..count).zip(&ACTS) {
                let before = std::mem::replace(&mut ready, Ok(()));
                let record = play_one(context, shell, story, number, *act, before)?;
                let ok = record.ok;
                records.push(Some(record));
                if !ok {
                    break;
                }
            }
            Ok::<_, CommandError>(records)
        });
        manager.join()
    });
    match manager {
        Ok(played) => records.extend(played?),
        // What it had printed is all there is; the panic itself was reported.
        Err(_) => context.ui.warn("a step of the demo has panicked"),
    }
    records.resize(count - 1, None);
    // From here on nothing is cut short.
    let shell = shell.undisturbed();
    if let Some(last) = ACTS.last() {
        let record = play_one(context, &shell, story, count, *last, Ok(()))?;
        records.push(Some(record));
    }
    Ok(records)
}

fn play_one(
    context: &Context,
    shell: &Shell,
    story: &mut Story,
    number: usize,
    act: Act,
    ready: Result<(), CommandError>,
) -> Result<Record, CommandError> {
    let step = Step::begin(&context.ui, shell, act.title, number, ACTS.len());
    let result = ready
        .and_then(|()| shell.go_on())
        .and_then(|()| (act.play)(&step, story));
    step.end(result)
}

fn sum_up(context: &Context, records: &[Option<Record>]) -> Result<(), CommandError> {
    let named = |wanted: fn(&Option<Record>) -> bool| {
        let both = ACTS.iter().zip(records);
        both.filter(|(_, record)| wanted(record))
            .map(|(act, _)| act.title.name)
            .collect()
    };
    let sum = Sum {
        steps: ACTS.len(),
        ok: records.iter().flatten().filter(|record| record.ok).count(),
        failed: named(|record| record.as_ref().is_some_and(|record| !record.ok)),
        not_run: named(Option::is_none),
    };
    context.ui.record(&sum, |out, sum| {
        writeln!(out)?;
        if !sum.failed.is_empty() {
            writeln!(out, "failed: {}", sum.failed.join(", "))?;
        }
        if !sum.not_run.is_empty() {
            writeln!(out, "not run: {}", sum.not_run.join(", "))?;
        }
        writeln!(out, "demo: {} of {} steps ok", sum.ok, sum.steps)
    })?;
    if sum.ok == sum.steps {
        return Ok(());
    }
    Err(CommandError::failure(format!(
        "{} of {} steps did not succeed",
        sum.steps - sum.ok,
        sum.steps
    )))
}

//! `agent serve`

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use keyns::name::ContainerPath;
use keyns::text::Escaped;
use keyns_interfaces::agents::{Registration, Serve, ServeReply};
use keyns_interfaces::upcalls::UpcallInfo;
use keyns_interfaces::{ClientError, ErrorKind as Refusal};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use super::answerer::Answerer;
use super::program::{self, Verdict};
use crate::args;
use crate::context::Context;
use crate::daemon::{self, refused};
use crate::error::{CommandError, ErrorKind};
use crate::view;

/// Answer key requests by running a program for each of them
///
/// The program gets the callout text on standard input and the facts of the request in its
/// environment: KEYNS_TYPE, KEYNS_DESCRIPTION, KEYNS_CONTAINER, KEYNS_UID, KEYNS_GID,
/// KEYNS_CONTAINER_UID, KEYNS_CONTAINER_GID, KEYNS_PID, KEYNS_OPERATION, KEYNS_KEY, KEYNS_ID,
/// KEYNS_VERIFIED and KEYNS_DEADLINE_MS. Description and callout text are chosen by the requester
/// and prove nothing; the rest comes from the kernel.
///
/// What it writes to standard output becomes the payload, if it exits with 0. Other exit codes:
///
///    1  there is no such key (ENOKEY, repeated for 5 s)
///    2  not mine: ask the next agent
///   75  try again (EAGAIN, 1 s)
///   77  denied (EACCES, 5 s)
///
/// Any other end is reported and rejects the request with ENOKEY for 1 s. A program that takes 8 s,
/// or to the request's deadline if that is less, is killed with all its children (ETIMEDOUT, 1 s).
///
/// What it reports about requests is dropped, and counted, when nobody reads it for long.
///
/// Runs until interrupted, and registers again when the daemon was restarted. A rule must send
/// requests to agents (see intercept).
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    override_usage = "keyctl-ns agent serve [OPTIONS] <TYPE>... -- <CMD> [ARG]...",
    after_help = "Example: keyctl-ns agent serve user --container web -- /usr/local/bin/fetch-secret"
)]
pub struct ServeArgs {
    /// Types of keys it answers, or *
    #[arg(required = true, value_parser = args::key_type, value_name = "TYPE")]
    pub types: Vec<String>,
    /// Name that rules refer to
    #[arg(long, default_value = "agent")]
    pub name: String,
    /// Serve this container and those in it only; may be given several times (default: all)
    #[arg(long, short, value_name = "CONTAINER", value_parser = args::container())]
    pub container: Vec<ContainerPath>,
    /// Requests worked on at once, 1 to 16. One of several is kept for another container, unless
    /// exactly one is served
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub max_in_flight: u32,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD", value_hint = clap::ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// What an agent reports while it runs.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Report {
    Registered {
        agent: u64,
    },
    Answered {
        id: u64,
        container: Option<String>,
        errno: i32,
        milliseconds: u64,
    },
    PassedOn {
        id: u64,
    },
}

/// Serves requests until interrupted.
///
/// # Errors
/// What the daemon says to the registration. Once registered, a daemon that ends is waited for.
pub fn run(context: &Context, args: ServeArgs) -> Result<(), CommandError> {
    if let Some(program) = args.command.first() {
        program::find(program).map_err(|error| {
            CommandError::failure(format!(
                "cannot answer requests with “{}”",
                Escaped::new(program.as_bytes())
            ))
            .cause(match error.kind() {
                io::ErrorKind::PermissionDenied => "it may not be executed",
                _ => "there is no such program",
            })
            .hint("name it by its path: keyctl-ns agent serve TYPE -- /PATH/TO/PROGRAM")
        })?;
    }
    let local = LocalSet::new();
    local.block_on(&daemon::runtime()?, async {
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        // Dropping the work on the way out kills the programs that still run.
        tokio::select! {
            result = serve(context, &args) => result,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, CommandError> {
    signal(kind).map_err(|error| CommandError::io("cannot wait for signals", &error))
}

async fn serve(context: &Context, args: &ServeArgs) -> Result<(), CommandError> {
    let command: Rc<[OsString]> = args.command.clone().into();
    if let Ended::NoRoom(error) = session(context, args, &command).await? {
        return Err(error);
    }
    loop {
        context
            .ui
            .note("the daemon ended; registering again as soon as it is back");
        let mut pause = Duration::from_millis(50);
        loop {
            sleep(pause).await;
            match session(context, args, &command).await {
                Ok(Ended::WithDaemon) => break,
                Err(error) if error.kind != ErrorKind::Unreachable => return Err(error),
                // Not back yet, or too busy with others who want to get in.
                Ok(Ended::NoRoom(_)) | Err(_) => pause = (pause * 2).min(Duration::from_secs(2)),
            }
        }
    }
}

/// How a registration ended that did not fail.
enum Ended {
    /// The daemon has ended.
    WithDaemon,
    /// There was no place for it; there may be one later.
    NoRoom(CommandError),
}

/// One registration, from its beginning to the end of its connection.
async fn session(
    context: &Context,
    args: &ServeArgs,
    command: &Rc<[OsString]>,
) -> Result<Ended, CommandError> {
    let call = Serve {
        name: args.name.clone(),
        types: args.types.clone(),
        containers: args.container.iter().map(ToString::to_string).collect(),
        max_in_flight: Some(args.max_in_flight),
    };
    let client = daemon::connect(&context.addresses()).await?;
    let mut requests = client.subscribe(&call).await.map_err(refused)?;
    let mut answerer = None;
    let mut work = JoinSet::new();
    loop {
        let reply = tokio::select! {
            reply = requests.next() => reply,
            Some(done) = work.join_next() => {
                report(context, done)?;
                continue;
            }
        };
        let ServeReply {
            registration,
            request,
        } = match reply {
            None | Some(Err(ClientError::Disconnected)) => return Ok(Ended::WithDaemon),
            Some(Err(ClientError::Refused(error))) if error.kind == Refusal::LimitReached => {
                return Ok(Ended::NoRoom(error.into()));
            }
            Some(reply) => reply.map_err(refused)?,
        };
        if let Some(Registration { agent, token }) = registration {
            answerer = Some(Rc::new(Answerer::new(context.addresses(), token)));
            let registered = Report::Registered { agent };
            context
                .ui
                .aside()
                .print(move |ui| ui.record(&registered, show))?;
        }
        if let (Some(request), Some(answerer)) = (request, &answerer) {
            work.spawn_local(handle(Rc::clone(command), request, Rc::clone(answerer)));
        }
    }
}

/// What became of one request.
struct Handled {
    report: Option<Report>,
    complaints: Vec<String>,
}

async fn handle(command: Rc<[OsString]>, request: UpcallInfo, answerer: Rc<Answerer>) -> Handled {
    let outcome = program::judge(&command, &request).await;
    let mut complaints: Vec<String> = outcome
        .complaint
        .into_iter()
        .map(|complaint| format!("request {}: {complaint}", request.id))
        .collect();
    let passed_on = matches!(outcome.verdict, Verdict::NotMine);
    let report = match answerer.give(request.id, outcome.verdict).await {
        Ok(Some(done)) => Some(Report::Answered {
            id: request.id,
            container: request.requester.container,
            errno: done.outcome,
            milliseconds: done.milliseconds,
        }),
        Ok(None) => passed_on.then_some(Report::PassedOn { id: request.id }),
        Err(error) => {
            let cause = error
                .cause
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            complaints.push(format!("request {}: {}{cause}", request.id, error.message));
            None
        }
    };
    Handled { report, complaints }
}

/// Says what became of a request, without waiting for whoever reads it: programs that run have
/// deadlines.
fn report(
    context: &Context,
    done: Result<Handled, tokio::task::JoinError>,
) -> Result<(), CommandError> {
    // A task that panicked was reported by the panic itself.
    let Ok(Handled { report, complaints }) = done else {
        return Ok(());
    };
    context.ui.aside().print(move |ui| {
        complaints.iter().for_each(|complaint| ui.warn(complaint));
        report.map_or(Ok(()), |report| ui.record(&report, show))
    })
}

fn show(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    match report {
        Report::Registered { agent } => writeln!(out, "registered as agent {agent}"),
        Report::Answered {
            id,
            container,
            errno,
            milliseconds,
        } => {
            let place = container
                .as_deref()
                .map_or_else(|| "the host".to_owned(), |c| format!("“{}”", view::safe(c)));
            writeln!(
                out,
                "request {id} of {place}: {} after {}",
                view::outcome(*errno),
                view::milliseconds(*milliseconds)
            )
        }
        Report::PassedOn { id } => writeln!(out, "request {id}: passed on"),
    }
}

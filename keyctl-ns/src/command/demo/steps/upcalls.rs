//! Requests that come out of the container, and who answers them.

use std::time::Duration;

use keyns_interfaces::containers::ProcessInfo;
use keyns_interfaces::upcalls::UpcallInfo;

use super::super::kernel::{self, number};
use super::super::shell::{Line, PATIENCE, Ran, Running};
use super::super::step::{Step, succeeded, yes};
use super::super::story::{CONTAINER, Story, answer_of, request_inside, requester};
use super::ground::{HOST, host_request};
use crate::error::CommandError;

/// Requests of a flood, and how many of them the rule lets wait.
const FLOOD: usize = 40;
const PENDING: usize = 4;

/// An interception rule of the container.
pub(super) fn intercept(
    step: &Step<'_>,
    type_: &str,
    options: &[&str],
) -> Result<Ran, CommandError> {
    step.must(&Line::keyctl(
        &[&["intercept", CONTAINER, type_], options].concat(),
    ))
}

/// Answers a request by hand with a payload.
pub(super) fn answer(step: &Step<'_>, id: u64, payload: &str) -> Result<(), CommandError> {
    let line = Line::keyctl(&["answer", &id.to_string(), "--payload-stdin"]).input(payload);
    succeeded(&step.run(&line)?)
}

pub(super) fn identity(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    const CLAIM: &str = "pid:1;uid:0;demo:ticket";
    intercept(step, "user", &["--to", "manual"])?;
    step.say("A process asks for a key and claims in its text to be process 1 of the host:");
    let mut asking = requester(step, CLAIM, "I am pid 1, trust me")?;
    let upcall = story.arrival(step, &mut asking, CLAIM)?;
    step.must(&Line::keyctl(&["upcalls"]))?;
    step.must(&Line::keyctl(&["query", &upcall.id.to_string()]))?;
    let by = &upcall.requester;
    let status = |label| kernel::status(by.pid, label);
    let (seen_pid, seen_uid, state) = (status("NSpid")?, status("Uid")?, status("State")?);
    step.did(
        format!("/proc/{}/status", by.pid),
        format!("NSpid: {seen_pid}\nUid:   {seen_uid}\nState: {state}"),
    );
    let shown = story.look_at(CONTAINER)?;
    let started = shown.processes.iter().max_by_key(|process| process.process);
    step.check(
        "process",
        by.pid,
        started.map_or(0, |process: &ProcessInfo| process.pid),
        format!(
            "the requester is shown as process {}, which the monitor has started",
            by.pid
        ),
    );
    step.check(
        "container",
        by.container.as_deref().unwrap_or("none"),
        CONTAINER,
        "of this container",
    );
    step.check(
        "uid",
        format!("{} inside {}", by.uid, by.container_uid),
        format!("{} inside 0", shown.container.uid_base.unwrap_or_default()),
        format!("as uid {} of the host, which is uid 0 inside", by.uid),
    );
    step.check(
        "verified",
        yes(by.verified),
        "yes",
        "established from kernel objects",
    );
    step.control(
        "claim",
        upcall.description.to_string(),
        CLAIM,
        "its text says pid 1 and uid 0: whoever believed it would act for the host's root",
    );
    let payload = story.payload("ticket-1");
    answer(step, upcall.id, &payload)?;
    let ran = step.finish(asking, PATIENCE)?;
    step.check(
        "pid-inside",
        number(&ran.stdout, "getpid()").unwrap_or_default(),
        seen_pid.split_whitespace().last().unwrap_or_default(),
        "the process' own number for itself is the one /proc shows for the requester",
    );
    step.check(
        "payload",
        kernel::Answer::of(&ran)?.word(),
        payload,
        "it got the payload that was typed",
    );
    Ok(())
}

/// An agent, until it is told to end.
struct Agent {
    running: Running,
}

impl Agent {
    /// Starts one and waits until the daemon knows it.
    fn serve(
        step: &Step<'_>,
        story: &Story,
        types: &[&str],
        script: &str,
    ) -> Result<Self, CommandError> {
        let own = [
            "--name",
            "demo",
            "--container",
            CONTAINER,
            "--",
            "sh",
            "-c",
            script,
        ];
        let line = Line::keyctl(&[&["agent", "serve"], types, &own].concat());
        let mut running = step.start(&line)?;
        step.shell().until(
            "the registration of the agent",
            Duration::from_secs(10),
            || {
                if running.ended()?.is_some() {
                    return Err(CommandError::failure(
                        "the agent has ended instead of serving",
                    ));
                }
                Ok((story.server.status()?.agents > 0).then_some(()))
            },
        )?;
        Ok(Self { running })
    }

    fn end(self, step: &Step<'_>) -> Result<(), CommandError> {
        self.running.interrupt();
        step.finish_briefly(self.running, PATIENCE).map(drop)
    }
}

pub(super) fn agent_answers(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    intercept(step, "user", &["--agent", "demo"])?;
    let alone = request_inside(step, "user", "demo:lease-0")?;
    step.control(
        "no-agent",
        yes(alone.serial().is_some()),
        "no",
        format!("without an agent the request fails ({})", alone.word()),
    );
    let agent = Agent::serve(
        step,
        story,
        &["user"],
        "printf \"lease of $KEYNS_CONTAINER, uid $KEYNS_CONTAINER_UID\"",
    )?;
    story.payload("lease of demo, uid 0");
    let result = request_inside(step, "user", "demo:lease-1");
    agent.end(step)?;
    step.check(
        "payload",
        result?.word(),
        "lease of demo, uid 0",
        "the program's output is the payload; container and uid come from the kernel",
    );
    Ok(())
}

pub(super) fn rejected(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    intercept(step, "user", &["--reject", "ECONNREFUSED:2s"])?;
    let refused = request_inside(step, "user", "demo:no-1")?;
    step.check(
        "rule",
        refused.word(),
        "ECONNREFUSED",
        "the error of the rule arrives",
    );
    intercept(step, "user", &["--to", "manual"])?;
    let mut asking = requester(step, "demo:no-2", "")?;
    let upcall = story.arrival(step, &mut asking, "demo:no-2")?;
    let id = upcall.id.to_string();
    step.must(&Line::keyctl(&["answer", &id, "--reject", "2s", "ESTALE"]))?;
    let refused = answer_of(step, asking)?;
    step.check(
        "by-hand",
        refused.word(),
        "ESTALE",
        "and so does another one, chosen by hand",
    );
    Ok(())
}

pub(super) fn wildcard(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    intercept(step, "user", &["--reject", "EACCES:2s"])?;
    let without = request_inside(step, "logon", "demo:wild-0")?;
    step.control(
        "no-rule",
        without.word(),
        "ENOKEY",
        "without a rule for its type, a request for a logon key fails",
    );
    intercept(step, "*", &["--agent", "demo"])?;
    step.must(&Line::keyctl(&["intercept", "list"]))?;
    let agent = Agent::serve(step, story, &["user", "logon"], "printf wild-secret")?;
    story.payload("wild-secret");
    let results = request_inside(step, "logon", "demo:wild-1")
        .and_then(|logon| Ok((logon, request_inside(step, "user", "demo:wild-1")?)));
    agent.end(step)?;
    let (logon, user) = results?;
    step.check(
        "other-type",
        yes(logon.serial().is_some()),
        "yes",
        "with the rule * it is answered; a logon key can be used but not read",
    );
    step.check(
        "exact-type",
        user.word(),
        "EACCES",
        "the exact rule for user keys goes before *",
    );
    step.must(&Line::keyctl(&["unintercept", CONTAINER, "*"]))?;
    Ok(())
}

/// How many answers of a flood are of one kind.
fn count(ran: &Ran, word: &str) -> usize {
    let of = |line: &str| {
        let (count, rest) = line.split_once(" x ")?;
        rest.split(',').next().filter(|kind| *kind == word)?;
        count.parse().ok()
    };
    ran.stdout.lines().find_map(of).unwrap_or(0)
}

pub(super) fn flood(step: &Step<'_>, story: &mut Story) -> Result<(), CommandError> {
    let (all, pending) = (FLOOD.to_string(), PENDING.to_string());
    step.say(format!(
        "{FLOOD} requests at once, of which {PENDING} may wait, and nobody answers:"
    ));
    intercept(
        step,
        "user",
        &["--to", "manual", "--pending", &pending, "--deadline", "3s"],
    )?;
    let flooding = step.start(&Line::inside(
        CONTAINER,
        &["flood", "user", "demo:flood-", &all],
    ))?;
    step.shell()
        .until("the flood", Duration::from_secs(10), || {
            Ok((story.server.status()?.pending_upcalls >= PENDING as u64).then_some(()))
        })?;
    let waiting: Vec<UpcallInfo> = story
        .ask(&keyns_interfaces::upcalls::List { history: 0 })?
        .upcalls;
    let (host, took) = host_request(step, "demo:host-flood")?;
    let still = story.server.status()?.pending_upcalls;
    let ran = step.finish(flooding, PATIENCE)?;
    step.check(
        "waiting",
        waiting.len(),
        PENDING,
        "no more than that waited in the daemon",
    );
    step.check(
        "cut-off",
        count(&ran, "EAGAIN"),
        FLOOD - PENDING,
        "all others were refused at once with EAGAIN",
    );
    step.check(
        "expired",
        count(&ran, "ETIMEDOUT"),
        PENDING,
        "those that waited ended at their deadline",
    );
    step.check(
        "host-in-time",
        yes(took < HOST && still > 0),
        "yes",
        format!(
            "meanwhile a request of the host got its answer ({}) within {} ms",
            host.word(),
            took.as_millis()
        ),
    );
    step.say("The same flood with higher limits and somebody who answers:");
    let raised = ["--agent", "demo", "--pending", "128", "--rate", "1000"];
    intercept(step, "user", &raised)?;
    let agent = Agent::serve(step, story, &["user"], "printf flood-secret")?;
    story.payload("flood-secret");
    let ran = step.run(&Line::inside(
        CONTAINER,
        &["flood", "user", "demo:tide-", &all],
    ));
    agent.end(step)?;
    step.control(
        "answered",
        count(&ran?, "a key"),
        FLOOD,
        "every request gets its key: it is the limits that cut off",
    );
    Ok(())
}

//! Requests for keys that come out of containers, and who answers them.
//!
//! ```text
//! keyns-upcall ── request ──▶ policy ── rules ──▶ limits ──▶ queue ───▶ answered by hand
//!                               │         │          │    └─▶ agents ─▶ answered by a program
//!                               │         │          └─▶ EAGAIN at once
//!                               │         └─▶ no rule: the container's own keyring, or ENOKEY
//!                               └─▶ refused: a forged type, not the requester, a loop
//! ```
//!
//! A request of a container never falls back to the host's program: without a rule it is answered
//! from what the container was granted, or not at all. Every request ends within its deadline,
//! because its requester cannot be killed meanwhile. Answers never touch the requester's keyrings:
//! whoever answers sees texts and numbers and gives a payload, while the authority over the request,
//! which lends all keyrings of the requester, stays inside `keyns-upcall`.

mod errno;
pub mod limits;
mod methods;
mod peer;
pub mod pending;
pub mod policy;
mod request;
mod requester;
pub mod rules;
#[cfg(test)]
pub(crate) mod testing;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyns::engine::requests::{QueuedRequest, RequestQueue};
use keyns::engine::{ContainerId, ContainerRecord, State as ContainerState};
use keyns::text::Escaped;
use keyns_interfaces::Error;
use keyns_interfaces::upcalls::{Rule, Target, UpcallInfo};
use keyns_sys::requester::NsKind;
use keyns_sys::upcall_wire::Rejection;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

pub use methods::register;

use self::limits::{Limits, Over, Quota};
use self::peer::{Peer, QueuePeer};
use self::pending::{Command, End, Entry, RequestId, Table, Waiting};
use self::policy::Refusal;
use self::request::{Conversation, Route};
use self::rules::{AGENT_DEADLINE, RuleBook, StoredRule};
use crate::daemon::Daemon;
use crate::events::{Topic, event};
use crate::store::{Counter, Store};
use crate::upcall_link::{Incoming, UpcallListener, UpcallPeer};

/// Kind of the stored rules.
const RULES: &str = "rules";
/// How long a request that was sent again waits for the first one to be given up.
const SUPERSEDED: Duration = Duration::from_secs(1);
/// How long the end of a container waits for its requests.
const REJECT_ALL: Duration = Duration::from_secs(2);
/// How much of a requester's text is written to the log.
const LOGGED: usize = 128;
/// How often refusals of one container for its limits are reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The requests and rules of a daemon.
#[derive(Debug)]
pub struct Upcalls {
    state: RefCell<State>,
    numbers: Counter,
    store: Store,
    /// Inode of the host's network namespace.
    host_net: u64,
}

#[derive(Debug, Default)]
struct State {
    rules: RuleBook,
    limits: Limits,
    table: Table,
    floods: HashMap<ContainerId, Flood>,
}

/// Requests of one container that were over a limit and are not reported yet.
#[derive(Debug, Default)]
struct Flood {
    reported: Option<Instant>,
    since: u64,
}

/// A request that was let in.
struct Admitted {
    id: RequestId,
    route: Route,
    commands: mpsc::Receiver<Command>,
    sender: mpsc::Sender<Command>,
    lineage: Vec<ContainerId>,
    arrived: Instant,
    deadline: Instant,
}

impl Upcalls {
    /// Reads the rules of an earlier run; [`Upcalls::restore`] removes those of no use.
    ///
    /// # Errors
    /// Those of the store, and of looking up the host's network namespace.
    pub fn open(store: &Store) -> io::Result<Self> {
        let mut state = State::default();
        for (_, rule) in store.load::<StoredRule>(RULES)? {
            state.rules.place(rule);
        }
        state.limits.follow(&state.rules);
        Ok(Self {
            state: RefCell::new(state),
            numbers: store.counter("upcall")?,
            store: store.clone(),
            host_net: keyns_sys::requester::own_namespace_inode(NsKind::Net)?,
        })
    }

    /// Changes what all containers together may ask for.
    pub fn set_totals(&self, totals: limits::Totals) {
        self.state.borrow_mut().limits.set_totals(totals);
    }

    /// Forgets the rules of containers that did not survive the last run.
    pub fn restore(&self, daemon: &Daemon) {
        let containers: BTreeSet<ContainerId> = self
            .state
            .borrow()
            .rules
            .all()
            .map(|rule| rule.container)
            .collect();
        for container in containers {
            let record = daemon.containers.get(container);
            if record.is_none_or(|record| record.state == ContainerState::Dead) {
                self.container_gone(container);
            }
        }
    }

    /// Serves the upcall socket for ever. A fault of one request never ends it.
    pub async fn run(daemon: Rc<Daemon>, listener: UpcallListener) {
        loop {
            let peer = listener.accept().await;
            spawn_local(serve(Rc::clone(&daemon), peer));
        }
    }

    /// Serves what the kernel queues, where it can, as long as the daemon runs.
    ///
    /// # Errors
    /// The queue cannot be taken up.
    pub async fn take_queued(daemon: Rc<Daemon>) -> Result<(), Error> {
        let (sink, mut requests) = mpsc::unbounded_channel();
        // Unbounded, but what comes through it is: the kernel queues 64 requests of a container.
        let sink = Box::new(move |request| drop(sink.send(request)));
        let what = "take up the requests that the kernel has queued";
        let queue = daemon
            .blocking(what, move |engine| engine.requests(sink))
            .await?;
        let Some(queue) = queue.map(Arc::new) else {
            return Ok(());
        };
        spawn_local(async move {
            while let Some(request) = requests.recv().await {
                let queue = Arc::clone(&queue);
                spawn_local(serve_queued(Rc::clone(&daemon), queue, request));
            }
        });
        Ok(())
    }

    /// Rejects every request of a container and of those inside it, and waits until their
    /// requesters can be killed. The container must be marked as dying before, so that no further
    /// one is let in. Returns how many there were.
    pub async fn reject_container(&self, container: ContainerId) -> u64 {
        let requests = self.state.borrow().table.of_container(container);
        for commands in &requests {
            let end = Command::End(Refusal::Dying.rejection());
            // Full: its answerers fill the queue. It ends by their answers, or its deadline.
            let _ = commands.try_send(end);
        }
        let all = async {
            for commands in &requests {
                commands.closed().await;
            }
        };
        if timeout(REJECT_ALL, all).await.is_err() {
            tracing::warn!(
                container_id = container.0,
                "requests of a dying container do not end"
            );
        }
        u64::try_from(requests.len()).unwrap_or(u64::MAX)
    }

    /// Forgets the rules of a container that is gone.
    pub fn container_gone(&self, container: ContainerId) {
        let mut state = self.state.borrow_mut();
        let State {
            rules,
            limits,
            floods,
            ..
        } = &mut *state;
        for rule in rules.remove_container(container) {
            if let Err(error) = self.store.delete(RULES, &rule.id.to_string()) {
                // It is removed when the daemon starts again, since the container is not there.
                tracing::warn!(rule = rule.id, %error, "cannot remove a rule");
            }
        }
        limits.follow(rules);
        limits.forget(container);
        floods.remove(&container);
    }

    /// The rules of one container, in the order they are tried.
    #[must_use]
    pub fn rules_of(&self, daemon: &Daemon, container: ContainerId) -> Vec<Rule> {
        let state = self.state.borrow();
        state
            .rules
            .of(container)
            .map(|rule| methods::shown(daemon, rule))
            .collect()
    }

    /// Requests waiting now.
    #[must_use]
    pub fn pending(&self) -> u32 {
        self.state.borrow().limits.pending()
    }

    /// Decides where a request goes and notes it as waiting.
    ///
    /// # Errors
    /// What the requester gets when it is not let in.
    fn admit(&self, daemon: &Daemon, incoming: &Incoming) -> Result<Admitted, Rejection> {
        let request = &*incoming.request;
        let place = match incoming.object {
            Some(object) => daemon.containers.of_object(object),
            None => daemon
                .containers
                .locate(&request.pid_ns, &request.user_ns, &request.cgroup),
        };
        let refuse = |refusal: Refusal| {
            tracing::debug!(
                tid = request.tid,
                reason = refusal.reason(),
                "a request is refused before it is looked at"
            );
            refusal.rejection()
        };
        let container = place.ok_or_else(|| refuse(Refusal::Stranger))?;
        // A nested container ends after the one around it was marked.
        let lineage = daemon.containers.lineage(container.id);
        let ends =
            |c: &ContainerRecord| matches!(c.state, ContainerState::Dying | ContainerState::Dead);
        if lineage.iter().any(ends) {
            return Err(refuse(Refusal::Dying));
        }
        let id = self.numbers.next().map_err(|error| {
            tracing::error!(%error, "cannot number a request");
            Rejection::NO_KEY
        })?;
        let numbers = requester::numbers(&lineage);
        let mut state = self.state.borrow_mut();
        let State {
            rules,
            limits,
            table,
            floods,
        } = &mut *state;
        let (depth, judged) = self.judge(daemon, table, incoming, &lineage);
        let rule = judged
            .is_ok()
            .then(|| rules.find(numbers.iter().copied(), &request.type_name));
        let rule = rule.flatten();
        let quota = Quota::of(rule, &numbers, rules);
        let now = Instant::now();
        let uid = request.uids[3];
        let facts = || requester::facts(id, request, &lineage, rule.map(|r| r.id));
        let resumed = request.attempt > 0;
        let permit = match limits.admit(quota, container.id, uid, resumed, now) {
            Ok(permit) => permit,
            Err(over) => {
                let flood = floods.entry(container.id).or_default();
                flood.since += 1;
                if flood
                    .reported
                    .is_none_or(|at| now.duration_since(at) >= REPORT_EVERY)
                {
                    let count = std::mem::take(&mut flood.since);
                    flood.reported = Some(now);
                    table.remember(over_limit(daemon, facts(), &container, over, count));
                }
                return Err(errno::rejection(errno::EAGAIN, 1));
            }
        };
        let route = match (judged, rule) {
            (Err(refusal), _) => Route::Refuse(refusal),
            (Ok(()), Some(rule)) => Route::Rule(rule.target.clone()),
            (Ok(()), None) => Route::Keyring,
        };
        let waited = Duration::from_millis(u64::from(request.waited_ms));
        let arrived = now.checked_sub(waited).unwrap_or(now);
        let deadline = arrived + rule.map_or(AGENT_DEADLINE, StoredRule::deadline);
        let (sender, commands) = mpsc::channel(pending::COMMANDS);
        let entry = Entry {
            facts: facts(),
            lineage: numbers.clone(),
            auth: request.auth.raw(),
            thread: (request.tid, request.start_time),
            depth,
            waiting: Waiting::Queued,
            handler: handler(&route),
            arrived,
            deadline,
            permit,
            commands: sender.clone(),
        };
        let listeners = daemon.bus.subscribers() > 0;
        let info = listeners.then(|| entry.info(now));
        table.insert(id, entry);
        drop(state);
        if let Some(info) = info {
            publish(daemon, "upcall-arrived", info);
        }
        Ok(Admitted {
            id,
            route,
            commands,
            sender,
            lineage: numbers,
            arrived,
            deadline,
        })
    }

    /// Judges who asks and for what. Also tells how many requests led to this one, with itself.
    fn judge(
        &self,
        daemon: &Daemon,
        table: &Table,
        incoming: &Incoming,
        lineage: &[ContainerRecord],
    ) -> (u32, Result<(), Refusal>) {
        let request = &*incoming.request;
        let thread = (request.tid, request.start_time);
        if !requester::is_thread(request, &incoming.requester) {
            return (1, Err(Refusal::NotTheRequester));
        }
        // Of a queued request the kernel says whether that thread has asked. It may do so again before
        // the end of its last request is noticed here.
        let is_queued = incoming.object.is_some();
        let judged = policy::judge(
            &request.type_name,
            &request.description,
            request.doubts,
            !is_queued && table.holds_thread(thread),
            requester::network(request, lineage, self.host_net),
        );
        if judged.is_err() {
            return (1, judged);
        }
        // Only a process that answers something now can have been led here by a request.
        let at_work = daemon.agents.registry().at_work();
        if at_work.is_empty() {
            return (1, Ok(()));
        }
        let processes: Vec<u32> = at_work.iter().map(|(process, _)| *process).collect();
        let Some(agent) = requester::descends_from(request.tgid, &processes) else {
            return (1, Ok(()));
        };
        let led = at_work.iter().filter(|(process, _)| *process == agent);
        let led: Vec<&Entry> = led
            .flat_map(|(_, ids)| ids)
            .filter_map(|id| table.get(*id))
            .collect();
        let depth = led
            .iter()
            .map(|e| e.depth)
            .max()
            .unwrap_or(0)
            .saturating_add(1);
        let type_ = keyns::text::escape(&request.type_name);
        let again = led.iter().any(|e| e.facts.type_ == type_);
        if again || depth > 2 {
            (depth, Err(Refusal::Loop))
        } else {
            (depth, Ok(()))
        }
    }

    /// The request as the agent of this name is to see it.
    fn for_agent(&self, id: RequestId, agent: &str) -> Option<UpcallInfo> {
        let state = self.state.borrow();
        let info = state.table.get(id)?.info(Instant::now());
        let handler = Some(agent.to_owned());
        let turn = u64::try_from(request::COMPLETE.as_millis()).unwrap_or(u64::MAX);
        Some(UpcallInfo {
            // After its turn the request goes to the next agent.
            deadline_ms: info.deadline_ms.map(|left| left.min(turn)),
            state: Waiting::Offered.as_str().to_owned(),
            handler,
            ..info
        })
    }

    /// Notes where a request is now.
    fn moved(&self, daemon: &Daemon, id: RequestId, waiting: Waiting, agent: Option<&str>) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.table.get_mut(id) else {
            return;
        };
        entry.waiting = waiting;
        entry.handler = agent.map(str::to_owned);
        if waiting == Waiting::Queued || daemon.bus.subscribers() == 0 {
            return;
        }
        let info = entry.info(Instant::now());
        drop(state);
        publish(daemon, "upcall-offered", info);
    }

    /// Notes that somebody else is to have a request, and until when.
    fn rerouted(&self, daemon: &Daemon, id: RequestId, queue: Option<&str>, deadline: Instant) {
        let mut state = self.state.borrow_mut();
        let Some(entry) = state.table.get_mut(id) else {
            return;
        };
        entry.waiting = Waiting::Queued;
        entry.handler = queue.map(queue_label);
        entry.deadline = deadline;
        let info = entry.info(Instant::now());
        drop(state);
        let requester = &info.requester;
        tracing::info!(
            upcall = id,
            container = requester.container.as_deref().unwrap_or_default(),
            handler = info.handler.as_deref().unwrap_or("agents"),
            left_ms = info.deadline_ms,
            "upcall rerouted",
        );
        if daemon.bus.subscribers() > 0 {
            publish(daemon, "upcall-rerouted", info);
        }
    }

    /// Notes that a request has ended, and tells everybody.
    fn finish(&self, daemon: &Daemon, id: RequestId, end: End) {
        let mut state = self.state.borrow_mut();
        let Some((info, permit)) = state.table.end(id, end, Instant::now()) else {
            return;
        };
        state.limits.release(permit);
        drop(state);
        let requester = &info.requester;
        tracing::info!(
            name: "upcall-ended",
            upcall = id,
            container = requester.container.as_deref().unwrap_or_default(),
            r#type = info.type_,
            description = %Escaped::new(info.description.bytes()).cut(LOGGED),
            uid = requester.uid,
            tid = requester.tid,
            handler = info.handler.as_deref().unwrap_or_default(),
            errno = info.outcome,
            ms = info.age_ms,
            "upcall {}",
            end.as_str(),
        );
        if daemon.bus.subscribers() > 0 {
            publish(daemon, end.event(), info);
        }
    }
}

/// One connection of `keyns-upcall`.
async fn serve(daemon: Rc<Daemon>, peer: UpcallPeer) {
    let incoming = match peer.recv_request().await {
        Ok(incoming) => incoming,
        Err(error) => {
            tracing::warn!(pid = peer.pid(), %error, "no request");
            return;
        }
    };
    if !peer.is_outside() {
        tracing::warn!(
            name: "upcall-refused",
            pid = peer.pid(),
            "a process of a container posed as keyns-upcall"
        );
        return;
    }
    judge_and_answer(daemon, Peer::Program(peer), incoming).await;
}

/// One request that the kernel has queued.
async fn serve_queued(daemon: Rc<Daemon>, queue: Arc<RequestQueue>, queued: QueuedRequest) {
    let peer = Peer::Queue(QueuePeer::new(queue, &queued));
    let incoming = Incoming {
        request: queued.request,
        requester: queued.requester,
        object: Some(queued.object),
    };
    judge_and_answer(daemon, peer, incoming).await;
}

async fn judge_and_answer(daemon: Rc<Daemon>, peer: Peer, incoming: Incoming) {
    let earlier = daemon
        .upcalls
        .state
        .borrow()
        .table
        .by_auth(incoming.request.auth.raw());
    if let Some(earlier) = earlier {
        // Its connection broke and it asks again; the first one is noticed to be gone at last.
        let _ = earlier.try_send(Command::End(Refusal::Dying.rejection()));
        let _ = timeout(SUPERSEDED, earlier.closed()).await;
    }
    match daemon.upcalls.admit(&daemon, &incoming) {
        Ok(Admitted {
            id,
            route,
            commands,
            sender,
            lineage,
            arrived,
            deadline,
        }) => {
            let request = incoming.request;
            let daemon = Rc::clone(&daemon);
            Conversation {
                daemon,
                peer,
                id,
                request,
                lineage,
                commands,
                sender,
                arrived,
                deadline,
            }
            .run(route)
            .await;
        }
        Err(rejection) => {
            // Should it not arrive, keyns-upcall asks again or gives up by itself.
            if peer.reject(rejection).await.is_ok() {
                let _ = peer.outcome().await;
            }
        }
    }
}

/// What a queue is called where handlers are.
fn queue_label(name: &str) -> String {
    format!("queue {name}")
}

/// What has a request of this route at first.
fn handler(route: &Route) -> Option<String> {
    match route {
        Route::Rule(Target::Queue(name)) => Some(queue_label(name)),
        Route::Keyring => Some("keyring".to_owned()),
        Route::Rule(Target::Agent(_) | Target::Reject(_)) | Route::Refuse(_) => None,
    }
}

/// Reports requests that were over a limit; `facts` is the last of them.
fn over_limit(
    daemon: &Daemon,
    facts: UpcallInfo,
    container: &ContainerRecord,
    over: Over,
    count: u64,
) -> UpcallInfo {
    tracing::warn!(
        name: "upcalls-over-limit",
        container = %container.path,
        limit = over.as_str(),
        requests = count,
        "rejected with EAGAIN"
    );
    let end = End::Rejected(errno::EAGAIN);
    let info = UpcallInfo {
        state: end.as_str().to_owned(),
        outcome: end.errno(),
        handler: Some(format!("limit: {}", over.as_str())),
        ..facts
    };
    publish(daemon, end.event(), info.clone());
    info
}

fn publish(daemon: &Daemon, name: &str, info: UpcallInfo) {
    let mut event = event(name);
    event.upcall = Some(info);
    daemon.bus.publish(Topic::Upcalls, event);
}

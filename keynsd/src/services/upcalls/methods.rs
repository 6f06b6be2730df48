//! `org.keyns.Upcalls`.

use std::rc::Rc;
use std::time::Duration;

use keyns::engine::ContainerId;
use keyns_interfaces::upcalls::{
    Answer, Answered, Intercept, Intercepted, List, ListRules, Listing, Queried, Query, Reroute,
    Response, Rule, Rules, Subscribe, Target, Unintercept, UpcallInfo,
};
use keyns_interfaces::{Empty, Error, ErrorKind};
use keyns_sys::secret::SecretBytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::pending::{self, Answerer, Command, Decision, HISTORY, Handlers, RequestId};
use super::request::not_yours;
use super::rules::{RuleSpec, StoredRule, check_deadline, check_rejection, check_target, within};
use super::{RULES, State, Upcalls};
use crate::authority::Policy;
use crate::daemon::Daemon;
use crate::events::Topic;
use crate::front::{Context, Reply, Router};
use crate::services::containers::demand_alive;

/// Adds the methods of the interface.
pub fn register(router: &mut Router<Daemon>) {
    router
        .method(
            Policy::SeesOthersKeys,
            async |daemon: Rc<Daemon>, _: Context, call: List| {
                daemon.upcalls.list(&call).map(Reply::from)
            },
        )
        .method(
            Policy::SeesOthersKeys,
            async |daemon: Rc<Daemon>, _: Context, call: Query| {
                daemon.upcalls.query(call.id).map(Reply::from)
            },
        )
        .method(
            Policy::AnswersRequests,
            async |daemon: Rc<Daemon>, _: Context, call: Answer| {
                daemon.upcalls.answer(call).await.map(Reply::from)
            },
        )
        .method(
            Policy::AnswersRequests,
            async |daemon: Rc<Daemon>, _: Context, call: Reroute| {
                daemon.upcalls.reroute(call).await.map(Reply::from)
            },
        )
        .method(
            Policy::ChangesKeysOrContainers,
            async |daemon: Rc<Daemon>, _: Context, call: Intercept| {
                intercept(&daemon, call).map(Reply::from)
            },
        )
        .method(
            Policy::SeesOthersKeys,
            async |daemon: Rc<Daemon>, _: Context, call: ListRules| {
                list_rules(&daemon, call).map(Reply::from)
            },
        )
        .method(
            Policy::ChangesKeysOrContainers,
            async |daemon: Rc<Daemon>, _: Context, call: Unintercept| {
                unintercept(&daemon, &call).map(Reply::from)
            },
        )
        .stream(
            Policy::SeesOthersKeys,
            async |daemon: Rc<Daemon>, _: Context, _: Subscribe, sender| {
                daemon.bus.forward(Topic::Upcalls, sender).await
            },
        );
}

impl Upcalls {
    fn list(&self, call: &List) -> Result<Listing, Error> {
        let most = u32::try_from(HISTORY).unwrap_or(u32::MAX);
        within("history", call.history, 0..=most, " requests")?;
        let state = self.state.borrow();
        Ok(Listing {
            upcalls: state.table.list(Instant::now()),
            history: state.table.history(call.history as usize),
        })
    }

    fn query(&self, id: RequestId) -> Result<Queried, Error> {
        let table = &self.state.borrow().table;
        let upcall = table.query(id, Instant::now())?;
        Ok(Queried { upcall })
    }

    async fn reroute(&self, call: Reroute) -> Result<Queried, Error> {
        let Reroute {
            id,
            target,
            deadline_ms,
        } = call;
        let usual = check_target(&target)?;
        let to = match target {
            Target::Queue(name) => Handlers::Queue(name),
            Target::Agent(name) => Handlers::Agents(name),
            Target::Reject(_) => {
                let message = format!("cannot route upcall {id} to nobody");
                return Err(
                    Error::new(ErrorKind::InvalidArgument, message).hint(format!(
                        "reject it: keyctl-ns answer {id} --reject 5 EACCES"
                    )),
                );
            }
        };
        let chosen = match deadline_ms {
            Some(ms) => {
                check_deadline(ms)?;
                Some(Duration::from_millis(ms.into()))
            }
            None => None,
        };
        let (commands, deadline) = {
            let state = self.state.borrow();
            let commands = state.table.commands(id)?;
            let entry = state
                .table
                .get(id)
                .ok_or_else(|| state.table.not_waiting(id))?;
            let deadline = match chosen {
                Some(time) => entry.arrived + time,
                None => entry.deadline.max(entry.arrived + usual),
            };
            (commands, deadline)
        };
        if deadline <= Instant::now() {
            let message = format!("cannot route upcall {id}: it has waited longer than that");
            return Err(Error::new(ErrorKind::InvalidArgument, message)
                .hint("a deadline counts from when the request arrived"));
        }
        let command = |reply| Command::Route {
            to,
            deadline,
            reply,
        };
        self.pass(&commands, id, command).await?;
        self.query(id)
    }

    /// A waiting request.
    pub(crate) fn waiting(&self, id: RequestId) -> Option<UpcallInfo> {
        let state = self.state.borrow();
        state.table.get(id).map(|entry| entry.info(Instant::now()))
    }

    /// All waiting requests, oldest first, with texts cut as in a listing.
    pub(crate) fn all_waiting(&self) -> Vec<UpcallInfo> {
        self.state.borrow().table.list(Instant::now())
    }

    async fn answer(&self, call: Answer) -> Result<Answered, Error> {
        let Answer { id, response } = call;
        let decision = match response {
            Response::Payload(payload) => Decision::Payload(SecretBytes::from(payload.bytes())),
            Response::Reject(rejection) => Decision::Reject(check_rejection(rejection)?),
            Response::FromKeyring => {
                let commands = self.state.borrow().table.commands(id)?;
                return self.pass(&commands, id, Command::FromKeyring).await;
            }
        };
        let commands = self.state.borrow().table.commands(id)?;
        self.deliver(&commands, id, Answerer::Hand, decision).await
    }

    /// Passes an answer to a request's task and waits for what became of it.
    ///
    /// # Errors
    /// `WrongState` or `NoSuchUpcall` when the request has ended, and what the task says.
    pub(crate) async fn deliver(
        &self,
        commands: &mpsc::Sender<Command>,
        id: RequestId,
        from: Answerer,
        decision: Decision,
    ) -> Result<Answered, Error> {
        let answer = |reply| Command::Answer {
            from,
            decision,
            reply,
        };
        self.pass(commands, id, answer).await
    }

    async fn pass<T>(
        &self,
        commands: &mpsc::Sender<Command>,
        id: RequestId,
        command: impl FnOnce(pending::Reply<T>) -> Command,
    ) -> Result<T, Error> {
        let (reply, result) = oneshot::channel();
        if commands.send(command(reply)).await.is_ok()
            && let Ok(result) = result.await
        {
            return result;
        }
        Err(self.not_waiting(id))
    }

    /// Why an agent cannot answer a request that it does not have, or not any more.
    pub(crate) fn not_with_agent(&self, id: RequestId) -> Error {
        let state = self.state.borrow();
        if state.table.get(id).is_some() {
            not_yours(id)
        } else {
            state.table.not_waiting(id)
        }
    }

    /// Why a request cannot be answered any more.
    pub(crate) fn not_waiting(&self, id: RequestId) -> Error {
        self.state.borrow().table.not_waiting(id)
    }
}

fn intercept(daemon: &Daemon, call: Intercept) -> Result<Intercepted, Error> {
    let container = daemon.containers.resolve(&call.container)?;
    let what = format!("intercept requests of container “{}”", container.path);
    demand_alive(&container, &what)?;
    let Intercept {
        type_,
        target,
        deadline_ms,
        rate,
        burst,
        pending,
        ..
    } = call;
    let spec = RuleSpec::new(type_, target, deadline_ms, rate, burst, pending)?;
    let upcalls = &daemon.upcalls;
    let mut state = upcalls.state.borrow_mut();
    let State { rules, limits, .. } = &mut *state;
    let planned = rules.plan(container.id, spec)?;
    // Stored first: a rule that was confirmed survives.
    upcalls
        .store
        .put(RULES, &planned.id.to_string(), &planned)
        .map_err(|error| {
            Error::new(
                ErrorKind::System,
                format!(
                    "cannot store the rule for {} of {}",
                    planned.type_, container.path
                ),
            )
            .cause(error.to_string())
        })?;
    let rule = planned.shown(container.path.to_string());
    let replaced = rules.place(planned);
    limits.follow(rules);
    Ok(Intercepted { rule, replaced })
}

fn list_rules(daemon: &Daemon, call: ListRules) -> Result<Rules, Error> {
    let only = match call.container {
        Some(name) => Some(daemon.containers.resolve(&name)?.id),
        None => None,
    };
    let state = daemon.upcalls.state.borrow();
    let chosen = state
        .rules
        .all()
        .filter(|rule| only.is_none_or(|id| rule.container == id));
    Ok(Rules {
        rules: chosen.map(|rule| shown(daemon, rule)).collect(),
    })
}

/// A rule with the present name of its container.
pub(super) fn shown(daemon: &Daemon, rule: &StoredRule) -> Rule {
    let record = daemon.containers.get(rule.container);
    rule.shown(record.map_or_else(|| name_of_gone(rule.container), |r| r.path.to_string()))
}

/// A container that was removed a moment ago.
fn name_of_gone(id: ContainerId) -> String {
    id.to_string()
}

fn unintercept(daemon: &Daemon, call: &Unintercept) -> Result<Empty, Error> {
    let container = daemon.containers.resolve(&call.container)?;
    let upcalls = &daemon.upcalls;
    let mut state = upcalls.state.borrow_mut();
    let State { rules, limits, .. } = &mut *state;
    let rule = rules.of(container.id).find(|rule| rule.type_ == call.type_);
    let rule = rule.map(|rule| rule.id).ok_or_else(|| {
        let type_ = keyns::text::escape(call.type_.as_bytes());
        let message = format!("container “{}” has no rule for “{type_}”", container.path);
        Error::new(ErrorKind::NoSuchRule, message).hint(format!(
            "list its rules: keyctl-ns intercept list {}",
            container.path
        ))
    })?;
    upcalls
        .store
        .delete(RULES, &rule.to_string())
        .map_err(|error| {
            let message = format!("cannot remove rule {rule} of {}", container.path);
            Error::new(ErrorKind::System, message).cause(error.to_string())
        })?;
    rules.remove(container.id, &call.type_);
    limits.follow(rules);
    Ok(Empty {})
}

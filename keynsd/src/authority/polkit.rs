//! Asking polkit, over the bus that the door is on.
//!
//! The answer is yes only where polkit says so in the form expected and in time; everything else is a
//! no. A caller is named by what cannot become somebody else meanwhile: a pidfd with its uid where
//! polkit takes one (version 124), else its unique name on the bus. A process id is neither, so that
//! callers of a socket are not asked about where polkit is older.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use zbus::message::Message;
use zbus::{Fd, Variant};

use super::{Account, Caller, Policy, Questions, account};
use crate::dbus::link::{Link, NoReply};

const NAME: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
/// The first version that takes a pidfd.
const TAKES_PIDFD: u32 = 124;
/// How long polkit may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a person may take to type a password.
const PATIENCE_WITH_PEOPLE: Duration = Duration::from_secs(120);
/// Questions to people that one user may have open at once.
const MAX_QUESTIONS: usize = 3;

/// Where polkit is asked, and what it is being asked.
#[derive(Debug, Default)]
pub(crate) struct Polkit {
    link: RefCell<Option<Rc<Link>>>,
    numbers: Cell<u64>,
    questions: RefCell<Vec<(Account, Option<String>)>>,
}

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub(crate) enum No {
    /// There is no bus.
    #[error("polkit cannot be asked without a bus")]
    Bus,
    /// polkit cannot be told who it is about.
    #[error("this polkit cannot be told which process is meant (it needs version {TAKES_PIDFD})")]
    Subject,
    /// polkit has said no.
    #[error("polkit does not allow {0}")]
    Denied(&'static str),
    /// polkit would ask a person for a password.
    #[error("polkit wants a password for {0}, which can be asked for on the system bus only")]
    Challenge(&'static str),
    /// Too many people are being asked.
    #[error("a question about {0} is open already")]
    Busy(&'static str),
    /// polkit did not answer as it should.
    #[error("polkit cannot be asked: {0}")]
    Failed(String),
}

impl From<NoReply> for No {
    fn from(error: NoReply) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The action of `org.keyns.policy` that stands for a policy.
pub(crate) const fn action(policy: Policy) -> &'static str {
    match policy {
        Policy::Anyone | Policy::SeesOthersKeys => "org.keyns.view",
        Policy::ChangesKeysOrContainers => "org.keyns.manage",
        Policy::AnswersRequests => "org.keyns.answer",
    }
}

/// A question to a person; when it is dropped unanswered, the person is not asked any more.
struct Question<'a> {
    polkit: &'a Polkit,
    link: Rc<Link>,
    who: (Account, Option<String>),
    id: String,
    open: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut questions = self.polkit.questions.borrow_mut();
        if let Some(at) = questions.iter().position(|who| *who == self.who) {
            questions.swap_remove(at);
        }
        if self.open {
            let cancel = Message::method_call(PATH, "CancelCheckAuthorization")
                .destination(NAME)
                .interface(INTERFACE)
                .build(&self.id.as_str());
            let link = Rc::clone(&self.link);
            tokio::task::spawn_local(async move {
                // polkit has a limit of its own.
                let _ = link.call(cancel, PATIENCE).await;
            });
        }
    }
}

impl Polkit {
    /// From now on polkit is asked through `link`, or not at all.
    pub(crate) fn through(&self, link: Option<Rc<Link>>) {
        self.link.replace(link);
    }

    /// Asks about `caller`.
    ///
    /// # Errors
    /// [`No`], unless polkit says yes.
    pub(super) async fn ask(
        &self,
        caller: &Caller,
        policy: Policy,
        questions: Questions,
    ) -> Result<(), No> {
        let link = self.link.borrow().clone().ok_or(No::Bus)?;
        let action = action(policy);
        let takes_pidfd = version(&link).await? >= TAKES_PIDFD;
        let subject = subject(caller, takes_pidfd).ok_or(No::Subject)?;
        let (flags, limit, question) = match questions {
            Questions::None => (0_u32, PATIENCE, None),
            Questions::Allowed => {
                let question = self.question(&link, caller).ok_or(No::Busy(action))?;
                (1, PATIENCE_WITH_PEOPLE, Some(question))
            }
        };
        let id = question
            .as_ref()
            .map_or("", |question| question.id.as_str());
        let details: HashMap<&str, &str> = HashMap::new();
        let call = Message::method_call(PATH, "CheckAuthorization")
            .destination(NAME)
            .interface(INTERFACE)
            .build(&(subject, action, details, flags, id));
        let reply = link.call(call, limit).await?;
        if let Some(mut question) = question {
            question.open = false;
        }
        let (yes, challenge, _): (bool, bool, HashMap<String, String>) = reply
            .body()
            .deserialize()
            .map_err(|_| No::Failed("its answer is not of its type".to_owned()))?;
        match (yes, challenge) {
            (true, _) => Ok(()),
            (false, true) if questions == Questions::None => Err(No::Challenge(action)),
            (false, _) => Err(No::Denied(action)),
        }
    }

    /// Opens a question to a person: one a connection, few a user.
    fn question(&self, link: &Rc<Link>, caller: &Caller) -> Option<Question<'_>> {
        let who = (account(caller), caller.bus_name().map(str::to_owned));
        let mut questions = self.questions.borrow_mut();
        let of_user = questions.iter().filter(|(account, _)| *account == who.0);
        if of_user.count() >= MAX_QUESTIONS || questions.contains(&who) {
            return None;
        }
        questions.push(who.clone());
        self.numbers.set(self.numbers.get() + 1);
        Some(Question {
            polkit: self,
            link: Rc::clone(link),
            who,
            id: format!("keynsd-{}", self.numbers.get()),
            open: true,
        })
    }
}

/// The version of polkit that answers now.
async fn version(link: &Link) -> Result<u32, No> {
    let call = Message::method_call(PATH, "Get")
        .destination(NAME)
        .interface("org.freedesktop.DBus.Properties")
        .build(&(INTERFACE, "BackendVersion"));
    let reply = link.call(call, PATIENCE).await?;
    let body = reply.body();
    match body.deserialize::<Variant<'_>>() {
        Ok(Variant::Str(version)) => Ok(number(&version)),
        _ => Err(No::Failed("it does not say its version".to_owned())),
    }
}

/// Versions were 0.105 and the like, and are 121 and the like.
fn number(version: &str) -> u32 {
    let digits = version.split('.').next().unwrap_or_default();
    digits.parse().unwrap_or(0)
}

type Subject<'a> = (&'static str, HashMap<&'static str, Variant<'a>>);

fn subject(caller: &Caller, takes_pidfd: bool) -> Option<Subject<'_>> {
    // polkit has uids as signed numbers; one that does not fit is nobody it can speak of.
    let uid = i32::try_from(caller.uid()).ok();
    if takes_pidfd && let (Some(pidfd), Some(uid)) = (caller.process(), uid) {
        let details = HashMap::from([
            ("pidfd", Variant::from(Fd::from(pidfd))),
            ("uid", Variant::from(uid)),
        ]);
        return Some(("unix-process", details));
    }
    let name = caller.bus_name()?;
    Some((
        "system-bus-name",
        HashMap::from([("name", Variant::from(name))]),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(caller: &Caller, takes_pidfd: bool) -> Option<(&'static str, Vec<&'static str>)> {
        subject(caller, takes_pidfd).map(|(kind, details)| {
            let mut names: Vec<_> = details.into_keys().collect();
            names.sort_unstable();
            (kind, names)
        })
    }

    #[test]
    fn a_caller_is_never_named_by_a_process_id() {
        let pidfd = || {
            let own = rustix::process::getpid();
            rustix::process::pidfd_open(own, rustix::process::PidfdFlags::empty()).ok()
        };
        let on_bus =
            |uid, pidfd| Caller::on_bus(Some(uid), Some(1), vec![], pidfd, ":1.7").unwrap();
        assert_eq!(
            kind(&on_bus(1000, pidfd()), true),
            Some(("unix-process", vec!["pidfd", "uid"]))
        );
        let by_name = Some(("system-bus-name", vec!["name"]));
        assert_eq!(kind(&on_bus(1000, pidfd()), false), by_name);
        assert_eq!(kind(&on_bus(1000, None), true), by_name);
        assert_eq!(kind(&on_bus(u32::MAX - 1, pidfd()), true), by_name);

        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let on_socket = Caller::of(std::os::fd::AsFd::as_fd(&here)).unwrap();
        assert_eq!(kind(&on_socket, false), None);
    }

    #[test]
    fn versions_of_both_kinds_are_read() {
        assert_eq!(number("0.105"), 0);
        assert_eq!(number("122"), 122);
        assert_eq!(number("126.1"), 126);
        assert_eq!(number("x"), 0);
    }
}

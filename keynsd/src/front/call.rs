//! The one way from a call to its handler, for all front doors: authorise, parse, run.
//!
//! A door translates what it receives into the name of a method and its parameters, and what comes
//! out of here into its replies. It cannot reach a handler in any other way: [`begin`] takes a
//! [`Permit`], and only [`authorise`] makes one.

use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;

use keyns_interfaces::Error;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::context::{ConnectionId, Context, Life, Outgoing};
use super::parameters::Malformed;
use super::router::{Entry, Handler};
use super::service::ServiceError;
use super::shared::Front;
use crate::authority::{Action, Caller, Denied, Questions};

/// Why a call was not begun.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// In the words of the interface.
    Refused(Error),
    /// Not a call of the contract.
    Unserved(ServiceError),
}

impl From<Malformed> for Refusal {
    fn from(Malformed(parameter): Malformed) -> Self {
        Self::Unserved(ServiceError::InvalidParameter { parameter })
    }
}

/// A call under way.
pub(crate) enum Begun {
    /// It has one reply.
    Once(Once),
    /// It has any number.
    Stream(Streaming),
}

/// A call with one reply.
pub(crate) struct Once {
    running: Pin<Box<dyn Future<Output = Result<Outgoing, Error>>>>,
    only_waits: bool,
}

/// A call with a stream of replies; ends when dropped.
pub(crate) struct Streaming {
    pub(crate) running: Pin<Box<dyn Future<Output = Result<(), Error>>>>,
    pub(crate) replies: mpsc::Receiver<Outgoing>,
}

/// That a caller may call a method: what [`authorise`] gives, and nobody else.
#[derive(Debug)]
pub(crate) struct Permit<'a, S> {
    entry: &'a Entry<S>,
    caller: Rc<Caller>,
}

impl<'a, S> Permit<'a, S> {
    /// The same for another method under the same policy, of which nobody needs to be asked again.
    pub(crate) fn extended(&self, front: &'a Front<S>, method: &str) -> Option<Self> {
        let entry = front.router.find(method)?;
        (entry.policy == self.entry.policy).then(|| Self {
            entry,
            caller: Rc::clone(&self.caller),
        })
    }
}

/// Where a call comes from, beside its caller.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) connection: ConnectionId,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) life: Rc<Life>,
}

/// Why a caller may not call a method.
#[derive(Debug)]
pub(crate) enum NoPermit {
    /// The authority has said so.
    Denied(Denied),
    /// There is no such method.
    Unserved(ServiceError),
}

impl From<NoPermit> for Refusal {
    fn from(no: NoPermit) -> Self {
        match no {
            NoPermit::Denied(denied) => Self::Refused(denied.error),
            NoPermit::Unserved(error) => Self::Unserved(error),
        }
    }
}

/// Asks the authority.
pub(crate) async fn authorise<'a, S>(
    front: &'a Front<S>,
    caller: &Rc<Caller>,
    method: &str,
    questions: Questions,
) -> Result<Permit<'a, S>, NoPermit> {
    let entry = front
        .router
        .find(method)
        .ok_or_else(|| NoPermit::Unserved(ServiceError::unknown(method)))?;
    let action = Action {
        method: entry.name,
        policy: entry.policy,
    };
    front
        .authority
        .authorise(caller, action, questions)
        .await
        .map_err(NoPermit::Denied)?;
    Ok(Permit {
        entry,
        caller: Rc::clone(caller),
    })
}

/// Begins a permitted call: parses `parameters`, then calls the handler. `queue` is the number of
/// replies that may wait, for a caller who takes a stream.
pub(crate) fn begin<S: 'static>(
    front: &Front<S>,
    permit: Permit<'_, S>,
    origin: Origin,
    parameters: Option<&RawValue>,
    queue: Option<usize>,
) -> Result<Begun, Refusal> {
    let Permit { entry, caller } = permit;
    let Origin {
        connection,
        fds,
        life,
    } = origin;
    let context = Context {
        caller,
        connection,
        fds,
        life,
    };
    let state = Rc::clone(&front.router.state);
    Ok(match (&entry.handler, queue) {
        (Handler::Call(handler), _) => Begun::Once(Once {
            running: handler(state, context, parameters)?,
            only_waits: false,
        }),
        (Handler::Wait(handler), _) => Begun::Once(Once {
            running: handler(state, context, parameters)?,
            only_waits: true,
        }),
        (Handler::Stream(_), None) => {
            return Err(Refusal::Unserved(ServiceError::ExpectedMore {}));
        }
        (Handler::Stream(handler), Some(queue)) => {
            let (sender, replies) = mpsc::channel(queue);
            Begun::Stream(Streaming {
                running: handler(state, context, parameters, sender)?,
                replies,
            })
        }
    })
}

impl Once {
    /// Runs to the end, whoever is still there.
    pub(crate) async fn finish(self) -> Result<Outgoing, Error> {
        self.running.await
    }

    /// Runs until there is a reply; `None` when the caller was `gone` before: then the call has run to
    /// its end all the same, unless it only waits.
    pub(crate) async fn unless(
        mut self,
        life: &Life,
        gone: impl Future<Output = ()>,
    ) -> Option<Result<Outgoing, Error>> {
        tokio::select! {
            biased;
            result = &mut self.running => Some(result),
            () = gone => {
                life.hang_up();
                if !self.only_waits {
                    // Nobody is told, but nothing is left half done.
                    drop(self.running.await);
                }
                None
            }
        }
    }
}

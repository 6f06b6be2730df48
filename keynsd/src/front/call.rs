//! The one way from a call to its handler, for all front doors: authorise, parse, run.
//!
//! A door translates what it receives into the name of a method and its parameters, and what comes
//! out of here into its replies. It cannot reach a handler in any other way.

use std::pin::Pin;
use std::rc::Rc;

use keyns_interfaces::Error;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::context::{Context, Life, Outgoing};
use super::parameters::Malformed;
use super::router::Handler;
use super::service::ServiceError;
use super::shared::Front;
use crate::authority::{Action, Questions};

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

/// Begins a call: asks the authority, then parses `parameters`, then calls the handler. `queue` is the
/// number of replies that may wait, for a caller who takes a stream.
pub(crate) async fn begin<S: 'static>(
    front: &Front<S>,
    context: Context,
    method: &str,
    parameters: Option<&RawValue>,
    queue: Option<usize>,
    questions: Questions,
) -> Result<Begun, Refusal> {
    let entry = front
        .router
        .find(method)
        .ok_or_else(|| Refusal::Unserved(ServiceError::unknown(method)))?;
    let action = Action {
        method: entry.name,
        policy: entry.policy,
    };
    front
        .authority
        .authorise(&context.caller, action, questions)
        .await
        .map_err(|denied| Refusal::Refused(denied.error))?;
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

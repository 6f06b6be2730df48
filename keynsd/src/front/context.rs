//! What a method's handler gets to know, and what it gives back.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use keyns_interfaces::frame::{Bytes, MAX_REPLY};
use keyns_interfaces::{Error, ErrorKind};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::authority::Caller;

/// Number of a connection, never reused by this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The circumstances of a call.
#[derive(Debug)]
pub struct Context {
    /// Who calls.
    pub caller: Rc<Caller>,
    /// On which connection.
    pub connection: ConnectionId,
    /// Descriptors that came with the call, close-on-exec.
    pub fds: Vec<OwnedFd>,
    pub(crate) life: Rc<Life>,
}

impl Context {
    /// Runs `hook` when the connection has ended and no call of it is running, whatever ended it.
    pub fn on_close(&self, hook: impl FnOnce() + 'static) {
        if self.life.ended.get() {
            hook();
        } else {
            self.life.hooks.borrow_mut().push(Box::new(hook));
        }
    }

    /// Waits until the caller has hung up. Cancel safe.
    pub async fn closed(&self) {
        self.life.gone().await;
    }
}

/// The life of a connection as its calls see it.
#[derive(Default)]
pub(crate) struct Life {
    hung_up: Cell<bool>,
    ended: Cell<bool>,
    wake: Notify,
    hooks: RefCell<Vec<Box<dyn FnOnce()>>>,
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life")
            .field("hung_up", &self.hung_up)
            .finish_non_exhaustive()
    }
}

impl Life {
    /// The peer is gone; a call may still be running.
    pub(crate) fn hang_up(&self) {
        self.hung_up.set(true);
        self.wake.notify_waiters();
    }

    /// Waits until the peer is gone. Cancel safe.
    pub(crate) async fn gone(&self) {
        let wake = self.wake.notified();
        if !self.hung_up.get() {
            wake.await;
        }
    }

    /// Nothing of the connection is left.
    pub(crate) fn end(&self) {
        self.hang_up();
        self.ended.set(true);
        // A hook may register another one, which then runs at once.
        let hooks = self.hooks.take();
        for hook in hooks {
            hook();
        }
    }
}

/// A method's reply.
#[derive(Debug)]
pub struct Reply<T> {
    /// Its parameters.
    pub parameters: T,
    /// Descriptors to pass along, at most eight; the daemon's copies are closed afterwards.
    pub fds: Vec<OwnedFd>,
}

impl<T> Reply<T> {
    /// A reply with descriptors.
    pub fn with_fds(parameters: T, fds: Vec<OwnedFd>) -> Self {
        Self { parameters, fds }
    }
}

impl<T> From<T> for Reply<T> {
    fn from(parameters: T) -> Self {
        Self {
            parameters,
            fds: Vec::new(),
        }
    }
}

/// An encoded reply.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) frame: Bytes,
    pub(crate) fds: Vec<OwnedFd>,
}

#[derive(Serialize)]
struct ReplyFrame<'a, T> {
    parameters: &'a T,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

impl Outgoing {
    pub(crate) fn encode<T: Serialize>(reply: Reply<T>, continues: bool) -> Result<Self, Error> {
        let frame = ReplyFrame {
            parameters: &reply.parameters,
            continues,
        };
        let frame = Bytes::encode(&frame, MAX_REPLY).ok_or_else(|| {
            Error::new(ErrorKind::TooLarge, "the reply is too large to be sent")
                .cause(format!("a reply has at most {MAX_REPLY} bytes"))
                .hint("ask for less at a time, e.g. for one container")
        })?;
        Ok(Self {
            frame,
            fds: reply.fds,
        })
    }
}

/// The subscriber has hung up, or was cut off because it does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the subscriber is gone")]
pub struct Gone;

/// Sends a stream's replies.
#[derive(Debug)]
pub struct StreamSender<T> {
    pub(crate) queue: mpsc::Sender<Outgoing>,
    pub(crate) reply: PhantomData<fn(T)>,
}

impl<T> Clone for StreamSender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            reply: PhantomData,
        }
    }
}

impl<T: Serialize> StreamSender<T> {
    /// Sends a reply; waits while the queue is full, at most until a subscriber that does not read
    /// is cut off. Cancel safe: the reply is queued as a whole or not at all.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn send(&self, reply: impl Into<Reply<T>>) -> Result<(), Gone> {
        let outgoing = Outgoing::encode(reply.into(), true).map_err(|_| Gone)?;
        self.queue.send(outgoing).await.map_err(|_| Gone)
    }

    /// Sends a reply if the queue has room; true if it had.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn try_send(&self, reply: impl Into<Reply<T>>) -> Result<bool, Gone> {
        let outgoing = Outgoing::encode(reply.into(), true).map_err(|_| Gone)?;
        match self.queue.try_send(outgoing) {
            Ok(()) => Ok(true),
            Err(mpsc::error::TrySendError::Full(_)) => Ok(false),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Whether the subscriber is gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.queue.is_closed()
    }
}

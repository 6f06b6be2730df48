//! A connection to the bus: messages out in one task, replies to those who wait for them.
//!
//! Whoever waits may be dropped at any time. A message that was begun must be sent to its end all the
//! same, so nobody but the writer's task touches the socket.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zbus::Connection;
use zbus::message::{Message, Type};

/// Messages that wait for the writer.
const OUTBOX: usize = 256;
/// Messages that are written at once.
const BATCH: usize = 64;
/// The bus itself.
pub(crate) const BUS: &str = "org.freedesktop.DBus";
/// How long the bus may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoReply {
    /// The bus is gone.
    #[error("the connection to the bus has ended")]
    Gone,
    /// Not in time.
    #[error("there was no answer in time")]
    Late,
    /// An error, by its name and text.
    #[error("{name}: {message}")]
    Failed {
        /// Whether the bus speaks, e.g. for somebody who has left it.
        by_bus: bool,
        /// Name of the error.
        name: String,
        /// Its text.
        message: String,
    },
    /// A message that cannot be built.
    #[error("the message cannot be sent")]
    Unsendable,
}

/// A connection to the bus.
#[derive(Debug)]
pub(crate) struct Link {
    outbox: mpsc::Sender<Message>,
    pending: RefCell<HashMap<NonZeroU32, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    /// The only one who may answer, beside the bus; `None` for a service by its name.
    from: Option<String>,
    reply: oneshot::Sender<Message>,
}

/// Forgets a call that nobody waits for any more.
struct Forget<'a>(&'a Link, NonZeroU32);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.pending.borrow_mut().remove(&self.1);
    }
}

impl Link {
    /// Takes over the sending half of a connection; needs a `LocalSet`.
    pub(super) fn new(connection: Connection) -> Rc<Self> {
        let (outbox, mut messages) = mpsc::channel(OUTBOX);
        tokio::task::spawn_local(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while messages.recv_many(&mut batch, BATCH).await > 0 {
                if connection.send_all(&batch).await.is_err() {
                    // The reader sees the same end.
                    return;
                }
                batch.clear();
            }
        });
        Rc::new(Self {
            outbox,
            pending: RefCell::default(),
        })
    }

    /// Sends a message; waits while the bus does not read. Cancel safe.
    pub(super) async fn send(&self, message: Message) {
        // Nobody is left to be told that the bus is gone.
        let _ = self.outbox.send(message).await;
    }

    /// Sends a message if that needs no waiting, else gives it back.
    pub(super) fn try_send(&self, message: Message) -> Option<Message> {
        match self.outbox.try_send(message) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(message)) => Some(message),
        }
    }

    /// Sends a call and waits for its reply. Cancel safe.
    ///
    /// # Errors
    /// [`NoReply`].
    pub(crate) async fn call(
        &self,
        call: zbus::Result<Message>,
        limit: Duration,
    ) -> Result<Message, NoReply> {
        let call = call.map_err(|_| NoReply::Unsendable)?;
        let serial = call.primary_header().serial_num();
        let destination = call.header().destination().map(ToString::to_string);
        let (reply, arrived) = oneshot::channel();
        let from = destination.filter(|name| name.starts_with(':'));
        self.pending
            .borrow_mut()
            .insert(serial, Waiting { from, reply });
        let _forget = Forget(self, serial);
        let answer = async {
            self.outbox.send(call).await.map_err(|_| NoReply::Gone)?;
            arrived.await.map_err(|_| NoReply::Gone)
        };
        let answer = tokio::time::timeout(limit, answer)
            .await
            .map_err(|_| NoReply::Late)??;
        if answer.message_type() == Type::MethodReturn {
            return Ok(answer);
        }
        let header = answer.header();
        let name = header.error_name().map(ToString::to_string);
        let message = answer.body().deserialize::<String>();
        Err(NoReply::Failed {
            by_bus: header.sender().is_some_and(|name| name.as_str() == BUS),
            name: name.unwrap_or_default(),
            message: message.unwrap_or_default(),
        })
    }

    /// Calls a method of the bus itself.
    pub(super) async fn ask_bus<B>(&self, method: &str, body: &B) -> Result<Message, NoReply>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let call = Message::method_call("/org/freedesktop/DBus", method)
            .destination(BUS)
            .interface(BUS)
            .build(body);
        self.call(call, PATIENCE).await
    }

    /// Passes a reply on to who waits for it. Others than the one called may not answer.
    pub(super) fn replied(&self, message: Message) {
        let header = message.header();
        let Some(serial) = header.reply_serial() else {
            return;
        };
        let sender = header.sender().map(|name| name.as_str());
        let mut pending = self.pending.borrow_mut();
        let fits = pending.get(&serial).is_some_and(|waiting| {
            sender == Some(BUS) || waiting.from.is_none() || waiting.from.as_deref() == sender
        });
        if fits && let Some(waiting) = pending.remove(&serial) {
            drop(header);
            // Whoever waited may be gone.
            let _ = waiting.reply.send(message);
        }
    }

    /// Nothing will be answered any more.
    pub(super) fn end(&self) {
        self.pending.borrow_mut().clear();
    }
}

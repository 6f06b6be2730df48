//! One connection: calls in, one at a time and in order; replies out.

use std::borrow::Cow;
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use keyns_interfaces::Error;
use keyns_interfaces::frame::{Bytes, Frame, FrameReader, FrameWriter, MAX_REPLY};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::call::{self, Begun, Origin, Refusal, Streaming};
use super::context::{ConnectionId, Life, Outgoing};
use super::limits::Limits;
use super::service::{self, ServiceError};
use super::shared::Front;
use crate::authority::{self, Caller, Questions};

/// How often a peer is looked after that has sent more calls while one is running.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    more: bool,
    #[serde(default)]
    oneway: bool,
    #[serde(default)]
    upgrade: bool,
}

/// The connection is over.
struct Over;

/// How a call ended.
enum Outcome {
    Reply(Outgoing),
    Refused(Error),
    Unserved(ServiceError),
}

pub(super) struct Connection<S> {
    front: Rc<Front<S>>,
    caller: Rc<Caller>,
    id: ConnectionId,
    limits: Rc<Limits>,
    reader: FrameReader,
    writer: FrameWriter,
    life: LifeGuard,
}

/// Ends the connection's life however its task ends.
struct LifeGuard(Rc<Life>);

impl Drop for LifeGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<S: 'static> Connection<S> {
    pub(super) fn new(
        front: Rc<Front<S>>,
        socket: UnixStream,
        caller: Caller,
        limits: Rc<Limits>,
    ) -> Self {
        let socket = Arc::new(socket);
        let reader = FrameReader::new(Arc::clone(&socket), authority::largest_call(&caller));
        Self {
            id: front.next_connection(),
            front,
            limits,
            reader: if authority::may_send_descriptors(&caller) {
                reader
            } else {
                reader.without_descriptors()
            },
            writer: FrameWriter::new(socket),
            caller: Rc::new(caller),
            life: LifeGuard(Rc::default()),
        }
    }

    /// Serves until the peer hangs up, breaks a rule, or is idle for too long.
    pub(super) async fn serve(mut self) {
        loop {
            let frame = match timeout(self.limits.idle, self.reader.next()).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return,
                Ok(Err(error)) => {
                    tracing::debug!(connection = self.id.0, uid = self.caller.uid(), %error, "closed");
                    return;
                }
                Err(_) => return,
            };
            if self.handle(frame).await.is_err() {
                return;
            }
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), Over> {
        let Frame { bytes, fds } = frame;
        // What is not a call cannot be answered. The error would quote it, so it is not logged.
        let Ok(call) = serde_json::from_slice::<Envelope<'_>>(&bytes) else {
            tracing::debug!(
                connection = self.id.0,
                uid = self.caller.uid(),
                "no varlink call"
            );
            return Err(Over);
        };
        let method = call.method.as_ref();
        let interface = method
            .rsplit_once('.')
            .map_or("", |(interface, _)| interface);
        let outcome = if call.upgrade {
            Outcome::Unserved(ServiceError::InvalidParameter {
                parameter: "upgrade".to_owned(),
            })
        } else if interface == service::INTERFACE {
            service::answer(&self.front.router.info, method, call.parameters)
                .map_or_else(Outcome::Unserved, Outcome::Reply)
        } else {
            self.run(&call, fds).await?
        };
        if call.oneway {
            return Ok(());
        }
        match outcome {
            Outcome::Reply(reply) => self.send(&reply).await,
            Outcome::Refused(error) => {
                let frame = service::refusal(interface, &error).ok_or(Over)?;
                self.send(&Outgoing {
                    frame,
                    fds: Vec::new(),
                })
                .await
            }
            Outcome::Unserved(error) => {
                let frame = Bytes::encode(&error, MAX_REPLY).ok_or(Over)?;
                self.send(&Outgoing {
                    frame,
                    fds: Vec::new(),
                })
                .await
            }
        }
    }

    async fn run(
        &mut self,
        call: &Envelope<'_>,
        fds: Vec<std::os::fd::OwnedFd>,
    ) -> Result<Outcome, Over> {
        let front = Rc::clone(&self.front);
        let permit = {
            // A person is asked about calls on the bus only, where the caller can say so.
            let asked = call::authorise(&front, &self.caller, &call.method, Questions::None);
            tokio::select! {
                biased;
                permit = asked => permit,
                () = hang_up(&mut self.reader), if !call.oneway => {
                    self.life.0.hang_up();
                    return Err(Over);
                }
            }
        };
        let origin = Origin {
            connection: self.id,
            fds,
            life: Rc::clone(&self.life.0),
        };
        let queue = (call.more && !call.oneway).then_some(self.limits.queue);
        let begun = permit
            .map_err(Refusal::from)
            .and_then(|permit| call::begin(&front, permit, origin, call.parameters, queue));
        match begun {
            Err(Refusal::Refused(error)) => Ok(Outcome::Refused(error)),
            Err(Refusal::Unserved(error)) => Ok(Outcome::Unserved(error)),
            // A oneway caller may be gone at once, and rightly so.
            Ok(Begun::Once(once)) if call.oneway => Ok(once
                .finish()
                .await
                .map_or_else(Outcome::Refused, Outcome::Reply)),
            Ok(Begun::Once(once)) => {
                let result = once.unless(&self.life.0, hang_up(&mut self.reader)).await;
                let result = result.ok_or(Over)?;
                Ok(result.map_or_else(Outcome::Refused, Outcome::Reply))
            }
            Ok(Begun::Stream(stream)) => self.stream(stream).await,
        }
    }

    async fn stream(&mut self, stream: Streaming) -> Result<Outcome, Over> {
        let Streaming {
            mut running,
            mut replies,
        } = stream;
        let Self {
            reader,
            writer,
            limits,
            life,
            ..
        } = self;
        let mut gone = pin!(hang_up(reader));
        let result = loop {
            tokio::select! {
                Some(reply) = replies.recv() => send(writer, limits, &reply).await?,
                result = &mut running => break result,
                () = &mut gone => {
                    life.0.hang_up();
                    return Err(Over);
                }
            }
        };
        drop(running);
        // Whoever else holds a sender has lost its stream.
        replies.close();
        while let Some(reply) = replies.recv().await {
            send(writer, limits, &reply).await?;
        }
        result.map_or_else(|error| Ok(Outcome::Refused(error)), |()| Err(Over))
    }

    async fn send(&self, reply: &Outgoing) -> Result<(), Over> {
        send(&self.writer, &self.limits, reply).await
    }
}

/// Sends within the time limit: a peer that does not read is cut off.
async fn send(writer: &FrameWriter, limits: &Limits, reply: &Outgoing) -> Result<(), Over> {
    let fds: Vec<_> = reply.fds.iter().map(AsFd::as_fd).collect();
    match timeout(limits.write, writer.send(&reply.frame, &fds)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Over),
    }
}

/// Waits until the peer hangs up (or breaks the protocol), keeping at most one further call.
async fn hang_up(reader: &mut FrameReader) {
    if matches!(reader.ready().await, Ok(true)) {
        // Nothing more is read before its turn, so the end of the input cannot be seen.
        while !reader.peer_gone() {
            sleep(LOOK).await;
        }
    }
}

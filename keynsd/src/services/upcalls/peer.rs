//! The other end of a request: whoever gives its answer to the kernel.

use std::cell::Cell;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use keyns::engine::requests::{QueuedRequest, RequestQueue, Settled};
use keyns_sys::secret::SecretBytes;
use keyns_sys::upcall_wire::{Rejection, Request, WireError};

use crate::upcall_link::{LinkError, Outcome, UpcallPeer};

/// The largest payload a key can be given.
const MAX_PAYLOAD: usize = keyns_sys::key::MAX_PAYLOAD;

/// Who that is.
pub(super) enum Peer {
    /// A program that the kernel has started for the request.
    Program(UpcallPeer),
    /// The engine, out of whose queue the request came.
    Queue(QueuePeer),
}

/// A request of a queue.
pub(super) struct QueuePeer {
    queue: Arc<RequestQueue>,
    request: Box<Request>,
    /// What became of the last answer.
    outcome: Cell<Option<Outcome>>,
}

impl QueuePeer {
    pub(super) fn new(queue: Arc<RequestQueue>, queued: &QueuedRequest) -> Self {
        Self {
            queue,
            request: queued.request.clone(),
            outcome: Cell::new(None),
        }
    }

    async fn answer(
        &self,
        answer: impl FnOnce(&RequestQueue, &Request) -> Result<Settled, keyns::engine::EngineError>
        + Send
        + 'static,
    ) -> Result<(), LinkError> {
        let (queue, request) = (Arc::clone(&self.queue), self.request.clone());
        let answered = tokio::task::spawn_blocking(move || answer(&queue, &request)).await;
        let Ok(Ok(settled)) = answered else {
            return Err(LinkError::Gone);
        };
        self.outcome.set(Some(Outcome {
            errno: settled.errno,
            settled: settled.over,
        }));
        Ok(())
    }
}

impl Peer {
    /// As [`UpcallPeer::accepted`]; the kernel gives a queued request longer than the daemon does.
    pub(super) async fn accepted(&self, id: u64, deadline: Duration) -> Result<(), LinkError> {
        match self {
            Self::Program(program) => program.accepted(id, deadline).await,
            Self::Queue(_) => Ok(()),
        }
    }

    /// As [`UpcallPeer::instantiate`].
    pub(super) async fn instantiate(&self, payload: &[u8]) -> Result<(), LinkError> {
        match self {
            Self::Program(program) => program.instantiate(payload).await,
            Self::Queue(_) if payload.len() > MAX_PAYLOAD => {
                Err(WireError::Range("payload").into())
            }
            Self::Queue(queued) => {
                let payload = SecretBytes::from(payload);
                let give = move |queue: &RequestQueue, request: &Request| {
                    queue.instantiate(request, payload)
                };
                queued.answer(give).await
            }
        }
    }

    /// As [`UpcallPeer::reject`].
    pub(super) async fn reject(&self, rejection: Rejection) -> Result<(), LinkError> {
        match self {
            Self::Program(program) => program.reject(rejection).await,
            Self::Queue(queued) => {
                let give =
                    move |queue: &RequestQueue, request: &Request| queue.reject(request, rejection);
                queued.answer(give).await
            }
        }
    }

    /// As [`UpcallPeer::outcome`].
    pub(super) async fn outcome(&self) -> Result<Outcome, LinkError> {
        match self {
            Self::Program(program) => program.outcome().await,
            Self::Queue(queued) => queued.outcome.take().ok_or(LinkError::Gone),
        }
    }

    /// As [`UpcallPeer::closed`]; a queued request ends by its answer or its deadline only.
    pub(super) async fn closed(&self) -> Option<Outcome> {
        match self {
            Self::Program(program) => program.closed().await,
            Self::Queue(_) => pending().await,
        }
    }
}

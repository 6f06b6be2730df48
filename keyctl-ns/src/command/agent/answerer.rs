//! The second connection of an agent: a connection carries one call at a time, and the first one is
//! taken by the stream of requests.

use std::path::PathBuf;

use keyns_interfaces::agents::{Complete, NotMine, Reject};
use keyns_interfaces::upcalls::Answered;
use keyns_interfaces::{Client, ClientError, ErrorKind as Refusal, Method, Payload};
use tokio::sync::Mutex;

use super::program::Verdict;
use crate::daemon::{self, refused};
use crate::error::CommandError;

/// Hands answers to the daemon, one after the other.
pub struct Answerer {
    sockets: Vec<PathBuf>,
    token: String,
    client: Mutex<Option<Client>>,
}

impl Answerer {
    /// Answers for the agent that was given `token`.
    #[must_use]
    pub fn new(sockets: Vec<PathBuf>, token: String) -> Self {
        Self {
            sockets,
            token,
            client: Mutex::new(None),
        }
    }

    /// Gives the verdict on a request; what became of it, if that is known.
    ///
    /// # Errors
    /// What the daemon says, e.g. that the request has ended meanwhile.
    pub async fn give(&self, id: u64, verdict: Verdict) -> Result<Option<Answered>, CommandError> {
        let token = self.token.clone();
        match verdict {
            Verdict::Complete(payload) => {
                let payload = Payload::new(payload.to_vec());
                self.call(&Complete { token, id, payload }).await.map(Some)
            }
            Verdict::Reject(rejection) => self
                .call(&Reject {
                    token,
                    id,
                    rejection,
                })
                .await
                .map(Some),
            Verdict::NotMine => self.call(&NotMine { token, id }).await.map(|_| None),
        }
    }

    /// The daemon closes a connection that was idle for a while, which shows only at the next call.
    async fn call<M: Method>(&self, call: &M) -> Result<M::Reply, CommandError> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_mut() {
            match client.call(call, Vec::new()).await {
                Err(ClientError::Disconnected) => {}
                other => return other.map(|(reply, _)| reply).map_err(refused),
            }
        }
        let mut sockets = self.sockets.as_slice();
        loop {
            let (mut client, others) = daemon::reach(sockets).await?;
            match client.call(call, Vec::new()).await {
                // Nothing was done: the daemon had no place for one more connection.
                Err(ClientError::Refused(error))
                    if error.kind == Refusal::LimitReached && !others.is_empty() =>
                {
                    sockets = others;
                }
                reply => {
                    *slot = Some(client);
                    return reply.map(|(reply, _)| reply).map_err(refused);
                }
            }
        }
    }
}

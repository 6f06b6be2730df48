//! The client without `async`, for programs that do one thing at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::{ClientError, Method};

/// A connection to the daemon, with a runtime of its own on the calling thread.
#[derive(Debug)]
pub struct Client {
    client: crate::Client,
    runtime: Rc<Runtime>,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`], also if no runtime can be made.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| ClientError::Unreachable {
                path: path.to_owned(),
                source: io::Error::other(source),
            })?;
        let client = runtime.block_on(crate::Client::connect(path))?;
        Ok(Self {
            client,
            runtime: Rc::new(runtime),
        })
    }

    /// As [`crate::Client::with_timeout`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.client = self.client.with_timeout(timeout);
        self
    }

    /// As [`crate::Client::call`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call<M: Method>(
        &mut self,
        call: &M,
        fds: Vec<OwnedFd>,
    ) -> Result<(M::Reply, Vec<OwnedFd>), ClientError> {
        self.runtime.block_on(self.client.call(call, fds))
    }

    /// As [`crate::Client::subscribe`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn subscribe<M: Method>(self, call: &M) -> Result<Subscription<M>, ClientError> {
        let subscription = self.runtime.block_on(self.client.subscribe(call))?;
        Ok(Subscription {
            subscription,
            runtime: self.runtime,
        })
    }
}

/// The replies of a streaming method, as an iterator that waits for them.
#[derive(Debug)]
pub struct Subscription<M: Method> {
    subscription: crate::Subscription<M>,
    runtime: Rc<Runtime>,
}

impl<M: Method> Iterator for Subscription<M> {
    type Item = Result<M::Reply, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.subscription.next())
    }
}

impl<M: Method> Subscription<M> {
    /// The next reply, or `Ok(None)` if none came within `timeout`.
    ///
    /// # Errors
    /// [`ClientError::Disconnected`] at the end of the stream; else see [`ClientError`].
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<M::Reply>, ClientError> {
        let next = async { tokio::time::timeout(timeout, self.subscription.next()).await };
        match self.runtime.block_on(next) {
            Ok(Some(reply)) => reply.map(Some),
            Ok(None) => Err(ClientError::Disconnected),
            Err(_) => Ok(None),
        }
    }
}

//! A client of the daemon: one typed call at a time on one connection.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use crate::frame::{Bytes, Frame, FrameError, FrameReader, FrameWriter, MAX_CALL, MAX_REPLY};
use crate::{Error, ErrorKind, Method};

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or the socket may not be opened.
    #[error("cannot reach keynsd at {}: {source}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Error of connect(2).
        source: io::Error,
    },
    /// The daemon answered with an error.
    #[error(transparent)]
    Refused(#[from] Error),
    /// What came is not what the contract says; quotes nothing of it.
    #[error("keynsd does not speak the expected protocol: {0}")]
    Protocol(String),
    /// No reply within the time given by [`Client::with_timeout`]. The call may still be carried
    /// out.
    #[error("keynsd did not answer in time")]
    TimedOut,
    /// The connection ended before the reply. The call may have been carried out.
    #[error("keynsd closed the connection")]
    Disconnected,
}

#[derive(Serialize)]
struct Call<'a, M> {
    method: &'a str,
    parameters: &'a M,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    continues: bool,
    #[serde(default)]
    error: Option<String>,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    reader: FrameReader,
    writer: FrameWriter,
    timeout: Option<Duration>,
    // Set while a call is under way: when it was given up half way, the next reply would be its.
    busy: bool,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub async fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(Self::new(stream)),
            Err(source) => Err(ClientError::Unreachable {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Speaks over a connected socket.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        let socket = Arc::new(stream);
        Self {
            reader: FrameReader::new(Arc::clone(&socket), MAX_REPLY),
            writer: FrameWriter::new(socket),
            timeout: None,
            busy: false,
        }
    }

    /// Gives up each call (not the replies of a subscription) after `timeout`; default: never.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Calls a method; descriptors go and come with the first byte of the call and of its reply.
    ///
    /// # Errors
    /// See [`ClientError`]. After all but [`ClientError::Refused`] the connection is of no use, and
    /// further calls are [`ClientError::Disconnected`].
    pub async fn call<M: Method>(
        &mut self,
        call: &M,
        fds: Vec<OwnedFd>,
    ) -> Result<(M::Reply, Vec<OwnedFd>), ClientError> {
        self.send(call, M::STREAM, fds).await?;
        let (reply, continues, fds) = self.reply::<M>(self.deadline()).await?;
        self.busy = continues;
        Ok((reply, fds))
    }

    /// Calls a streaming method. The first reply confirms the subscription, and comes first from
    /// [`Subscription::next`].
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn subscribe<M: Method>(mut self, call: &M) -> Result<Subscription<M>, ClientError> {
        self.send(call, true, Vec::new()).await?;
        let (first, continues, fds) = self.reply::<M>(self.deadline()).await?;
        Ok(Subscription {
            client: self,
            first: Some((first, fds)),
            continues,
            method: PhantomData,
        })
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|timeout| Instant::now() + timeout)
    }

    async fn send<M: Method>(
        &mut self,
        call: &M,
        more: bool,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ClientError> {
        if self.busy {
            return Err(ClientError::Disconnected);
        }
        let frame = Bytes::encode(
            &Call {
                method: M::NAME,
                parameters: call,
                more,
            },
            MAX_CALL,
        )
        .ok_or_else(|| {
            Error::new(
                ErrorKind::TooLarge,
                format!("the call of {} is too large", M::NAME),
            )
            .cause(format!("a call has at most {MAX_CALL} bytes"))
        })?;
        self.busy = true;
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match within(self.deadline(), self.writer.send(&frame, &borrowed)).await? {
            // A daemon that refuses a connection says why before it closes it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(frame_error(error.into())),
            Ok(()) => Ok(()),
        }
    }

    async fn reply<M: Method>(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<(M::Reply, bool, Vec<OwnedFd>), ClientError> {
        let frame = within(deadline, self.reader.next())
            .await?
            .map_err(frame_error)?;
        let Frame { bytes, fds } = frame.ok_or(ClientError::Disconnected)?;
        let reply: Reply<'_> =
            serde_json::from_slice(&bytes).map_err(|error| malformed(M::NAME, &error))?;
        let parameters = reply.parameters.map_or("{}", RawValue::get);
        if let Some(id) = reply.error {
            self.busy = false;
            return Err(refusal(M::NAME, &id, parameters).into());
        }
        let value = serde_json::from_str(parameters).map_err(|error| malformed(M::NAME, &error))?;
        Ok((value, reply.continues, fds))
    }
}

/// The replies of a streaming method. Ends when dropped.
#[derive(Debug)]
pub struct Subscription<M: Method> {
    client: Client,
    first: Option<(M::Reply, Vec<OwnedFd>)>,
    continues: bool,
    method: PhantomData<fn() -> M>,
}

impl<M: Method> Subscription<M> {
    /// The next reply; `None` once the daemon has said that there are no more. Cancel safe.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Disconnected`] when the daemon ends.
    pub async fn next(&mut self) -> Option<Result<M::Reply, ClientError>> {
        if let Some((first, _)) = self.first.take() {
            return Some(Ok(first));
        }
        if !self.continues {
            return None;
        }
        match self.client.reply::<M>(None).await {
            Ok((reply, continues, _)) => {
                self.continues = continues;
                Some(Ok(reply))
            }
            Err(error) => {
                self.continues = false;
                Some(Err(error))
            }
        }
    }
}

async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = T>,
) -> Result<T, ClientError> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work)
            .await
            .map_err(|_| ClientError::TimedOut),
        None => Ok(work.await),
    }
}

fn frame_error(error: FrameError) -> ClientError {
    match error {
        FrameError::Io(_) | FrameError::Cut => ClientError::Disconnected,
        other => ClientError::Protocol(other.to_string()),
    }
}

/// Where a reply is wrong, without quoting it: it may hold a payload.
fn malformed(method: &str, error: &serde_json::Error) -> ClientError {
    ClientError::Protocol(format!(
        "the reply of {method} is malformed at byte {} ({:?})",
        error.column(),
        error.classify()
    ))
}

fn refusal(method: &str, id: &str, parameters: &str) -> Error {
    if let Some(name) = id.strip_prefix("org.varlink.service.") {
        return service_error(method, name, parameters);
    }
    let (_, name) = id.rsplit_once('.').unwrap_or(("", id));
    let parsed = serde_json::from_str::<Error>(parameters);
    match (ErrorKind::from_name(name), parsed) {
        (Some(kind), Ok(error)) => Error { kind, ..error },
        (Some(kind), Err(_)) => Error::new(kind, format!("{method} failed")),
        (None, Ok(error)) => Error {
            message: format!("{id}: {}", error.message),
            ..error
        },
        (None, Err(_)) => Error::new(ErrorKind::System, format!("{method} failed: {id}")),
    }
}

fn service_error(method: &str, name: &str, parameters: &str) -> Error {
    const VERSIONS: &str = "daemon and client must be of the same version";
    #[derive(Default, Deserialize)]
    struct Subject {
        parameter: Option<String>,
    }
    match name {
        "MethodNotFound" | "MethodNotImplemented" | "InterfaceNotFound" => Error::new(
            ErrorKind::Unsupported,
            format!("keynsd does not know {method}"),
        )
        .hint(VERSIONS),
        "InvalidParameter" => {
            let subject: Subject = serde_json::from_str(parameters).unwrap_or_default();
            let parameter = subject.parameter.unwrap_or_default();
            Error::new(
                ErrorKind::InvalidArgument,
                format!("parameter “{parameter}” of {method} is missing, unknown or malformed"),
            )
        }
        "PermissionDenied" => Error::new(
            ErrorKind::NotPermitted,
            format!("{method} is not permitted"),
        ),
        _ => Error::new(
            ErrorKind::System,
            format!("{method} failed: org.varlink.service.{name}"),
        )
        .hint(VERSIONS),
    }
}

//! The way to the daemon, and its refusals as errors of commands.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyns::text::Escaped;
use keyns_interfaces::{Client, ClientError, ErrorKind as Refusal, Method};
use tokio::runtime::{Builder, Runtime};

use crate::error::{CommandError, ErrorKind};

/// How long a call may take that waits for nothing but the daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the daemon that makes one call after the other.
pub struct Daemon {
    runtime: Runtime,
    client: Client,
    /// Sockets not tried yet, for the first call.
    spare: Vec<PathBuf>,
    patience: Duration,
}

impl Daemon {
    /// Connects to the first of `addresses` where the daemon listens.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    pub fn connect(addresses: &[PathBuf]) -> Result<Self, CommandError> {
        Self::connect_with(addresses, PATIENCE)
    }

    /// The same, for calls that are given up after `patience`.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`].
    pub fn connect_with(addresses: &[PathBuf], patience: Duration) -> Result<Self, CommandError> {
        let runtime = runtime()?;
        let (client, rest) = runtime.block_on(reach(addresses))?;
        let spare = rest.to_vec();
        Ok(Self {
            runtime,
            client: client.with_timeout(patience),
            spare,
            patience,
        })
    }

    /// Calls a method.
    ///
    /// # Errors
    /// The daemon's refusal, or why it could not be asked.
    pub fn call<M: Method>(&mut self, call: &M) -> Result<M::Reply, CommandError> {
        self.attempt(call, Vec::new())
            .map(|(reply, _)| reply)
            .map_err(refused)
    }

    /// Calls a method that takes or returns descriptors.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_with<M: Method>(
        &mut self,
        call: &M,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(M::Reply, Vec<OwnedFd>), CommandError> {
        self.attempt(call, descriptors).map_err(refused)
    }

    fn attempt<M: Method>(
        &mut self,
        call: &M,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(M::Reply, Vec<OwnedFd>), ClientError> {
        let spare = std::mem::take(&mut self.spare);
        let again = spare.first().map(|_| {
            descriptors
                .iter()
                .map(OwnedFd::try_clone)
                .collect::<io::Result<Vec<_>>>()
        });
        match (
            self.runtime.block_on(self.client.call(call, descriptors)),
            again,
        ) {
            // Nothing was done: the daemon had no place for one more connection.
            (Err(ClientError::Refused(error)), Some(Ok(again)))
                if error.kind == Refusal::LimitReached =>
            {
                let Ok((client, _)) = self.runtime.block_on(reach(&spare)) else {
                    return Err(ClientError::Refused(error));
                };
                self.client = client.with_timeout(self.patience);
                self.runtime.block_on(self.client.call(call, again))
            }
            (result, _) => result,
        }
    }
}

/// A runtime on the calling thread.
///
/// Key system calls act for the calling thread, so no work is moved to another one.
///
/// # Errors
/// When the kernel gives no epoll descriptor.
pub fn runtime() -> Result<Runtime, CommandError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::io("cannot prepare to talk to the daemon", &error))
}

/// Connects to the first of `addresses` where the daemon listens; for calls that may take as long
/// as they need.
///
/// # Errors
/// [`ErrorKind::Unreachable`].
pub async fn connect(addresses: &[PathBuf]) -> Result<Client, CommandError> {
    reach(addresses).await.map(|(client, _)| client)
}

/// As [`connect`], and says which addresses were not tried.
///
/// # Errors
/// [`ErrorKind::Unreachable`].
pub async fn reach(addresses: &[PathBuf]) -> Result<(Client, &[PathBuf]), CommandError> {
    let mut first_failure = None;
    let mut rest = addresses;
    while let Some((path, others)) = rest.split_first() {
        match Client::connect(path).await {
            Ok(client) => return Ok((client, others)),
            Err(error) => {
                let _ = first_failure.get_or_insert(error);
            }
        }
        rest = others;
    }
    Err(first_failure.map_or_else(
        || CommandError::usage("no socket of the daemon is known"),
        refused,
    ))
}

/// A failed call as an error of the command.
#[must_use]
pub fn refused(error: ClientError) -> CommandError {
    match error {
        ClientError::Refused(error) => error.into(),
        ClientError::Unreachable { path, source } => unreachable(&path, &source),
        ClientError::Protocol(text) => {
            CommandError::failure("cannot understand the daemon's reply")
                .cause(text)
                .hint("keyctl-ns and keynsd must be of the same version")
        }
        ClientError::TimedOut => {
            CommandError::new(ErrorKind::TimedOut, "the daemon did not answer in time")
                .cause("what was asked may still be carried out")
        }
        ClientError::Disconnected => {
            CommandError::new(ErrorKind::Unreachable, "the daemon closed the connection")
                .cause("it ended or was restarted; what was asked may have been carried out")
        }
    }
}

/// The instance whose socket this is.
fn instance(socket: &Path) -> Option<&str> {
    let name = socket.parent()?.file_name()?.to_str()?;
    (socket == Path::new("/run/keyns").join(name).join("keynsd")).then_some(name)
}

fn unreachable(path: &Path, source: &io::Error) -> CommandError {
    use std::os::unix::ffi::OsStrExt as _;
    let shown = Escaped::new(path.as_os_str().as_bytes())
        .cut(120)
        .to_string();
    let elsewhere = "say where keynsd listens with --instance or --socket";
    let start = match instance(path) {
        Some(name) => format!("start it as root: keynsd --instance {name}; or {elsewhere}"),
        None => format!("start keynsd, or {elsewhere}"),
    };
    let (cause, hint) = match source.kind() {
        io::ErrorKind::NotFound => ("there is no such socket".to_owned(), start),
        io::ErrorKind::ConnectionRefused => ("nobody listens there".to_owned(), start),
        io::ErrorKind::PermissionDenied => (
            "you may not open this socket".to_owned(),
            "run the command as root".to_owned(),
        ),
        io::ErrorKind::WouldBlock => (
            "more clients are waiting there than it can take".to_owned(),
            "try again; root gets in through the admin socket beside it".to_owned(),
        ),
        // The standard library's word for a path that is too long or has a NUL byte.
        io::ErrorKind::InvalidInput => (
            "the path of a socket has 1 to 107 bytes and no NUL byte".to_owned(),
            elsewhere.to_owned(),
        ),
        _ => (
            CommandError::io("", source).cause.unwrap_or_default(),
            elsewhere.to_owned(),
        ),
    };
    CommandError::new(
        ErrorKind::Unreachable,
        format!("cannot reach keynsd at {shown}"),
    )
    .cause(cause)
    .hint(hint)
}

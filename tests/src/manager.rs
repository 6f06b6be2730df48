//! A service manager for one service, played by a test: it hands over sockets, listens to what the
//! service says, and keeps what it is given.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyns::engine::paths::Paths;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType, recvmsg, sendmsg,
};
use tempfile::TempDir;

use crate::instance::{PATIENCE, Ran};
use crate::{bin_dir, service_uid, unique};

/// A daemon as a service, and its manager.
#[derive(Debug)]
pub struct Managed {
    /// Name of the instance.
    pub name: String,
    service_uid: u32,
    directory: TempDir,
    notify: UnixDatagram,
    /// What the service has had kept: name and descriptor.
    pub store: Vec<(String, OwnedFd)>,
    /// Variables of the service's environment.
    pub environment: Vec<(String, String)>,
    /// Options of the daemon, besides those that every test needs.
    pub options: Vec<String>,
    daemon: Option<Child>,
}

impl Managed {
    /// A manager whose service does not run yet.
    ///
    /// # Panics
    /// When a socket cannot be made.
    #[must_use]
    pub fn new(what: &str) -> Self {
        let directory = TempDir::with_prefix("keyns-manager-").unwrap();
        let notify = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            name: unique(what),
            service_uid: service_uid(),
            directory,
            notify,
            store: Vec::new(),
            environment: Vec::new(),
            options: Vec::new(),
            daemon: None,
        }
    }

    /// A directory for files of the test.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Paths of the instance.
    ///
    /// # Panics
    /// Never, as its name is one.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths::new(&self.name).unwrap()
    }

    /// Sets a variable of the service's environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// The sockets of the service's units, as the manager makes them: names and descriptors.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn listen(&self) -> Vec<(String, OwnedFd)> {
        let paths = self.paths();
        std::fs::create_dir_all(paths.runtime()).unwrap();
        let stream = |path: PathBuf| UnixListener::bind(path).unwrap().into();
        vec![
            ("varlink".to_owned(), stream(paths.socket())),
            ("admin".to_owned(), stream(paths.admin_socket())),
            ("upcall".to_owned(), packets(&paths.upcall())),
        ]
    }

    /// Starts the service with these descriptors and those of the store, in this order.
    ///
    /// # Panics
    /// When it cannot be executed.
    pub fn start(&mut self, descriptors: &[(String, OwnedFd)]) {
        let all: Vec<_> = descriptors.iter().chain(&self.store).collect();
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let log = File::options()
            .append(true)
            .create(true)
            .open(self.log_path())
            .unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(sibling("hand-over"));
        command
            .arg(bin_dir().join("keynsd"))
            .args(["--instance", &self.name, "--helpers"])
            .arg(bin_dir())
            .args(["--service-uid", &self.service_uid.to_string()])
            .args(&self.options)
            .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
            .env("LISTEN_FDNAMES", names.join(":"))
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if names.is_empty() {
            command.env_remove("LISTEN_FDNAMES");
        }
        let child = command.spawn().unwrap();
        drop(command);
        hand(
            &ours,
            &all.iter().map(|(_, fd)| fd.as_fd()).collect::<Vec<_>>(),
        );
        self.daemon = Some(child);
    }

    /// The next message of the service; what comes with it is kept, as the message says.
    ///
    /// # Panics
    /// When none comes in time.
    #[track_caller]
    pub fn message(&mut self) -> String {
        self.message_within(PATIENCE)
            .unwrap_or_else(|| panic!("the service says nothing\n{}", self.log()))
    }

    /// Same, or `None` when there is none in this time.
    ///
    /// # Panics
    /// When the socket fails.
    pub fn message_within(&mut self, patience: Duration) -> Option<String> {
        self.notify.set_read_timeout(Some(patience)).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 4096];
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let length = recvmsg(&self.notify, &mut pieces, &mut control, flags)
            .ok()?
            .bytes;
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        if text.contains("FDSTORE=1\n") {
            let name = name.unwrap_or("stored");
            self.store
                .extend(descriptors.into_iter().map(|fd| (name.to_owned(), fd)));
        }
        if text.contains("FDSTOREREMOVE=1\n") {
            self.store.retain(|(known, _)| Some(known.as_str()) != name);
        }
        Some(text)
    }

    /// Waits until the service is ready, and returns all it said until then.
    ///
    /// # Panics
    /// When it is not in time.
    #[track_caller]
    pub fn ready(&mut self) -> Vec<String> {
        self.until("READY=1\n")
    }

    /// Waits for a message that contains `what`, and returns all that came, the last of which it is.
    ///
    /// # Panics
    /// When it does not come in time.
    #[track_caller]
    pub fn until(&mut self, what: &str) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            all.push(self.message());
            if all.last().is_some_and(|message| message.contains(what)) {
                return all;
            }
        }
    }

    /// Sends the service a signal.
    ///
    /// # Panics
    /// When there is none.
    pub fn signal(&self, signal: Signal) {
        let pid = self.daemon.as_ref().unwrap().id();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    /// Waits for the end of the service, and returns its exit code.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the service as a fault would.
    ///
    /// # Panics
    /// When there is none.
    pub fn crash(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Runs `keyctl-ns`.
    ///
    /// # Panics
    /// When it cannot be executed.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Command::new(bin_dir().join("keyctl-ns"))
            .env_remove("KEYNS_SOCKET")
            .args(["--instance", &self.name])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }

    /// All that the service has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn clean(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        // A daemon that is told to leave nothing, on sockets of its own.
        for role in [self.paths().socket(), self.paths().admin_socket()] {
            let _ = std::fs::remove_file(role);
        }
        let mut last = Command::new(bin_dir().join("keynsd"));
        last.args(["--instance", &self.name, "--transient", "--helpers"])
            .arg(bin_dir())
            .args(["--service-uid", &self.service_uid.to_string()])
            .stderr(Stdio::piped());
        let mut last = last.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.paths().socket().exists() && Instant::now() < deadline {
            if last.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = kill(Pid::from_raw(last.id().cast_signed()), Signal::SIGTERM);
        let _ = last.wait();
        let mut said = String::new();
        if let Some(stderr) = &mut last.stderr {
            let _ = stderr.read_to_string(&mut said);
        }
        if self.paths().runtime().exists() && !std::thread::panicking() {
            panic!("{} is left\n{said}", self.paths().runtime().display());
        }
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}", self.log());
        }
        self.clean();
    }
}

/// A listening socket for packets.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn packets(path: &Path) -> OwnedFd {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 128).unwrap();
    socket
}

/// A program of this package; tests are one directory below.
fn sibling(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors()
        .map(|above| above.join(name))
        .find(|program| program.is_file())
        .unwrap()
}

fn hand(to: &UnixStream, descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    sendmsg(to, &[IoSlice::new(b".")], &mut control, SendFlags::empty()).unwrap();
}

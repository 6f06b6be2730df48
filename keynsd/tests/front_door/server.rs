//! A front door on sockets of its own, with methods that make its behaviour visible.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keyns_interfaces::blocking::Client;
use keyns_interfaces::manager::{GetStatus, Status};
use keyns_interfaces::{Empty, Error, ErrorKind, Payload, containers, keys, upcalls};
use keynsd::authority::Policy;
use keynsd::events::{Bus, Topic, event};
use keynsd::front::{Context, Front, Limits, Reply, Router, ServiceInfo, Sockets, StreamSender};
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// What the handlers did, as seen from the test's thread.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// `Wait` calls under way.
    pub(crate) waiting: AtomicUsize,
    /// `Kill` calls that ran to their end.
    pub(crate) killed: AtomicUsize,
    /// Hooks of `Lend` that ran.
    pub(crate) closed: AtomicUsize,
    /// `Invalidate` calls.
    pub(crate) invalidated: AtomicUsize,
    /// Subscribers.
    pub(crate) streaming: AtomicUsize,
    /// Replies the flood has queued.
    pub(crate) flooded: AtomicUsize,
}

struct State {
    counts: Arc<Counts>,
    bus: Bus,
}

pub(crate) struct Server {
    directory: TempDir,
    pub(crate) counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::watched(limits, tracing::Dispatch::none())
    }

    /// Sends what the daemon's thread traces to `traces`.
    pub(crate) fn watched(limits: Limits, traces: tracing::Dispatch) -> Self {
        let directory = TempDir::with_prefix("keyns-front-").unwrap();
        // So that other uids reach the socket.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let path = directory.path().to_owned();
        let shared = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            let _traces = tracing::dispatcher::set_default(&traces);
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let front = Front::new(router(shared), limits);
                let sockets = Sockets::bind(&path).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    _ = front.serve(sockets) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().unwrap();
        Self {
            directory,
            counts,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("keynsd")
    }

    pub(crate) fn admin(&self) -> PathBuf {
        self.directory.path().join("admin")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.path())
            .unwrap()
            .with_timeout(Duration::from_secs(20))
    }

    /// A socket to write anything to.
    pub(crate) fn raw(&self) -> Raw {
        Raw::new(UnixStream::connect(self.path()).unwrap())
    }

    /// Fails unless the daemon still answers.
    pub(crate) fn assert_serving(&self) {
        let status = self.client().call(&GetStatus {}, vec![]).unwrap().0;
        assert_eq!(status.instance, "test");
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection on the level of bytes.
pub(crate) struct Raw(pub(crate) UnixStream);

impl Raw {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, json: &str) -> &mut Self {
        self.0.write_all(json.as_bytes()).unwrap();
        self.0.write_all(b"\0").unwrap();
        self
    }

    /// The next reply; `None` if the daemon closed the connection.
    pub(crate) fn reply(&mut self) -> Option<serde_json::Value> {
        let mut frame = Vec::new();
        let mut byte = [0];
        loop {
            match self.0.read(&mut byte) {
                Ok(1) if byte[0] == 0 => return Some(serde_json::from_slice(&frame).unwrap()),
                Ok(1) => frame.push(byte[0]),
                Ok(_) => return None,
                // The daemon closed the connection without having read everything.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    pub(crate) fn error(&mut self) -> String {
        self.reply().unwrap()["error"].as_str().unwrap().to_owned()
    }

    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let mut buffer = [0; 4096];
        let begun = Instant::now();
        while begun.elapsed() < limit {
            match self.0.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
        false
    }
}

/// Waits until `done`, or fails.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "not within 10 s: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Counts while it lives.
struct Under(Arc<Counts>, fn(&Counts) -> &AtomicUsize);

impl Under {
    fn way(counts: &Arc<Counts>, which: fn(&Counts) -> &AtomicUsize) -> Self {
        which(counts).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(counts), which)
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

fn router(counts: Arc<Counts>) -> Router<State> {
    let info = ServiceInfo {
        vendor: "keyns".to_owned(),
        product: "keynsd".to_owned(),
        version: "0".to_owned(),
        url: "https://example.org".to_owned(),
    };
    let mut router = Router::new(
        Rc::new(State {
            counts,
            bus: Bus::default(),
        }),
        info,
    );
    router
        .method::<GetStatus, _, _>(Policy::Anyone, status)
        .method::<keys::Update, _, _>(Policy::ChangesKeysOrContainers, update)
        .method::<keys::Read, _, _>(Policy::SeesOthersKeys, read)
        .method::<keys::Lend, _, _>(Policy::ChangesKeysOrContainers, lend)
        .method::<keys::Invalidate, _, _>(Policy::ChangesKeysOrContainers, invalidate)
        .method::<keys::GrantTo, _, _>(Policy::ChangesKeysOrContainers, grant)
        .method::<containers::Run, _, _>(Policy::ChangesKeysOrContainers, run)
        .method::<containers::Kill, _, _>(Policy::ChangesKeysOrContainers, kill)
        .wait::<containers::Wait, _, _>(Policy::SeesOthersKeys, wait)
        .stream::<containers::Subscribe, _, _>(Policy::SeesOthersKeys, subscribe)
        .stream::<keys::Subscribe, _, _>(Policy::SeesOthersKeys, refuse_after_one)
        .stream::<upcalls::Subscribe, _, _>(Policy::SeesOthersKeys, flood);
    router
}

async fn status(_: Rc<State>, context: Context, _: GetStatus) -> Result<Reply<Status>, Error> {
    Ok(Status {
        version: context.caller.uid().to_string(),
        engine: context.caller.groups().len().to_string(),
        instance: "test".to_owned(),
        kernel: context.caller.process().is_some().to_string(),
        pid: context.caller.pid(),
        containers: context.fds.len() as u64,
        pending_upcalls: 0,
        agents: 0,
        poll_interval_ms: 0,
    }
    .into())
}

/// Replies with the size of the payload as the serial.
async fn update(
    _: Rc<State>,
    _: Context,
    call: keys::Update,
) -> Result<Reply<keys::KeyReply>, Error> {
    let key = keys::KeyInfo {
        serial: i32::try_from(call.payload.bytes().len()).unwrap(),
        type_: "user".to_owned(),
        description: call.key,
        uid: 0,
        gid: 0,
        mask: 0x3f01_0000,
        expires_in: None,
        container: None,
        origin: "added".to_owned(),
        grants: vec![],
    };
    Ok(keys::KeyReply { key }.into())
}

/// Replies with as many bytes as the key's name says.
async fn read(_: Rc<State>, _: Context, call: keys::Read) -> Result<Reply<keys::ReadReply>, Error> {
    let size = call.key.to_string().parse().unwrap();
    Ok(keys::ReadReply {
        payload: Payload::new(vec![7; size]),
    }
    .into())
}

async fn lend(
    state: Rc<State>,
    context: Context,
    _: keys::Lend,
) -> Result<Reply<keys::Drop>, Error> {
    let counts = Arc::clone(&state.counts);
    context.on_close(move || {
        counts.closed.fetch_add(1, Ordering::SeqCst);
    });
    Ok(keys::Drop { keyring: 1 }.into())
}

async fn invalidate(
    state: Rc<State>,
    _: Context,
    _: keys::Invalidate,
) -> Result<Reply<Empty>, Error> {
    state.counts.invalidated.fetch_add(1, Ordering::SeqCst);
    state
        .bus
        .publish(Topic::Containers, event("container-created"));
    Ok(Empty {}.into())
}

async fn grant(_: Rc<State>, _: Context, _: keys::GrantTo) -> Result<Reply<keys::Granted>, Error> {
    Err(
        Error::new(ErrorKind::ImpliedRights, "cannot grant search on key 7")
            .cause("the kernel has no such bit")
            .hint("accept read")
            .errno(1)
            .rights(vec!["read".to_owned()]),
    )
}

/// Copies the first descriptor to the second and replies with the others.
async fn run(
    _: Rc<State>,
    context: Context,
    _: containers::Run,
) -> Result<Reply<containers::Started>, Error> {
    let mut fds = context.fds.into_iter();
    let started = containers::Started {
        process: fds.len() as u64,
        pid: 1,
    };
    if let (Some(from), Some(to)) = (fds.next(), fds.next()) {
        let mut text = String::new();
        File::from(from).read_to_string(&mut text).unwrap();
        File::from(to).write_all(text.as_bytes()).unwrap();
    }
    Ok(Reply::with_fds(started, fds.collect()))
}

/// Takes 300 ms.
async fn kill(
    state: Rc<State>,
    _: Context,
    _: containers::Kill,
) -> Result<Reply<containers::Killed>, Error> {
    tokio::time::sleep(Duration::from_millis(300)).await;
    state.counts.killed.fetch_add(1, Ordering::SeqCst);
    Ok(containers::Killed {
        upcalls_rejected: 0,
        milliseconds: 300,
    }
    .into())
}

async fn wait(
    state: Rc<State>,
    _: Context,
    _: containers::Wait,
) -> Result<Reply<containers::Ended>, Error> {
    let _under = Under::way(&state.counts, |counts| &counts.waiting);
    std::future::pending().await
}

async fn subscribe(
    state: Rc<State>,
    _: Context,
    _: containers::Subscribe,
    sender: StreamSender<keyns_interfaces::event::Event>,
) -> Result<(), Error> {
    let _under = Under::way(&state.counts, |counts| &counts.streaming);
    state.bus.forward(Topic::Containers, sender).await
}

async fn refuse_after_one(
    _: Rc<State>,
    _: Context,
    _: keys::Subscribe,
    sender: StreamSender<keyns_interfaces::event::Event>,
) -> Result<(), Error> {
    let _ = sender.send(event("subscribed")).await;
    Err(Error::new(ErrorKind::WrongState, "that was all"))
}

async fn flood(
    state: Rc<State>,
    _: Context,
    _: upcalls::Subscribe,
    sender: StreamSender<keyns_interfaces::event::Event>,
) -> Result<(), Error> {
    let _under = Under::way(&state.counts, |counts| &counts.streaming);
    while sender.send(event(&"x".repeat(1000))).await.is_ok() {
        state.counts.flooded.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

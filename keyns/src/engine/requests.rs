//! Requests for keys that the kernel queues, and the answers to them.
//!
//! A kernel that can intercept requests links the authorisation key of each into a keyring and tells
//! whoever watches that keyring. One thread does all that takes possession of such a key: it finds out
//! who asks for what, and gives the answer. No other thread of the daemon has the queue in its keyrings,
//! since who possesses an authorisation key can make use of the keyrings of the requester.
//!
//! A notice only wakes the thread. What there is to do is in the queue, so nothing is lost with a
//! notice, or with a daemon: what a former one had taken up and not answered is still there.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};

use keyns_sys::container_abi::ContainerAbi;
use keyns_sys::request::facts::{self, Credentials, Stat};
use keyns_sys::request::place::{self, Place};
use keyns_sys::request::settle::{self, Given, Refusal, errno};
use keyns_sys::request::{Undecidable, target};
use keyns_sys::requester;
use keyns_sys::secret::SecretBytes;
use keyns_sys::upcall_wire::{Doubts, Rejection, Request, RequesterFd};
use keyns_sys::{KeySerial, container_key, key, watch_queue};
use rustix::event::{EventfdFlags, PollFd, PollFlags};

use super::error::EngineError;

/// `NOTIFY_KEY_LINKED`.
const LINKED: u32 = 1 << 2;
/// Notices the kernel keeps; it takes one to wake the thread.
const NOTICES: u32 = 64;
const AUTHORISATION: &std::ffi::CStr = c".request_key_auth";
/// When the requester's quota has no room for the payload.
const OVER_QUOTA: Refusal = Refusal(errno::EDQUOT, 5);
/// It could not be found out who asked.
const UNDECIDABLE: Refusal = Refusal(errno::EAGAIN, 1);

/// A request, as the kernel and `/proc` tell it.
#[derive(Debug)]
pub struct QueuedRequest {
    /// Everything about it.
    pub request: Box<Request>,
    /// The requesting thread.
    pub requester: OwnedFd,
    /// The kernel's number of the requester's container.
    pub object: u64,
}

/// Whom requests are given to, from the thread of the queue.
pub type Sink = Box<dyn Fn(QueuedRequest) + Send>;

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// 0: it took effect; else what the kernel said.
    pub errno: i32,
    /// The request is over; otherwise another answer may be given.
    pub over: bool,
}

type Job = Box<dyn FnOnce() + Send>;

/// A handle on the thread of the queue, which ends when this is dropped. Requests stay queued.
pub struct RequestQueue {
    jobs: Option<Sender<Job>>,
    wake: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl RequestQueue {
    /// Starts the thread, which may link `queue` and reports every request in it to `sink`.
    ///
    /// # Errors
    /// What kept it from its queue.
    pub(super) fn start(
        abi: ContainerAbi,
        queue: KeySerial,
        sink: Sink,
    ) -> Result<Self, EngineError> {
        let failed = || EngineError::system("take up the queue of requests");
        let (jobs, work) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::sync_channel(1);
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| failed()(errno.into()))?;
        let waker = wake.try_clone().map_err(failed())?;
        let thread = thread::Builder::new()
            .name("requests".into())
            .spawn(move || match Worker::take_up(abi, queue, sink) {
                Ok(worker) => worker.run(&ready, &waker, &work),
                Err(error) => drop(ready.send(Err(error))),
            })
            .map_err(failed())?;
        let this = Self {
            jobs: Some(jobs),
            wake,
            thread: Some(thread),
        };
        match started.recv() {
            Ok(begun) => begun.map_err(failed())?,
            Err(_) => return Err(stopped()),
        }
        Ok(this)
    }

    /// Gives a request its payload.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn instantiate(
        &self,
        request: &Request,
        payload: SecretBytes,
    ) -> Result<Settled, EngineError> {
        let (target, type_name) = (request.target, request.type_name.clone());
        self.call(
            move || match settle::instantiate(target, &type_name, payload.as_slice()) {
                Given::Over(errno) => Settled { errno, over: true },
                Given::Refused(errno::EDQUOT) => {
                    let _ = settle::reject(target, OVER_QUOTA);
                    Settled {
                        errno: errno::EDQUOT,
                        over: true,
                    }
                }
                Given::Refused(errno) => Settled { errno, over: false },
            },
        )
    }

    /// Gives a request an error.
    ///
    /// # Errors
    /// The thread has ended.
    pub fn reject(&self, request: &Request, rejection: Rejection) -> Result<Settled, EngineError> {
        let target = request.target;
        self.call(move || Settled {
            errno: match settle::reject(target, rejection.into()) {
                Ok(()) => 0,
                Err(error) => error.raw_os_error().unwrap_or(errno::EIO),
            },
            over: true,
        })
    }

    fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, EngineError> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move || {
            // The caller may have gone; what was done stays done.
            let _ = answer.send(work());
        });
        self.jobs
            .as_ref()
            .and_then(|jobs| jobs.send(job).ok())
            .ok_or_else(stopped)?;
        self.rouse();
        result.recv().map_err(|_| stopped())
    }

    fn rouse(&self) {
        // Full: it is awake already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for RequestQueue {
    fn drop(&mut self) {
        drop(self.jobs.take());
        self.rouse();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for RequestQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestQueue").finish_non_exhaustive()
    }
}

/// What the thread works with.
struct Worker {
    abi: ContainerAbi,
    queue: KeySerial,
    sink: Sink,
    notices: OwnedFd,
    /// Watches are of the pipe, which lives as long as this end.
    _watch: OwnedFd,
}

impl Worker {
    /// Takes possession of the queue, and watches it.
    fn take_up(abi: ContainerAbi, queue: KeySerial, sink: Sink) -> io::Result<Self> {
        key::join_session_keyring(None)?;
        key::link(queue, KeySerial::SESSION)?;
        let (notices, watch) = watch_queue::pipe()?;
        // A handler of requests that is started must not inherit them.
        for end in [&notices, &watch] {
            rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
        }
        watch_queue::set_size(watch.as_fd(), NOTICES)?;
        watch_queue::set_filter(watch.as_fd(), LINKED)?;
        watch_queue::watch_key(queue, watch.as_raw_fd(), 1)?;
        Ok(Self {
            abi,
            queue,
            sink,
            notices,
            _watch: watch,
        })
    }

    fn run(&self, ready: &SyncSender<io::Result<()>>, wake: &OwnedFd, work: &Receiver<Job>) {
        if ready.send(Ok(())).is_err() {
            return;
        }
        let taken = self.take_new();
        self.take_left(&taken);
        loop {
            match self.sleep(wake) {
                Ok(()) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            self.take_new();
            loop {
                match work.try_recv() {
                    Ok(job) => job(),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// Waits for a notice or a job, and takes what woke it.
    fn sleep(&self, wake: &OwnedFd) -> rustix::io::Result<()> {
        let mut fds = [
            PollFd::new(&self.notices, PollFlags::IN),
            PollFd::new(wake, PollFlags::IN),
        ];
        rustix::event::poll(&mut fds, None)?;
        let mut records = [0; 4096];
        while watch_queue::read(self.notices.as_fd(), &mut records).is_ok_and(|read| read > 0) {}
        let mut count = [0; 8];
        while rustix::io::read(wake, &mut count).is_ok() {}
        Ok(())
    }

    /// Takes up what is new in the queue.
    fn take_new(&self) -> BTreeSet<KeySerial> {
        let mut taken = BTreeSet::new();
        while let Ok(Some(authorisation)) =
            container_key::find_lru(&self.abi, self.queue, AUTHORISATION)
        {
            taken.insert(authorisation);
            self.take(authorisation, 0);
        }
        taken
    }

    /// Takes up what a former daemon has left unanswered.
    fn take_left(&self, taken: &BTreeSet<KeySerial>) {
        let queued = key::read_keyring(self.queue).unwrap_or_default();
        for authorisation in queued.into_iter().filter(|key| !taken.contains(key)) {
            self.take(authorisation, 1);
        }
    }

    /// `attempt` counts the daemons that had it before.
    fn take(&self, authorisation: KeySerial, attempt: u32) {
        // Answered, expired or withdrawn meanwhile.
        let Ok(queued) = container_key::query_request(&self.abi, authorisation) else {
            return;
        };
        match gather(&self.abi, authorisation, &queued) {
            Ok((request, requester)) => (self.sink)(QueuedRequest {
                request: Box::new(Request { attempt, ..request }),
                requester,
                object: queued.container,
            }),
            Err(Undecidable) => {
                let _ = settle::reject(queued.target, UNDECIDABLE);
            }
        }
    }
}

/// Finds out all about a request; its requester is held by a pidfd.
///
/// Unlike behind `/sbin/request-key`, it is not asked whether the thread waits already: the request is
/// here before that thread has come to sleep, and the kernel says whether it was that thread that asked.
fn gather(
    abi: &ContainerAbi,
    authorisation: KeySerial,
    queued: &container_key::QueuedRequest,
) -> Result<(Request, OwnedFd), Undecidable> {
    let tid = queued.requester.ok_or(Undecidable)?;
    let thread = facts::open_thread(tid)?;
    let place = Place::of(&thread)?;
    let stat = Stat::of(&thread)?;
    if stat.is_kernel_thread() {
        return Err(Undecidable);
    }
    let (type_name, description) = target::describe(queued.target)?;
    let callout = SecretBytes::new(key::read(authorisation)?);
    let requester = requester::pidfd_of_thread(tid)?;
    // It still has that number, so it was its own when it was opened.
    let still = container_key::query_request(abi, authorisation)?;
    if still.requester != Some(tid) {
        return Err(Undecidable);
    }
    let credentials = Credentials::of(&thread, Some(requester.as_fd()), tid)?;
    let ids = (credentials.uids[3], credentials.gids[3]);
    let request = Request {
        target: queued.target,
        auth: authorisation,
        fsuid: queued.fsuid,
        fsgid: queued.fsgid,
        thread_keyring: queued.thread,
        process_keyring: queued.process,
        session_keyring: queued.session,
        attempt: 0,
        waited_ms: queued.waited_ms,
        tid,
        tgid: credentials.tgid,
        start_time: stat.start_time,
        fd: RequesterFd::Thread,
        doubts: Doubts {
            not_waiting: queued.on_behalf,
            other_ids: ids != (queued.fsuid, queued.fsgid),
        },
        uids: credentials.uids,
        gids: credentials.gids,
        permitted: credentials.permitted,
        net_ns: facts::net_ns(&thread)?,
        pid_ns: place.pid_ns,
        user_ns: place.user_ns,
        cgroup: place::cgroup_of(&thread)?,
        type_name,
        description,
        callout,
        comm: stat.comm,
        exe: facts::executable(&thread),
    };
    Ok((request, requester))
}

fn stopped() -> EngineError {
    EngineError::Helper {
        operation: "answer requests".into(),
        reason: "the thread of the queue has ended".into(),
    }
}

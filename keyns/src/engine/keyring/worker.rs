//! The key worker: the one thread that possesses the registry.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::SERVICE_UID;
use super::error::KeyError;
use super::registry::Keys;
use super::shelter::Shelter;
use crate::engine::error::EngineError;
use crate::engine::objects::Objects;
use crate::engine::program::SealedProgram;

/// How the key worker is set up.
#[derive(Debug)]
pub struct WorkerOptions {
    /// Name of the daemon's instance.
    pub instance: String,
    /// The uid in whose user keyring the registry hangs; nobody else may use it.
    pub service_uid: u32,
    /// File locked while registries are created and removed, the same for all instances.
    pub lock: PathBuf,
    /// The container objects, on kernels that have such.
    pub objects: Option<Arc<Objects>>,
    /// The shortest time between two looks which sessions of a container live, each of which walks
    /// all keys of the machine.
    pub survey: Duration,
}

impl WorkerOptions {
    /// The usual service uid.
    #[must_use]
    pub fn new(instance: impl Into<String>, lock: impl Into<PathBuf>) -> Self {
        Self {
            instance: instance.into(),
            service_uid: SERVICE_UID,
            lock: lock.into(),
            objects: None,
            survey: Duration::from_secs(30),
        }
    }
}

type Job = Box<dyn FnOnce(&mut Keys) + Send>;

/// A handle on the worker thread. The thread ends when it is dropped; the registry stays.
#[derive(Debug)]
pub struct KeyWorker {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl KeyWorker {
    /// Starts the thread; `shelter` is the program that runs
    /// [`shelter::serve`](super::shelter::serve).
    ///
    /// # Errors
    /// What kept the worker from its registry.
    pub fn start(shelter: SealedProgram, options: WorkerOptions) -> Result<Self, KeyError> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("keys".into())
            .spawn(move || run(Shelter::new(shelter), options, &ready, &queue))
            .map_err(KeyError::of("start the key worker's thread"))?;
        let worker = Self {
            jobs: Some(jobs),
            thread: Some(thread),
        };
        started.recv().map_err(|_| stopped())??;
        Ok(worker)
    }

    /// Runs `work` on the worker's thread and waits for its result.
    ///
    /// # Errors
    /// Those of `work`; the worker has ended.
    pub fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keys) -> Result<R, KeyError> + Send + 'static,
    ) -> Result<R, KeyError> {
        let (answer, result) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |keys| {
            // The caller may have gone; what was done stays done.
            let _ = answer.send(work(keys));
        });
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).map_err(|_| stopped())?;
        result.recv().map_err(|_| stopped())?
    }
}

impl Drop for KeyWorker {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    shelter: Shelter,
    options: WorkerOptions,
    ready: &SyncSender<Result<(), KeyError>>,
    queue: &Receiver<Job>,
) {
    let mut keys = match Keys::start(shelter, options) {
        Ok(keys) => keys,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    while let Ok(job) = queue.recv() {
        job(&mut keys);
    }
}

fn stopped() -> KeyError {
    EngineError::Helper {
        operation: "work on keys".into(),
        reason: "the key worker has ended".into(),
    }
    .into()
}

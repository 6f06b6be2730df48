//! An engine of its own for each test, and puppets.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keyns::engine::container::{ContainerId, ContainerKeyrings, IdRange};
use keyns::engine::keyring::container::owner_for;
use keyns::engine::keyring::{
    CopyPlan, Home, KeyError, KeyFacts, KeyRef, KeyWorker, Keys, Tended, WorkerOptions,
};
use keyns::engine::program::SealedProgram;
use keyns::expression::{Object, Place};
use keyns::mask::Bits;
use keyns_sys::KeySerial;
use keyns_sys::secret::SecretBytes;

pub(crate) const EACCES: i32 = 13;
pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOKEY: i32 = 126;
pub(crate) const ELOOP: i32 = 40;
pub(crate) const EDQUOT: i32 = 122;
pub(crate) const EKEYREVOKED: i32 = 128;

/// A process that makes key calls as told.
pub(crate) struct Puppet {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: BufReader<ChildStdout>,
}

impl Puppet {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_key-puppet"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut puppet = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
        puppet.ok("join");
        puppet
    }

    pub(crate) fn call(&mut self, line: &str) -> Result<String, i32> {
        writeln!(self.stdin, "{line}").unwrap();
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).unwrap();
        let answer = answer.trim_end();
        match answer.split_once(' ').unwrap_or((answer, "")) {
            ("ok", value) => Ok(value.to_owned()),
            ("err", errno) => Err(errno.parse().unwrap()),
            _ => panic!("{line}: {answer}"),
        }
    }

    pub(crate) fn ok(&mut self, line: &str) -> String {
        self.call(line)
            .unwrap_or_else(|errno| panic!("{line}: errno {errno}"))
    }

    pub(crate) fn number(&mut self, line: &str) -> i32 {
        self.ok(line).parse().unwrap()
    }

    pub(crate) fn refused(&mut self, line: &str, errno: i32) {
        assert_eq!(self.call(line), Err(errno), "{line}");
    }

    /// A search that meets an invalidated key before it is collected says that it was revoked, and a
    /// key that is linked nowhere any more is not possessed.
    pub(crate) fn finds_nothing(&mut self, line: &str) {
        let answer = self.call(line);
        assert!(
            matches!(answer, Err(ENOKEY | EKEYREVOKED | EACCES)),
            "{line}: {answer:?}"
        );
    }

    /// Takes up the session of a denizen whose kernel uid is `uid`.
    pub(crate) fn enter(&mut self, engine: &Engine, id: ContainerId, uid: u32) {
        let plan = engine.keys(move |keys| keys.prepare_session(id, uid));
        self.ok(&format!(
            "take-up {}",
            serde_json::to_string(&plan).unwrap()
        ));
    }

    /// Enters a user namespace with `range` and becomes `inside` in it.
    pub(crate) fn enter_user_namespace(&mut self, range: IdRange, inside: u32) {
        let pid = self.ok("pid");
        self.ok("userns");
        let map = format!("0 {} {}", range.base, range.count);
        fs::write(format!("/proc/{pid}/gid_map"), &map).unwrap();
        fs::write(format!("/proc/{pid}/uid_map"), &map).unwrap();
        self.ok(&format!("become {inside}"));
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) static TESTS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Engine {
    pub(crate) worker: Option<KeyWorker>,
    pub(crate) instance: String,
    pub(crate) service_uid: u32,
    pub(crate) survey: Duration,
    directory: tempfile::TempDir,
    pub(crate) number: u32,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let number = TESTS.fetch_add(1, Ordering::Relaxed) + 64 * (std::process::id() % 0x10_0000);
        let mut engine = Self {
            worker: None,
            instance: format!("t{number}"),
            service_uid: 0xa000_0000 + number,
            survey: Duration::ZERO,
            directory: tempfile::tempdir().unwrap(),
            number,
        };
        engine.restart();
        engine
    }

    pub(crate) fn restart(&mut self) {
        self.worker = None;
        let shelter = SealedProgram::load(Path::new(env!("CARGO_BIN_EXE_shelter"))).unwrap();
        let mut options = WorkerOptions::new(&self.instance, self.directory.path().join("lock"));
        options.service_uid = self.service_uid;
        options.survey = self.survey;
        self.worker = Some(KeyWorker::start(shelter, options).unwrap());
    }

    pub(crate) fn keys<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keys) -> Result<R, KeyError> + Send + 'static,
    ) -> R {
        self.try_keys(work).unwrap()
    }

    pub(crate) fn try_keys<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keys) -> Result<R, KeyError> + Send + 'static,
    ) -> Result<R, KeyError> {
        self.worker.as_ref().unwrap().call(work)
    }

    /// Ids no other test uses.
    pub(crate) fn range(&self) -> IdRange {
        IdRange {
            base: 0x6000_0000 + (self.number % 0x1000) * 0x1_0000,
            count: 0x1_0000,
        }
    }

    /// A container id no other test uses, since reserved owners follow from it.
    pub(crate) fn id(&self, n: u64) -> ContainerId {
        ContainerId(u64::from(self.number) * 8 + n)
    }

    pub(crate) fn container(
        &self,
        n: u64,
        ids: Option<IdRange>,
    ) -> (ContainerId, ContainerKeyrings) {
        let id = self.id(n);
        let owner = owner_for(id, ids);
        (id, self.keys(move |keys| keys.create_container(id, owner)))
    }

    pub(crate) fn add(&self, id: ContainerId, description: &str, payload: &str) -> KeyRef {
        let (description, payload) = (c(description), secret(payload));
        let facts = self.keys(move |keys| keys.add(id, c"user", &description, &payload, None));
        KeyRef {
            home: Home::Store(id),
            facts,
        }
    }

    pub(crate) fn project(&self, source: &KeyRef, id: ContainerId, bits: Bits) -> KeySerial {
        let (source, plan) = (source.clone(), plan(id, bits));
        self.keys(move |keys| keys.project(&source, &plan)).serial
    }

    pub(crate) fn tend(&self, source: &KeyRef, copies: Vec<(CopyPlan, KeySerial)>) -> Tended {
        let source = source.clone();
        self.keys(move |keys| keys.tend(&source, &copies, &mut BTreeSet::new()))
    }

    pub(crate) fn copies(&self, id: ContainerId) -> Vec<KeyFacts> {
        self.keys(move |keys| keys.copies(id))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else {
            return;
        };
        let removed = worker.call(|keys| {
            for id in keys.containers() {
                keys.destroy_container(id)?;
            }
            keys.remove_instance()
        });
        drop(worker);
        if !std::thread::panicking() {
            removed.unwrap();
            self.nothing_is_left();
        }
    }
}

impl Engine {
    pub(crate) fn nothing_is_left(&self) {
        let names = [
            format!("keyns:{}", self.instance),
            format!(".{}:", self.service_uid),
        ];
        let uids = [
            self.service_uid,
            owner_for(self.id(0), None),
            owner_for(self.id(1), None),
        ];
        eventually("every key of the instance is gone", || {
            let keys = String::from_utf8_lossy(&fs::read("/proc/keys").unwrap()).into_owned();
            let users = fs::read_to_string("/proc/key-users").unwrap();
            !names.iter().any(|name| keys.contains(name))
                && !uids.iter().any(|uid| {
                    users
                        .lines()
                        .any(|l| l.trim().starts_with(&format!("{uid}:")))
                })
        });
    }
}

/// The kernel collects dead keys in the background.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

pub(crate) fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

pub(crate) fn plan(container: ContainerId, bits: Bits) -> CopyPlan {
    CopyPlan {
        container,
        bits,
        rights: Place::container(Object::Key, false).effective(bits),
        source_ends: None,
        ends: None,
        network: None,
    }
}

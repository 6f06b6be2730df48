//! Container keyrings on the running kernel: what denizens can and cannot do, lending, copies, and
//! that nothing is left.
//!
//! Needs root. Each test has an instance, a service uid and container ids of its own.

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keyns::engine::container::{ContainerId, ContainerKeyrings, IdRange};
use keyns::engine::mainline::keyring::container::owner_for;
use keyns::engine::mainline::keyring::store::now;
use keyns::engine::mainline::keyring::{
    CopyPlan, CopyState, Home, KeyError, KeyFacts, KeyRef, KeyWorker, Keys, SourceState, Tended,
    WorkerOptions,
};
use keyns::engine::mainline::program::SealedProgram;
use keyns::expression::copy_mask;
use keyns::mask::Bits;
use keyns_sys::KeySerial;
use keyns_sys::secret::SecretBytes;

const EACCES: i32 = 13;
const EPERM: i32 = 1;
const ENOKEY: i32 = 126;
const EDQUOT: i32 = 122;

/// A process that makes key calls as told.
struct Puppet {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Puppet {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_key-puppet"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut puppet = Self { child, stdin, stdout: BufReader::new(stdout) };
        puppet.ok("join");
        puppet
    }

    fn call(&mut self, line: &str) -> Result<String, i32> {
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

    fn ok(&mut self, line: &str) -> String {
        self.call(line).unwrap_or_else(|errno| panic!("{line}: errno {errno}"))
    }

    fn number(&mut self, line: &str) -> i32 {
        self.ok(line).parse().unwrap()
    }

    fn refused(&mut self, line: &str, errno: i32) {
        assert_eq!(self.call(line), Err(errno), "{line}");
    }

    /// Becomes a denizen, by the steps of the program that starts processes in containers.
    fn enter(&mut self, engine: &Engine, id: ContainerId, keyrings: ContainerKeyrings, uid: u32) {
        let slot = engine.keys(move |keys| keys.session_slot(id, uid));
        let session = self.number("join");
        self.ok(&format!("fsuid {}", keyrings.owner));
        self.ok(&format!("link {} @s", keyrings.container));
        self.ok("fsuid 0");
        self.ok(&format!("link {session} {slot}"));
        self.ok(&format!("chown {session} {uid}"));
    }

    /// Enters a user namespace with `range` and becomes `inside` in it.
    fn enter_user_namespace(&mut self, range: IdRange, inside: u32) {
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

static TESTS: AtomicU32 = AtomicU32::new(0);

struct Engine {
    worker: Option<KeyWorker>,
    instance: String,
    service_uid: u32,
    directory: tempfile::TempDir,
    number: u32,
}

impl Engine {
    fn start() -> Self {
        let number = TESTS.fetch_add(1, Ordering::Relaxed) + 64 * (std::process::id() % 0x10_0000);
        let mut engine = Self {
            worker: None,
            instance: format!("t{number}"),
            service_uid: 0xa000_0000 + number,
            directory: tempfile::tempdir().unwrap(),
            number,
        };
        engine.restart();
        engine
    }

    fn restart(&mut self) {
        self.worker = None;
        let shelter = SealedProgram::load(Path::new(env!("CARGO_BIN_EXE_shelter"))).unwrap();
        let mut options = WorkerOptions::new(&self.instance, self.directory.path().join("lock"));
        options.service_uid = self.service_uid;
        self.worker = Some(KeyWorker::start(shelter, options).unwrap());
    }

    fn keys<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keys) -> Result<R, KeyError> + Send + 'static,
    ) -> R {
        self.try_keys(work).unwrap()
    }

    fn try_keys<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keys) -> Result<R, KeyError> + Send + 'static,
    ) -> Result<R, KeyError> {
        self.worker.as_ref().unwrap().call(work)
    }

    /// Ids no other test uses.
    fn range(&self) -> IdRange {
        IdRange { base: 0x6000_0000 + (self.number % 0x1000) * 0x1_0000, count: 0x1_0000 }
    }

    /// A container id no other test uses, since reserved owners follow from it.
    fn id(&self, n: u64) -> ContainerId {
        ContainerId(u64::from(self.number) * 8 + n)
    }

    fn container(&self, n: u64, ids: Option<IdRange>) -> (ContainerId, ContainerKeyrings) {
        let id = self.id(n);
        let owner = owner_for(id, ids);
        (id, self.keys(move |keys| keys.create_container(id, owner)))
    }

    fn add(&self, id: ContainerId, description: &str, payload: &str) -> KeyRef {
        let (description, payload) = (c(description), secret(payload));
        let facts = self.keys(move |keys| keys.add(id, c"user", &description, &payload, None));
        KeyRef { home: Home::Store(id), facts }
    }

    fn project(&self, source: &KeyRef, id: ContainerId, bits: Bits) -> KeySerial {
        let (source, plan) = (source.clone(), plan(id, bits));
        self.keys(move |keys| keys.project(&source, &plan)).serial
    }

    fn tend(&self, source: &KeyRef, copies: Vec<(CopyPlan, KeySerial)>) -> Tended {
        let source = source.clone();
        self.keys(move |keys| keys.tend(&source, &copies))
    }

    fn copies(&self, id: ContainerId) -> Vec<KeyFacts> {
        self.keys(move |keys| keys.copies(id))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(worker) = self.worker.take() else { return };
        worker
            .call(|keys| {
                for id in keys.containers() {
                    keys.destroy_container(id)?;
                }
                keys.remove_instance()
            })
            .unwrap();
        drop(worker);
        if !std::thread::panicking() {
            self.nothing_is_left();
        }
    }
}

impl Engine {
    fn nothing_is_left(&self) {
        let names = [format!("keyns:{}", self.instance), format!(".{}:", self.service_uid)];
        let uids = [self.service_uid, owner_for(self.id(0), None), owner_for(self.id(1), None)];
        eventually("every key of the instance is gone", || {
            let keys = String::from_utf8_lossy(&fs::read("/proc/keys").unwrap()).into_owned();
            let users = fs::read_to_string("/proc/key-users").unwrap();
            !names.iter().any(|name| keys.contains(name))
                && !uids.iter().any(|uid| users.lines().any(|l| l.trim().starts_with(&format!("{uid}:"))))
        });
    }
}

/// The kernel collects dead keys in the background.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn secret(text: &str) -> SecretBytes {
    SecretBytes::from(text.as_bytes())
}

fn plan(container: ContainerId, bits: Bits) -> CopyPlan {
    CopyPlan { container, bits, deadline: None, network: None }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// No user namespace, and the keyring owned by uid 0: what must not be built.
    HostRoot,
    /// A user namespace of its own.
    UserNamespace,
    /// No user namespace, and the keyring owned by a reserved uid.
    Reserved,
}

/// What each kind of denizen can do to the container keyring and to a copy in it that may only be
/// searched: the whole reason for the choice of owners and masks.
#[test]
fn a_denizen_can_search_read_and_invalidate_and_nothing_else() {
    for kind in [Kind::HostRoot, Kind::UserNamespace, Kind::Reserved] {
        let engine = Engine::start();
        let range = engine.range();
        let owner = match kind {
            Kind::HostRoot | Kind::UserNamespace => 0,
            Kind::Reserved => owner_for(engine.id(0), None),
        };
        let id = engine.id(0);
        let keyrings = engine.keys(move |keys| keys.create_container(id, owner));
        let source = engine.add(id, "k", "secret");
        let (ck, key) = (keyrings.container, engine.project(&source, id, Bits::SEARCH));
        let mut puppet = Puppet::start();
        let uid = if kind == Kind::UserNamespace { range.base } else { 0 };
        puppet.enter(&engine, id, keyrings, uid);
        if kind == Kind::UserNamespace {
            puppet.enter_user_namespace(range, 0);
        }
        assert_eq!(puppet.number(&format!("id {ck}")), ck);
        assert_eq!(puppet.number("request user k"), key.raw());
        assert_eq!(puppet.number("search @s user k"), key.raw());
        assert_eq!(puppet.ok(&format!("list {ck}")), key.to_string());
        assert_eq!(puppet.ok(&format!("read {key}")), "secret");
        let all = kind == Kind::HostRoot;
        let mut may = |line: String| match puppet.call(&line) {
            Ok(_) => assert!(all, "{kind:?} could {line}"),
            // CHOWN inside a user namespace fails for another reason, but fails.
            Err(errno) => assert!(!all && [EACCES, EPERM].contains(&errno), "{kind:?} {line}: {errno}"),
        };
        may(format!("describe {ck}"));
        may(format!("describe {key}"));
        may(format!("add user mine x {ck}"));
        may(format!("link {key} @s"));
        may(format!("unlink {key} {ck}"));
        may(format!("link {key} {ck}"));
        may(format!("link {ck} @p"));
        may(format!("request user k @p"));
        may(format!("update {key} changed"));
        may(format!("timeout {key} 1000"));
        may(format!("timeout {ck} 1000"));
        may(format!("setperm {key} 0x083f0000"));
        may(format!("setperm {ck} 0x083f0000"));
        may(format!("chown {key} 0"));
        may(format!("chown {ck} 0"));
        may(format!("move {key} {ck} @s"));
        may(format!("clear {ck}"));
        may(format!("restrict {ck}"));
        may(format!("revoke {key}"));
        may(format!("revoke {ck}"));
        if kind != Kind::HostRoot {
            // What no mask prevents: whoever can find a key can destroy it.
            puppet.ok(&format!("invalidate {key}"));
            puppet.ok(&format!("invalidate {ck}"));
        }
        drop(puppet);
    }
}

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
const EKEYREVOKED: i32 = 128;

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
        let mut puppet = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
        };
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
        self.call(line)
            .unwrap_or_else(|errno| panic!("{line}: errno {errno}"))
    }

    fn number(&mut self, line: &str) -> i32 {
        self.ok(line).parse().unwrap()
    }

    fn refused(&mut self, line: &str, errno: i32) {
        assert_eq!(self.call(line), Err(errno), "{line}");
    }

    /// A search that meets an invalidated key before it is collected says that it was revoked.
    fn finds_nothing(&mut self, line: &str) {
        let answer = self.call(line);
        assert!(
            matches!(answer, Err(ENOKEY | EKEYREVOKED)),
            "{line}: {answer:?}"
        );
    }

    /// Takes up the session of a denizen whose kernel uid is `uid`.
    fn enter(&mut self, engine: &Engine, id: ContainerId, uid: u32) {
        let plan = engine.keys(move |keys| keys.prepare_session(id, uid));
        self.ok(&format!(
            "take-up {}",
            serde_json::to_string(&plan).unwrap()
        ));
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
        IdRange {
            base: 0x6000_0000 + (self.number % 0x1000) * 0x1_0000,
            count: 0x1_0000,
        }
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
        KeyRef {
            home: Home::Store(id),
            facts,
        }
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
    fn nothing_is_left(&self) {
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
    CopyPlan {
        container,
        bits,
        deadline: None,
        network: None,
    }
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
        let (ck, key) = (
            keyrings.container,
            engine.project(&source, id, Bits::SEARCH),
        );
        let mut puppet = Puppet::start();
        let uid = if kind == Kind::UserNamespace {
            range.base
        } else {
            0
        };
        puppet.enter(&engine, id, uid);
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
            Err(errno) => assert!(
                !all && [EACCES, EPERM].contains(&errno),
                "{kind:?} {line}: {errno}"
            ),
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

/// Two containers and the host: nothing of one is visible to the other.
#[test]
fn containers_do_not_see_each_others_keys_or_keyrings() {
    let engine = Engine::start();
    let range = engine.range();
    let half = range.count / 2;
    let ranges = [
        IdRange {
            base: range.base,
            count: half,
        },
        IdRange {
            base: range.base + half,
            count: half,
        },
    ];
    let mut denizens: Vec<_> = ranges
        .iter()
        .enumerate()
        .map(|(n, range)| {
            let (id, keyrings) = engine.container(n as u64, Some(*range));
            assert_eq!(keyrings.owner, 0);
            let source = engine.add(id, &format!("own-{n}"), &format!("secret-{n}"));
            let copy = engine.project(&source, id, Bits::SEARCH);
            let mut puppet = Puppet::start();
            puppet.enter(&engine, id, range.base);
            puppet.enter_user_namespace(*range, 0);
            (puppet, keyrings, source, copy)
        })
        .collect();
    let others: Vec<_> = denizens
        .iter()
        .map(|(_, k, s, c)| (*k, s.facts.serial, *c))
        .collect();
    for (n, (puppet, _, source, copy)) in denizens.iter_mut().enumerate() {
        let (theirs, their_source, their_copy) = others[1 - n];
        assert_eq!(puppet.number(&format!("request user own-{n}")), copy.raw());
        puppet.refused(&format!("request user own-{}", 1 - n), ENOKEY);
        // Neither the other's keys nor the manager's, not even the source of one's own copy.
        for serial in [their_copy, their_source, source.facts.serial] {
            puppet.refused(&format!("read {serial}"), EACCES);
            puppet.refused(&format!("describe {serial}"), EACCES);
            puppet.refused(&format!("invalidate {serial}"), EACCES);
            puppet.refused(&format!("link {serial} @p"), EACCES);
        }
        for keyring in [theirs.container, theirs.store, theirs.sessions] {
            puppet.refused(&format!("id {keyring}"), EACCES);
            puppet.refused(&format!("list {keyring}"), EACCES);
            puppet.refused(&format!("link {keyring} @p"), EACCES);
        }
        let seen = puppet.ok("keys");
        for word in ["own-", "_container", "keyns:", "store", "sessions"] {
            assert!(!seen.contains(word), "{word} in {seen}");
        }
    }
}

/// A keyring that may be searched by its owner can be joined by its name, and whoever joins it
/// possesses it. The container keyring is one; only where it was born protects it.
#[test]
fn no_keyring_of_the_engine_can_be_joined_by_name() {
    let engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    engine.project(&source, id, Bits::SEARCH);
    let mut root = Puppet::start();
    // The owner's uid and a description that is known: the kernel would ask for nothing else.
    root.ok(&format!("fsuid {}", keyrings.owner));
    for name in [
        "_container",
        "store",
        "sessions",
        "lent",
        "drops",
        &format!("keyns:{}", engine.instance),
    ] {
        let joined = root.number(&format!("join {name}"));
        assert_eq!(root.ok(&format!("list {joined}")), "", "{name}");
        assert_ne!(joined, keyrings.container);
    }
    // The control: a keyring of that mask born outside the shelter is joined.
    let mut victim = Puppet::start();
    victim.ok(&format!("fsuid {}", keyrings.owner));
    let name = format!("_outside-{}", engine.number);
    let open = victim.number(&format!("add keyring {name} - @s"));
    victim.ok(&format!("setperm {open} 0x083f0000"));
    assert_eq!(root.number(&format!("join {name}")), open);
}

#[test]
fn masks_are_read_back_from_the_kernel_as_planned() {
    let engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    assert_eq!(source.facts.mask, 0x3f01_0000);
    let keyring = engine.keys(move |keys| keys.container_keyring(id));
    assert_eq!((keyring.mask, keyring.uid), (0x083f_0000, keyrings.owner));
    for bits in Bits::every().filter(|bits| bits.contains(Bits::SEARCH)) {
        let copy = engine.project(&source, id, bits);
        let found = engine.copies(id);
        let [facts] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            (facts.serial, facts.mask),
            (copy, copy_mask(bits).raw()),
            "{bits}"
        );
        assert_eq!(facts.mask >> 24, u32::from(bits.value()));
        assert_eq!(facts.mask & 0xffff, 0);
        assert_eq!(facts.uid, keyrings.owner);
    }
}

/// A denizen that looks for a key in a loop while it is granted, taken back, and granted again never
/// finds it with another mask than the one meant for it (a new key's own mask lets its possessor do
/// everything).
#[test]
fn a_copy_is_never_visible_with_default_permissions() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let (mut found, mut wrong) = (0u32, 0u32);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(serial) = puppet.call("request user k") {
                    found += 1;
                    // VIEW and WRITE are in the default mask, and not in the copy's.
                    wrong += u32::from(puppet.call(&format!("describe {serial}")).is_ok());
                    wrong += u32::from(puppet.call(&format!("update {serial} mine")).is_ok());
                }
            }
        });
        for _ in 0..500 {
            let copy = engine.project(&source, id, Bits::SEARCH);
            engine.keys(move |keys| keys.remove_copy(id, copy));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        found > 0,
        "the denizen never saw the key: the test shows nothing"
    );
    assert_eq!(wrong, 0);
}

#[test]
fn copies_follow_their_source_until_it_is_gone() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "one");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.ok(&format!("read {copy}")), "one");
    let plans = || vec![(plan(id, Bits::SEARCH), copy)];
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Kept]
    ));
    let key = source.clone();
    engine.keys(move |keys| keys.update(&key, &secret("two"), None));
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Updated]
    ));
    assert_eq!(puppet.ok(&format!("read {copy}")), "two");
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Kept]
    ));
    let key = source.clone();
    engine.keys(move |keys| keys.invalidate(&key));
    let tended = engine.tend(&source, plans());
    assert!(matches!(tended.source, SourceState::Gone(_)), "{tended:?}");
    puppet.finds_nothing("request user k");
    puppet.refused(&format!("read {copy}"), ENOKEY);
}

#[test]
fn ends_of_keys_and_grants_are_kept_by_the_kernel() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let key =
        engine.keys(move |keys| keys.add(id, c"user", c"k", &secret("x"), Some(now() + 1000)));
    let source = KeyRef {
        home: Home::Store(id),
        facts: key,
    };
    let ends = |deadline| CopyPlan {
        deadline: Some(deadline),
        ..plan(id, Bits::SEARCH)
    };
    let (key, copy_plan) = (source.clone(), ends(now() + 2));
    let copy = engine
        .keys(move |keys| keys.project(&key, &copy_plan))
        .serial;
    // An update makes keys of this type live for ever, but not the copy.
    let key = source.clone();
    engine.keys(move |keys| keys.update(&key, &secret("y"), Some(now() + 1000)));
    let tended = engine.tend(&source, vec![(ends(now() + 2), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Updated]),
        "{tended:?}"
    );
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.ok(&format!("read {copy}")), "y");
    eventually("the copy expires", || {
        puppet.call(&format!("read {copy}")) != Ok("y".into())
    });
    assert!(
        engine
            .tend(&source, vec![(ends(now()), copy)])
            .copies
            .iter()
            .all(|s| matches!(s, CopyState::Ended))
    );
    let key = source.clone();
    let over = ends(now());
    assert!(matches!(
        engine.try_keys(move |keys| keys.project(&key, &over)),
        Err(KeyError::Expired)
    ));
    assert!(engine.copies(id).is_empty());
    // The source lives on, with its own end.
    let key = source.clone();
    assert_eq!(engine.keys(move |keys| keys.read(&key)).as_slice(), b"y");
}

#[test]
fn what_a_denizen_invalidated_is_back_in_the_same_session() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);

    puppet.ok(&format!("invalidate {copy}"));
    puppet.finds_nothing("request user k");
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert_eq!(puppet.number("request user k"), copy.raw());

    puppet.ok(&format!("invalidate {}", keyrings.container));
    puppet.finds_nothing("request user k");
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert_eq!(puppet.number("request user k"), copy.raw());
    let rebuilt = engine.keys(move |keys| keys.container_keyring(id));
    assert_eq!((rebuilt.mask, rebuilt.uid), (0x083f_0000, 0));
    assert_ne!(rebuilt.serial.raw(), keyrings.container);
}

/// The tree a denizen may build in its session takes a search for ever; none of the worker's enters.
#[test]
fn a_hostile_session_does_not_slow_the_worker_down() {
    let mut engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    // A chain longer than the kernel follows, in which a look for cycles fails.
    let chain: Vec<_> = (0..12)
        .map(|n| puppet.number(&format!("add keyring chain-{n} - @s")))
        .collect();
    for pair in chain.windows(2) {
        puppet.ok(&format!("link {} {}", pair[1], pair[0]));
    }
    // Four levels of 28 keyrings, each linking all of the next: 600,000 ways down.
    let mut below: Vec<i32> = Vec::new();
    for level in 0..4 {
        let mut here = Vec::new();
        for n in 0..28 {
            let keyring = puppet.number(&format!("add keyring l{level}-{n} - @s"));
            for child in &below {
                puppet.ok(&format!("link {child} {keyring}"));
            }
            here.push(keyring);
        }
        below = here;
    }
    let begun = Instant::now();
    puppet.refused("search @s user nothing", ENOKEY);
    let searched = begun.elapsed();
    puppet.ok(&format!("invalidate {}", keyrings.container));
    let begun = Instant::now();
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    let healed = begun.elapsed();
    let [CopyState::Renewed(copy)] = tended.copies[..] else {
        panic!("{tended:?}")
    };
    assert!(
        healed < searched / 4,
        "healed in {healed:?}, a search takes {searched:?}"
    );
    assert_eq!(puppet.ok(&format!("read {copy}")), "secret");
    let begun = Instant::now();
    engine.restart();
    puppet.ok(&format!(
        "invalidate {}",
        engine.keys(move |keys| keys.keyrings(id)).container
    ));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Renewed(_)]),
        "{tended:?}"
    );
    puppet.ok("request user k");
    engine.keys(move |keys| keys.destroy_container(id));
    assert!(
        begun.elapsed() < searched,
        "{:?} to restart and destroy, {searched:?}",
        begun.elapsed()
    );
}

#[test]
fn ungrant_takes_the_copy_away_at_once() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, id, Bits::SEARCH.with(Bits::LINK));
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    // Even a link of the denizen's own does not keep it.
    puppet.ok(&format!("link {copy} @p"));
    assert!(engine.keys(move |keys| keys.remove_copy(id, copy)));
    puppet.finds_nothing("request user k");
    puppet.refused(&format!("read {copy}"), ENOKEY);
    assert!(!engine.keys(move |keys| keys.remove_copy(id, copy)));
}

/// What a new process gets with no choice about inheritance: an empty session and the container
/// keyring. The control shows what would be inherited.
#[test]
fn a_creators_session_keys_are_out_of_reach_inside() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let mut careless = Puppet::start();
    let own = careless.number("add user creators-own secret @s");
    careless.enter_user_namespace(range, 0);
    assert_eq!(careless.number("request user creators-own"), own);
    assert_eq!(careless.ok(&format!("read {own}")), "secret");

    let mut puppet = Puppet::start();
    let own = puppet.number("add user creators-own secret @s");
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    puppet.refused("request user creators-own", ENOKEY);
    assert!(puppet.call(&format!("read {own}")).is_err());
    assert_eq!(puppet.ok("list @s"), keyrings.container.to_string());
}

#[test]
fn a_key_is_lent_and_given_back() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let mut owner = Puppet::start();
    let uid = range.base + 7;
    owner.ok(&format!("become {uid}"));
    owner.ok("join");
    let key = owner.number("add user lent-key secret @s");
    let before = owner.ok(&format!("describe {key}"));
    let opened = engine.keys(move |keys| keys.open_drop(uid));

    // Nobody else may write to the drop keyring, and its owner may do nothing but write.
    let mut stranger = Puppet::start();
    stranger.ok(&format!("become {}", uid + 1));
    stranger.ok("join");
    let foreign = stranger.number("add user other x @s");
    stranger.refused(&format!("link {foreign} {opened}"), EACCES);
    stranger.refused(&format!("clear {opened}"), EACCES);
    owner.refused(&format!("list {opened}"), EACCES);
    owner.refused(&format!("setperm {opened} 0x3f3f3f3f"), EACCES);
    owner.refused(&format!("link {opened} @s"), EACCES);

    let serial = KeySerial::new(key);
    let empty = engine.try_keys(move |keys| keys.take_lent(opened, serial));
    assert!(
        matches!(empty, Err(KeyError::NotLendable { .. })),
        "{empty:?}"
    );
    owner.ok(&format!("link {key} {opened}"));
    // Only the key that is there, and only if it is there alone.
    let wrong = engine.try_keys(move |keys| keys.take_lent(opened, KeySerial::new(foreign)));
    assert!(
        matches!(wrong, Err(KeyError::NotLendable { .. })),
        "{wrong:?}"
    );
    let lent = engine.keys(move |keys| keys.take_lent(opened, serial));
    assert_eq!(
        (lent.facts.serial, lent.facts.uid, lent.deadline),
        (serial, uid, None)
    );
    assert_eq!(
        before,
        owner.ok(&format!("describe {key}")),
        "the source was changed"
    );
    engine.keys(move |keys| keys.close_drop(opened));

    let source = KeyRef {
        home: Home::Lent,
        facts: lent.facts,
    };
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.ok(&format!("read {copy}")), "secret");
    // The owner goes on using its key; the copy follows.
    owner.ok(&format!("update {key} changed"));
    let plans = || vec![(plan(id, Bits::SEARCH), copy)];
    assert!(matches!(
        engine.tend(&source, plans()).copies[..],
        [CopyState::Updated]
    ));
    assert_eq!(puppet.ok(&format!("read {copy}")), "changed");
    owner.ok(&format!("timeout {key} 50"));
    let deadline = engine.keys(|keys| keys.lent())[0].deadline.unwrap();
    assert!((now() + 48..=now() + 50).contains(&deadline));
    // The daemon's link alone keeps it, until it is given back.
    owner.ok(&format!("unlink {key} @s"));
    assert!(matches!(
        engine.tend(&source, plans()).source,
        SourceState::Alive
    ));
    engine.keys(move |keys| keys.remove_copy(id, copy));
    assert!(engine.keys(move |keys| keys.give_back(serial)));
    assert!(engine.keys(|keys| keys.lent()).is_empty());
    eventually("the key is gone", || {
        owner.call(&format!("describe {key}")) == Err(ENOKEY)
    });
}

#[test]
fn what_cannot_be_lent_is_refused_for_its_reason() {
    let engine = Engine::start();
    let uid = engine.range().base + 9;
    let mut owner = Puppet::start();
    owner.ok(&format!("become {uid}"));
    owner.ok("join");
    let opened = engine.keys(move |keys| keys.open_drop(uid));
    let mut refusal = |description: &str, mask: &str, type_: &str| {
        let payload = if type_ == "keyring" { "-" } else { "x" };
        let key = owner.number(&format!("add {type_} {description} {payload} @s"));
        owner.ok(&format!("setperm {key} {mask}"));
        if let Err(errno) = owner.call(&format!("link {key} {opened}")) {
            // Without LINK its owner cannot even drop it.
            assert_eq!(errno, EACCES);
            return "its owner may not link it".to_owned();
        }
        let serial = KeySerial::new(key);
        let result = engine.try_keys(move |keys| keys.take_lent(opened, serial));
        owner.ok(&format!("setperm {key} 0x3f3f0000"));
        let Err(KeyError::NotLendable { why, .. }) = result else {
            panic!("{description}: {result:?}")
        };
        // Emptied by its owner, which a drop keyring allows.
        owner.ok(&format!("unlink {key} {opened}"));
        why
    };
    assert_eq!(
        refusal("unlinkable", "0x2f2f0000", "user"),
        "its owner may not link it"
    );
    // The owner may link it, its possessors may not: the daemon would be one of these.
    assert_eq!(
        refusal("not-for-possessors", "0x2b3f0000", "user"),
        "its possessor may not link it"
    );
    assert_eq!(
        refusal("invisible", "0x3e3f0000", "user"),
        "its possessor may not view it"
    );
    assert_eq!(
        refusal("ring", "0x3f3f0000", "keyring"),
        "keyrings are not lent"
    );
    assert!(engine.keys(|keys| Ok(keys.loans())).is_empty());
}

#[test]
fn a_lent_key_that_stops_being_readable_takes_its_copies_along() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let uid = range.base + 11;
    let mut owner = Puppet::start();
    owner.ok(&format!("become {uid}"));
    owner.ok("join");
    let key = owner.number("add user k x @s");
    let opened = engine.keys(move |keys| keys.open_drop(uid));
    owner.ok(&format!("link {key} {opened}"));
    let lent = engine.keys(move |keys| keys.take_lent(opened, KeySerial::new(key)));
    let source = KeyRef {
        home: Home::Lent,
        facts: lent.facts,
    };
    let copy = engine.project(&source, id, Bits::SEARCH);
    owner.ok(&format!("setperm {key} 0x053f0000"));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(matches!(tended.source, SourceState::Gone(_)), "{tended:?}");
    assert!(engine.copies(id).is_empty());
}

#[test]
fn what_cannot_be_copied_is_refused() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, None);
    let facts =
        engine.keys(move |keys| keys.add(id, c"logon", c"fs:x", &secret("0123456789abcdef"), None));
    let source = KeyRef {
        home: Home::Store(id),
        facts,
    };
    let result = engine.try_keys(move |keys| keys.project(&source, &plan(id, Bits::SEARCH)));
    assert!(
        matches!(result, Err(KeyError::NotCopyable(_))),
        "{result:?}"
    );
    assert!(engine.copies(id).is_empty());
    let keyring = engine.try_keys(move |keys| keys.add(id, c"keyring", c"ring", &secret(""), None));
    assert!(keyring.is_err());
    assert_eq!(engine.keys(move |keys| keys.stored(id)).len(), 1);
}

#[test]
fn an_encrypted_key_is_copied_with_its_master_in_the_same_store() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, _) = engine.container(0, Some(range));
    let master = format!("kmk-{}", engine.number);
    engine.add(id, &master, "0123456789abcdef0123456789abcdef");
    let payload = secret(&format!("new user:{master} 32"));
    let facts = engine.keys(move |keys| keys.add(id, c"encrypted", c"e", &payload, None));
    let source = KeyRef {
        home: Home::Store(id),
        facts,
    };
    let copy = engine.project(&source, id, Bits::SEARCH);
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);
    assert_eq!(puppet.number("request encrypted e"), copy.raw());
    // To read its blob out again takes the master key, which stays outside.
    puppet.refused(&format!("read {copy}"), ENOKEY);
    puppet.refused(&format!("request user {master}"), ENOKEY);
}

/// Keys of this type are tagged with the network namespace of whoever adds them. A search by name
/// ignores the tag for this one type, but a keyring holds one key of each description *and* tag.
#[test]
fn a_copy_of_a_networks_key_is_made_in_the_containers_network() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, Some(engine.range()));
    let facts = engine.keys(move |keys| {
        keys.add(
            id,
            c"dns_resolver",
            c"host.example",
            &secret("192.0.2.7\0"),
            None,
        )
    });
    let source = KeyRef {
        home: Home::Store(id),
        facts,
    };
    let mut neighbour = Puppet::start();
    let pid = neighbour.ok("pid");
    neighbour.ok("netns");
    let network = std::sync::Arc::new(
        fs::File::open(format!("/proc/{pid}/ns/net"))
            .unwrap()
            .into(),
    );
    let inside = CopyPlan {
        network: Some(network),
        ..plan(id, Bits::SEARCH)
    };
    let copy = |plan: &CopyPlan| {
        let (key, plan) = (source.clone(), plan.clone());
        engine.keys(move |keys| keys.project(&key, &plan)).serial
    };
    let found = || {
        let mut serials: Vec<_> = engine.copies(id).iter().map(|facts| facts.serial).collect();
        serials.sort();
        serials
    };
    let both = |mut serials: [KeySerial; 2]| {
        serials.sort();
        serials
    };
    let (host, container) = (copy(&plan(id, Bits::SEARCH)), copy(&inside));
    assert_eq!(found(), both([host, container]));
    let again = copy(&inside);
    assert_eq!(found(), both([host, again]));
    // The worker is back in the host's network.
    let last = copy(&plan(id, Bits::SEARCH));
    assert_eq!(found(), both([last, again]));
}

#[test]
fn a_restarted_worker_finds_everything_again() {
    let mut engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let (other, reserved) = engine.container(1, None);
    let source = engine.add(id, "k", "secret");
    let copy = engine.project(&source, other, Bits::SEARCH);
    let mut owner = Puppet::start();
    let lent_key = owner.number("add user lent-key mine @s");
    let opened = engine.keys(|keys| keys.open_drop(0));
    owner.ok(&format!("link {lent_key} {opened}"));
    let lent = engine.keys(move |keys| keys.take_lent(opened, KeySerial::new(lent_key)));
    let mut puppet = Puppet::start();
    puppet.enter(&engine, id, range.base);
    puppet.enter_user_namespace(range, 0);

    engine.restart();
    assert_eq!(engine.keys(|keys| Ok(keys.containers())), [id, other]);
    assert_eq!(engine.keys(move |keys| keys.keyrings(id)), keyrings);
    assert_eq!(engine.keys(move |keys| keys.keyrings(other)), reserved);
    let key = source.clone();
    assert_eq!(
        engine.keys(move |keys| keys.read(&key)).as_slice(),
        b"secret"
    );
    assert_eq!(engine.keys(|keys| keys.lent()), [lent]);
    eventually("the drop keyring is gone", || {
        owner.call(&format!("link {lent_key} {opened}")) == Err(ENOKEY)
    });
    // What the payload was is not known any more, so the copy is given it again; it stays the same.
    let tended = engine.tend(&source, vec![(plan(other, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Updated]),
        "{tended:?}"
    );
    // And a denizen started before is still healed.
    let copy = engine.project(&source, id, Bits::SEARCH);
    puppet.ok(&format!("invalidate {}", keyrings.container));
    let tended = engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    assert!(
        matches!(tended.copies[..], [CopyState::Renewed(_)]),
        "{tended:?}"
    );
    assert_eq!(
        puppet.ok("request user k").parse(),
        Ok(engine.copies(id)[0].serial.raw())
    );
}

#[test]
fn only_the_worker_possesses_the_registry() {
    let engine = Engine::start();
    let (id, _) = engine.container(0, None);
    let source = engine.add(id, "k", "secret");
    let serial = source.facts.serial;
    // This thread is one of the same process, of the same uid, and not the worker.
    assert_eq!(
        keyns_sys::key::read(serial).unwrap_err().raw_os_error(),
        Some(EACCES)
    );
    assert_eq!(
        keyns_sys::key::update(serial, b"x")
            .unwrap_err()
            .raw_os_error(),
        Some(EACCES)
    );
    let worker =
        engine.keys(move |_| Ok(keyns_sys::key::read(serial).map_err(|e| e.raw_os_error())));
    // Nor does the worker, between two operations.
    assert_eq!(worker, Err(Some(EACCES)));
    let key = source.clone();
    assert_eq!(
        engine.keys(move |keys| keys.read(&key)).as_slice(),
        b"secret"
    );
}

#[test]
fn a_killed_shelter_is_replaced() {
    let engine = Engine::start();
    engine.container(0, None);
    let pid = engine.keys(|keys| Ok(keys.shelter_pid())).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    engine.container(1, None);
    assert_ne!(
        engine.keys(|keys| Ok(keys.shelter_pid())),
        Some(pid.as_raw_nonzero().get() as u32)
    );
}

#[test]
fn a_full_quota_names_the_uid_and_the_figures() {
    let engine = Engine::start();
    let (id, keyrings) = engine.container(0, None);
    let mut quota = None;
    for n in 0..300 {
        let source = engine.add(id, &format!("k{n}"), "x");
        let result = engine.try_keys(move |keys| keys.project(&source, &plan(id, Bits::SEARCH)));
        if let Err(error) = result {
            quota = Some(error);
            break;
        }
    }
    let error = quota.expect("a reserved owner has a quota of its own");
    assert_eq!(error.errno(), Some(EDQUOT));
    let text = error.to_string();
    assert!(
        text.contains(&format!("uid {}", keyrings.owner)) && text.contains(" of "),
        "{text}"
    );
}

#[test]
fn sessions_that_ended_are_let_go() {
    let engine = Engine::start();
    let range = engine.range();
    let (id, keyrings) = engine.container(0, Some(range));
    let mut alive = Puppet::start();
    alive.enter(&engine, id, range.base);
    let session = alive.number("id @s");
    for _ in 0..40 {
        let mut short = Puppet::start();
        short.enter(&engine, id, range.base);
    }
    // The kernel lets go of a dead process' credentials a little later.
    eventually("ended sessions are let go", || {
        let mut short = Puppet::start();
        short.enter(&engine, id, range.base);
        let users = fs::read_to_string("/proc/key-users").unwrap();
        keyns::key_users::find(&users, range.base)
            .unwrap()
            .charged_keys
            < 30
    });
    // The living one was kept: it is still healed.
    alive.enter_user_namespace(range, 0);
    let source = engine.add(id, "k", "x");
    let copy = engine.project(&source, id, Bits::SEARCH);
    assert_eq!(alive.number("id @s"), session);
    alive.ok(&format!("invalidate {}", keyrings.container));
    engine.tend(&source, vec![(plan(id, Bits::SEARCH), copy)]);
    alive.ok("request user k");
}

#[test]
fn a_key_is_moved_between_stores() {
    let engine = Engine::start();
    let (from, _) = engine.container(0, None);
    let (to, _) = engine.container(1, None);
    let source = engine.add(from, "k", "moved");
    let blocking = engine.add(to, "k", "there before");
    let key = source.clone();
    let refused = engine.try_keys(move |keys| keys.move_to(&key, to, false));
    assert!(matches!(refused, Err(KeyError::Exists)), "{refused:?}");
    let key = source.clone();
    let facts = engine.keys(move |keys| keys.move_to(&key, to, true));
    assert_eq!(facts.serial, source.facts.serial);
    assert!(engine.keys(move |keys| keys.stored(from)).is_empty());
    let moved = KeyRef {
        home: Home::Store(to),
        facts,
    };
    assert_eq!(
        engine.keys(move |keys| keys.read(&moved)).as_slice(),
        b"moved"
    );
    let gone = engine.try_keys(move |keys| keys.read(&blocking));
    assert!(matches!(gone, Err(KeyError::Gone { .. })), "{gone:?}");
    // A key is where it is, not where its serial is used.
    let stale = engine.try_keys(move |keys| keys.read(&source));
    assert!(matches!(stale, Err(KeyError::Gone { .. })), "{stale:?}");
}

#[test]
fn creating_the_thousandth_container_costs_what_the_first_did() {
    let engine = Engine::start();
    let range = engine.range();
    let create = |n: u64| {
        let id = engine.id(n);
        let owner = owner_for(id, Some(range));
        let begun = Instant::now();
        engine.keys(move |keys| keys.create_container(id, owner));
        begun.elapsed()
    };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    let first = median((0..50).map(create).collect());
    for n in 50..950 {
        create(n);
    }
    let last = median((950..1000).map(create).collect());
    assert!(
        last < first * 3,
        "{first:?} at first, {last:?} with a thousand"
    );
}

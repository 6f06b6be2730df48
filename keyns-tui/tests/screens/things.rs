//! Keys and containers as the kernel and the daemon would tell of them.

use std::collections::HashMap;

use keyctl_ns::proc_file::ProcFile;
use keyns_interfaces::ByteText;
use keyns_interfaces::containers::{ContainerInfo, Namespace, ProcessInfo, Root, Shown, State};
use keyns_interfaces::event::Event;
use keyns_interfaces::keys::{Ace, Acl, Grant, KeyInfo};
use keyns_interfaces::upcalls::{Rule, Target};
use keyns_tui::client::{
    Contents, Described, Failure, Members, OwnKeyring, Preview, Reply, Request,
};

use crate::stage::World;

pub(crate) const SESSION: i32 = 900_000_001;
pub(crate) const STORED: i32 = 700_000_001;

pub(crate) fn key(serial: i32, type_: &str, description: &[u8]) -> KeyInfo {
    KeyInfo {
        serial,
        type_: type_.to_owned(),
        description: ByteText(description.to_vec()),
        uid: 0,
        gid: 0,
        mask: 0x3f3f_0000,
        expires_in: None,
        container: None,
        origin: "own".to_owned(),
        grants: Vec::new(),
    }
}

/// A session keyring, and what is in it.
#[derive(Clone, Default)]
pub(crate) struct Machine {
    pub(crate) members: Vec<KeyInfo>,
    pub(crate) below: HashMap<i32, Vec<KeyInfo>>,
    pub(crate) containers: Vec<ContainerInfo>,
    pub(crate) stored: Vec<KeyInfo>,
    pub(crate) rules: Vec<Rule>,
}

impl Machine {
    /// With so many keys in the session keyring.
    pub(crate) fn with_keys(number: i32) -> Self {
        let one = |at: i32| {
            let description = format!("key number {at}");
            let mut key = key(at, "user", description.as_bytes());
            key.expires_in = (at % 3 == 0).then_some(3600);
            key
        };
        Self {
            members: (1..=number).map(one).collect(),
            ..Self::default()
        }
    }

    /// With a container that has a process, a granted key, one that is not, and a rule.
    pub(crate) fn with_container() -> Self {
        let mut granted = key(STORED, "user", b"token");
        granted.container = Some("web".to_owned());
        granted.origin = "added".to_owned();
        granted.grants = vec![grant()];
        let mut other = key(STORED + 1, "user", b"other");
        other.container = Some("web".to_owned());
        other.origin = "added".to_owned();
        Self {
            members: vec![key(1, "user", b"mine"), key(2, "keyring", b"ring")],
            containers: vec![
                container(1, "web", State::Running),
                container(2, "web.db", State::Created),
                container(3, "old", State::Dead),
            ],
            stored: vec![granted, other],
            rules: vec![rule("user")],
            ..Self::default()
        }
    }

    /// What answers all that is asked about this machine, and refuses changes.
    pub(crate) fn world(self) -> World {
        Box::new(move |request| Some(self.answer(request)))
    }

    pub(crate) fn answer(&self, request: &Request) -> Result<Reply, Failure> {
        let own = OwnKeyring {
            name: "@s",
            title: "your session",
            key: key(SESSION, "keyring", b"_ses"),
        };
        Ok(match request {
            Request::Own => Reply::Own(vec![own]),
            Request::Members(ring) => {
                let keys = match ring.raw() {
                    SESSION => self.members.clone(),
                    other => self.below.get(&other).cloned().unwrap_or_default(),
                };
                let untimed = |key| KeyInfo {
                    expires_in: None,
                    ..key
                };
                let keys = keys.into_iter().map(untimed).collect();
                Reply::Members(Members { keys, hidden: 0 })
            }
            Request::Expiring => {
                let file = self.members.iter().map(proc_line).collect::<String>();
                Reply::Expiring(ProcFile::of(file.into_bytes()).expiring())
            }
            Request::Describe(serial) => {
                let found = self.members.iter().find(|it| it.serial == serial.raw());
                Reply::Described(Box::new(Described {
                    key: found.cloned().unwrap_or(own.key),
                    state: Some("valid"),
                }))
            }
            Request::Grant(wish) if wish.dry_run => return Err(not_alone()),
            Request::Users => Reply::Users(Vec::new()),
            Request::Containers => Reply::Containers(self.containers.clone()),
            Request::Contents(id) => Reply::Contents(Box::new(self.contents(id)?)),
            Request::Acl(name) => {
                let name = String::from_utf8_lossy(name.bytes()).into_owned();
                let serial: i32 = name.rsplit('/').next().unwrap().parse().unwrap();
                let found = self.stored.iter().find(|it| it.serial == serial);
                let key = found.ok_or_else(|| Failure::failure("there is no such key"))?;
                Reply::Acl(Box::new(acl(key)))
            }
            other => {
                return Err(Failure::failure("cannot do that")
                    .cause(format!("this world never changes: {other:?}")));
            }
        })
    }

    fn contents(&self, id: &str) -> Result<Contents, Failure> {
        let found = self
            .containers
            .iter()
            .find(|it| it.id.to_string() == id || it.name == id);
        let container = found.ok_or_else(|| Failure::failure("there is no such container"))?;
        let is_web = container.name == "web";
        let of_web = |keys: &[KeyInfo]| if is_web { keys.to_vec() } else { Vec::new() };
        Ok(Contents {
            shown: Shown {
                container: container.clone(),
                processes: match container.state {
                    State::Running => vec![process()],
                    _ => Vec::new(),
                },
                keys: of_web(&self.stored),
                rules: match is_web {
                    true => self.rules.clone(),
                    false => Vec::new(),
                },
            },
            copies: of_web(
                &self
                    .stored
                    .iter()
                    .filter(|it| !it.grants.is_empty())
                    .map(|it| KeyInfo {
                        serial: it.serial + 1000,
                        origin: "copy".to_owned(),
                        mask: 0x083f_0000,
                        grants: Vec::new(),
                        ..it.clone()
                    })
                    .collect::<Vec<_>>(),
            ),
        })
    }
}

pub(crate) fn container(id: u64, name: &str, state: State) -> ContainerInfo {
    let is_dead = state == State::Dead;
    ContainerInfo {
        id,
        name: name.to_owned(),
        parent: name.contains('.').then_some(1),
        state,
        namespaces: vec![Namespace::User, Namespace::Pid, Namespace::Mount],
        root: Some(Root::Usr),
        uid_base: Some(1_896_284_160),
        uid_count: Some(65_536),
        keyring: (!is_dead).then_some(800_000_000 + i32::try_from(id).unwrap()),
        init_pid: (state == State::Running).then_some(4242),
        exit: None,
        created: CREATED,
        kill_on_close: false,
        caveats: vec!["it shares a network namespace, and with it keys by network".to_owned()],
    }
}

pub(crate) const CREATED: u64 = 1_767_268_800;

fn process() -> ProcessInfo {
    ProcessInfo {
        process: 1,
        pid: 4242,
        command: vec!["/bin/sleep".into(), "1000".into()],
        exit: None,
    }
}

pub(crate) fn rule(type_: &str) -> Rule {
    Rule {
        id: 1,
        container: "web".to_owned(),
        type_: type_.to_owned(),
        target: Target::Queue("manual".to_owned()),
        deadline_ms: 60_000,
        rate: 20,
        burst: 40,
        pending: 16,
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

pub(crate) fn grant() -> Grant {
    Grant {
        key: STORED,
        container: "web".to_owned(),
        requested: words("search"),
        kernel: words("read search inval"),
        implied: words("read inval"),
        copy: Some(STORED + 1000),
        mask: 0x083f_0000,
        expires_in: Some(28_800),
    }
}

fn acl(key: &KeyInfo) -> Acl {
    let ace = |subject: &str, rights: &str, implied: &str, enforcer: &str| Ace {
        subject: subject.to_owned(),
        rights: words(rights),
        implied: words(implied),
        enforcer: enforcer.to_owned(),
    };
    let mut entries = vec![
        ace("possessor", "view read write search", "", "kernel"),
        ace("owner", "view", "", "kernel"),
    ];
    if !key.grants.is_empty() {
        entries.push(ace(
            "container:web",
            "read search inval",
            "read inval",
            "kernel",
        ));
    }
    Acl {
        key: key.clone(),
        entries,
        lent: false,
    }
}

pub(crate) fn preview(implied: &str) -> Reply {
    Reply::Preview(Box::new(Preview {
        rights: "read,search,inval".to_owned(),
        implied: implied.to_owned(),
        mask: "--s---alswrv------------".to_owned(),
        is_copy: true,
    }))
}

pub(crate) fn happening(what: &str, container: ContainerInfo) -> Event {
    Event {
        event: what.to_owned(),
        time_ms: CREATED * 1000,
        dropped: 0,
        container: Some(container),
        key: None,
        grant: None,
        upcall: None,
    }
}

/// Descriptions that want to do something to the screen.
pub(crate) fn hostile() -> Vec<KeyInfo> {
    let texts: [Vec<u8>; 8] = [
        b"\x1b[2J\x1b]0;owned\x07".to_vec(),
        "鍵を渡すための長い説明文字列".repeat(4).into_bytes(),
        format!("e{}", "\u{301}".repeat(3000)).into_bytes(),
        "\u{202e}gnp.exe \u{2066}שלום\u{2069}".as_bytes().to_vec(),
        vec![b'x'; 4095],
        b"\xff\xfe\x00broken".to_vec(),
        "👩‍👩‍👧‍👦 family \u{200b}\u{feff}".as_bytes().to_vec(),
        b"two\nlines\r\tand a tab".to_vec(),
    ];
    let mut keys: Vec<KeyInfo> = (1..)
        .zip(&texts)
        .map(|(serial, text)| key(serial, "user", text))
        .collect();
    keys.push(key(99, "\u{1b}[31m", b"a type"));
    keys
}

pub(crate) fn not_alone() -> Failure {
    let mut failure = Failure::new(
        keyctl_ns::error::ErrorKind::NotEnforceable,
        "cannot grant search",
    )
    .cause("a container that may search a key may also read and invalidate it");
    failure.refusal = Some(keyns_interfaces::ErrorKind::ImpliedRights);
    failure.rights = vec!["read".to_owned(), "inval".to_owned()];
    failure
}

/// As `/proc/keys` shows it.
fn proc_line(key: &KeyInfo) -> String {
    let left = match key.expires_in {
        Some(seconds) => format!("{}h", seconds / 3600),
        None => "perm".to_owned(),
    };
    format!(
        "{:08x} I--Q---     1 {left:>4} {:08x} {:5} {:5} {:<9.9} x\n",
        key.serial, key.mask, key.uid, key.gid, key.type_
    )
}

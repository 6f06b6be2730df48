//! Random and hostile calls of everything that is served.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use keyns_interfaces::bus::{self, CONTAINER, CONTAINERS, MANAGER, PATH, UPCALL, UPCALLS};
use keyns_tests::bus::BusClient;
use keyns_tests::resident;
use zbus::message::{Flags, Message};
use zbus::wire::StructureBuilder;
use zbus::{Array, Dict, ObjectPath, Signature, Variant};

use crate::world::{NOBODY, Record, World};

/// What must not be found in the log: it is in every payload.
const CANARY: &str = "canary-4f1d";
/// Calls for each user.
const CALLS: usize = 800;

/// Numbers that can be had again from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }

    fn text(&mut self) -> String {
        match self.below(12) {
            0 => String::new(),
            1 => "x".repeat(1 << self.below(17)),
            // Every byte that a string of the bus may hold below 0x80.
            2 => (1..0x80_u8).map(char::from).collect(),
            3 => "\\x00\\xff\\q\\".to_owned(),
            4 => "../../etc/passwd".to_owned(),
            5 => "🗝\u{202e}\u{0301}".to_owned(),
            6 => "web/user:db".to_owned(),
            7 => "web".to_owned(),
            8 => self
                .of(&["user", "keyring", "logon", "*", "encrypted", ".x"])
                .to_owned(),
            9 => format!("web/{}", self.next()),
            10 => format!("{CANARY}; rm -rf /\n$(id)"),
            _ => (0..self.below(40))
                .map(|_| {
                    char::from_u32(u32::try_from(self.below(0x3000)).unwrap() + 1).unwrap_or('x')
                })
                .collect(),
        }
    }

    fn number(&mut self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => u64::from(u32::MAX) - 1,
            _ => self.next() % 100,
        }
    }

    fn fd(&mut self) -> OwnedFd {
        match self.below(3) {
            0 => File::open("/").unwrap().into(),
            1 => rustix::pipe::pipe().unwrap().0,
            _ => File::open("/dev/zero").unwrap().into(),
        }
    }

    /// A value of this type.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    fn value(&mut self, signature: &Signature, depth: usize) -> Variant<'static> {
        match signature {
            Signature::U8 => Variant::from(self.next() as u8),
            Signature::Bool => Variant::from(self.below(2) == 0),
            Signature::I16 => Variant::from(self.next() as i16),
            Signature::U16 => Variant::from(self.next() as u16),
            Signature::I32 => Variant::from(self.number() as i32),
            Signature::U32 => Variant::from(self.number() as u32),
            Signature::I64 => Variant::from(self.number() as i64),
            Signature::U64 => Variant::from(self.number()),
            Signature::F64 => Variant::from(f64::from_bits(self.next())),
            Signature::Signature => Variant::from(Signature::Str),
            Signature::ObjectPath => Variant::from(ObjectPath::try_from(self.path()).unwrap()),
            Signature::Fd => Variant::from(zbus::Fd::from(self.fd())),
            Signature::Variant => {
                let signature = self.signature(depth + 1);
                Variant::Variant(Box::new(self.value(&signature, depth + 1)))
            }
            Signature::Array(child) if child.signature() == &Signature::U8 => {
                let mut bytes = CANARY.as_bytes().to_vec();
                let most = 1 << self.below(17);
                bytes.resize(bytes.len() + self.below(most), 7);
                Variant::from(bytes)
            }
            Signature::Array(child) => {
                let mut array = Array::new(child.signature());
                let many = depth == 0 && self.below(20) == 0;
                // A message takes sixteen descriptors.
                let few = child.signature() == &Signature::Fd || !many;
                let most = if few { 4 } else { 2_000 };
                for _ in 0..self.below(most) {
                    array
                        .append(self.value(child.signature(), depth + 1))
                        .unwrap();
                }
                Variant::Array(array)
            }
            Signature::Dict { key, value } => {
                let mut dict = Dict::new(key.signature(), value.signature());
                for _ in 0..self.below(6) {
                    let name = if key.signature() == &Signature::Str && self.below(4) > 0 {
                        Variant::from(self.option())
                    } else {
                        self.value(key.signature(), depth + 1)
                    };
                    let inner = self.value(value.signature(), depth + 1);
                    dict.append(name, inner).unwrap();
                }
                Variant::Dict(dict)
            }
            Signature::Structure(fields) => {
                let mut structure = StructureBuilder::new();
                for field in fields.iter() {
                    structure = structure.append_field(self.value(field, depth + 1));
                }
                Variant::Structure(structure.build().unwrap())
            }
            _ => Variant::from(self.text()),
        }
    }

    fn option(&mut self) -> String {
        self.of(&[
            "namespaces",
            "root",
            "kill_on_close",
            "timeout",
            "duration",
            "dry_run",
            "accept_implied",
            "environment",
            "uid",
            "terminal",
            "queue",
            "agent",
            "reject",
            "rate",
            "pending",
            "container",
            "payload",
            "id",
            "",
            "\u{1}",
        ])
        .to_owned()
    }

    fn signature(&mut self, depth: usize) -> Signature {
        let simple = [
            "s", "u", "t", "i", "x", "b", "d", "o", "y", "g", "ay", "as", "(iu)",
        ];
        let nested = [
            "v",
            "av",
            "a{sv}",
            "aa{sv}",
            "(sv)",
            "a(sv)",
            "a{oa{sv}}",
            "aay",
        ];
        let text = if depth > 12 || self.below(2) == 0 {
            self.of(&simple)
        } else {
            self.of(&nested)
        };
        Signature::try_from(text).unwrap()
    }

    fn path(&mut self) -> String {
        match self.below(8) {
            0 => "/".to_owned(),
            1 => format!("{CONTAINERS}{}", self.number()),
            2 => format!("{UPCALLS}{}", self.number()),
            3 => format!("/org/keyns/{}", "a/".repeat(self.below(200)) + "b"),
            4 => "/org/keyns/container/01".to_owned(),
            5 => format!("{CONTAINERS}1"),
            _ => PATH.to_owned(),
        }
    }
}

/// All that is described: interface, method, types of arguments.
fn methods() -> Vec<(&'static str, String, Vec<String>)> {
    let value = |line: &str, name: &str| {
        let begin = line.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
        line[begin..].split('"').next().unwrap().to_owned()
    };
    let mut all: Vec<(&'static str, String, Vec<String>)> = Vec::new();
    for (interface, xml) in bus::INTERFACES {
        for line in xml.lines() {
            if line.contains("<method ") {
                all.push((interface, value(line, "name"), Vec::new()));
            } else if line.contains("direction=\"in\"") {
                all.last_mut().unwrap().2.push(value(line, "type"));
            }
        }
    }
    let standard = "org.freedesktop.DBus.Properties";
    for (member, arguments) in [("Get", "ss"), ("GetAll", "s"), ("Set", "ssv"), ("X", "s")] {
        let arguments = arguments.chars().map(String::from).collect();
        all.push((standard, member.to_owned(), arguments));
    }
    for (interface, member) in [
        ("org.freedesktop.DBus.Introspectable", "Introspect"),
        ("org.freedesktop.DBus.ObjectManager", "GetManagedObjects"),
        ("org.freedesktop.DBus.Peer", "GetMachineId"),
        ("org.keyns.Nothing1", "Nothing"),
    ] {
        all.push((interface, member.to_owned(), Vec::new()));
    }
    all
}

/// A call that may or may not make sense.
fn call(random: &mut Random, descriptors: bool) -> Message {
    let methods = methods();
    let (interface, member, types) = &methods[random.below(methods.len())];
    let path = match (*interface, random.below(10)) {
        (CONTAINER, 0..8) => format!("{CONTAINERS}1"),
        (UPCALL, 0..8) => format!("{UPCALLS}1"),
        (MANAGER, 0..8) => PATH.to_owned(),
        _ => random.path(),
    };
    let mut types: Vec<Signature> = types
        .iter()
        .map(|t| Signature::try_from(t.as_str()).unwrap())
        .collect();
    if random.below(3) == 0 {
        types = (0..random.below(4)).map(|_| random.signature(0)).collect();
    }
    let holds = |signature: &Signature| signature.to_string().contains('h');
    if !descriptors {
        types.retain(|signature| !holds(signature));
    }
    let mut call = Message::method_call(path, member.as_str()).destination(bus::NAME);
    if random.below(20) > 0 {
        call = call.interface(*interface);
    }
    if random.below(10) == 0 {
        call = call.with_flags(Flags::ALLOW_INTERACTIVE_AUTH);
    }
    if types.is_empty() {
        return call.build(&()).unwrap();
    }
    let mut body = StructureBuilder::new();
    for signature in &types {
        body = body.append_field(random.value(signature, 0));
    }
    call.build(&body.build().unwrap()).unwrap()
}

/// Sends them, and returns what was answered: names of errors, or nothing for a result.
fn attack(
    mut client: BusClient,
    address: &str,
    seed: u64,
    descriptors: bool,
) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    let mut random = Random(seed);
    let mut checking = BusClient::connect(address);
    for number in 0..CALLS {
        if number % 40 == 39 {
            // What still waits goes with it.
            client = BusClient::connect(address);
        }
        let call = call(&mut random, descriptors);
        client.send(&call);
        let status: Record = checking
            .call(PATH, MANAGER, "GetStatus", &())
            .unwrap_or_else(|error| panic!("seed {seed}, call {number}: {error:?}"));
        assert!(status.contains_key("version"), "seed {seed}, call {number}");
        while let Some(message) = client.next(Duration::from_millis(1)) {
            let header = message.header();
            if header.reply_serial().is_some() {
                let name = header.error_name().map_or("", |name| name.as_str());
                *answers.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    answers
}

#[test]
fn whatever_is_sent_the_daemon_serves_on_and_logs_no_payload() {
    let world = World::start("hostile");
    world.container("web");
    let now = std::time::SystemTime::now();
    let seed = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_nanos();
    let seed = u64::try_from(seed % u128::from(u64::MAX)).unwrap() | 1;
    eprintln!("seed {seed}");
    let address = world.bus.address();
    let of_root = attack(world.client(), &address, seed, true);
    let of_others = world.as_user(NOBODY, move |client| attack(client, &address, seed, false));
    // Without these the calls would all fail for the same reason, and the test be none.
    for name in [
        "",
        "org.freedesktop.DBus.Error.InvalidArgs",
        "org.keyns.Error.NoSuchContainer",
    ] {
        assert!(of_root.contains_key(name), "seed {seed}: {of_root:?}");
    }
    assert!(
        of_others.contains_key("org.keyns.Error.NotPermitted"),
        "seed {seed}: {of_others:?}"
    );
    let log = world.instance.log();
    assert!(!log.contains(CANARY), "seed {seed}");
    assert!(!log.contains("panicked"), "seed {seed}");
    world.assert_serving();
    world.instance.stop();
}

#[test]
fn large_calls_are_refused_and_cost_nothing_for_long() {
    let world = World::start("large");
    let rss = || resident(world.instance.daemon_pid());
    let before = rss();
    let mut client = world.client();
    for (length, name) in [
        (3 << 20, "org.freedesktop.DBus.Error.LimitsExceeded"),
        (100 << 10, "org.freedesktop.DBus.Error.InvalidArgs"),
    ] {
        let options: HashMap<String, Variant<'_>> =
            HashMap::from([("payload".to_owned(), Variant::from(vec![7_u8; length]))]);
        for _ in 0..20 {
            let call = Message::method_call(PATH, "CreateContainer")
                .destination(bus::NAME)
                .interface(MANAGER)
                .build(&("web", &options))
                .unwrap();
            assert_eq!(client.exchange(&call).unwrap_err().0, name);
        }
    }
    let told = world.as_user(NOBODY, |mut client| {
        let call = Message::method_call(PATH, "GetContainer")
            .destination(bus::NAME)
            .interface(MANAGER)
            .build(&"x".repeat(70_000))
            .unwrap();
        client.exchange(&call).unwrap_err().0
    });
    assert_eq!(told, "org.freedesktop.DBus.Error.LimitsExceeded");
    assert!(
        rss() < before + (40 << 10),
        "{before} kB, then {} kB",
        rss()
    );
    world.instance.stop();
}

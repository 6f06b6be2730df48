//! Settings that are taken, and mistakes that are told with file and line.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;

struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.path(path), text).unwrap();
        self
    }

    fn read(&self) -> Result<Settings, Mistake> {
        Settings::read(&Sources::Machine(self.0.path().to_owned()))
    }

    /// The mistake, as it is told, without the directory of the test.
    fn mistake(&self) -> String {
        let told = self.read().unwrap_err().to_string();
        let directory = format!("{}/", self.0.path().display());
        told.replace(&directory, "")
    }
}

const ETC: &str = "etc/keyns/keyns.conf";

#[test]
fn without_files_the_defaults_count() {
    assert_eq!(Machine::new().read(), Ok(Settings::default()));
    assert_eq!(Settings::read(&Sources::None), Ok(Settings::default()));
    assert_eq!(Machine::new().with(ETC, "").read(), Ok(Settings::default()));
}

#[test]
fn every_key_sets_something() {
    let settings = Machine::new()
        .with(
            ETC,
            "engine = 'patched'
             service-uid = 2147490009
             log = 'warn,keynsd=debug'
             [connections]
             per-user = 10
             total = 100
             admin = 3
             idle-seconds = 7
             write-seconds = 2
             [requests]
             pending = 99
             per-second = 50",
        )
        .read()
        .unwrap();
    let default = Limits::default();
    let expected = Settings {
        engine: EngineChoice::Patched,
        service_uid: 2_147_490_009,
        log: "warn,keynsd=debug".into(),
        connections: Limits {
            per_uid: 10,
            total: 100,
            admin: 3,
            idle: Duration::from_secs(7),
            write: Duration::from_secs(2),
            queue: default.queue,
        },
        requests: Totals {
            pending: 99,
            per_second: 50,
        },
    };
    assert_eq!(settings, expected);
}

#[test]
fn one_main_file_counts_and_parts_come_after_it_in_the_order_of_their_names() {
    let machine = Machine::new()
        .with(
            "usr/lib/keyns/keyns.conf",
            "log = 'vendor'\n[requests]\npending = 1",
        )
        .with("run/keyns/keyns.conf", "log = 'run'")
        .with(
            "usr/lib/keyns/keyns.conf.d/10-a.conf",
            "log = 'a'\nservice-uid = 10",
        )
        .with("etc/keyns/keyns.conf.d/20-b.conf", "log = 'b'")
        .with("etc/keyns/keyns.conf.d/30-not.conf.dpkg-old", "log = 'old'")
        .with("etc/keyns/keyns.conf.d/.40.conf", "log = 'hidden'");
    let settings = machine.read().unwrap();
    assert_eq!(settings.log, "b");
    assert_eq!(settings.service_uid, 10);
    // The file of the vendor is not read where another is.
    assert_eq!(settings.requests, Totals::default());

    let machine = machine
        .with(ETC, "log = 'etc'")
        // The same name in a place that comes first.
        .with("run/keyns/keyns.conf.d/10-a.conf", "service-uid = 11")
        .with("usr/lib/keyns/keyns.conf.d/30-c.conf", "log = 'c'");
    let settings = machine.read().unwrap();
    assert_eq!((settings.log.as_str(), settings.service_uid), ("c", 11));

    symlink(
        "/dev/null",
        machine.path("etc/keyns/keyns.conf.d/30-c.conf"),
    )
    .unwrap();
    assert_eq!(machine.read().unwrap().log, "b");
}

#[test]
fn a_file_that_is_named_is_read_alone() {
    let machine = Machine::new()
        .with(ETC, "log = 'etc'")
        .with("my.conf", "log = 'mine'")
        .with("my.conf.d/1.conf", "service-uid = 12");
    let settings = Settings::read(&Sources::File(machine.path("my.conf"))).unwrap();
    assert_eq!((settings.log.as_str(), settings.service_uid), ("mine", 12));
    let none = Settings::read(&Sources::File(machine.path("none.conf"))).unwrap_err();
    assert!(
        none.to_string()
            .ends_with("none.conf: there is no such file"),
        "{none}"
    );
}

#[test]
fn mistakes_are_told_with_their_line() {
    let huge = "#".repeat((1 << 20) + 1);
    for (text, line, why) in [
        ("\nengnie = 'auto'".as_bytes(), 2, "unknown field `engnie`"),
        (b"[conections]\ntotal = 5", 1, "unknown field `conections`"),
        (b"[connections]\n\ntotl = 5", 3, "unknown field `totl`"),
        (b"engine = 'fast'", 1, "an engine is"),
        (b"engine = 1", 1, "invalid type"),
        (b"log = ['info']", 1, "invalid type"),
        (b"log = 'keynsd=loud'", 1, "log: "),
        (b"connections = 5", 1, "invalid type"),
        (
            b"service-uid = 0",
            1,
            "service-uid = 0 is not within 1 and 4294967294",
        ),
        (b"service-uid = 4294967295", 1, "not within"),
        (b"service-uid = -1", 1, "not within"),
        (b"service-uid = 1.5", 1, "invalid type"),
        (b"service-uid = 99999999999999999999", 1, ""),
        (b"[connections]\ntotal = 1", 2, "not within 2"),
        (b"[connections]\ntotal = 1000000", 2, "not within 2"),
        (b"[connections]\nper-user = 0", 2, "not within 1"),
        (b"[connections]\nper-user = 512", 2, "leaves none"),
        (b"[connections]\nadmin = 1\ntotal = 64", 3, "leaves none"),
        (b"[connections]\nadmin = 0", 2, "not within 1"),
        (b"[connections]\nidle-seconds = '60'", 2, "invalid type"),
        (
            b"[connections]\nwrite-seconds = 61",
            2,
            "not within 1 and 60",
        ),
        (b"[requests]\npending = 321", 2, "not within 1 and 320"),
        (b"[requests]\nper-second = 0", 2, "not within 1"),
        (b"log = 'info'\nlog = 'debug'", 2, "duplicate key"),
        (b"[requests]\n[requests]", 2, "duplicate key"),
        (b"log = 'info", 1, "invalid"),
        (b"log 'info'", 1, ""),
        (b"log = 'a'\n\n\xff", 3, "not UTF-8"),
        (b"log = 'a'\0", 1, ""),
        (huge.as_bytes(), 0, "more than 1048576 bytes"),
    ] {
        let told = Machine::new().with(ETC, text).mistake();
        let shown = String::from_utf8_lossy(text.get(..80).unwrap_or(text));
        let place = match line {
            0 => format!("{ETC}: "),
            line => format!("{ETC}:{line}: "),
        };
        assert!(told.starts_with(&place), "{shown}\n{told}");
        assert!(told.contains(why), "{shown}\n{told}");
        assert!(!told.contains('\n'), "{told}");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let refused = |make: &dyn Fn(&Path), why: &str| {
        let machine = Machine::new();
        make(&machine.path(ETC));
        let told = machine.mistake();
        assert!(
            told.starts_with(&format!("{ETC}: ")) && told.contains(why),
            "{told}"
        );
    };
    refused(&|path| fs::create_dir(path).unwrap(), "it is no file");
    refused(&|path| symlink(path, path).unwrap(), "it cannot be read");
    refused(
        &|path| symlink("nowhere", path).unwrap(),
        "it cannot be read",
    );
    refused(&|path| symlink("/dev/zero", path).unwrap(), "it is no file");
    refused(
        &|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap(),
        "it is no file",
    );
    refused(
        &|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        "it cannot be read",
    );
    // A file of the kernel that cannot be read, also not by root.
    refused(
        &|path| symlink("/proc/self/mem", path).unwrap(),
        "it cannot be read",
    );

    let machine = Machine::new().with("etc/keyns/keyns.conf.d", "");
    assert!(
        machine
            .mistake()
            .starts_with("etc/keyns/keyns.conf.d: it cannot be read")
    );
    let machine = Machine::new().with("etc/keyns/keyns.conf.d/1.conf/file", "");
    assert!(
        machine
            .mistake()
            .starts_with("etc/keyns/keyns.conf.d/1.conf: it is no file")
    );
}

#[test]
fn the_file_that_is_installed_shows_every_key_with_its_default() {
    let text = include_str!("../../../units/keyns.conf");
    let mut keys = 0;
    let said: String = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.is_empty() && !line.starts_with(' '))
        .inspect(|line| keys += usize::from(line.contains('=')))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(keys, 10, "{said}");
    assert_eq!(
        Machine::new().with(ETC, said).read(),
        Ok(Settings::default())
    );
    assert_eq!(
        Machine::new().with(ETC, text).read(),
        Ok(Settings::default())
    );
}

//! What the running kernel and this process can do, found out by trying.
//!
//! Nothing here leaves a trace: what has to be created is created in a keyring of a thread that
//! ends, or closed at once.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

use keyns_sys::container_abi::{ContainerAbi, Feature};
use keyns_sys::{KeySerial, kernel_probe, key};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

use crate::feature::{Enforcer, FeatureRow};
use crate::mountinfo;

/// The oldest kernel keyns works on.
pub const OLDEST: KernelVersion = KernelVersion { major: 6, minor: 1 };

/// Inode of the initial user namespace (`PROC_USER_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_USER_NS: u64 = 0xefff_fffd;
/// Inode of the initial PID namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NS: u64 = 0xefff_fffc;
/// `O_NOTIFICATION_PIPE` is `O_EXCL` (`include/uapi/linux/watch_queue.h`).
const NOTIFICATION_PIPE: u32 = 0o200;
/// `PIDFD_THREAD` is `O_EXCL` (`include/uapi/linux/pidfd.h`).
const PIDFD_THREAD: u32 = 0o200;
/// `CGROUP2_SUPER_MAGIC` (`include/uapi/linux/magic.h`).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// The types whose presence is worth knowing; all others are made by somebody's module.
const KEY_TYPES: [(&CStr, &str); 9] = [
    (c"user", "user"),
    (c"logon", "logon"),
    (c"keyring", "keyring"),
    (c"big_key", "big_key"),
    (c"encrypted", "encrypted"),
    (c"trusted", "trusted"),
    (c"asymmetric", "asymmetric"),
    (c"rxrpc", "rxrpc"),
    (c"dns_resolver", "dns_resolver"),
];

/// First two numbers of a kernel release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads a release such as `6.1.0-18-amd64`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let (major, rest) = release.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        // `from_str` alone would take a plus sign.
        let number = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| text.parse().ok())
                .flatten()
        };
        Some(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Release of the running kernel.
///
/// # Errors
/// Those of reading `/proc/sys/kernel/osrelease`.
pub fn release() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease")?
        .trim_ascii_end()
        .to_owned())
}

/// What `KEYCTL_CAPABILITIES` says (`include/uapi/linux/keyctl.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyCapabilities(u16);

impl KeyCapabilities {
    /// Asks the kernel.
    ///
    /// # Errors
    /// `EOPNOTSUPP` before Linux 5.3, `ENOSYS` without key service.
    pub fn read() -> io::Result<Self> {
        let bytes = key::capabilities()?;
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        Ok(Self(u16::from_le_bytes([byte(0), byte(1)])))
    }

    const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }

    /// Keyrings that outlive the last process of a user.
    #[must_use]
    pub const fn persistent_keyrings(self) -> bool {
        self.has(0x0002)
    }

    /// `KEYCTL_DH_COMPUTE`.
    #[must_use]
    pub const fn diffie_hellman(self) -> bool {
        self.has(0x0004)
    }

    /// `KEYCTL_PKEY_*`.
    #[must_use]
    pub const fn public_key(self) -> bool {
        self.has(0x0008)
    }

    /// The type `big_key`.
    #[must_use]
    pub const fn big_key(self) -> bool {
        self.has(0x0010)
    }

    /// `KEYCTL_MOVE`.
    #[must_use]
    pub const fn move_key(self) -> bool {
        self.has(0x0080)
    }

    /// Names of keyrings are looked up per user namespace.
    #[must_use]
    pub const fn namespaced_names(self) -> bool {
        self.has(0x0100)
    }

    /// Keys of network types are tagged with their network namespace.
    #[must_use]
    pub const fn namespaced_keys(self) -> bool {
        self.has(0x0200)
    }

    /// `KEYCTL_WATCH_KEY`.
    #[must_use]
    pub const fn notifications(self) -> bool {
        self.has(0x0400)
    }
}

/// Where cgroup2 is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup2 {
    /// The mount point.
    pub path: PathBuf,
    /// Whether version 1 hierarchies are mounted beside it, which then hold the controllers.
    pub hybrid: bool,
}

/// Finds the mount of the whole cgroup2 hierarchy in this process' mount namespace.
///
/// # Errors
/// Those of reading `/proc/self/mountinfo`.
pub fn cgroup2() -> io::Result<Option<Cgroup2>> {
    let file = fs::read("/proc/self/mountinfo")?;
    Ok(cgroup2_in(&file, |path| {
        // A mount may be hidden under a later one.
        rustix::fs::statfs(path).is_ok_and(|found| found.f_type as u64 == CGROUP2_MAGIC)
    }))
}

/// The path of [`cgroup2`].
///
/// # Errors
/// Those of [`cgroup2`].
pub fn cgroup2_mount() -> io::Result<Option<PathBuf>> {
    Ok(cgroup2()?.map(|found| found.path))
}

fn cgroup2_in(file: &[u8], is_visible: impl Fn(&PathBuf) -> bool) -> Option<Cgroup2> {
    let hybrid = mountinfo::lines(file).any(|mount| mount.file_system == b"cgroup");
    mountinfo::lines(file)
        .filter(|mount| mount.file_system == b"cgroup2" && mount.root.as_os_str() == "/")
        .map(|mount| mount.mount_point)
        .find(is_visible)
        .map(|path| Cgroup2 { path, hybrid })
}

/// Whether the kernel was built with notification pipes (`CONFIG_WATCH_QUEUE`).
///
/// # Errors
/// Those of `pipe2(2)` but `ENOPKG` and `EINVAL`.
pub fn has_watch_queue() -> io::Result<bool> {
    match pipe_with(PipeFlags::from_bits_retain(NOTIFICATION_PIPE) | PipeFlags::CLOEXEC) {
        Ok(_) => Ok(true),
        Err(Errno::NOPKG | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a pidfd can be had of a single thread (`PIDFD_THREAD`, Linux 6.9).
///
/// # Errors
/// Those of `pidfd_open(2)` but `EINVAL`.
pub fn has_thread_pidfd() -> io::Result<bool> {
    match pidfd_open(getpid(), PidfdFlags::from_bits_retain(PIDFD_THREAD)) {
        Ok(_) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the kernel knows a key type now; that of a module that is not loaded it does not.
///
/// # Errors
/// When no thread or no thread keyring can be had, for instance because of the quota.
pub fn has_key_type(type_: &'static CStr) -> io::Result<bool> {
    // The keyring of a thread goes with it, and with it a key that the probe made.
    let probe = thread::Builder::new()
        .name("key-type-probe".to_owned())
        .spawn(move || {
            key::get_keyring_id(KeySerial::THREAD, true)?;
            // One byte is no valid payload for most types, so mostly nothing is made at all. The type
            // is looked up before anything else is judged.
            match key::add_key(type_, c"keyns-probe:x", &[0xff], KeySerial::THREAD) {
                Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => {
                    Ok(false)
                }
                _ => Ok(true),
            }
        })?;
    probe
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the probing thread failed")))
}

fn in_namespace(kind: &str, inode: u64) -> io::Result<bool> {
    Ok(fs::metadata(format!("/proc/self/ns/{kind}"))?.ino() == inode)
}

/// Everything found out at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFacts {
    /// Release of the kernel.
    pub release: String,
    /// What the key service can do.
    pub key: KeyCapabilities,
    /// Notification pipes exist.
    pub watch_queue: bool,
    /// The peer of a socket can be had as a pidfd.
    pub peer_pidfd: bool,
    /// A thread can be had as a pidfd.
    pub thread_pidfd: bool,
    /// What the kernel says of containers; `None`: it has none, or says it in no way that is known.
    pub containers: Option<ContainerAbi>,
    /// Where cgroup2 is.
    pub cgroup2: Option<Cgroup2>,
    /// Key types and whether the kernel knows them now.
    pub key_types: Vec<(&'static str, bool)>,
    /// This process is in the initial user namespace.
    pub initial_user_ns: bool,
    /// This process is in the initial PID namespace.
    pub initial_pid_ns: bool,
    /// The calling thread has `CAP_SYS_ADMIN` effective.
    pub sys_admin: bool,
}

/// Why the daemon cannot work here; each is one sentence for the administrator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// Older than [`OLDEST`], or of unknown age.
    #[error("keyns needs Linux 6.1 or newer, and this is Linux {0}")]
    Kernel(String),
    /// No cgroup2.
    #[error("keyns needs cgroup2, and no cgroup2 file system is mounted")]
    Cgroup2,
    /// Inside a user namespace.
    #[error("keyns has to run in the initial user namespace, where it can see every uid")]
    UserNamespace,
    /// Inside a PID namespace.
    #[error("keyns has to run in the initial PID namespace, where it can see every process")]
    PidNamespace,
    /// Not privileged.
    #[error("keyns needs CAP_SYS_ADMIN; start it as root")]
    SysAdmin,
}

impl KernelFacts {
    /// Tries everything out.
    ///
    /// # Errors
    /// Those of the single probes. That something is absent is no error.
    pub fn probe() -> io::Result<Self> {
        let key_types = KEY_TYPES
            .into_iter()
            .map(|(type_, name)| Ok((name, has_key_type(type_)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            release: release()?,
            key: KeyCapabilities::read()?,
            watch_queue: has_watch_queue()?,
            peer_pidfd: kernel_probe::has_peer_pidfd()?,
            thread_pidfd: has_thread_pidfd()?,
            containers: ContainerAbi::read().unwrap_or_default(),
            cgroup2: cgroup2()?,
            key_types,
            initial_user_ns: in_namespace("user", INITIAL_USER_NS)?,
            initial_pid_ns: in_namespace("pid", INITIAL_PID_NS)?,
            sys_admin: capabilities(None)?
                .effective
                .contains(CapabilitySet::SYS_ADMIN),
        })
    }

    /// Whether the mainline engine can work here at all.
    ///
    /// # Errors
    /// The first [`Unsupported`].
    pub fn check(&self) -> Result<(), Unsupported> {
        if KernelVersion::parse(&self.release).is_none_or(|version| version < OLDEST) {
            return Err(Unsupported::Kernel(self.release.clone()));
        }
        if !self.initial_user_ns {
            return Err(Unsupported::UserNamespace);
        }
        if !self.initial_pid_ns {
            return Err(Unsupported::PidNamespace);
        }
        if !self.sys_admin {
            return Err(Unsupported::SysAdmin);
        }
        if self.cgroup2.is_none() {
            return Err(Unsupported::Cgroup2);
        }
        Ok(())
    }

    /// One row for each thing that is the kernel's alone, whatever the engine.
    #[must_use]
    pub fn rows(&self) -> Vec<FeatureRow> {
        let row = |name: &str, present: bool, yes: &str, no: &str| {
            if present {
                FeatureRow::new(name, Enforcer::Kernel, yes)
            } else {
                FeatureRow::new(name, Enforcer::Unavailable, no)
            }
        };
        let mut rows = vec![
            row(
                "key-notifications",
                self.watch_queue && self.key.notifications(),
                "the kernel announces changes of keys",
                "this kernel was built without notification pipes",
            ),
            row(
                "peer-pidfd",
                self.peer_pidfd,
                "the process behind a connection is known by a pidfd",
                "before Linux 6.5 the process behind a connection has only a number",
            ),
            row(
                "thread-pidfd",
                self.thread_pidfd,
                "a requesting thread can be held by a pidfd",
                "before Linux 6.9 a thread that leads no process has no pidfd",
            ),
            row(
                "persistent-keyrings",
                self.key.persistent_keyrings(),
                "each user has a keyring that outlives its processes",
                "this kernel was built without persistent keyrings",
            ),
            row(
                "key-names-per-user-namespace",
                self.key.namespaced_names(),
                "keyrings can be joined by name in their own user namespace only",
                "keyrings can be joined by name from every user namespace",
            ),
            row(
                "keys-per-network-namespace",
                self.key.namespaced_keys(),
                "keys of network protocols are found in their own network namespace only",
                "keys of network protocols are found from every network namespace",
            ),
        ];
        rows.extend(Feature::ALL.into_iter().map(|feature| {
            let has = self.containers.is_some_and(|abi| abi.has(feature));
            row(
                &format!("kernel-{}", feature.word()),
                has,
                &format!("the kernel has {feature}"),
                &format!("this kernel has no {feature}"),
            )
        }));
        rows.extend(self.key_types.iter().map(|(name, present)| {
            row(
                &format!("key-type-{}", name.replace('_', "-")),
                *present,
                "the kernel knows this type of key",
                "the kernel does not know this type of key; its module may not be loaded",
            )
        }));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn releases_of_all_kinds_are_read() {
        let version = |release| KernelVersion::parse(release).map(|v| (v.major, v.minor));
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.12-rc1"), Some((6, 12)));
        assert_eq!(version("10.0"), Some((10, 0)));
        for release in ["", "6", "6.", "six.1", "+6.1", "6.+1", "99999999999.1"] {
            assert_eq!(version(release), None, "{release}");
        }
    }

    fn good() -> KernelFacts {
        KernelFacts {
            release: "6.1.0-18-amd64".to_owned(),
            key: KeyCapabilities(0x03ff),
            watch_queue: true,
            peer_pidfd: true,
            thread_pidfd: true,
            containers: None,
            cgroup2: Some(Cgroup2 {
                path: "/sys/fs/cgroup".into(),
                hybrid: false,
            }),
            key_types: vec![("user", true), ("big_key", false)],
            initial_user_ns: true,
            initial_pid_ns: true,
            sys_admin: true,
        }
    }

    #[test]
    fn each_thing_that_is_missing_is_refused_with_its_sentence() {
        assert_eq!(good().check(), Ok(()));
        let refused = |change: fn(&mut KernelFacts)| {
            let mut facts = good();
            change(&mut facts);
            facts.check().unwrap_err().to_string()
        };
        assert_eq!(
            refused(|f| f.release = "5.15.0".to_owned()),
            "keyns needs Linux 6.1 or newer, and this is Linux 5.15.0"
        );
        assert!(refused(|f| f.release = "odd".to_owned()).contains("Linux odd"));
        assert!(refused(|f| f.cgroup2 = None).contains("cgroup2"));
        assert!(refused(|f| f.initial_user_ns = false).contains("user namespace"));
        assert!(refused(|f| f.initial_pid_ns = false).contains("PID namespace"));
        assert!(refused(|f| f.sys_admin = false).contains("CAP_SYS_ADMIN"));
        // The two fallbacks are no reason to refuse.
        let mut facts = good();
        (facts.peer_pidfd, facts.thread_pidfd, facts.watch_queue) = (false, false, false);
        assert_eq!(facts.check(), Ok(()));
    }

    #[test]
    fn absent_features_are_listed_as_unavailable() {
        let rows = good().rows();
        let of = |name: &str| rows.iter().find(|row| row.name == name).unwrap().enforcer;
        assert_eq!(of("key-type-user"), Enforcer::Kernel);
        assert_eq!(of("key-type-big-key"), Enforcer::Unavailable);
        // A pipe without the operation is not enough.
        assert_eq!(of("key-notifications"), Enforcer::Unavailable);
    }

    #[test]
    fn cgroup2_is_found_in_both_layouts_and_never_where_it_is_hidden() {
        let pure = b"30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        let hybrid = b"31 23 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            33 31 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let part = b"30 23 0:26 /user.slice /mnt rw - cgroup2 cgroup2 rw\n";
        let found = |file: &[u8]| cgroup2_in(file, |_| true);
        let expect = |path: &str, hybrid| {
            Some(Cgroup2 {
                path: path.into(),
                hybrid,
            })
        };
        assert_eq!(found(pure), expect("/sys/fs/cgroup", false));
        assert_eq!(found(hybrid), expect("/sys/fs/cgroup/unified", true));
        assert_eq!(found(part), None);
        assert_eq!(cgroup2_in(pure, |_| false), None);
        let both = [&pure[..], hybrid].concat();
        let visible = |path: &PathBuf| path == Path::new("/sys/fs/cgroup/unified");
        assert_eq!(
            cgroup2_in(&both, visible),
            expect("/sys/fs/cgroup/unified", true)
        );
    }

    #[test]
    fn the_running_machine_is_found_out() {
        let facts = KernelFacts::probe().unwrap();
        assert_eq!(facts.check(), Ok(()), "{facts:?}");
        assert!(facts.key.move_key() && facts.key.namespaced_names());
        let cgroup = facts.cgroup2.unwrap().path;
        assert!(cgroup.join("cgroup.controllers").exists());
        for (name, present) in facts.key_types {
            match name {
                "user" | "logon" | "keyring" => assert!(present, "{name}"),
                "big_key" => assert_eq!(present, facts.key.big_key()),
                _ => {}
            }
        }
        assert!(!has_key_type(c"keyns_nosuch").unwrap());
        let version = KernelVersion::parse(&facts.release).unwrap();
        assert_eq!(
            facts.thread_pidfd,
            version >= KernelVersion { major: 6, minor: 9 }
        );
    }

    #[test]
    fn probing_leaves_no_key_behind() {
        let before = std::time::Instant::now();
        has_key_type(c"user").unwrap();
        // Collected in the background, soon.
        let gone = || {
            let name = key::request_key(c"user", c"keyns-probe:x", None, KeySerial::NONE);
            let file = fs::read("/proc/keys").unwrap();
            let listed = file.windows(13).any(|part| part == b"keyns-probe:x");
            name.is_err() && !listed
        };
        while !gone() {
            assert!(before.elapsed().as_secs() < 10, "the key is still there");
            thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    #[test]
    fn a_process_in_a_user_namespace_is_told_so() {
        // `unshare` of a namespace would change this test's process for good, so another one looks.
        let output = std::process::Command::new("unshare")
            .args([
                "--user",
                "stat",
                "--dereference",
                "--format=%i",
                "/proc/self/ns/user",
            ])
            .output()
            .unwrap();
        let inode: u64 = String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_ne!(inode, INITIAL_USER_NS);
        assert!(in_namespace("user", INITIAL_USER_NS).unwrap());
        assert!(!in_namespace("user", inode).unwrap());
    }

    proptest! {
        #[test]
        fn arbitrary_releases_never_panic(text in "[0-9.+a-z-]{0,20}") {
            let _ = KernelVersion::parse(&text);
        }
    }
}

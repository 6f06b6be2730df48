//! What the demo promises to leave as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use keyns::engine::pin;
use keyns::proc_keys;
use keyns::takeover::{self, Root};
use keyns::{key_users, mountinfo, probe};

use super::kernel;
use crate::error::CommandError;
use crate::view;

/// Files and directories of all instances.
const RUN: &str = "/run/keyns";
/// State of all instances.
const STATE: &str = "/var/lib/keyns";
/// What instances share in them.
const SHARED: [&str; 7] = [
    "ids",
    "live",
    "lock",
    "keyns-upcall",
    "takeover.json",
    "takeover.lock",
    "takeover.users",
];

/// The parts of the machine that the demo touches, at one moment.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `/sbin/request-key` by checksum.
    pub request_key: Option<takeover::Digest>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    keys: BTreeMap<i32, Key>,
    key_users: BTreeSet<u32>,
}

/// Whether any instance has a container, be it one in which nothing runs yet.
#[must_use]
pub fn has_containers() -> bool {
    let listed = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let routed = listed(Path::new(RUN).join("live")).next().is_some();
    let is_pinned = |instance: fs::DirEntry| {
        pin::of_containers(&instance.path().join("ns")).is_ok_and(|pins| !pins.is_empty())
    };
    routed || listed(PathBuf::from(RUN)).any(is_pinned)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    uid: Option<u32>,
    summary: String,
}

/// What a run has made, by which its keys are told from those of others.
#[derive(Debug, Clone, Default)]
pub struct Made {
    /// Name of the instance.
    pub instance: String,
    /// Keys and keyrings it knows of.
    pub serials: BTreeSet<i32>,
    /// First id and number of ids of each container.
    pub ids: BTreeSet<(u32, u32)>,
}

impl Made {
    /// Whether a uid is one of its containers'.
    #[must_use]
    pub fn owns(&self, uid: u32) -> bool {
        self.ids
            .iter()
            .any(|(base, count)| (*base..base.saturating_add(*count)).contains(&uid))
    }
}

impl Machine {
    /// Looks at the machine.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn look(instance: &str) -> Result<Self, CommandError> {
        let mountinfo = kernel::read("/proc/self/mountinfo")?;
        let users = kernel::read("/proc/key-users")?;
        let mut cgroups = BTreeSet::new();
        let mount = probe::cgroup2_mount()
            .map_err(|error| CommandError::io("cannot find cgroup2", &error))?;
        if let Some(mount) = mount {
            walk(&mount.join(format!("keyns-{instance}")), &mut cgroups);
        }
        let mut files = BTreeSet::new();
        walk(Path::new(RUN), &mut files);
        walk(Path::new(STATE), &mut files);
        files.retain(|path| concerns(path, instance));
        Ok(Self {
            request_key: request_key()?,
            mounts: mountinfo::lines(&mountinfo)
                .filter(|line| of_others(&line.mount_point, instance).is_none())
                .map(|line| format!("{line:?}"))
                .collect(),
            cgroups,
            files,
            keys: proc_keys::lines(&kernel::read("/proc/keys")?)
                .map(|key| {
                    let summary = String::from_utf8_lossy(&key.summary).into_owned();
                    (
                        key.serial.raw(),
                        Key {
                            uid: key.uid,
                            summary,
                        },
                    )
                })
                .collect(),
            key_users: key_users::lines(&String::from_utf8_lossy(&users))
                .map(|user| user.uid)
                .collect(),
        })
    }

    /// The files there were, less what belongs to all instances and went with the last one: it was
    /// left by one that ended otherwise.
    fn needed_without(&self, after: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let run = Path::new(RUN);
        let of_nobody =
            |path: &Path| path == run || SHARED.iter().any(|name| path == run.join(name));
        let mut files = self.files.clone();
        files.retain(|path| after.contains(path) || !of_nobody(path));
        files
    }

    /// How `self` differs from `before`, in sentences; what others have done meanwhile left out
    /// where it can be told.
    #[must_use]
    pub fn differences(&self, before: &Self, made: &Made) -> Vec<String> {
        let mut found = Vec::new();
        if self.request_key != before.request_key {
            found.push(format!(
                "/sbin/request-key is {}, it was {}",
                shown(self.request_key),
                shown(before.request_key)
            ));
        }
        found.extend(changes("mount", &before.mounts, &self.mounts));
        found.extend(changes(
            "cgroup",
            &shown_paths(&before.cgroups),
            &shown_paths(&self.cgroups),
        ));
        found.extend(changes(
            "file",
            &shown_paths(&before.needed_without(&self.files)),
            &shown_paths(&self.files),
        ));
        for (serial, key) in &self.keys {
            let ours = made.serials.contains(serial)
                || key.uid.is_some_and(|uid| made.owns(uid))
                || key.summary.starts_with("demo:")
                || key.summary.contains(&made.instance);
            if ours && !before.keys.contains_key(serial) {
                found.push(format!(
                    "key {serial} “{}” is left",
                    view::safe(&key.summary)
                ));
            }
        }
        for uid in self.key_users.difference(&before.key_users) {
            if made.owns(*uid) {
                found.push(format!("uid {uid} of a container still owns keys"));
            }
        }
        found
    }
}

/// The checksum of `/sbin/request-key`, if there is one.
///
/// # Errors
/// When it cannot be read.
pub fn request_key() -> Result<Option<takeover::Digest>, CommandError> {
    let failed = |error: takeover::TakeOverError| {
        CommandError::failure("cannot look at /sbin/request-key").cause(error.to_string())
    };
    let program = Root::default().program().map_err(failed)?;
    match program.exists() {
        true => takeover::Digest::of(&program).map(Some).map_err(failed),
        false => Ok(None),
    }
}

/// A checksum, or that there is nothing.
#[must_use]
pub fn shown(digest: Option<takeover::Digest>) -> String {
    digest.map_or_else(|| "absent".to_owned(), |digest| digest.to_string())
}

/// The instance that a path below `/run/keyns` or `/var/lib/keyns` belongs to, if it is another one.
fn of_others<'a>(path: &'a Path, instance: &str) -> Option<&'a str> {
    let below = path
        .strip_prefix(RUN)
        .or_else(|_| path.strip_prefix(STATE))
        .ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    let shared = SHARED.contains(&first) || first.starts_with('.') || first.contains("request-key");
    (!shared && first != instance).then_some(first)
}

/// Whether a file is shared by all instances, or of this one. An entry of a shared directory names
/// its instance.
fn concerns(path: &Path, instance: &str) -> bool {
    if of_others(path, instance).is_some() {
        return false;
    }
    let entry = ["ids", "live"]
        .iter()
        .any(|directory| path.parent() == Some(&Path::new(RUN).join(directory)));
    let names_it = || fs::read_to_string(path).is_ok_and(|text| text.contains(instance));
    !entry || path.file_name().is_some_and(|name| name == ".lock") || names_it()
}

fn changes(what: &str, before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    let left = after
        .difference(before)
        .map(|name| format!("{what} is left: {}", view::safe(name)));
    let gone = before
        .difference(after)
        .map(|name| format!("{what} is gone: {}", view::safe(name)));
    left.chain(gone).collect()
}

fn shown_paths(paths: &BTreeSet<PathBuf>) -> BTreeSet<String> {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}

fn names(directory: &Path) -> Vec<std::ffi::OsString> {
    // What vanishes while it is looked at is not there.
    fs::read_dir(directory)
        .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect())
        .unwrap_or_default()
}

/// Collects `path` and everything below it, symbolic links not followed.
fn walk(path: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(about) = fs::symlink_metadata(path) else {
        return;
    };
    found.insert(path.to_owned());
    if about.is_dir() {
        for name in names(path) {
            walk(&path.join(name), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_containers_are_told_from_others() {
        let made = Made {
            ids: [(100_000, 65_536)].into(),
            ..Made::default()
        };
        assert!(made.owns(100_000) && made.owns(165_535));
        assert!(!made.owns(0) && !made.owns(165_536));
    }

    #[test]
    fn files_of_other_instances_are_nobodys_business() {
        let of = |path| of_others(Path::new(path), "demo-1");
        assert_eq!(of("/run/keyns/main/ns/3"), Some("main"));
        assert_eq!(of("/run/keyns/demo-12"), Some("demo-12"));
        assert_eq!(of("/run/keyns/demo-1/keynsd"), None);
        assert_eq!(of("/run/keyns/request-key.orig"), None);
        assert_eq!(of("/run/keyns"), None);
        assert_eq!(of("/mnt"), None);
    }

    #[test]
    fn what_is_left_and_what_is_gone_are_both_differences() {
        let before = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let after = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        assert_eq!(
            changes("x", &before, &after),
            ["x is left: c", "x is gone: a"]
        );
    }
}

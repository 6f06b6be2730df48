//! Root directories of containers.
//!
//! What a container gets to see of the host is cloned as detached mounts while the host's mount
//! namespace is still in view ([`Sources`]). Everything else runs in a mount namespace of its own,
//! before anything of the container exists. That namespace is a copy of the instance's *seed*, which
//! holds an empty directory and nothing else: a copy of the host's would hold, and have to give up
//! again, every pin of every other container.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use keyns_sys::mount;

use super::container::Root;
use super::failure::Failure;
use super::paths::SHARED;

/// The one directory of the seed, onto which a container's root is mounted.
const PLACE: &str = "/root";

/// Memory a container's own root may take.
const TMPFS_SIZE: &str = "256m";
const TMPFS_INODES: &str = "65536";

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// Devices of the host every program expects.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Mounts of the host that become part of a container's root, detached from everything.
#[derive(Debug)]
pub(super) enum Sources {
    /// None at all.
    Nothing,
    /// The root itself.
    Directory(OwnedFd),
    /// What is mounted below it.
    Usr(Vec<Source>),
}

/// A mount of the host to be put below a container's root.
#[derive(Debug)]
pub(super) struct Source {
    tree: OwnedFd,
    /// Relative to the container's root.
    place: String,
    is_directory: bool,
}

impl Sources {
    /// Clones them, from the host's mount namespace.
    ///
    /// `directory` is the descriptor of a [`Root::Dir`], opened and checked by who asked for it.
    pub(super) fn clone_for(root: &Root, directory: Option<&OwnedFd>) -> Result<Self, Failure> {
        match root {
            Root::Empty | Root::Copy => Ok(Self::Nothing),
            Root::Dir(path) => {
                let what = || format!("clone the mount at {}", path.display());
                let directory = directory.ok_or_else(|| Failure::because(what()))?;
                let tree =
                    rustix::mount::open_tree(directory, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)
                        .map_err(Failure::of(what()))?;
                mount::restrict(tree.as_fd(), mount::NODEV | mount::NOSUID).map_err(
                    Failure::of(format!("restrict the mount of {}", path.display())),
                )?;
                Ok(Self::Directory(tree))
            }
            Root::Usr => usr_sources().map(Self::Usr),
        }
    }
}

/// Replaces the calling process' mount tree, a copy of the seed, by the container's root, whose own
/// directories belong to kernel id `owner`.
pub(super) fn enter_new_root(sources: Sources, owner: u32) -> Result<(), Failure> {
    let place = Path::new(PLACE);
    let (tree, inside) = match sources {
        Sources::Directory(tree) => (tree, None),
        Sources::Nothing => (own_tmpfs(owner)?, None),
        Sources::Usr(inside) => (own_tmpfs(owner)?, Some(inside)),
    };
    attach(&tree, place).map_err(Failure::of("mount the container's root"))?;
    rustix::process::chdir(place).map_err(Failure::of("enter the container's root"))?;
    if let Some(inside) = inside {
        fill_usr(owner, inside)?;
    }
    // A clone of a shared mount is its peer, and none of the host's is to be in here.
    make_private()?;
    leave_old_root()
}

/// Makes the calling process' mount namespace the seed.
pub(super) fn become_seed() -> Result<(), Failure> {
    make_private()?;
    let tree = tmpfs(0, "0700").map_err(Failure::of("make a tmpfs"))?;
    // Any directory will do as a place to stand; this one exists wherever keyns runs.
    attach(&tree, Path::new(SHARED)).map_err(Failure::of("mount the seed's tmpfs"))?;
    rustix::process::chdir(SHARED).map_err(Failure::of("enter the seed"))?;
    fs::create_dir(PLACE.trim_start_matches('/')).map_err(Failure::of("fill the seed"))?;
    leave_old_root()
}

/// Makes the working directory the root, and detaches what was the root before.
fn leave_old_root() -> Result<(), Failure> {
    nix::unistd::pivot_root(".", ".").map_err(Failure::of("pivot to the new root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .map_err(Failure::of("detach the old root"))?;
    rustix::process::chdir("/").map_err(Failure::of("enter the new root"))
}

fn own_tmpfs(owner: u32) -> Result<OwnedFd, Failure> {
    tmpfs(owner, "0755").map_err(Failure::of("make a tmpfs"))
}

/// Stops mounts of the calling process' namespace from reaching any other.
pub(super) fn make_private() -> Result<(), Failure> {
    change_all(MountPropagationFlags::PRIVATE).map_err(Failure::of("make all mounts private"))
}

/// Lets mounts made later in this namespace reach the container's copy of it.
pub(super) fn make_shared() -> Result<(), Failure> {
    change_all(MountPropagationFlags::SHARED).map_err(Failure::of("make all mounts shared"))
}

/// Receives mounts of the host, but sends none.
pub(super) fn make_slave() -> Result<(), Failure> {
    change_all(MountPropagationFlags::DOWNSTREAM).map_err(Failure::of("make all mounts slaves"))
}

fn change_all(kind: MountPropagationFlags) -> rustix::io::Result<()> {
    rustix::mount::mount_change("/", kind | MountPropagationFlags::REC)
}

/// A detached copy of all mounts of the calling process' namespace.
pub(super) fn clone_whole() -> io::Result<OwnedFd> {
    Ok(rustix::mount::open_tree(
        CWD,
        "/",
        CLONE | OpenTreeFlags::AT_RECURSIVE,
    )?)
}

/// A procfs of the calling process' PID namespace, not attached anywhere yet.
pub(super) fn new_procfs() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?)
}

/// Attaches a detached mount at `target`.
pub(super) fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::move_mount(
        tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?)
}

fn tmpfs(owner: u32, mode: &str) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let owner = owner.to_string();
    for (key, value) in [
        ("source", "keyns"),
        ("size", TMPFS_SIZE),
        ("nr_inodes", TMPFS_INODES),
        ("mode", mode),
        ("uid", &owner),
        ("gid", &owner),
    ] {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV,
    )?)
}

fn devpts(owner: u32) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Group 5 is "tty" by convention.
    let tty = owner.saturating_add(5).to_string();
    for (key, value) in [
        ("ptmxmode", "0666"),
        ("mode", "0620"),
        ("gid", tty.as_str()),
    ] {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?)
}

/// Debian's programs behind it are links into /usr that would dangle without it.
const ALTERNATIVES: &str = "/etc/alternatives";

fn usr_sources() -> Result<Vec<Source>, Failure> {
    const READ_ONLY: u64 = mount::RDONLY | mount::NODEV | mount::NOSUID;
    let directory = |path: &str| {
        Ok(Source {
            tree: clone_mount(path, READ_ONLY)?,
            place: path.trim_start_matches('/').to_owned(),
            is_directory: true,
        })
    };
    let mut sources = vec![directory("/usr")?];
    if Path::new(ALTERNATIVES).is_dir() {
        sources.push(directory(ALTERNATIVES)?);
    }
    for name in DEVICES {
        sources.push(Source {
            tree: clone_mount(&format!("/dev/{name}"), mount::NOEXEC | mount::NOSUID)?,
            place: format!("dev/{name}"),
            is_directory: false,
        });
    }
    Ok(sources)
}

/// Clones what is mounted at `source`, with `attributes` besides those its mount has.
fn clone_mount(source: &str, attributes: u64) -> Result<OwnedFd, Failure> {
    let what = || format!("clone the mount at {source}");
    let tree = rustix::mount::open_tree(CWD, source, CLONE).map_err(Failure::of(what()))?;
    mount::restrict(tree.as_fd(), attributes).map_err(Failure::of(what()))?;
    Ok(tree)
}

fn fill_usr(owner: u32, sources: Vec<Source>) -> Result<(), Failure> {
    let own = |path: &str| {
        lchown(path, Some(owner), Some(owner)).map_err(Failure::of(format!("own /{path}")))
    };
    let directory = |path: &str, mode: u32| -> Result<(), Failure> {
        fs::create_dir(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
            .map_err(Failure::of(format!("make /{path}")))?;
        own(path)
    };
    let link = |target: &str, path: &str| -> Result<(), Failure> {
        symlink(target, path).map_err(Failure::of(format!("link /{path}")))?;
        own(path)
    };
    for (path, mode) in [
        ("etc", 0o755),
        ("dev", 0o755),
        ("proc", 0o555),
        ("sys", 0o555),
        ("run", 0o755),
        ("var", 0o755),
        ("var/tmp", 0o1777),
        ("home", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
    ] {
        directory(path, mode)?;
    }
    let dev = tmpfs(owner, "0755").map_err(Failure::of("make /dev"))?;
    attach(&dev, Path::new("dev")).map_err(Failure::of("mount /dev"))?;
    directory("dev/pts", 0o755)?;
    directory("dev/shm", 0o1777)?;
    let pts = devpts(owner).map_err(Failure::of("make /dev/pts"))?;
    attach(&pts, Path::new("dev/pts")).map_err(Failure::of("mount /dev/pts"))?;
    for (target, path) in [
        ("pts/ptmx", "dev/ptmx"),
        ("/proc/self/fd", "dev/fd"),
        ("/proc/self/fd/0", "dev/stdin"),
        ("/proc/self/fd/1", "dev/stdout"),
        ("/proc/self/fd/2", "dev/stderr"),
    ] {
        link(target, path)?;
    }

    for (path, text) in [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
        ),
        ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        (
            "etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n",
        ),
    ] {
        fs::write(path, text).map_err(Failure::of(format!("write /{path}")))?;
        own(path)?;
    }
    for source in sources {
        let place = source.place.as_str();
        if source.is_directory {
            directory(place, 0o755)?;
        } else {
            fs::write(place, "").map_err(Failure::of(format!("make /{place}")))?;
        }
        attach(&source.tree, Path::new(place)).map_err(Failure::of(format!("mount /{place}")))?;
    }
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let merged = Path::new("usr").join(name);
        if merged.is_dir() {
            link(&format!("usr/{name}"), name)?;
        }
    }
    Ok(())
}

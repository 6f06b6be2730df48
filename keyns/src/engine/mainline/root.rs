//! Root directories of containers.
//!
//! All of this runs in a mount namespace of its own whose mounts are private, before anything of
//! the container exists; sources are paths of the host.

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

use super::super::container::Root;
use super::failure::Failure;
use super::paths::SHARED;

/// Memory a container's own root may take.
const TMPFS_SIZE: &str = "256m";
const TMPFS_INODES: &str = "65536";

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

/// Devices of the host every program expects.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Replaces the calling process' mount tree by `root`, owned by kernel id `owner`, and detaches
/// the host's.
///
/// `directory` is the descriptor of a [`Root::Dir`], opened and checked by who asked for it.
pub(super) fn enter_new_root(
    root: &Root,
    directory: Option<&OwnedFd>,
    owner: u32,
) -> Result<(), Failure> {
    // Any directory will do as a place to stand; this one exists wherever keyns runs.
    let place = Path::new(SHARED);
    match root {
        Root::Empty | Root::Usr => {
            let tree = tmpfs(owner, "0755").map_err(Failure::of("make a tmpfs"))?;
            attach(&tree, place).map_err(Failure::of("mount the container's tmpfs"))?;
        }
        Root::Dir(path) => {
            let what = || format!("clone the mount at {}", path.display());
            let directory = directory.ok_or_else(|| Failure::because(what()))?;
            let tree =
                rustix::mount::open_tree(directory, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)
                    .map_err(Failure::of(what()))?;
            mount::restrict(tree.as_fd(), mount::NODEV | mount::NOSUID).map_err(Failure::of(
                format!("restrict the mount of {}", path.display()),
            ))?;
            attach(&tree, place).map_err(Failure::of("mount the container's root"))?;
        }
        Root::Copy => return Ok(()),
    }
    rustix::process::chdir(place).map_err(Failure::of("enter the container's root"))?;
    if *root == Root::Usr {
        fill_usr(owner)?;
    }
    nix::unistd::pivot_root(".", ".").map_err(Failure::of("pivot to the container's root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .map_err(Failure::of("detach the host's root"))?;
    rustix::process::chdir("/").map_err(Failure::of("enter the container's root"))
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

/// Binds `source` of the host at `target`, with `attributes` besides those its mount has.
fn bind(source: &str, target: &str, attributes: u64) -> Result<(), Failure> {
    let what = || format!("bind {source}");
    let tree = rustix::mount::open_tree(CWD, source, CLONE).map_err(Failure::of(what()))?;
    mount::restrict(tree.as_fd(), attributes).map_err(Failure::of(what()))?;
    attach(&tree, Path::new(target)).map_err(Failure::of(what()))
}

fn fill_usr(owner: u32) -> Result<(), Failure> {
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
        ("usr", 0o755),
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
    bind("/usr", "usr", mount::RDONLY | mount::NODEV | mount::NOSUID)?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let merged = Path::new("/usr").join(name);
        if merged.is_dir() {
            link(&format!("usr/{name}"), name)?;
        }
    }

    let dev = tmpfs(owner, "0755").map_err(Failure::of("make /dev"))?;
    attach(&dev, Path::new("dev")).map_err(Failure::of("mount /dev"))?;
    for name in DEVICES {
        let path = format!("dev/{name}");
        fs::write(&path, "").map_err(Failure::of(format!("make /{path}")))?;
        bind(
            &format!("/dev/{name}"),
            &path,
            mount::NOEXEC | mount::NOSUID,
        )?;
    }
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
    // Debian's programs behind /etc/alternatives are links into /usr that would dangle otherwise.
    if Path::new("/etc/alternatives").is_dir() {
        directory("etc/alternatives", 0o755)?;
        bind(
            "/etc/alternatives",
            "etc/alternatives",
            mount::RDONLY | mount::NODEV | mount::NOSUID,
        )?;
    }
    Ok(())
}

//! `test-container [ROOT [PROGRAM ARGUMENT…]]`: a container by hand, on a kernel that has them.
//!
//! Makes the container `foo-test` with mounts and a PID namespace of its own, and ROOT, a directory of
//! this machine (`/` if none is named), as what it sees of the world; gives it a keyring in which the
//! kernel finds the key `foobar` for its processes; has its requests for keys of type `user` linked into
//! the keyring `upcall` of this session, where `test-upcall` waits for them; and runs PROGRAM in it
//! (`/bin/bash`), with this terminal.
//!
//! The container dies with the last descriptor of it, which is this program's.

use std::error::Error;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use keyns_sys::container::{self, flags};
use keyns_sys::container_abi::{ContainerAbi, Feature};
use keyns_sys::container_key::{self, Subject, rights};
use keyns_sys::process::{self, Fork, SingleThreaded};
use keyns_sys::{KeySerial, execute, key};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

/// What goes wrong, and where.
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let alone = SingleThreaded::prove()?;
    let mut words = std::env::args_os().skip(1);
    let root = words
        .next()
        .map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let mut program: Vec<CString> = Vec::new();
    for word in words {
        program.push(CString::new(word.into_encoded_bytes())?);
    }
    if program.is_empty() {
        program.push(c"/bin/bash".into());
    }
    let abi = ContainerAbi::read()?.ok_or("this kernel has no containers")?;
    let own = container_key::own_container_keyring(&abi)
        .ok_or("this kernel has no container keyrings")?;

    // A kernel that cannot mount into containers can let this one see what is mounted here.
    let mounts = abi.has(Feature::Mounts);
    let own_mounts = if mounts {
        flags::NEW_EMPTY_FS_NS
    } else {
        flags::NEW_FS_NS
    };
    let container = step(
        "make the container",
        container::create(
            &abi,
            c"foo-test",
            own_mounts | flags::NEW_PID_NS | flags::KILL_ON_CLOSE,
        ),
    )?;
    print!("{}", fs::read_to_string("/proc/containers")?);
    if mounts {
        mount(&abi, &container, &root)?;
    } else {
        println!("This kernel cannot mount into containers; its root is a copy of ours");
    }
    give_keys(&abi, &container)?;

    match step(
        "fork into the container",
        container::fork_into(&alone, &abi, container.as_fd()),
    )? {
        Fork::Child => {
            drop(container);
            step("make a session keyring", key::join_session_keyring(None))?;
            let keyring = step("find the keyring", key::get_keyring_id(own, false))?;
            println!("The keyring of this container is {keyring}");
            process::close_all_but(&alone, 3, &[])?;
            let words: Vec<_> = program.iter().map(CString::as_c_str).collect();
            let first = words.first().copied().unwrap_or(c"/bin/bash");
            Err(execute::along_path(first, &words).into())
        }
        Fork::Parent { pid, .. } => {
            // Whatever else its process starts dies with it.
            let child = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
            let status = nix::sys::wait::waitpid(child, None)?;
            println!("{status:?}");
            Ok(())
        }
    }
}

/// The tree at `root` as the container's root, and in it a procfs that shows its processes.
fn mount(abi: &ContainerAbi, container: &OwnedFd, root: &Path) -> Outcome<()> {
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = step(
        "clone the tree",
        rustix::mount::open_tree(rustix::fs::CWD, root, clone).map_err(Into::into),
    )?;
    step(
        "set the container’s root",
        container::set_root(abi, tree.as_fd(), container.as_fd()),
    )?;
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    step(
        "make a procfs for the container",
        container::make_file_system_for(abi, context.as_fd(), container.as_fd()),
    )?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let procfs = rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    step(
        "mount the procfs in the container",
        container::mount_below(abi, procfs.as_fd(), container.as_fd(), c"proc"),
    )
}

/// The container keyring, a key in it, and the queue for requests.
fn give_keys(abi: &ContainerAbi, container: &OwnedFd) -> Outcome<()> {
    let subject = Subject::Container(container.as_fd());
    let keyring = step(
        "add the container keyring",
        key::add_key(c"keyring", c"_container", b"", KeySerial::SESSION),
    )?;
    step(
        "let the container search its keyring",
        container_key::grant_permission(abi, keyring, subject, rights::SEARCH),
    )?;
    step(
        "take the rights of the keyring’s owner",
        container_key::grant_permission(abi, keyring, Subject::Owner, 0),
    )?;
    step(
        "attach the container keyring",
        container_key::set_container_keyring(abi, container.as_fd(), keyring),
    )?;
    let added = step(
        "add a key",
        key::add_key(c"user", c"foobar", b"wibble", keyring),
    )?;
    // Not LINK: who may link a key possesses it, and has what possessors have.
    step(
        "let the container have the key",
        container_key::grant_permission(
            abi,
            added,
            subject,
            rights::VIEW | rights::READ | rights::SEARCH,
        ),
    )?;
    let queue = step(
        "add the queue",
        key::add_key(c"keyring", c"upcall", b"", KeySerial::SESSION),
    )?;
    step(
        "have requests queued",
        container_key::intercept(abi, container.as_fd(), c"user", None, queue),
    )?;
    println!("keyring {keyring}, key {added}, queue {queue}");
    Ok(())
}

/// Names the step that failed.
fn step<T>(what: &str, done: std::io::Result<T>) -> Outcome<T> {
    done.map_err(|error| format!("cannot {what}: {error}").into())
}

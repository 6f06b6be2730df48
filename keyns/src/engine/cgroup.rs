//! The cgroups of containers: kill, and the proof that nothing is left.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::container::ContainerId;

const MONITORS: &str = "monitors";
const MONITOR_PATIENCE: Duration = Duration::from_secs(2);
/// Processes and threads of a container with those nested in it. Each can ask for a key and wait for
/// it; what services have is a fraction of this.
const MOST_PROCESSES: u32 = 4096;

/// The cgroup2 subtree of an instance.
#[derive(Clone, Debug)]
pub struct Cgroups {
    mount: PathBuf,
    top: PathBuf,
}

impl Cgroups {
    /// Makes the instance's directory below the cgroup2 mount point.
    ///
    /// # Errors
    /// When there is no cgroup2, or it is too old for `cgroup.kill` (Linux 5.14).
    pub fn open(mount: PathBuf, instance: &str) -> io::Result<Self> {
        let top = mount.join(format!("keyns-{instance}"));
        fs::create_dir_all(top.join(MONITORS))?;
        if !top.join("cgroup.kill").exists() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let cgroups = Self { mount, top };
        if cgroups.can_limit()? {
            fs::write(cgroups.top.join("cgroup.subtree_control"), "+pids")?;
        }
        Ok(cgroups)
    }

    /// Whether the machine gives the instance the `pids` controller. It is not demanded of the cgroup
    /// above, which is not ours: where nothing distributes controllers, or a version 1 hierarchy has
    /// this one, containers have no limit.
    fn can_limit(&self) -> io::Result<bool> {
        let controllers = fs::read_to_string(self.top.join("cgroup.controllers"))?;
        Ok(controllers.split_whitespace().any(|name| name == "pids"))
    }

    /// Limits the processes of a container that is nested in no other, if the machine can.
    ///
    /// # Errors
    /// Those of writing `pids.max`.
    pub fn limit(&self, directory: &Path) -> io::Result<()> {
        if self.can_limit()? {
            fs::write(directory.join("pids.max"), MOST_PROCESSES.to_string())?;
        }
        Ok(())
    }

    /// Where the monitors are: not where the daemon is, so that whatever ends the daemon's cgroup
    /// leaves them.
    #[must_use]
    pub fn monitors(&self) -> PathBuf {
        self.top.join(MONITORS)
    }

    /// Directory of a container, nested ones below their parent's.
    #[must_use]
    pub fn directory(&self, parent: Option<&Path>, id: ContainerId) -> PathBuf {
        parent.unwrap_or(&self.top).join(id.to_string())
    }

    /// The path of `directory` as `/proc/PID/cgroup` shows it.
    #[must_use]
    pub fn kernel_path(&self, directory: &Path) -> PathBuf {
        let below = directory.strip_prefix(&self.mount).unwrap_or(directory);
        Path::new("/").join(below)
    }

    /// Removes the instance's directory if nothing is in it.
    ///
    /// # Errors
    /// `rmdir(2)`: `EBUSY` while a container is left.
    pub fn remove(&self) -> io::Result<()> {
        // The last monitor may just be ending.
        kill(&self.monitors(), MONITOR_PATIENCE)?;
        fs::remove_dir(self.monitors())?;
        fs::remove_dir(&self.top)
    }

    /// Removes the directory of an instance without containers and monitors.
    ///
    /// # Errors
    /// `rmdir(2)`: `EBUSY` while something is in it.
    pub fn remove_unused(mount: &Path, instance: &str) -> io::Result<()> {
        let top = mount.join(format!("keyns-{instance}"));
        for directory in [&top.join(MONITORS), &top] {
            match fs::remove_dir(directory) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// Directories of containers directly below the instance's, for cleaning up after a crash.
    ///
    /// # Errors
    /// `readdir(3)`.
    pub fn leftovers(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.top)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && entry.file_name() != MONITORS {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

/// Opens a cgroup directory for `CLONE_INTO_CGROUP`.
///
/// # Errors
/// `open(2)`.
pub fn open(directory: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        directory,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Whether a process is left in `directory` or below (`cgroup.events`).
///
/// # Errors
/// `NotFound` when the directory is gone.
pub fn populated(directory: &Path) -> io::Result<bool> {
    let events = fs::read_to_string(directory.join("cgroup.events"))?;
    Ok(events.lines().any(|line| line == "populated 1"))
}

/// Kills everything in `directory` and below; true: something is left yet.
///
/// # Errors
/// Those of writing `cgroup.kill`; a directory that is gone is none.
pub fn kill_now(directory: &Path) -> io::Result<bool> {
    match fs::write(directory.join("cgroup.kill"), "1") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    }
    populated(directory)
}

/// Kills everything in `directory` and below and waits until nothing is left.
///
/// # Errors
/// `TimedOut` when a process is left after `patience`, e.g. one that waits for an upcall.
pub fn kill(directory: &Path, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(200);
    while kill_now(directory)? {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    Ok(())
}

/// Removes `directory` and those below it; all must be empty of processes.
///
/// # Errors
/// `rmdir(2)`.
pub fn remove(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as the kernel has them; the one that tests run on may have the controller elsewhere.
    fn hierarchy(controllers: &str) -> (tempfile::TempDir, io::Result<Cgroups>) {
        let mount = tempfile::tempdir().unwrap();
        let top = mount.path().join("keyns-x");
        fs::create_dir_all(top.join("1")).unwrap();
        fs::write(top.join("cgroup.kill"), "").unwrap();
        fs::write(top.join("cgroup.controllers"), controllers).unwrap();
        let cgroups = Cgroups::open(mount.path().into(), "x");
        (mount, cgroups)
    }

    #[test]
    fn a_container_has_at_most_4096_processes_where_the_controller_is_given() {
        let (mount, cgroups) = hierarchy("cpu pids io\n");
        let top = mount.path().join("keyns-x");
        let control = fs::read_to_string(top.join("cgroup.subtree_control"));
        assert_eq!(control.unwrap(), "+pids");
        cgroups.unwrap().limit(&top.join("1")).unwrap();
        let most = fs::read_to_string(top.join("1/pids.max")).unwrap();
        assert_eq!(most, "4096");
    }

    #[test]
    fn without_the_controller_nothing_is_asked_of_the_machine() {
        let (mount, cgroups) = hierarchy("cpu rpids\n");
        let top = mount.path().join("keyns-x");
        cgroups.unwrap().limit(&top.join("1")).unwrap();
        assert!(!top.join("cgroup.subtree_control").exists());
        assert!(!top.join("1/pids.max").exists());
    }
}

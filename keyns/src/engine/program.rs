//! Starting the engine's helper programs.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags};

/// A helper program as a sealed copy in memory.
///
/// A container without a user namespace might overwrite a file of the host; it cannot change a
/// sealed copy, not even through `/proc/PID/exe`.
#[derive(Debug)]
pub struct SealedProgram {
    name: String,
    image: OwnedFd,
}

impl SealedProgram {
    /// Copies the program at `path` and seals the copy.
    ///
    /// # Errors
    /// Those of reading the file and of `memfd_create(2)`; `ENOEXEC` for what is no ELF program,
    /// which starting it would hand to a shell (`execvp(3)`).
    pub fn load(path: &Path) -> io::Result<Self> {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut source = File::open(path)?;
        let image =
            rustix::fs::memfd_create(&name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut copy = File::from(image);
        let mut magic = [0; 4];
        source.read_exact(&mut magic).map_err(|_| no_program())?;
        if magic != *b"\x7fELF" {
            return Err(no_program());
        }
        copy.write_all(&magic)?;
        io::copy(&mut source, &mut copy)?;
        let image = OwnedFd::from(copy);
        rustix::fs::fcntl_add_seals(
            &image,
            SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
        )?;
        Ok(Self { name, image })
    }

    /// Starts it with an empty environment, `arguments`, and `socket` as standard input.
    ///
    /// # Errors
    /// Those of starting a process.
    pub fn start(&self, arguments: &[&str], socket: impl AsFd) -> io::Result<Child> {
        use std::os::unix::process::CommandExt as _;

        let path = format!("/proc/self/fd/{}", self.image.as_fd().as_raw_fd());
        Command::new(path)
            .arg0(&self.name)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(socket.as_fd().try_clone_to_owned()?))
            .stdout(Stdio::null())
            .spawn()
    }
}

fn no_program() -> io::Error {
    rustix::io::Errno::NOEXEC.into()
}

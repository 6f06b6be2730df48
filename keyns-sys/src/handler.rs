//! Programs that a helper starts to have a key made.
//!
//! The standard library would do, were it not for signals: it gives the program another disposition
//! of `SIGPIPE` than the helper has, and `request-key` has always started handlers that ignore it.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::process::{self, Ending};

unsafe extern "C" {
    /// The environment of this process (`environ(7)`).
    static environ: *const *const libc::c_char;
}

fn pointers(arguments: &[CString]) -> Vec<*const libc::c_char> {
    let words = arguments.iter().map(|word| word.as_ptr());
    words.chain([ptr::null()]).collect()
}

/// A program that was started and not waited for yet.
#[derive(Debug)]
pub struct Child(libc::pid_t);

/// Starts a program with `descriptors` as its standard input, output and error output, and the
/// environment of this process. Other descriptors must be closed on execution.
///
/// # Errors
/// `execve(2)` and `vfork(2)`: the program runs, or there is an error.
pub fn start(
    program: &CStr,
    arguments: &[CString],
    descriptors: [BorrowedFd<'_>; 3],
) -> io::Result<Child> {
    let pointers = pointers(arguments);
    let actions = Actions::new(descriptors)?;
    let mut pid = 0;
    // Safety: as for `execute`; the actions are initialised, and no attributes are given.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            actions.0.as_ptr(),
            ptr::null(),
            pointers.as_ptr().cast(),
            environ.cast(),
        )
    };
    success(error)?;
    Ok(Child(pid))
}

impl Child {
    /// Waits for the end of the program.
    ///
    /// # Errors
    /// None is expected (`waitpid(2)`).
    pub fn wait(self) -> io::Result<Ending> {
        process::wait(self.0).map(|(_, ending)| ending)
    }
}

/// What the new process does before it executes the program.
struct Actions(MaybeUninit<libc::posix_spawn_file_actions_t>);

impl Actions {
    fn new(descriptors: [BorrowedFd<'_>; 3]) -> io::Result<Self> {
        let mut actions = MaybeUninit::uninit();
        // Safety: it initialises what it is given.
        success(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        let mut actions = Self(actions);
        for (descriptor, to) in descriptors.iter().zip(0..) {
            // Safety: initialised above.
            success(unsafe {
                libc::posix_spawn_file_actions_adddup2(
                    actions.0.as_mut_ptr(),
                    descriptor.as_raw_fd(),
                    to,
                )
            })?;
        }
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // Safety: `new` makes no other than initialised ones.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

/// The functions of `posix_spawn(3)` return the error itself.
fn success(error: libc::c_int) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use super::*;

    fn run(program: &CStr, words: &[&str]) -> io::Result<(Ending, String)> {
        let (mut reader, writer) = io::pipe()?;
        let null = File::open("/dev/null")?;
        let words: Vec<CString> = words.iter().map(|w| CString::new(*w).unwrap()).collect();
        let child = start(
            program,
            &words,
            [null.as_fd(), writer.as_fd(), writer.as_fd()],
        )?;
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said)?;
        Ok((child.wait()?, said))
    }

    #[test]
    fn a_program_gets_its_name_arguments_descriptors_and_the_environment() {
        let script = "echo $0 $1 ${PATH:+path}; echo error >&2; cat; exit 7";
        let (ending, said) = run(c"/bin/sh", &["sh", "-c", script, "name", "one"]).unwrap();
        assert_eq!(ending, Ending::Exited(7));
        assert_eq!(said, "name one path\nerror\n");
    }

    #[test]
    fn what_cannot_be_executed_is_an_error_and_no_child() {
        let failed = run(c"/nonexistent/program", &["program"]).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_signal_is_told_from_a_status() {
        let (ending, _) = run(c"/bin/sh", &["sh", "-c", "kill -9 $$"]).unwrap();
        assert_eq!(ending, Ending::Killed(9));
    }
}

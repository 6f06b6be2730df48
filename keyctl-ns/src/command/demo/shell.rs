//! Command lines, run as they are printed.

use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use super::programs::Programs;
use crate::error::{CommandError, ErrorKind};

/// How long a command may take that waits for nothing in particular.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a command that was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(2);

/// How often it is looked whether something has happened.
pub const EVERY: Duration = Duration::from_millis(5);

/// A command line.
#[derive(Debug, Clone)]
pub struct Line {
    words: Vec<String>,
    input: Option<String>,
}

impl Line {
    /// `keyctl-ns` with these words.
    #[must_use]
    pub fn keyctl(words: &[&str]) -> Self {
        Self::of("keyctl-ns", words)
    }

    /// The probe outside of containers.
    #[must_use]
    pub fn probe(words: &[&str]) -> Self {
        Self::of("$PROBE", words)
    }

    /// The probe in a container, as a further process.
    #[must_use]
    pub fn inside(container: &str, words: &[&str]) -> Self {
        let own = [
            "container",
            "exec",
            container,
            "--program",
            "$PROBE",
            "--",
            "probe",
        ];
        Self::of("keyctl-ns", &[&own, words].concat())
    }

    /// Any program of the system.
    #[must_use]
    pub fn of(program: &str, words: &[&str]) -> Self {
        let words = std::iter::once(program).chain(words.iter().copied());
        Self {
            words: words.map(str::to_owned).collect(),
            input: None,
        }
    }

    /// With this text on standard input.
    #[must_use]
    pub fn input(mut self, text: &str) -> Self {
        self.input = Some(text.to_owned());
        self
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(text) = &self.input {
            write!(f, "printf %s {} | ", quoted(text))?;
        }
        for (n, word) in self.words.iter().enumerate() {
            let space = if n > 0 { " " } else { "" };
            write!(f, "{space}{}", quoted(word))?;
        }
        Ok(())
    }
}

/// A word as a shell needs it.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:,@%=+".contains(&b);
    if word == "$PROBE" || (!word.is_empty() && word.bytes().all(plain)) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What a command line has come to.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line.
    pub line: String,
    /// Its exit status; 128 and the number of the signal that ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Whether it succeeded.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status == 0
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// Runs command lines.
#[derive(Debug, Clone)]
pub struct Shell {
    programs: Programs,
    socket: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Shell {
    /// A shell whose commands speak with the daemon behind `socket`, until `interrupted` is set.
    #[must_use]
    pub fn new(programs: Programs, socket: PathBuf, interrupted: Arc<AtomicBool>) -> Self {
        Self {
            programs,
            socket,
            interrupted,
        }
    }

    /// The same for what must be done even if the demo was told to stop.
    #[must_use]
    pub fn undisturbed(&self) -> Self {
        Self {
            interrupted: Arc::default(),
            ..self.clone()
        }
    }

    /// Fails once the demo was told to stop.
    ///
    /// # Errors
    /// Says that it was interrupted.
    pub fn go_on(&self) -> Result<(), CommandError> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(CommandError::failure("interrupted"));
        }
        Ok(())
    }

    /// Waits until `happened` returns something.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] naming `what`; the errors of `happened`.
    pub fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut happened: impl FnMut() -> Result<Option<T>, CommandError>,
    ) -> Result<T, CommandError> {
        let begin = Instant::now();
        loop {
            self.go_on()?;
            if let Some(done) = happened()? {
                return Ok(done);
            }
            if begin.elapsed() > patience {
                return Err(CommandError::new(
                    ErrorKind::TimedOut,
                    format!("{what}: not within {} s", patience.as_secs()),
                ));
            }
            sleep(EVERY);
        }
    }

    /// Starts a command.
    ///
    /// # Errors
    /// When its program cannot be executed.
    pub fn start(&self, line: &Line) -> Result<Running, CommandError> {
        let mut words = line.words.iter().map(|word| match word.as_str() {
            "$PROBE" => self.programs.probe.clone().into_os_string(),
            "keyctl-ns" => self.programs.keyctl_ns.clone().into_os_string(),
            other => OsString::from(other),
        });
        let program = words.next().unwrap_or_default();
        let failed = |error: io::Error| CommandError::io(format!("cannot run: {line}"), &error);
        let mut child = Command::new(program)
            .args(words)
            .env("KEYNS_SOCKET", &self.socket)
            .env("PROBE", &self.programs.probe)
            .stdin(if line.input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let (Some(text), Some(mut stdin)) = (&line.input, child.stdin.take()) {
            // A command that does not read its input says why by its exit status.
            let _ = stdin.write_all(text.as_bytes());
        }
        Ok(Running {
            line: line.to_string(),
            stdout: child.stdout.take().map(collect),
            stderr: child.stderr.take().map(collect),
            child,
        })
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::finish`].
    pub fn run(&self, line: &Line) -> Result<Ran, CommandError> {
        let running = self.start(line)?;
        self.finish(running, PATIENCE)
    }

    /// Waits for the end of a command; one that does not end is killed.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] when it did not end by itself; when the demo was interrupted.
    pub fn finish(&self, mut running: Running, patience: Duration) -> Result<Ran, CommandError> {
        let waiting = format!("the end of: {}", running.line);
        let status = self.until(&waiting, patience, || running.ended());
        match status {
            Ok(status) => Ok(running.ran(status)),
            Err(error) => {
                running.kill();
                Err(error)
            }
        }
    }
}

impl Running {
    /// The command line.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Kills it. A process that waits for a key cannot be killed before its request has ended, and
    /// is not waited for longer than it is worth.
    pub fn kill(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < KILLED {
            sleep(EVERY);
        }
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It is our child and was not waited for: the number is still its own.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, CommandError> {
        self.child
            .try_wait()
            .map_err(|error| CommandError::io(format!("cannot wait for: {}", self.line), &error))
    }

    fn ran(mut self, status: ExitStatus) -> Ran {
        let text = |reader: Option<JoinHandle<Vec<u8>>>| {
            let bytes = reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let status = status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ran {
            status,
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            line: std::mem::take(&mut self.line),
        }
    }
}

/// Reads to the end, so that no command waits for a full pipe.
fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is all there is to show.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn a_command_line_is_shown_as_a_shell_takes_it() {
        let line = Line::keyctl(&["answer", "7", "--payload-stdin"]).input("it's");
        assert_eq!(
            line.to_string(),
            "printf %s 'it'\\''s' | keyctl-ns answer 7 --payload-stdin"
        );
        let line = Line::inside("demo", &["request", "user", "pid:1;uid:0", ""]);
        assert_eq!(
            line.to_string(),
            "keyctl-ns container exec demo --program $PROBE -- probe request user 'pid:1;uid:0' ''"
        );
    }
}

//! A process in namespaces of its own that asks for one key when it is told to.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What a denizen asks for.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) description: String,
    pub(crate) callout: &'static str,
    /// From a thread that is not the leader of its process.
    pub(crate) by_thread: bool,
}

/// A key of type `user`.
pub(crate) fn wish(description: impl Into<String>) -> Wish {
    Wish {
        description: description.into(),
        callout: "information",
        by_thread: false,
    }
}

/// What `request_key(2)` gave: the payload, or the errno.
pub(crate) type Answer = Result<String, i32>;

/// Namespaces of a container with the identity of root inside.
pub(crate) const CONTAINER: &[&str] = &[
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--mount-proc",
];

/// The process, waiting for the word.
pub(crate) struct Denizen {
    child: Child,
    say: Option<ChildStdin>,
    hear: BufReader<ChildStdout>,
    pub(crate) pid_ns: u64,
    pub(crate) user_ns: u64,
}

impl Denizen {
    /// Starts it below the given command line.
    pub(crate) fn start(below: &[&str], wish: &Wish) -> Self {
        Self::start_program(below, env!("CARGO_BIN_EXE_requester"), wish)
    }

    /// Same from another copy of the program.
    pub(crate) fn start_program(below: &[&str], program: &str, wish: &Wish) -> Self {
        let mut line: Vec<&str> = below.to_vec();
        line.extend([program, "user", &wish.description, wish.callout]);
        line.extend(wish.by_thread.then_some("thread"));
        let (first, arguments) = line.split_first().unwrap();
        let mut command = Command::new(first);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let say = child.stdin.take();
        let hear = BufReader::new(child.stdout.take().unwrap());
        let mut denizen = Self {
            child,
            say,
            hear,
            pid_ns: 0,
            user_ns: 0,
        };
        let ready = denizen.line();
        let numbers: Vec<&str> = ready.split(' ').collect();
        let ["ready", pid_ns, user_ns] = numbers[..] else {
            panic!("{ready}")
        };
        denizen.pid_ns = pid_ns.parse().unwrap();
        denizen.user_ns = user_ns.parse().unwrap();
        denizen
    }

    /// Tells it to ask.
    pub(crate) fn ask(&mut self) {
        self.say.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// Waits for what it got.
    pub(crate) fn answer(&mut self) -> Answer {
        let text = self.line();
        match text.split_once(' ').unwrap() {
            ("errno", number) => Err(number.parse().unwrap()),
            ("payload", payload) => Ok(payload.to_owned()),
            _ => panic!("{text}"),
        }
    }

    /// Both.
    pub(crate) fn ask_and_wait(&mut self) -> Answer {
        self.ask();
        self.answer()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(
            self.hear.read_line(&mut line).unwrap() > 0,
            "the denizen ended"
        );
        line.trim_end().to_owned()
    }
}

impl Drop for Denizen {
    fn drop(&mut self) {
        // Without the word it ends by itself, as it does once its request is over.
        self.say = None;
        let _ = self.child.wait();
    }
}

//! `org.keyns.Containers`: container objects and the processes in them.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::keys::KeyInfo;
use crate::method::{Empty, method};
use crate::text::ByteText;
use crate::upcalls::Rule;

/// A namespace a container may have of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// User ids; the container gets 65,536 ids of its own (a nested one a slice of its parent's).
    User,
    /// Process ids; the first process is its PID 1.
    Pid,
    /// Mounts; see [`Root`].
    Mount,
    /// Network.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Cgroup root.
    Cgroup,
}

/// What a container with its own mount namespace has as its root directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// An empty tmpfs; programs are entered by descriptor.
    #[serde(with = "crate::unit")]
    #[default]
    Empty,
    /// A tmpfs with `/usr` bound read-only, the usual links, devpts and a minimal `/etc`.
    #[serde(with = "crate::unit")]
    Usr,
    /// A directory of the host (never `/`).
    Dir(ByteText),
    /// A copy of the host's mounts.
    #[serde(with = "crate::unit")]
    Copy,
}

/// Creates a container; nothing runs in it yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// `web`, or `web.db` for a container nested in `web`.
    pub name: String,
    /// Namespaces of its own; the others are shared with the parent.
    pub namespaces: Vec<Namespace>,
    /// Root directory, if `mount` is among the namespaces.
    #[serde(default)]
    pub root: Root,
    /// Lease: the reply carries a descriptor, and closing its last copy kills the container.
    #[serde(default)]
    pub kill_on_close: bool,
}
method!(Create, "org.keyns.Containers.Create" => Created);

/// The new container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Created {
    /// The container.
    pub container: ContainerInfo,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing was started in it yet.
    Created,
    /// Its first process lives.
    Running,
    /// Being killed.
    Dying,
    /// Its first process ended, or it was killed; final.
    Dead,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// Exited with this code, 0 to 255.
    Exited(i32),
    /// Ended by this signal.
    Killed(i32),
    /// Nobody saw it (its monitor was lost).
    #[serde(with = "crate::unit")]
    Unknown,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Number, never reused by this instance.
    pub id: u64,
    /// Full name, components joined by `.`.
    pub name: String,
    /// Number of the container it is nested in.
    pub parent: Option<u64>,
    /// State.
    pub state: State,
    /// Namespaces of its own.
    pub namespaces: Vec<Namespace>,
    /// Root directory, if it has a mount namespace of its own.
    pub root: Option<Root>,
    /// First kernel uid (and gid) of its range, if it has a user namespace.
    pub uid_base: Option<u32>,
    /// Size of the range.
    pub uid_count: Option<u32>,
    /// Serial of the container keyring.
    pub keyring: Option<i32>,
    /// Process id of its first process on the host.
    pub init_pid: Option<u32>,
    /// How its first process ended.
    pub exit: Option<ExitStatus>,
    /// Seconds since the epoch.
    pub created: u64,
    /// Whether closing the lease kills it.
    pub kill_on_close: bool,
    /// Sentences on what is not isolated, e.g. without a user namespace.
    pub caveats: Vec<String>,
}

/// A process started in a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Number of the process within its container, from 1 (the first process).
    pub process: u64,
    /// Process id on the host.
    pub pid: u32,
    /// Program and arguments as given.
    pub command: Vec<ByteText>,
    /// How it ended; absent while it lives.
    pub exit: Option<ExitStatus>,
}

/// Lists the living containers (with `dead`, the dead ones that were not removed too).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Also the dead.
    #[serde(default)]
    pub dead: bool,
}
method!(List, "org.keyns.Containers.List" => Listing);

/// Containers in order of creation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The containers.
    pub containers: Vec<ContainerInfo>,
}

/// Everything about one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// Name or number.
    pub container: String,
}
method!(Show, "org.keyns.Containers.Show" => Shown);

/// A container with its processes, keys and rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The container.
    pub container: ContainerInfo,
    /// Processes started in it.
    pub processes: Vec<ProcessInfo>,
    /// Keys put into it by the manager, granted or not.
    pub keys: Vec<KeyInfo>,
    /// Interception rules.
    pub rules: Vec<Rule>,
}

/// The container keyring as the kernel has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetKeyring {
    /// Name or number.
    pub container: String,
}
method!(GetKeyring, "org.keyns.Containers.GetKeyring" => Keyring);

/// A container keyring and the keys its denizens can find.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keyring {
    /// The keyring itself.
    pub keyring: KeyInfo,
    /// The keys linked in it: copies made by grants.
    pub keys: Vec<KeyInfo>,
}

/// Starts the first process of a container (`Run`) or a further one (`Exec`).
///
/// Descriptors passed with the call: standard input, output and error unless `terminal`; then the
/// program, if `program_passed`. With `terminal` the reply carries the terminal's master side.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name or number.
    pub container: String,
    /// Program and arguments; the program is a path inside the container, or the name shown for
    /// the descriptor passed.
    pub command: Vec<ByteText>,
    /// `NAME=value` strings.
    #[serde(default)]
    pub environment: Vec<ByteText>,
    /// User id inside the container.
    #[serde(default)]
    pub uid: u32,
    /// Group id inside the container.
    #[serde(default)]
    pub gid: u32,
    /// Give it a terminal of the container's own.
    #[serde(default)]
    pub terminal: bool,
    /// Execute the descriptor passed (`fexecve`) rather than a path.
    #[serde(default)]
    pub program_passed: bool,
}
method!(Run, "org.keyns.Containers.Run" => Started);

/// As [`Run`], for a container that runs already.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Exec(pub Run);
method!(Exec, "org.keyns.Containers.Exec" => Started);

/// A process was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// Its number within the container.
    pub process: u64,
    /// Its id on the host.
    pub pid: u32,
}

/// A descriptor of a living process, a pidfd.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenProcess {
    /// Name or number.
    pub container: String,
    /// Number within the container; absent: the first process.
    #[serde(default)]
    pub process: Option<u64>,
}
method!(OpenProcess, "org.keyns.Containers.OpenProcess" => Opened);

/// The process whose pidfd comes along.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    /// Its id on the host.
    pub pid: u32,
}

/// Waits for the end of a process (default: the first one).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// Name or number.
    pub container: String,
    /// Number of the process within the container.
    #[serde(default)]
    pub process: Option<u64>,
}
method!(Wait, "org.keyns.Containers.Wait" => Ended);

/// A process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// How.
    pub exit: ExitStatus,
}

/// Sends a signal to the first process, or kills the container and everything in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Name or number.
    pub container: String,
    /// Signal for one process only; absent: kill the whole container.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Process the signal goes to (default: the first one).
    #[serde(default)]
    pub process: Option<u64>,
}
method!(Kill, "org.keyns.Containers.Kill" => Killed);

/// What a kill did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Killed {
    /// Pending upcalls that were rejected first.
    pub upcalls_rejected: u64,
    /// Milliseconds until no process was left.
    pub milliseconds: u64,
}

/// Removes a container that is dead or was never started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Name or number.
    pub container: String,
}
method!(Remove, "org.keyns.Containers.Remove" => Empty);

/// Streams what happens to containers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {}
method!(Subscribe, "org.keyns.Containers.Subscribe" => stream Event);

//! A bus of a test's own: `dbus-daemon` with the policy of a system bus and that of `interfaces/`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zbus::export::futures_core::Stream;
use zbus::message::{Message, Type};
use zbus::{Connection, DynamicType, MessageStream};

use crate::instance::PATIENCE;

/// What every system bus allows and forbids.
const SYSTEM: &str = r#"
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <limit name="reply_timeout">300000</limit>
"#;

/// A running bus; ended and removed when dropped.
#[derive(Debug)]
pub struct PrivateBus {
    directory: TempDir,
    child: Option<Child>,
    also: Vec<Child>,
}

impl PrivateBus {
    /// A bus that serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start() -> Self {
        let mut bus = Self::stopped("");
        bus.run();
        bus
    }

    /// A bus that is not running yet; `more` is added to its configuration.
    ///
    /// # Panics
    /// When its files cannot be made.
    #[must_use]
    pub fn stopped(more: &str) -> Self {
        let directory = TempDir::with_prefix("keyns-bus-").unwrap();
        // So that other uids reach the socket.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interfaces/org.keyns.conf");
        let polkit = "/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf";
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n\
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig>\n\
             <type>system</type>\n<listen>unix:path={}</listen>\n<auth>EXTERNAL</auth>\n\
             {SYSTEM}<include>{}</include>\n\
             <include ignore_missing=\"yes\">{polkit}</include>\n{more}</busconfig>\n",
            directory.path().join("bus").display(),
            own.display(),
        );
        fs::write(directory.path().join("bus.conf"), config).unwrap();
        Self {
            directory,
            child: None,
            also: Vec::new(),
        }
    }

    /// Starts it (again).
    ///
    /// # Panics
    /// When it does not serve in time.
    pub fn run(&mut self) {
        // Ends with the test also when that is killed; polkitd ends with its bus.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "dbus-daemon"])
            .arg("--nofork")
            .arg("--nopidfile")
            .arg("--nosyslog")
            .arg(format!(
                "--config-file={}",
                self.directory.path().join("bus.conf").display()
            ))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "the bus does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it at once.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = fs::remove_file(self.socket());
    }

    /// Starts the machine's `polkitd` on this bus, with our actions and these rules and no others. It
    /// sees them in a mount namespace of its own; nothing of the machine changes. Returns its process.
    ///
    /// # Panics
    /// When it does not come.
    pub fn start_polkit(&mut self, rules: &str) -> u32 {
        let at = |name: &str| self.directory.path().join(name);
        for name in ["actions", "rules"] {
            fs::create_dir_all(at(name)).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interfaces/org.keyns.policy");
        fs::copy(own, at("actions").join("org.keyns.policy")).unwrap();
        fs::write(at("rules").join("10-test.rules"), rules).unwrap();
        let script = "mount --bind \"$1\" /usr/share/polkit-1/actions && \
                      mount --bind \"$2\" /etc/polkit-1/rules.d && \
                      exec /usr/lib/polkit-1/polkitd --no-debug";
        let child = Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .args([at("actions"), at("rules")])
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.address())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        self.also.push(child);
        let mut client = BusClient::connect(&self.address());
        let deadline = Instant::now() + PATIENCE;
        while !client.has_owner("org.freedesktop.PolicyKit1") {
            assert!(Instant::now() < deadline, "polkitd does not come");
            std::thread::sleep(Duration::from_millis(20));
        }
        pid
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("bus")
    }

    /// A directory that ends with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        for child in self.also.iter_mut().chain(&mut self.child) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An error of the bus: its name and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusError(pub String, pub String);

/// A client on a bus that does one thing after the other.
#[derive(Debug)]
pub struct BusClient {
    runtime: Runtime,
    connection: Connection,
    stream: MessageStream,
    limit: Duration,
}

impl BusClient {
    /// Connects as the calling thread.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn connect(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (connection, stream) = runtime.block_on(async {
            let builder = zbus::connection::Builder::address(address);
            let many = std::num::NonZeroUsize::new(4096).unwrap();
            let connection = builder.max_queued(many).build().await.unwrap();
            let stream = MessageStream::from(&connection);
            (connection, stream)
        });
        Self {
            runtime,
            connection,
            stream,
            limit: PATIENCE,
        }
    }

    /// Waits no longer than this from now on.
    #[must_use]
    pub const fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Its unique name.
    ///
    /// # Panics
    /// Never on a bus.
    #[must_use]
    pub fn name(&self) -> String {
        self.connection.unique_name().unwrap().to_string()
    }

    /// Sends a message.
    ///
    /// # Panics
    /// When the bus is gone.
    pub fn send(&self, message: &Message) {
        self.runtime
            .block_on(self.connection.send(message))
            .unwrap();
    }

    /// The next message; `None` if there is none in time, or the bus is gone.
    pub fn next(&mut self, limit: Duration) -> Option<Message> {
        let stream = &mut self.stream;
        let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *stream).poll_next(cx));
        self.runtime
            .block_on(async { tokio::time::timeout(limit, next).await })
            .ok()
            .flatten()?
            .ok()
    }

    /// Sends a call and waits for its reply. What comes before is lost.
    ///
    /// # Errors
    /// The error in place of the reply.
    ///
    /// # Panics
    /// When there is neither in time.
    pub fn exchange(&mut self, call: &Message) -> Result<Message, BusError> {
        let serial = call.primary_header().serial_num();
        self.send(call);
        let deadline = Instant::now() + self.limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.next(left).unwrap_or_else(|| {
                panic!(
                    "no reply to {:?}",
                    call.header().member().map(ToString::to_string)
                )
            });
            self.answer_ping(&message);
            let header = message.header();
            if header.reply_serial() != Some(serial) {
                continue;
            }
            if message.message_type() == Type::MethodReturn {
                drop(header);
                return Ok(message);
            }
            let text = message.body().deserialize::<String>().ok();
            let text = text.or_else(|| {
                type Whole = (String, String, String, i32, Vec<String>);
                message.body().deserialize::<Whole>().ok().map(|w| w.0)
            });
            let name = header.error_name().map(ToString::to_string);
            return Err(BusError(name.unwrap_or_default(), text.unwrap_or_default()));
        }
    }

    /// Whether somebody has this name.
    ///
    /// # Panics
    /// When the bus does not answer.
    pub fn has_owner(&mut self, name: &str) -> bool {
        let call = Message::method_call("/org/freedesktop/DBus", "NameHasOwner")
            .destination("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .build(&name)
            .unwrap();
        let reply = self.exchange(&call).unwrap();
        reply.body().deserialize().unwrap()
    }

    /// Calls a method of keynsd.
    ///
    /// # Errors
    /// The error in place of the reply.
    ///
    /// # Panics
    /// When the reply is not of its type.
    pub fn call<B, R>(
        &mut self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<R, BusError>
    where
        B: Serialize + DynamicType,
        R: DeserializeOwned + zbus::Type,
    {
        let call = Message::method_call(path, member)
            .destination("org.keyns")
            .interface(interface)
            .build(body)
            .unwrap();
        let reply = self.exchange(&call)?;
        let body = reply.body();
        let expected = R::SIGNATURE.to_string_no_parens();
        assert_eq!(body.signature().to_string_no_parens(), expected, "{member}");
        Ok(body.deserialize_ignore_signature().unwrap())
    }

    /// Answers what the daemon asks subscribers.
    pub fn answer_ping(&self, message: &Message) {
        let header = message.header();
        if header
            .member()
            .is_some_and(|member| member.as_str() == "Ping")
        {
            self.send(&Message::method_return(&header).build(&()).unwrap());
        }
    }
}

//! A bare zlink service to compare the daemon with: `Ping` answers nothing to speak of, `List` a
//! reply like the daemon's, which it has ready made.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};
use zlink::introspect::{CustomType, Type};
use zlink::tokio::unix;
use zlink::{Server, service};

use crate::Failure;

#[derive(Debug, Serialize, Deserialize, Type)]
struct Pong {
    ping: String,
}

/// As `org.keyns.Containers.List` replies, without the types of its own.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
struct Listing {
    containers: Vec<Container>,
}

#[derive(Debug, Clone, Serialize, Deserialize, CustomType)]
struct Container {
    id: u64,
    name: String,
    parent: Option<u64>,
    state: String,
    namespaces: Vec<String>,
    uid_base: Option<u32>,
    uid_count: Option<u32>,
    keyring: Option<i32>,
    init_pid: Option<u32>,
    created: u64,
    kill_on_close: bool,
    caveats: Vec<String>,
}

struct Bench {
    listing: Listing,
}

#[service(interface = "org.keyns.Bench", types = [Container])]
impl Bench {
    async fn ping(&mut self, ping: String) -> Pong {
        Pong { ping }
    }

    async fn list(&mut self) -> Listing {
        self.listing.clone()
    }
}

/// The process itself; `listing` is the parameters of the daemon's reply.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn run(socket: &Path, listing: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bench = Bench {
        listing: serde_json::from_str(listing)?,
    };
    runtime.block_on(async {
        let server = Server::new(unix::bind(socket)?, bench);
        println!("listening");
        server.run().await?;
        Ok(())
    })
}

/// A running service; ended when dropped.
pub(crate) struct PingServer(Child);

impl PingServer {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn start(socket: &Path, listing: &str) -> Result<Self, Failure> {
        let mut child = Command::new("/proc/self/exe")
            .arg("ping-server")
            .arg(socket)
            .arg(listing)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let server = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() == "listening" {
            Ok(server)
        } else {
            Err("the service does not listen".into())
        }
    }
}

impl Drop for PingServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

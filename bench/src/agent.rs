//! The agent that answers: a process of its own with two connections, which gives each key the
//! callout text as its payload, as the rule of the stock program does.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use keyns_interfaces::agents::{Complete, Serve};
use keyns_interfaces::{Client, Payload};

use crate::Failure;

/// The process itself.
///
/// # Errors
/// What the daemon says, or its end.
pub(crate) fn run(socket: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let serve = Serve {
            name: "bench".into(),
            types: vec!["user".into()],
            containers: Vec::new(),
            max_in_flight: None,
        };
        let mut requests = Client::connect(socket).await?.subscribe(&serve).await?;
        let mut answers = Client::connect(socket).await?;
        let mut token = String::new();
        while let Some(reply) = requests.next().await {
            let reply = reply?;
            if let Some(registration) = reply.registration {
                token = registration.token;
                println!("registered");
            }
            if let Some(request) = reply.request {
                let payload = Payload::new(request.callout.bytes().to_vec());
                let complete = Complete {
                    token: token.clone(),
                    id: request.id,
                    payload,
                };
                answers.call(&complete, Vec::new()).await?;
            }
        }
        Ok(())
    })
}

/// A running agent; ended when dropped.
pub(crate) struct Agent(Child);

impl Agent {
    /// Starts one and waits until it is registered.
    ///
    /// # Errors
    /// When it does not register.
    pub(crate) fn start(socket: &Path) -> Result<Self, Failure> {
        let mut child = Command::new("/proc/self/exe")
            .arg("agent")
            .arg(socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let agent = Self(child);
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() == "registered" {
            Ok(agent)
        } else {
            Err("the agent did not register".into())
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

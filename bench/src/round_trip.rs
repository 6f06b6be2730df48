//! A call to the daemon and back, compared with a bare zlink service on a socket like it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Failure;
use crate::parts::Plan;
use crate::ping::PingServer;
use crate::place::Apart;
use crate::sample::Sample;
use crate::table::Row;
use crate::world::World;

const GOAL: f64 = 1.5;
const CONTAINERS: u32 = 10;

const LIST: &[u8] = b"{\"method\":\"org.keyns.Containers.List\",\"parameters\":{}}\0";
const BARE_LIST: &[u8] = b"{\"method\":\"org.keyns.Bench.List\",\"parameters\":{}}\0";
const BARE_PING: &[u8] = b"{\"method\":\"org.keyns.Bench.Ping\",\"parameters\":{\"ping\":\"x\"}}\0";

/// # Errors
/// Any call that fails.
pub(crate) fn measure(plan: &Plan) -> Result<Vec<Row>, Failure> {
    let world = World::start()?;
    for n in 0..CONTAINERS {
        world.create(&format!("c{n}"))?;
    }
    let mut daemon = Caller::new(&world.socket())?;
    let listing = listing(daemon.call(LIST)?)?;
    // Beside the daemon's, and removed with it.
    let socket = world.socket().with_file_name("bench");
    let server = PingServer::start(&socket, &listing)?;
    let _apart = Apart::from(&[world.pid(), server.pid()])?;
    let mut bare = Caller::new(&socket)?;
    let (mut list, mut ping, mut bare_list) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..plan.pairs + 100 {
        let times = [
            daemon.time(LIST)?,
            bare.time(BARE_PING)?,
            bare.time(BARE_LIST)?,
        ];
        // The first ones find nothing warm.
        if n >= 100 {
            let [a, b, c] = times;
            list.push(a);
            ping.push(b);
            bare_list.push(c);
        }
    }
    let (list, ping, bare_list) = (
        Sample::new(list)?,
        Sample::new(ping)?,
        Sample::new(bare_list)?,
    );
    Ok(vec![
        Row::reference("zlink ping", &ping),
        Row::reference(
            format!("zlink, a reply like a list of {CONTAINERS}"),
            &bare_list,
        ),
        Row::ratio(
            format!("List of {CONTAINERS} containers, to the ping"),
            &list,
            &ping,
            Some(GOAL),
        ),
        Row::ratio(
            format!("List of {CONTAINERS} containers, to its like"),
            &list,
            &bare_list,
            None,
        ),
    ])
}

/// The parameters of a reply.
fn listing(reply: &[u8]) -> Result<String, Failure> {
    let reply: Value = serde_json::from_slice(reply)?;
    let parameters = reply.get("parameters").ok_or("the daemon lists nothing")?;
    let count = parameters
        .get("containers")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    if count != CONTAINERS as usize {
        return Err(format!("the daemon lists {count} containers").into());
    }
    Ok(parameters.to_string())
}

/// A client that does no more than it must: neither end's figures contain much of it.
struct Caller {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Caller {
    fn new(socket: &Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            stream,
            buffer: vec![0; 1 << 16],
        })
    }

    /// Sends a frame and returns the one that comes, without its NUL.
    fn call(&mut self, frame: &[u8]) -> Result<&[u8], Failure> {
        self.stream.write_all(frame)?;
        let mut end = 0;
        loop {
            let room = self.buffer.get_mut(end..).unwrap_or_default();
            let got = self.stream.read(room)?;
            if got == 0 {
                return Err("the connection was closed".into());
            }
            end += got;
            if self
                .buffer
                .get(..end)
                .is_some_and(|reply| reply.ends_with(&[0]))
            {
                return Ok(self.buffer.get(..end - 1).unwrap_or_default());
            }
        }
    }

    fn time(&mut self, frame: &[u8]) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let reply = self.call(frame)?;
        let took = begun.elapsed();
        if reply.starts_with(b"{\"error\"") {
            return Err(String::from_utf8_lossy(reply).into());
        }
        Ok(took)
    }
}

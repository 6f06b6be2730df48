//! How long the daemon takes from its execution until it says that it is ready, as a service manager
//! sees it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyns_tests::{bin_dir, service_uid, unique};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Failure;
use crate::sample::Sample;
use crate::table::Row;

const STARTS: usize = 50;
const GOAL: Duration = Duration::from_millis(50);
/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// # Errors
/// What keeps the daemon from starting.
pub(crate) fn measure() -> Result<Vec<Row>, Failure> {
    let instance = unique("bench");
    let socket = std::env::temp_dir().join(format!("{instance}.notify"));
    let notify = UnixDatagram::bind(&socket)?;
    notify.set_read_timeout(Some(PATIENCE))?;
    let measured = rounds(&instance, &socket, &notify);
    std::fs::remove_file(&socket)?;
    let (fresh, again) = measured?;
    Ok(vec![
        Row::limit("start to ready, nothing there yet", &fresh, GOAL),
        Row::limit("start to ready, after a SIGKILL", &again, GOAL),
    ])
}

/// Each time a first daemon, which is killed, and a second, which finds what is there and leaves nothing.
fn rounds(
    instance: &str,
    socket: &Path,
    notify: &UnixDatagram,
) -> Result<(Sample, Sample), Failure> {
    let uid = service_uid().to_string();
    let start = || -> Result<(Child, Duration), Failure> {
        let begun = Instant::now();
        let mut daemon = Command::new(bin_dir().join("keynsd"))
            .args(["--instance", instance, "--transient", "--service-uid", &uid])
            .env("NOTIFY_SOCKET", socket)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut message = [0; 512];
        let said = notify.recv(&mut message).map(|length| {
            message
                .get(..length)
                .is_some_and(|m| m.starts_with(b"READY=1\n"))
        });
        let took = begun.elapsed();
        match said {
            Ok(true) => Ok((daemon, took)),
            said => {
                let _ = daemon.kill();
                let _ = daemon.wait();
                Err(format!("the daemon is not ready: {said:?}").into())
            }
        }
    };
    let (mut fresh, mut again) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let (mut daemon, took) = start()?;
        fresh.push(took);
        daemon.kill()?;
        daemon.wait()?;
        let (mut daemon, took) = start()?;
        again.push(took);
        kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM)?;
        daemon.wait()?;
        // What it said while it ended.
        notify.set_nonblocking(true)?;
        while notify.recv(&mut [0; 512]).is_ok() {}
        notify.set_nonblocking(false)?;
    }
    Ok((Sample::new(fresh)?, Sample::new(again)?))
}

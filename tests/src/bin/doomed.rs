//! Starts a container in an instance of its own, prints `INSTANCE PID` of the process in it, and
//! waits to be killed. What it leaves behind is what a killed test leaves.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::Duration;

use keyns::engine::Options;
use keyns::engine::container::{ContainerId, ContainerSpec, Namespace, Root};
use keyns::engine::paths::Paths;
use keyns_tests::{bin_dir, run_spec, service_uid, unique};

fn main() -> Result<(), Box<dyn Error>> {
    let name = unique("doomed");
    let engine = keyns_tests::engine().start(
        Options {
            paths: Paths::new(&name)?,
            helpers: bin_dir(),
            service_uid: service_uid(),
            foreign: Vec::new(),
        },
        &[],
    )?;
    let spec = ContainerSpec {
        id: ContainerId(1),
        path: "web".parse()?,
        namespaces: [Namespace::User, Namespace::Pid, Namespace::Mount].into(),
        root: Root::Usr,
        kill_on_close: false,
    };
    let mut record = engine.create(&spec, &[], &[])?;
    let run = run_spec(1, &["/usr/bin/sleep", "1000"]);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let prepared = engine.prepare(std::slice::from_ref(&record), &run, &[null.as_fd(); 3])?;
    engine.register(&mut record, &prepared)?;
    prepared.release()?;
    println!("{name} {}", prepared.pid);
    std::thread::sleep(Duration::from_secs(1000));
    Ok(())
}

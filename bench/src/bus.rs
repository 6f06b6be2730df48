//! The door on the bus: a read of a property compared with a bare zbus service on the same bus, and
//! signals to ten subscribers.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyns_interfaces::bus::{CONTAINER, CONTAINERS, MANAGER, NAME, PATH};
use keyns_interfaces::keys::{Add, Update};
use keyns_interfaces::{ByteText, Payload};
use keyns_tests::bus::{BusClient, PrivateBus};
use zbus::message::{Message, Type};

use crate::Failure;
use crate::idle::number;
use crate::parts::Plan;
use crate::place::Apart;
use crate::sample::Sample;
use crate::table::Row;
use crate::world::World;

/// A read of a property, to the bare service.
const GOAL: f64 = 1.3;
const SUBSCRIBERS: usize = 10;
/// Events a second, each of which is a signal to every subscriber.
const EVENTS: u32 = 1_000;
const WATCHED: Duration = Duration::from_secs(8);
/// KiB that the daemon may have more in the second half than in the first.
const GROWTH: u64 = 512;

struct Echo;

#[zbus::interface(name = "org.keyns.Bench1")]
impl Echo {
    fn echo(&self, text: &str) -> String {
        text.to_owned()
    }

    #[zbus(property)]
    fn name(&self) -> String {
        "c0".to_owned()
    }
}

/// The bare service, as a process; prints its unique name.
///
/// # Errors
/// When it cannot connect.
pub(crate) fn serve(address: &str) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let connection = zbus::connection::Builder::address(address)
            .serve_at("/echo", Echo)
            .build()
            .await?;
        println!("{}", connection.unique_name().ok_or("no name")?);
        std::future::pending().await
    })
}

/// A running bare service; ended when dropped.
struct Bare(Child, String);

impl Bare {
    fn start(address: &str) -> Result<Self, Failure> {
        let mut child = Command::new("/proc/self/exe")
            .args(["bus-echo", address])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut bare = Self(child, String::new());
        BufReader::new(output).read_line(&mut bare.1)?;
        bare.1 = bare.1.trim().to_owned();
        Ok(bare)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// # Errors
/// Any call that fails.
pub(crate) fn measure(plan: &Plan) -> Result<Vec<Row>, Failure> {
    // A system bus lets nobody call what its policies do not name.
    let mut bus = PrivateBus::stopped(
        "<policy user=\"root\"><allow send_interface=\"org.keyns.Bench1\"/>\
         <allow send_interface=\"org.freedesktop.DBus.Properties\"/></policy>",
    );
    bus.run();
    let world = World::start_on(&bus.address())?;
    world.create("c0")?;
    let mut rows = reads(plan, &bus, &world)?;
    rows.extend(signals(&bus, &world)?);
    Ok(rows)
}

/// Waits until the daemon has its name.
fn await_name(client: &mut BusClient) -> Result<(), Failure> {
    let begun = Instant::now();
    while !client.has_owner(NAME) {
        if begun.elapsed() > Duration::from_secs(10) {
            return Err("the daemon does not come to the bus".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn reads(plan: &Plan, bus: &PrivateBus, world: &World) -> Result<Vec<Row>, Failure> {
    let bare = Bare::start(&bus.address())?;
    let mut client = BusClient::connect(&bus.address());
    await_name(&mut client)?;
    let _apart = Apart::from(&[world.pid(), bare.0.id(), bus.pid()])?;
    let property = |to: &str, path: &str, interface: &str| {
        Message::method_call(path.to_owned(), "Get")
            .destination(to.to_owned())
            .interface("org.freedesktop.DBus.Properties")
            .build(&(interface, "Name"))
    };
    let (mut daemon, mut echo, mut bare_get) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..plan.pairs + 100 {
        let calls = [
            property(NAME, &format!("{CONTAINERS}1"), CONTAINER)?,
            Message::method_call("/echo", "Echo")
                .destination(bare.1.as_str())
                .interface("org.keyns.Bench1")
                .build(&"c0")?,
            property(&bare.1, "/echo", "org.keyns.Bench1")?,
        ];
        let mut times = [Duration::ZERO; 3];
        for (time, call) in times.iter_mut().zip(&calls) {
            let begun = Instant::now();
            client
                .exchange(call)
                .map_err(|error| format!("{}: {}", error.0, error.1))?;
            *time = begun.elapsed();
        }
        if n >= 100 {
            let [a, b, c] = times;
            daemon.push(a);
            echo.push(b);
            bare_get.push(c);
        }
    }
    let (daemon, echo, bare_get) = (
        Sample::new(daemon)?,
        Sample::new(echo)?,
        Sample::new(bare_get)?,
    );
    Ok(vec![
        Row::reference("zbus, an echo over the bus", &echo),
        Row::ratio(
            "a property of a container over the bus, to the echo",
            &daemon,
            &echo,
            Some(GOAL),
        ),
        Row::ratio(
            "a property of a container over the bus, to one of zbus",
            &daemon,
            &bare_get,
            None,
        ),
    ])
}

/// Ten subscribers, and a key that is updated as often as there are to be signals for each.
fn signals(bus: &PrivateBus, world: &World) -> Result<Vec<Row>, Failure> {
    let mut client = BusClient::connect(&bus.address());
    await_name(&mut client)?;
    world.call(&Add {
        container: "c0".into(),
        type_: "user".into(),
        description: ByteText::from("bench"),
        payload: Payload::new(b"x".to_vec()),
        timeout: None,
    })?;
    let (stop, heard, ended) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut subscribers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut subscriber = BusClient::connect(&bus.address());
        let () = subscriber
            .call(PATH, MANAGER, "Subscribe", &())
            .map_err(|error| error.1)?;
        let (stop, heard, ended) = (Arc::clone(&stop), Arc::clone(&heard), Arc::clone(&ended));
        subscribers.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Some(message) = subscriber.next(Duration::from_millis(200)) else {
                    continue;
                };
                subscriber.answer_ping(&message);
                if message.message_type() != Type::Signal {
                    continue;
                }
                let member = message.header().member().map(ToString::to_string);
                match member.as_deref() {
                    Some("KeyChanged") => heard.fetch_add(1, Ordering::Relaxed),
                    Some("EventsLost" | "SubscriptionEnded") => {
                        ended.fetch_add(1, Ordering::Relaxed)
                    }
                    _ => 0,
                };
            }
        }));
    }
    let mut connection = world.connect()?;
    let begun = Instant::now();
    let mut sent: u32 = 0;
    let mut resident = (0, 0);
    while begun.elapsed() < WATCHED {
        let due = begun + Duration::from_secs(1) / EVENTS * sent;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let update = Update {
            key: ByteText::from("c0/user:bench"),
            payload: Payload::new(sent.to_string().into_bytes()),
        };
        connection.call(&update, Vec::new())?;
        sent += 1;
        if begun.elapsed() < WATCHED / 2 {
            resident.0 = number(world.pid(), "status", "VmRSS:")?.max(resident.0);
        } else {
            resident.1 = number(world.pid(), "status", "VmRSS:")?.max(resident.1);
        }
    }
    let took = begun.elapsed();
    // The last ones are on their way.
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    for subscriber in subscribers {
        subscriber.join().map_err(|_| "a subscriber has failed")?;
    }
    let (heard, ended) = (heard.load(Ordering::Relaxed), ended.load(Ordering::Relaxed));
    let all = u64::from(sent) * SUBSCRIBERS as u64;
    let a_second = heard * 1_000 / u64::try_from(took.as_millis())?.max(1);
    Ok(vec![
        Row::count(
            format!(
                "{SUBSCRIBERS} subscribers, {sent} events each: {a_second} signals a second, lost"
            ),
            all.saturating_sub(heard) + ended,
            "signals",
            Some(0),
        ),
        Row::count(
            "the daemon meanwhile, more memory in the second half",
            resident.1.saturating_sub(resident.0),
            "KiB",
            Some(GROWTH),
        ),
    ])
}

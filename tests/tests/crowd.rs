//! Many clients at once, on the same container and on different ones.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use keyns_interfaces::blocking::Client;
use keyns_interfaces::containers::{Create, Kill, List, Remove, Root};
use keyns_interfaces::{ClientError, ErrorKind, Method};
use keyns_tests::instance::Instance;

const CLIENTS: usize = 50;
/// A call that takes longer waits for another one that never ends.
const PATIENCE: Duration = Duration::from_secs(60);

fn call<M: Method>(client: &mut Client, call: &M) -> Result<M::Reply, ErrorKind> {
    match client.call(call, Vec::new()) {
        Ok((reply, _)) => Ok(reply),
        Err(ClientError::Refused(error)) => Err(error.kind),
        Err(other) => panic!("{}: {other}", M::NAME),
    }
}

fn create(name: &str) -> Create {
    Create {
        name: name.into(),
        namespaces: Vec::new(),
        root: Root::Empty,
        kill_on_close: false,
    }
}

/// Runs `work` in all clients at once, each on a connection of its own.
fn all_at_once<R: Send>(
    instance: &Instance,
    work: impl Fn(usize, &mut Client) -> R + Sync,
) -> Vec<R> {
    let (start, socket) = (Barrier::new(CLIENTS), instance.socket());
    std::thread::scope(|scope| {
        let one = |number| {
            let mut client = Client::connect(&socket).unwrap().with_timeout(PATIENCE);
            start.wait();
            work(number, &mut client)
        };
        let threads: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || one(number)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}

fn names(instance: &Instance) -> Vec<String> {
    let listing = instance.json(&["container", "list"]);
    let containers = listing["containers"].as_array().unwrap();
    containers
        .iter()
        .map(|c| c["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn one_of_fifty_gets_a_name_and_one_of_fifty_ends_it() {
    let instance = Instance::start("same");
    for _ in 0..3 {
        let made = all_at_once(&instance, |_, client| call(client, &create("web")));
        let ids: Vec<u64> = made
            .iter()
            .flatten()
            .map(|made| made.container.id)
            .collect();
        assert_eq!(ids.len(), 1, "{made:?}");
        for refused in made.iter().filter_map(|made| made.as_ref().err()) {
            assert_eq!(*refused, ErrorKind::AlreadyExists);
        }
        assert_eq!(names(&instance), ["web"]);
        // By number, so that all mean the same one.
        let kill = Kill {
            container: ids[0].to_string(),
            signal: None,
            process: None,
        };
        let killed = all_at_once(&instance, |_, client| call(client, &kill));
        assert!(killed.iter().any(Result::is_ok), "{killed:?}");
        for refused in killed.iter().filter_map(|killed| killed.as_ref().err()) {
            let over = [ErrorKind::WrongState, ErrorKind::NoSuchContainer];
            assert!(over.contains(refused), "{refused}");
        }
        assert!(names(&instance).is_empty());
    }
    instance.stop();
}

#[test]
fn fifty_clients_create_list_and_end_containers_of_the_same_and_of_different_names() {
    let instance = Instance::start("mixed");
    let began = Instant::now();
    let stay = all_at_once(&instance, |number, client| {
        // Ten names that five clients each fight for, and one of the client's own.
        let (shared, own) = (format!("shared{}", number % 10), format!("own{number}"));
        let made = call(client, &create(&own)).unwrap().container;
        let mut got = 0;
        for _ in 0..4 {
            match call(client, &create(&shared)) {
                Ok(made) => {
                    got += 1;
                    let listed = call(client, &List { dead: false }).unwrap().containers;
                    assert!(listed.iter().any(|c| c.id == made.container.id), "{shared}");
                    let kill = Kill {
                        container: made.container.id.to_string(),
                        signal: None,
                        process: None,
                    };
                    call(client, &kill).unwrap();
                    let listed = call(client, &List { dead: false }).unwrap().containers;
                    assert!(listed.iter().all(|c| c.id != made.container.id), "{shared}");
                }
                Err(kind) => assert_eq!(kind, ErrorKind::AlreadyExists),
            }
            let listed = call(client, &List { dead: false }).unwrap().containers;
            let ids: BTreeSet<u64> = listed.iter().map(|c| c.id).collect();
            let names: BTreeSet<&str> = listed.iter().map(|c| c.name.as_str()).collect();
            assert!(
                ids.len() == listed.len() && names.len() == listed.len(),
                "{listed:?}"
            );
            assert!(ids.contains(&made.id));
        }
        if number % 2 == 0 {
            let container = own.clone();
            call(client, &Remove { container }).unwrap();
        }
        (number % 2 == 1).then_some((own, got))
    });
    assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
    let expected: BTreeSet<String> = stay.into_iter().flatten().map(|(own, _)| own).collect();
    assert_eq!(
        names(&instance).into_iter().collect::<BTreeSet<_>>(),
        expected
    );
    // As many cgroups as containers: nothing is left of those that ended.
    let groups = fs::read_dir(instance.cgroup()).unwrap().flatten();
    let numbered = |entry: &fs::DirEntry| {
        entry
            .file_name()
            .to_str()
            .is_some_and(|n| n.parse::<u64>().is_ok())
    };
    assert_eq!(groups.filter(numbered).count(), expected.len());
    for name in &expected {
        instance.ok(&["container", "kill", name]);
    }
    assert!(names(&instance).is_empty());
    instance.stop();
}

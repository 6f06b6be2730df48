//! The methods of our interfaces: each is a way of calling one method of the contract.
//!
//! A row turns the arguments into that method's parameters and its reply into values of the bus. It
//! reaches no service by itself: what it prepares goes through [`crate::front::call::begin`], as a call
//! on a varlink connection does.

use std::os::fd::{AsFd, OwnedFd};

use keyns_interfaces::{
    Error, ErrorKind, Method, Payload, agents, bus, containers, keys, manager, upcalls,
};
use serde::Serialize;
use serde_json::{Value, json};
use zbus::{ObjectPath, OwnedObjectPath, Variant};

use super::memory;
use super::row::{Kind, Options, Parameters, Row, Wrong, once, row};
use super::value::{Record, record, without_nul};

/// The path of a container.
pub(super) fn container_path(id: u64) -> OwnedObjectPath {
    path(format!("{}{id}", bus::CONTAINERS))
}

/// The path of a request.
pub(super) fn upcall_path(id: u64) -> OwnedObjectPath {
    path(format!("{}{id}", bus::UPCALLS))
}

fn path(text: String) -> OwnedObjectPath {
    // Letters, slashes and a number: always a path.
    ObjectPath::try_from(text).unwrap_or_default().into()
}

/// How a process ended, as a pair.
pub(super) fn exit(exit: Option<containers::ExitStatus>) -> (String, i32) {
    let (how, number) = match exit {
        Some(containers::ExitStatus::Exited(code)) => ("exited", code),
        Some(containers::ExitStatus::Killed(signal)) => ("killed", signal),
        Some(containers::ExitStatus::Unknown) => ("unknown", 0),
        None => ("", 0),
    };
    (how.to_owned(), number)
}

fn records<T: Serialize>(items: &[T]) -> Vec<Record> {
    items.iter().map(record).collect()
}

fn absent_if_empty(text: String) -> Value {
    if text.is_empty() {
        Value::Null
    } else {
        Value::String(text)
    }
}

/// A payload passed as memory.
fn payload_of(fd: &zbus::OwnedFd) -> Result<Payload, Wrong> {
    memory::read(fd.as_fd()).map_err(|error| Wrong::Memory(error.to_string()))
}

fn taken<A>(_: &mut Parameters, _: u64, _: A) -> Result<(), Wrong> {
    Ok(())
}

fn nothing<R>(_: R, _: Vec<OwnedFd>) -> Result<(), Error> {
    Ok(())
}

/// All methods.
pub(super) fn rows() -> Vec<Row> {
    [
        manager(),
        of_keys(),
        of_upcalls(),
        of_agents(),
        container(),
        upcall(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn manager() -> Vec<Row> {
    use bus::MANAGER as M;

    fn create(to: &mut Parameters, name: String, mut options: Options) -> Result<(), Wrong> {
        if let Some(root) = options.remove("root") {
            let wrong = || Wrong::Option("root".to_owned());
            let Variant::Str(root) = &*root else {
                return Err(wrong());
            };
            let root = match root.as_str() {
                word @ ("empty" | "usr" | "copy") => json!({ word: {} }),
                path if path.starts_with('/') => json!({ "dir": path }),
                _ => return Err(wrong()),
            };
            to.set("root", root);
        }
        to.set("name", name);
        // The descriptor is what this method and the other differ in.
        if options.contains_key("kill_on_close") {
            return Err(Wrong::Option("kill_on_close".to_owned()));
        }
        to.options(options)
    }

    vec![
        once::<(), manager::GetStatus, _>(M, "GetStatus", taken, |reply, _| Ok(record(&reply))),
        once::<(), manager::GetFeatures, _>(M, "GetFeatures", taken, |reply, _| {
            let rows = reply.features.into_iter();
            Ok(rows
                .map(|row| (row.name, row.enforcer, row.detail))
                .collect::<Vec<_>>())
        }),
        once::<(String, Options), containers::Create, _>(
            M,
            "CreateContainer",
            |to, _, (name, options)| create(to, name, options),
            |reply, _| Ok(container_path(reply.container.id)),
        ),
        once::<(String, Options), containers::Create, _>(
            M,
            "CreateLeasedContainer",
            |to, _, (name, options)| {
                create(to, name, options)?;
                to.set("kill_on_close", true);
                Ok(())
            },
            |reply, fds| Ok((container_path(reply.container.id), one(fds)?)),
        ),
        once::<bool, containers::List, _>(
            M,
            "ListContainers",
            |to, _, dead| {
                to.set("dead", dead);
                Ok(())
            },
            |reply, _| {
                let shown = reply.containers.iter();
                Ok(shown
                    .map(|info| (container_path(info.id), record(info)))
                    .collect::<Vec<_>>())
            },
        ),
        once::<String, containers::Show, _>(
            M,
            "GetContainer",
            |to, _, name| {
                to.set("container", name);
                Ok(())
            },
            |reply, _| Ok(container_path(reply.container.id)),
        ),
    ]
}

/// The only descriptor of a reply.
fn one(fds: Vec<OwnedFd>) -> Result<zbus::OwnedFd, Error> {
    let fd = fds.into_iter().next();
    fd.map(zbus::OwnedFd::from)
        .ok_or_else(|| Error::new(ErrorKind::System, "the reply carries no descriptor"))
}

fn of_keys() -> Vec<Row> {
    use bus::MANAGER as M;

    fn key<M: Method<Reply = R>, R>(
        member: &'static str,
        answer: impl Fn(R, Vec<OwnedFd>) -> Result<Record, Error> + 'static,
    ) -> Row {
        once::<String, M, _>(
            bus::MANAGER,
            member,
            |to, _, key| {
                to.set("key", key);
                Ok(())
            },
            answer,
        )
    }

    vec![
        once::<String, keys::List, _>(
            M,
            "ListKeys",
            |to, _, container| {
                to.set("container", absent_if_empty(container));
                Ok(())
            },
            |reply, _| Ok(records(&reply.keys)),
        ),
        key::<keys::Describe, _>("DescribeKey", |reply, _| Ok(record(&reply.key))),
        once::<(String, Vec<u8>), keys::Update, _>(
            M,
            "UpdateKey",
            |to, _, (key, payload)| {
                to.set("key", key);
                to.payload = Some(Payload::new(payload));
                Ok(())
            },
            |reply, _| Ok(record(&reply.key)),
        ),
        once::<(String, zbus::OwnedFd), keys::Update, _>(
            M,
            "UpdateKeyFrom",
            |to, _, (key, payload)| {
                to.set("key", key);
                to.payload = Some(payload_of(&payload)?);
                Ok(())
            },
            |reply, _| Ok(record(&reply.key)),
        ),
        once::<String, keys::Read, _>(
            M,
            "ReadKey",
            |to, _, key| {
                to.set("key", key);
                Ok(())
            },
            |reply, _| {
                memory::sealed(reply.payload.bytes())
                    .map(zbus::OwnedFd::from)
                    .map_err(|error| {
                        Error::new(ErrorKind::System, "cannot pass the payload on")
                            .cause(error.to_string())
                    })
            },
        ),
        once::<String, keys::Invalidate, _>(
            M,
            "InvalidateKey",
            |to, _, key| {
                to.set("key", key);
                Ok(())
            },
            nothing,
        ),
        once::<(String, String, bool), keys::Move, _>(
            M,
            "MoveKey",
            |to, _, (key, container, replace)| {
                to.set("key", key);
                to.set("to", container);
                to.set("replace", replace);
                Ok(())
            },
            |reply, _| Ok(record(&reply.key)),
        ),
        once::<(), keys::Lend, _>(M, "Lend", taken, |reply, _| Ok(reply.keyring)),
        once::<(String, String, Vec<String>, Options), keys::GrantTo, _>(
            M,
            "Grant",
            |to, _, (key, container, rights, options)| {
                to.set("key", key);
                to.set("container", container);
                to.set("rights", rights);
                to.options(options)
            },
            |reply, _| Ok(record(&reply)),
        ),
        once::<(String, String), keys::Ungrant, _>(
            M,
            "Ungrant",
            |to, _, (key, container)| {
                to.set("key", key);
                to.set("container", container);
                Ok(())
            },
            |reply, _| Ok(record(&reply)),
        ),
        key::<keys::GetAcl, _>("GetAcl", |reply, _| Ok(record(&reply))),
    ]
}

fn of_upcalls() -> Vec<Row> {
    use bus::MANAGER as M;

    vec![
        once::<u32, upcalls::List, _>(
            M,
            "ListUpcalls",
            |to, _, history| {
                to.set("history", history);
                Ok(())
            },
            |reply, _| Ok((records(&reply.upcalls), records(&reply.history))),
        ),
        once::<u64, upcalls::Query, _>(
            M,
            "QueryUpcall",
            |to, _, id| {
                to.set("id", id);
                Ok(())
            },
            |reply, _| Ok(record(&reply.upcall)),
        ),
        once::<String, upcalls::ListRules, _>(
            M,
            "ListRules",
            |to, _, container| {
                to.set("container", absent_if_empty(container));
                Ok(())
            },
            |reply, _| Ok(records(&reply.rules)),
        ),
    ]
}

fn of_agents() -> Vec<Row> {
    use bus::MANAGER as M;
    const SERVE: &[&str] = &[<agents::Serve as Method>::NAME];
    const STREAMS: &[&str] = &[
        <containers::Subscribe as Method>::NAME,
        <keys::Subscribe as Method>::NAME,
        <upcalls::Subscribe as Method>::NAME,
    ];

    vec![
        row::<(OwnedObjectPath, String, Vec<String>, Options), agents::Serve, _>(
            M,
            "RegisterAgent",
            SERVE,
            Kind::Register,
            |to, _, (object, name, types, options)| {
                to.object = Some(object);
                to.set("name", name);
                to.set("types", types);
                to.options(options)
            },
            |reply, _| {
                let registration = reply.registration;
                registration
                    .map(|r| r.agent)
                    .ok_or_else(|| Error::new(ErrorKind::System, "the agent was not registered"))
            },
        ),
        row::<u64, agents::Serve, _>(
            M,
            "UnregisterAgent",
            SERVE,
            Kind::Unregister,
            |to, _, agent| {
                to.number = agent;
                Ok(())
            },
            nothing,
        ),
        once::<(), agents::List, _>(M, "ListAgents", taken, |reply, _| {
            Ok(records(&reply.agents))
        }),
        row::<(), containers::Subscribe, _>(
            M,
            "Subscribe",
            STREAMS,
            Kind::Subscribe,
            taken,
            nothing,
        ),
        row::<(), containers::Subscribe, _>(
            M,
            "Unsubscribe",
            STREAMS,
            Kind::Unsubscribe,
            taken,
            nothing,
        ),
    ]
}

fn container() -> Vec<Row> {
    use bus::CONTAINER as C;

    type Start = (Vec<String>, Vec<zbus::OwnedFd>, Options);

    fn this<A>(to: &mut Parameters, id: u64, _: A) -> Result<(), Wrong> {
        to.set("container", id.to_string());
        Ok(())
    }
    fn start(to: &mut Parameters, id: u64, (command, fds, options): Start) -> Result<(), Wrong> {
        this(to, id, ())?;
        to.set("command", command);
        to.fds = fds.into_iter().map(OwnedFd::from).collect();
        to.options(options)
    }
    fn started(
        reply: containers::Started,
        fds: Vec<OwnedFd>,
    ) -> Result<(u64, u32, Vec<zbus::OwnedFd>), Error> {
        let terminal = fds.into_iter().map(zbus::OwnedFd::from).collect();
        Ok((reply.process, reply.pid, terminal))
    }
    fn add(
        to: &mut Parameters,
        id: u64,
        (type_, description, payload, options): (String, String, Payload, Options),
    ) -> Result<(), Wrong> {
        this(to, id, ())?;
        to.set("type", type_);
        to.set("description", description);
        to.payload = Some(payload);
        if options.contains_key("payload") {
            return Err(Wrong::Option("payload".to_owned()));
        }
        to.options(options)
    }

    vec![
        once::<(), containers::Show, _>(C, "Show", this, |reply, _| Ok(record(&reply))),
        once::<(), containers::GetKeyring, _>(C, "GetKeyring", this, |reply, _| {
            Ok((record(&reply.keyring), records(&reply.keys)))
        }),
        once::<Start, containers::Run, _>(C, "Run", start, started),
        once::<Start, containers::Exec, _>(C, "Exec", start, started),
        once::<u64, containers::OpenProcess, _>(
            C,
            "OpenProcess",
            |to, id, process| {
                to.set("process", process);
                this(to, id, ())
            },
            |reply, fds| Ok((one(fds)?, reply.pid)),
        ),
        once::<u64, containers::Wait, _>(
            C,
            "Wait",
            |to, id, process| {
                to.set("process", process);
                this(to, id, ())
            },
            // One value, which is a structure: a tuple of one, or its parentheses would be lost.
            |reply, _| Ok((exit(Some(reply.exit)),)),
        ),
        once::<(u64, i32), containers::Kill, _>(
            C,
            "Signal",
            |to, id, (process, signal)| {
                to.set("process", process);
                to.set("signal", signal);
                this(to, id, ())
            },
            nothing,
        ),
        once::<(), containers::Kill, _>(C, "Kill", this, |reply, _| {
            Ok((reply.upcalls_rejected, reply.milliseconds))
        }),
        once::<(), containers::Remove, _>(C, "Remove", this, nothing),
        once::<(String, String, Vec<u8>, Options), keys::Add, _>(
            C,
            "AddKey",
            |to, id, (type_, description, payload, options)| {
                add(to, id, (type_, description, Payload::new(payload), options))
            },
            |reply, _| Ok(record(&reply.key)),
        ),
        once::<(String, String, zbus::OwnedFd, Options), keys::Add, _>(
            C,
            "AddKeyFrom",
            |to, id, (type_, description, payload, options)| {
                add(to, id, (type_, description, payload_of(&payload)?, options))
            },
            |reply, _| Ok(record(&reply.key)),
        ),
        once::<(String, Options), upcalls::Intercept, _>(
            C,
            "Intercept",
            |to, id, (type_, mut options)| {
                this(to, id, ())?;
                to.set("type", type_);
                to.target(&mut options)?;
                to.options(options)
            },
            |reply, _| Ok((record(&reply.rule), reply.replaced)),
        ),
        once::<String, upcalls::Unintercept, _>(
            C,
            "Unintercept",
            |to, id, type_| {
                to.set("type", type_);
                this(to, id, ())
            },
            nothing,
        ),
    ]
}

fn upcall() -> Vec<Row> {
    use bus::UPCALL as U;

    fn answered(reply: upcalls::Answered, _: Vec<OwnedFd>) -> Result<(i32, u64), Error> {
        Ok((reply.outcome, reply.milliseconds))
    }

    vec![
        once::<Vec<u8>, upcalls::Answer, _>(
            U,
            "Answer",
            |to, id, payload| {
                to.set("id", id);
                to.response = true;
                to.payload = Some(Payload::new(payload));
                Ok(())
            },
            answered,
        ),
        once::<zbus::OwnedFd, upcalls::Answer, _>(
            U,
            "AnswerFrom",
            |to, id, payload| {
                to.set("id", id);
                to.response = true;
                to.payload = Some(payload_of(&payload)?);
                Ok(())
            },
            answered,
        ),
        once::<(), upcalls::Answer, _>(
            U,
            "AnswerFromKeyring",
            |to, id, ()| {
                to.set("id", id);
                to.set("response", json!({"from_keyring": {}}));
                Ok(())
            },
            answered,
        ),
        once::<(i32, u32), upcalls::Answer, _>(
            U,
            "Reject",
            |to, id, (errno, timeout)| {
                to.set("id", id);
                to.set(
                    "response",
                    json!({"reject": {"errno": errno, "timeout": timeout}}),
                );
                Ok(())
            },
            answered,
        ),
        once::<Options, upcalls::Reroute, _>(
            U,
            "Reroute",
            |to, id, mut options| {
                to.set("id", id);
                to.target(&mut options)?;
                to.options(options)
            },
            |reply, _| Ok(record(&reply.upcall)),
        ),
    ]
}

/// A text of the contract as a string of the bus.
pub(super) fn text(value: impl ToString) -> String {
    without_nul(value.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What a description says of a method: arguments, results, methods of the contract.
    type Said = (String, String, String);

    fn described(xml: &str) -> BTreeMap<String, Said> {
        let value = |line: &str, name: &str| {
            let begin = line.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
            line[begin..].split('"').next().unwrap().to_owned()
        };
        let mut all: BTreeMap<String, Said> = BTreeMap::new();
        let mut method = None;
        for line in xml.lines() {
            if line.contains("<method ") {
                method = Some(value(line, "name"));
                all.insert(value(line, "name"), Said::default());
            } else if line.contains("<signal ") || line.contains("<property ") {
                method = None;
            }
            let Some(said) = method.as_ref().and_then(|name| all.get_mut(name)) else {
                continue;
            };
            if line.contains("direction=\"in\"") {
                said.0 += &value(line, "type");
            } else if line.contains("direction=\"out\"") {
                said.1 += &value(line, "type");
            } else if line.contains("\"org.keyns.Varlink\"") {
                said.2 = value(line, "value");
            }
        }
        all
    }

    #[test]
    fn descriptions_are_of_what_is_served() {
        for (interface, xml) in bus::INTERFACES {
            if interface == bus::AGENT {
                continue;
            }
            let rows = rows().into_iter().filter(|row| row.interface == interface);
            let served: BTreeMap<String, Said> = rows
                .map(|row| {
                    let said = (row.input, row.output, row.varlink.join(" "));
                    (row.member.to_owned(), said)
                })
                .collect();
            assert_eq!(described(xml), served, "{interface}");
        }
    }

    #[test]
    fn every_payload_is_marked() {
        let bytes = bus::INTERFACES.iter().flat_map(|(_, xml)| {
            let lines: Vec<&str> = xml.lines().collect();
            let pairs = lines
                .windows(2)
                .map(|pair| (pair[0].to_owned(), pair[1].to_owned()));
            pairs.collect::<Vec<_>>()
        });
        let mut found = 0;
        for (line, next) in bytes.filter(|(line, _)| line.contains("type=\"ay\"")) {
            assert!(next.contains("org.keyns.Sensitive"), "{line}");
            found += 1;
        }
        assert_eq!(found, 4);
    }
}

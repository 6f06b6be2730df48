//! A daemon, its clients, and what the kernel says.

use std::time::Duration;

use keyns_interfaces::containers::{Create, GetKeyring, Namespace, Root};
use keyns_interfaces::event::Event;
use keyns_interfaces::keys::{Add, GrantTo, KeyInfo, Subscribe, Ungrant};
use keyns_interfaces::{
    ByteText, Client, ClientError, Error, ErrorKind, Method, Payload, Subscription,
};
use keyns_sys::{KeySerial, key};
use keyns_tests::instance::Instance;
use tokio::runtime::Runtime;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) instance: Instance,
    pub(crate) runtime: Runtime,
}

impl World {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            instance: Instance::start("keys"),
            runtime,
        }
    }

    /// The mask of a copy: this, or what only its owner has where rights are in a list.
    pub(crate) fn copy_mask(&self, by_mask: u32) -> u32 {
        if self.instance.has("grant-inval-apart") {
            0x003f_0000
        } else {
            by_mask
        }
    }

    pub(crate) fn connect(&self) -> Client {
        let connect = Client::connect(self.instance.socket());
        self.runtime
            .block_on(connect)
            .unwrap()
            .with_timeout(PATIENCE)
    }

    pub(crate) fn on<M: Method>(&self, client: &mut Client, call: &M) -> Result<M::Reply, Error> {
        match self.runtime.block_on(client.call(call, Vec::new())) {
            Ok((reply, _)) => Ok(reply),
            Err(ClientError::Refused(error)) => Err(error),
            Err(other) => panic!("{}: {other}\n{}", M::NAME, self.instance.log()),
        }
    }

    pub(crate) fn call<M: Method>(&self, call: &M) -> Result<M::Reply, Error> {
        self.on(&mut self.connect(), call)
    }

    #[track_caller]
    pub(crate) fn ok<M: Method>(&self, call: &M) -> M::Reply {
        self.call(call)
            .unwrap_or_else(|error| panic!("{error:?}\n{}", self.instance.log()))
    }

    #[track_caller]
    pub(crate) fn refused<M: Method>(&self, call: &M, kind: ErrorKind) -> Error {
        let error = self.call(call).unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        error
    }

    pub(crate) fn container(&self, name: &str) {
        let create = Create {
            name: name.into(),
            namespaces: vec![Namespace::User, Namespace::Pid, Namespace::Mount],
            root: Root::Empty,
            kill_on_close: false,
        };
        self.ok(&create);
    }

    pub(crate) fn copies(&self, container: &str) -> Vec<KeyInfo> {
        self.ok(&GetKeyring {
            container: container.into(),
        })
        .keys
    }

    pub(crate) fn subscribe(&self) -> Subscription<Subscribe> {
        let subscribe = self.connect().subscribe(&Subscribe {});
        self.runtime.block_on(subscribe).unwrap()
    }

    /// The next event that is not about a copy being brought up to date.
    pub(crate) fn next(&self, events: &mut Subscription<Subscribe>) -> Event {
        loop {
            let next = async { tokio::time::timeout(PATIENCE, events.next()).await };
            let event = self.runtime.block_on(next).unwrap().unwrap().unwrap();
            if !event.event.starts_with("copy-") {
                return event;
            }
        }
    }

    pub(crate) fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.instance.until(what, holds);
    }
}

pub(crate) fn add(container: &str, description: &str, payload: &str) -> Add {
    Add {
        container: container.into(),
        type_: "user".into(),
        description: ByteText::from(description.as_bytes()),
        payload: Payload::new(payload.as_bytes().to_vec()),
        timeout: None,
    }
}

/// A grant that this kernel can express.
pub(crate) fn grant(key: &str, container: &str) -> GrantTo {
    GrantTo {
        accept_implied: words(&["read", "inval"]),
        ..bare(key, container, &["search"])
    }
}

pub(crate) fn bare(key: &str, container: &str, rights: &[&str]) -> GrantTo {
    GrantTo {
        key: ByteText::from(key.as_bytes()),
        container: container.into(),
        rights: words(rights),
        accept_implied: Vec::new(),
        duration: None,
        dry_run: false,
    }
}

pub(crate) fn ungrant(key: &str, container: &str) -> Ungrant {
    Ungrant {
        key: ByteText::from(key.as_bytes()),
        container: container.into(),
    }
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(crate) fn text(key: &str) -> ByteText {
    ByteText::from(key.as_bytes())
}

/// The kernel's own answer: uid 0 owns copies of containers with a user namespace.
pub(crate) fn in_kernel(serial: i32) -> Option<Vec<u8>> {
    key::read(KeySerial::new(serial)).ok()
}

pub(crate) fn mask_in_kernel(serial: i32) -> u32 {
    let text = key::describe(KeySerial::new(serial)).unwrap();
    keyns::description::KeyDescription::parse(&text)
        .unwrap()
        .mask
        .raw()
}

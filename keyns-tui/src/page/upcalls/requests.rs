//! The requests that are known: those that wait, and the last ones that ended.

use std::collections::BTreeMap;
use std::time::Duration;

use keyctl_ns::view;
use keyns_interfaces::upcalls::{LISTED_TEXT, Listing, UpcallInfo};

use crate::client::Asked;
use crate::filter::{Field, Fields};

/// Ended requests that are kept; as many as the daemon keeps.
pub const HISTORY: u32 = 256;
/// Waiting requests that are kept: more than the daemon lets wait.
const WAITING: usize = 4096;

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What the daemon said last.
    pub info: UpcallInfo,
    /// When it said so, since the start.
    at: Duration,
    /// Whether its texts are known to their end.
    pub is_whole: bool,
}

impl Known {
    /// Whether it waits for an answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        is_waiting(&self.info)
    }

    /// How long it has waited at this time, or took.
    #[must_use]
    pub fn age(&self, now: Duration) -> Duration {
        let age = Duration::from_millis(self.info.age_ms);
        match self.is_waiting() {
            true => age + now.saturating_sub(self.at),
            false => age,
        }
    }

    /// How long it has until it is rejected, or passed on.
    #[must_use]
    pub fn left(&self, now: Duration) -> Option<Duration> {
        let left = Duration::from_millis(self.info.deadline_ms?);
        self.is_waiting()
            .then(|| left.saturating_sub(now.saturating_sub(self.at)))
    }
}

/// Whether a request waits for an answer.
#[must_use]
pub fn is_waiting(info: &UpcallInfo) -> bool {
    info.outcome.is_none() && matches!(info.state.as_str(), "queued" | "offered")
}

/// All of them.
#[derive(Debug, Default)]
pub struct Requests {
    all: BTreeMap<u64, Known>,
}

impl Requests {
    /// One of them.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Known> {
        self.all.get(&id)
    }

    /// All, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Known> {
        self.all.values()
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.iter().filter(|it| it.is_waiting()).count()
    }

    /// The daemon has said this of a request; says whether that is news.
    pub fn tell(&mut self, mut info: UpcallInfo, now: Duration) -> bool {
        let mut is_whole = !is_cut(&info);
        if let Some(known) = self.all.get(&info.id)
            && Asked::from(&known.info) == Asked::from(&info)
        {
            if !known.is_waiting() && is_waiting(&info) {
                // A listing can be older than an event.
                return false;
            }
            if known.is_whole && !is_whole {
                info.description.clone_from(&known.info.description);
                info.callout.clone_from(&known.info.callout);
                is_whole = true;
            }
        }
        let known = Known {
            info,
            at: now,
            is_whole,
        };
        self.all.insert(known.info.id, known);
        self.bound();
        true
    }

    /// A request was asked for alone, so that its texts are whole.
    pub fn tell_whole(&mut self, info: UpcallInfo, now: Duration) {
        let id = info.id;
        self.tell(info, now);
        self.settle(id);
    }

    /// Nothing more will be known of it.
    pub fn settle(&mut self, id: u64) {
        if let Some(known) = self.all.get_mut(&id) {
            known.is_whole = true;
        }
    }

    /// What was asked for at `asked` is all that there is, but for what came since.
    pub fn list(&mut self, listing: &Listing, asked: Duration, now: Duration) {
        let listed = listing.upcalls.iter().chain(&listing.history);
        let is_listed = |known: &Known| {
            let mut all = listing.upcalls.iter().chain(&listing.history);
            all.any(|info| Asked::from(info) == Asked::from(&known.info))
        };
        self.all
            .retain(|_, known| known.at >= asked || is_listed(known));
        for info in listed {
            self.tell(info.clone(), now);
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.all.clear();
    }

    fn bound(&mut self) {
        let history = usize::try_from(HISTORY).unwrap_or(usize::MAX);
        for (waiting, most) in [(false, history), (true, WAITING)] {
            let is_one = |known: &Known| known.is_waiting() == waiting;
            let mut ones = self.iter().filter(|it| is_one(it)).map(|it| it.info.id);
            let oldest = ones.next();
            if let Some(oldest) = oldest.filter(|_| ones.count() >= most) {
                self.all.remove(&oldest);
            }
        }
    }
}

/// Whether a text may have been cut by the daemon.
fn is_cut(info: &UpcallInfo) -> bool {
    [&info.description, &info.callout]
        .into_iter()
        .any(|text| text.bytes().len() == LISTED_TEXT)
}

impl Fields for Known {
    fn each(&self, tell: &mut dyn FnMut(Field, &str)) {
        let (info, by) = (&self.info, &self.info.requester);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        tell(Field::Type, &info.type_);
        tell(Field::Description, &text(info.description.bytes()));
        tell(Field::Serial, &info.id.to_string());
        tell(Field::Serial, &info.key.to_string());
        tell(Field::State, &view::upcall_state(info));
        if is_waiting(info) {
            tell(Field::State, "waiting");
        }
        tell(Field::Container, by.container.as_deref().unwrap_or("host"));
        tell(Field::Owner, &by.uid.to_string());
        tell(Field::Program, &text(by.command.bytes()));
        tell(Field::Program, &text(by.executable.bytes()));
        if let Some(handler) = &info.handler {
            tell(Field::Handler, handler);
        }
    }
}

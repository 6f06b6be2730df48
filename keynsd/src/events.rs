//! Events on their way from the services to the subscribers.
//!
//! Publishing never waits: each subscriber has a bounded queue, and one that reads too slowly loses
//! its oldest events and is told how many.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use keyns_interfaces::Error;
use keyns_interfaces::event::Event;
use tokio::sync::Notify;

use crate::front::StreamSender;

/// Events a subscriber may be behind.
pub const QUEUE: usize = 256;

/// What an event is about; each `Subscribe` method delivers one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Containers and processes in them.
    Containers,
    /// Keys and grants.
    Keys,
    /// Requests for keys.
    Upcalls,
}

/// An event named `name` that happens now and concerns nothing yet.
#[must_use]
pub fn event(name: &str) -> Event {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Event {
        event: name.to_owned(),
        time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        dropped: 0,
        container: None,
        key: None,
        grant: None,
        upcall: None,
    }
}

/// Delivers each event to every subscriber of its topic.
#[derive(Debug, Default)]
pub struct Bus {
    subscribers: RefCell<Vec<Weak<Queue>>>,
}

#[derive(Debug)]
struct Queue {
    topic: Topic,
    events: RefCell<VecDeque<Rc<Event>>>,
    // Events lost before the first one queued.
    dropped: Cell<u64>,
    arrived: Notify,
}

impl Bus {
    /// Queues `event` for the subscribers of `topic`.
    pub fn publish(&self, topic: Topic, event: Event) {
        let event = Rc::new(event);
        self.subscribers.borrow_mut().retain(|queue| {
            let Some(queue) = queue.upgrade() else {
                return false;
            };
            if queue.topic == topic {
                let mut events = queue.events.borrow_mut();
                if events.len() == QUEUE {
                    events.pop_front();
                    queue.dropped.set(queue.dropped.get().saturating_add(1));
                }
                events.push_back(Rc::clone(&event));
                queue.arrived.notify_one();
            }
            true
        });
    }

    /// Events of `topic` from now on.
    #[must_use]
    pub fn subscribe(&self, topic: Topic) -> Subscriber {
        let queue = Rc::new(Queue {
            topic,
            events: RefCell::default(),
            dropped: Cell::new(0),
            arrived: Notify::new(),
        });
        let mut subscribers = self.subscribers.borrow_mut();
        subscribers.retain(|queue| queue.strong_count() > 0);
        subscribers.push(Rc::downgrade(&queue));
        Subscriber(queue)
    }

    /// Subscribers at present.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.subscribers
            .borrow()
            .iter()
            .filter(|queue| queue.strong_count() > 0)
            .count()
    }

    /// Serves a `Subscribe` method: confirms it with an event `subscribed`, then passes events on
    /// until the subscriber hangs up.
    ///
    /// # Errors
    /// None; the type is that of a stream's handler.
    pub async fn forward(&self, topic: Topic, sender: StreamSender<Event>) -> Result<(), Error> {
        let subscriber = self.subscribe(topic);
        let mut next = event("subscribed");
        while sender.send(next).await.is_ok() {
            next = subscriber.next().await;
        }
        Ok(())
    }
}

/// One subscriber's queue; unsubscribes when dropped.
#[derive(Debug)]
pub struct Subscriber(Rc<Queue>);

impl Subscriber {
    /// The next event, with the number of those lost just before it. Cancel safe.
    pub async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.0.events.borrow_mut().pop_front() {
                return Event {
                    dropped: self.0.dropped.take(),
                    ..Event::clone(&event)
                };
            }
            self.0.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bus, QUEUE, Topic, event};

    #[tokio::test]
    async fn a_subscriber_gets_its_topic_in_order() {
        let bus = Bus::default();
        let keys = bus.subscribe(Topic::Keys);
        bus.publish(Topic::Keys, event("key-added"));
        bus.publish(Topic::Containers, event("container-created"));
        bus.publish(Topic::Keys, event("key-updated"));
        assert_eq!(keys.next().await.event, "key-added");
        assert_eq!(keys.next().await.event, "key-updated");
    }

    #[tokio::test]
    async fn a_slow_subscriber_loses_the_oldest_and_is_told_how_many() {
        let bus = Bus::default();
        let slow = bus.subscribe(Topic::Keys);
        for number in 0..QUEUE + 10 {
            bus.publish(Topic::Keys, event(&number.to_string()));
        }
        let first = slow.next().await;
        assert_eq!((first.event.as_str(), first.dropped), ("10", 10));
        let second = slow.next().await;
        assert_eq!((second.event.as_str(), second.dropped), ("11", 0));
    }

    #[test]
    fn a_dropped_subscriber_costs_nothing() {
        let bus = Bus::default();
        for _ in 0..1000 {
            let _ = bus.subscribe(Topic::Upcalls);
        }
        assert_eq!(bus.subscribers(), 0);
        assert!(bus.subscribers.borrow().len() <= 1);
    }
}

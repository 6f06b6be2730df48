//! The threads on which clients are asked: one for keys of the own, one for what only `/proc/keys` tells
//! of them, one for what the machine can do, one for the daemon, so that nothing that takes its time
//! keeps anybody from looking at keys.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use crate::client::{Answer, Client, Failure, Place, Request, Ticket};
use crate::message::Message;

/// Questions that may wait at one place.
const WAITING: usize = 256;

/// The ways to the clients.
#[derive(Debug)]
pub struct Workers {
    places: HashMap<Place, SyncSender<(Ticket, Request)>>,
}

impl Workers {
    /// Starts a thread for each client, which sends its answers to `answers` until nobody takes them.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start(
        clients: Vec<(Place, Box<dyn Client>)>,
        answers: &SyncSender<Message>,
    ) -> std::io::Result<Self> {
        let mut places = HashMap::new();
        for (place, client) in clients {
            let (sender, questions) = sync_channel(WAITING);
            let answers = answers.clone();
            thread::Builder::new()
                .name(format!("{place:?}").to_lowercase())
                .spawn(move || work(client, &questions, &answers))?;
            places.insert(place, sender);
        }
        Ok(Self { places })
    }

    /// Hands a question on without waiting. The answer to one that cannot be is returned.
    #[must_use]
    pub fn ask(&self, ticket: Ticket, request: Request) -> Option<Answer> {
        let place = self.places.get(&request.place())?;
        match place.try_send((ticket, request)) {
            Ok(()) => None,
            Err(
                TrySendError::Full((ticket, request))
                | TrySendError::Disconnected((ticket, request)),
            ) => {
                let failure = Failure::failure("too much was asked for at once")
                    .cause(format!("{WAITING} questions wait for an answer already"))
                    .hint("wait a moment, then refresh");
                Some(Answer {
                    ticket,
                    request,
                    result: Err(failure),
                })
            }
        }
    }
}

fn work(
    mut client: Box<dyn Client>,
    questions: &Receiver<(Ticket, Request)>,
    answers: &SyncSender<Message>,
) {
    while let Ok((ticket, request)) = questions.recv() {
        let result = client.ask(&request);
        let answer = Answer {
            ticket,
            request,
            result,
        };
        if answers.send(Message::Answer(Box::new(answer))).is_err() {
            return;
        }
    }
}

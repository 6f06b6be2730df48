//! What reaches the state of the program, and what it wants done.

use crossterm::event::Event;
use keyns_interfaces::event::Event as Happening;
use keyns_interfaces::manager::Status;

use crate::client::{Answer, Failure, Request, Ticket};

/// Something that happened. All of it comes through one bounded channel.
#[derive(Debug)]
pub enum Message {
    /// The terminal: a key, the mouse, a paste, another size.
    Input(Event),
    /// The terminal is gone.
    InputEnded,
    /// A signal that ends the program, by its number.
    Terminated(i32),
    /// SIGTSTP: back to the shell.
    Suspended,
    /// SIGCONT: somebody may have changed the terminal meanwhile.
    Continued,
    /// A question was answered.
    Answer(Box<Answer>),
    /// News of the daemon.
    Feed(Box<Feed>),
    /// The time that was asked for has come.
    Tick,
}

/// News of the daemon.
#[derive(Debug)]
pub enum Feed {
    /// It answers, and events come from now on.
    Up(Status),
    /// It answered again.
    Alive(Status),
    /// It is connected to, but did not answer in time.
    Silent,
    /// It cannot be reached, or has gone.
    Down(Failure),
    /// Something happened to a container, key or request.
    Event(Box<Happening>),
}

/// What is to be done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Ask somebody.
    Ask(Ticket, Request),
    /// Draw everything anew, whatever the terminal shows.
    Redraw,
    /// Back to the shell for a while.
    Suspend,
    /// End.
    Quit,
}

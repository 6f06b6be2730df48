//! What a dialog is about: when that dies, the dialog goes.

use keyns_interfaces::containers::{ContainerInfo, State};
use keyns_interfaces::event::Event;
use keyns_interfaces::upcalls::UpcallInfo;

use super::Flow;
use crate::app::shared::{Context, Tone};
use crate::client::{Answer, Asked, Named, Reply};
use crate::page::upcalls::details::ending;
use crate::page::upcalls::requests::is_waiting;
use crate::text;

/// What a dialog is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Subject {
    /// Nothing that could die.
    #[default]
    Nothing,
    /// A container.
    Container(Named),
    /// A request for a key, which waits.
    Request(Asked),
}

impl From<&ContainerInfo> for Subject {
    fn from(container: &ContainerInfo) -> Self {
        Self::Container(container.into())
    }
}

impl From<&UpcallInfo> for Subject {
    fn from(request: &UpcallInfo) -> Self {
        Self::Request(request.into())
    }
}

impl Subject {
    /// Closes the dialog if this event is the end of what it is about.
    pub fn event(&self, event: &Event, context: &mut Context<'_>) -> Flow {
        match (self, &event.container, &event.upcall) {
            (Self::Container(mine), Some(it), _) if it.id == mine.id && !lives(it, event) => {
                container_gone(mine, context)
            }
            (Self::Request(mine), _, Some(it)) if *mine == Asked::from(it) && !is_waiting(it) => {
                request_gone(*mine, &format!("is {}", ending(it)), context)
            }
            _ => Flow::Stay,
        }
    }

    /// Its end may have been missed while the daemon was not there.
    pub fn answer(&self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        match (self, &answer.result) {
            (Self::Container(mine), Ok(Reply::Containers(all))) => {
                let state = all.iter().find(|it| it.id == mine.id).map(|it| it.state);
                match state {
                    Some(State::Created | State::Running) => Flow::Stay,
                    Some(State::Dying | State::Dead) | None => container_gone(mine, context),
                }
            }
            (Self::Request(mine), Ok(Reply::Upcalls(listing))) => {
                if listing.upcalls.iter().any(|it| *mine == Asked::from(it)) {
                    return Flow::Stay;
                }
                request_gone(*mine, "does not wait any more", context)
            }
            _ => Flow::Stay,
        }
    }
}

fn container_gone(mine: &Named, context: &mut Context<'_>) -> Flow {
    let name = text::line(&mine.name, 60);
    let gone = format!("container “{name}” is gone, and so is the dialog about it");
    context.shared.say(Tone::Bad, gone);
    Flow::Close
}

fn request_gone(mine: Asked, how: &str, context: &mut Context<'_>) -> Flow {
    let gone = format!("request {} {how}, and so the dialog is closed", mine.id);
    context.shared.say(Tone::Bad, gone);
    context.changed();
    Flow::Close
}

fn lives(container: &ContainerInfo, event: &Event) -> bool {
    matches!(container.state, State::Created | State::Running) && event.event != "container-removed"
}

//! Dialogs: what is drawn above a page and takes all input until it is closed.

pub mod confirm;
pub mod fields;
pub mod form;
pub mod grant;
pub mod help;
pub mod pick;
pub mod respond;
pub mod reveal;
pub mod secret;
pub mod sheet;
pub mod subject;
pub mod target;

use std::time::Duration;

use crossterm::event::MouseEvent;
use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;

use crate::action::Action;
use crate::app::shared::{Context, Shared};
use crate::client::Answer;
use crate::edit::Edit;

/// What becomes of a dialog after an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It stays.
    Stay,
    /// It goes.
    Close,
}

/// One dialog.
pub trait Dialog {
    /// Its title.
    fn title(&self) -> String;

    /// Columns and rows that it would like inside its frame.
    fn size(&self, shared: &Shared) -> (u16, u16);

    /// Whether characters are typed into it now, and are not keys of actions.
    fn takes_text(&self) -> bool {
        false
    }

    /// The actions that the footer shows.
    fn actions(&self) -> &'static [Action] {
        &[Action::Confirm, Action::Cancel]
    }

    /// Does something; [`Action::Cancel`] closes it without asking here.
    fn act(&mut self, action: Action, context: &mut Context<'_>) -> Flow;

    /// Something was typed or pasted, while [`Self::takes_text`].
    fn edit(&mut self, edit: &Edit, context: &mut Context<'_>) {
        let _ = (edit, context);
    }

    /// A mouse button or wheel, in the area that it was last drawn in.
    fn mouse(&mut self, event: MouseEvent, context: &mut Context<'_>) -> Flow {
        let _ = (event, context);
        Flow::Stay
    }

    /// An answer, to whomever asked.
    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>) -> Flow {
        let _ = (answer, context);
        Flow::Stay
    }

    /// Something happened at the daemon: what the dialog is about may be gone.
    fn event(&mut self, event: &Event, context: &mut Context<'_>) -> Flow {
        let _ = (event, context);
        Flow::Stay
    }

    /// When it wants [`Self::tick`], as time since the start.
    fn wakes_at(&self) -> Option<Duration> {
        None
    }

    /// That time has come.
    fn tick(&mut self, context: &mut Context<'_>) -> Flow {
        let _ = context;
        Flow::Stay
    }

    /// Draws what is inside its frame.
    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared);
}

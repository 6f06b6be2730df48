//! The pages, and what they are given to work with.

pub mod beside;
pub mod columns;
pub mod containers;
pub mod events;
pub mod health;
pub mod keys;
pub mod list_view;
pub mod pane;
pub mod tree_view;
pub mod upcalls;

use crossterm::event::MouseEvent;
use keyns_interfaces::event::Event;
use ratatui::Frame;
use ratatui::layout::Rect;

use crate::action::{Action, Scope};
use crate::app::shared::{Context, Shared};
use crate::client::Answer;
use crate::filter::Filter;

/// One page. It owns what it shows, asks through its [`Context`], and is told every answer.
pub trait Page {
    /// Its name in the tab bar.
    fn name(&self) -> &'static str;

    /// Where its actions stand in the table.
    fn scope(&self) -> Scope;

    /// What stands behind its name in the tab bar, for those who look at another page.
    fn badge(&self) -> String {
        String::new()
    }

    /// Whether rows can be marked.
    fn has_marks(&self) -> bool {
        true
    }

    /// The daemon has come, gone, or stopped to answer.
    fn linked(&mut self, context: &mut Context<'_>) {
        let _ = context;
    }

    /// Reads everything that it shows anew: at the start, when it is asked for, and when the daemon
    /// has come back.
    fn refresh(&mut self, context: &mut Context<'_>);

    /// Does something; says whether it knows the action.
    fn act(&mut self, action: Action, context: &mut Context<'_>) -> bool;

    /// A mouse button or wheel, in the area that it was last drawn in.
    fn mouse(&mut self, event: MouseEvent, context: &mut Context<'_>);

    /// An answer, to whomever asked.
    fn answer(&mut self, answer: &Answer, context: &mut Context<'_>);

    /// Something happened at the daemon.
    fn event(&mut self, event: &Event, context: &mut Context<'_>);

    /// Shows only this from now on.
    fn filter(&mut self, filter: &Filter, context: &mut Context<'_>);

    /// When it wants [`Self::tick`], as time since the start; never if nothing changes by itself.
    fn wakes_at(&self, shared: &Shared) -> Option<std::time::Duration>;

    /// That time has come.
    fn tick(&mut self, context: &mut Context<'_>);

    /// A line on what is shown, for the line above the footer.
    fn summary(&self, shared: &Shared) -> String;

    /// Draws it.
    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect, shared: &Shared);
}

/// All pages, in the order of the tab bar.
#[must_use]
pub fn all() -> Vec<Box<dyn Page>> {
    vec![
        Box::new(keys::Keys::default()),
        Box::new(containers::Containers::default()),
        Box::new(upcalls::Upcalls::default()),
        Box::new(events::Events::default()),
        Box::new(health::Health::default()),
    ]
}

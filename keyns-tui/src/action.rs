//! Everything that a key can do: one table, from which keys are dispatched, the help is written, the
//! footer is made, and the command line knows its words.

/// Where an action can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere but in dialogs.
    Global,
    /// In every list and tree.
    List,
    /// On the page Keys.
    Keys,
    /// On the page Containers.
    Containers,
    /// On the page Upcalls.
    Upcalls,
    /// On the page Events.
    Events,
    /// On the page Health.
    Health,
    /// In dialogs.
    Dialog,
}

impl Scope {
    /// Its heading in the help.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Global => "Everywhere",
            Self::List => "In lists and trees",
            Self::Keys => "Keys",
            Self::Containers => "Containers",
            Self::Upcalls => "Upcalls",
            Self::Events => "Events",
            Self::Health => "Health",
            Self::Dialog => "In dialogs",
        }
    }

    /// All of them, in the order of the help.
    pub const ALL: [Self; 8] = [
        Self::Keys,
        Self::Containers,
        Self::Upcalls,
        Self::Events,
        Self::Health,
        Self::List,
        Self::Global,
        Self::Dialog,
    ];
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the table below says what each does")]
pub enum Action {
    Quit,
    Help,
    CommandLine,
    Filter,
    ClearFilter,
    NextPage,
    PreviousPage,
    Page(usize),
    Refresh,
    Suspend,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Close,
    Open,
    Enter,
    Details,
    Mark,
    ClearMarks,
    Grant,
    Ungrant,
    Move,
    Reveal,
    Timeout,
    Unlink,
    Revoke,
    Invalidate,
    Create,
    Shell,
    Kill,
    Remove,
    Intercept,
    Unintercept,
    Answer,
    FromKeyring,
    Negate,
    Reject,
    Reroute,
    Follow,
    Order,
    Confirm,
    Cancel,
    NextField,
    PreviousField,
    Toggle,
    Complete,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What is done.
    pub action: Action,
    /// Its name on the command line and in the configuration.
    pub name: &'static str,
    /// Where.
    pub scope: Scope,
    /// The keys that do it unless the configuration says otherwise, separated by blanks.
    pub keys: &'static str,
    /// The word in the footer; none if it is not shown there.
    pub footer: Option<&'static str>,
    /// One sentence.
    pub help: &'static str,
    /// Whether it changes something outside this program, and is refused with `--read-only`.
    pub changes: bool,
}

const fn entry(
    action: Action,
    name: &'static str,
    scope: Scope,
    keys: &'static str,
    help: &'static str,
) -> Entry {
    Entry {
        action,
        name,
        scope,
        keys,
        footer: None,
        help,
        changes: false,
    }
}

impl Entry {
    const fn footer(mut self, word: &'static str) -> Self {
        self.footer = Some(word);
        self
    }

    const fn changes(mut self) -> Self {
        self.changes = true;
        self
    }
}

use Action as A;
use Scope::{Containers, Dialog, Events, Global, Keys, List, Upcalls};

/// The table.
pub const TABLE: &[Entry] = &[
    entry(A::Grant, "grant", Keys, "g", "Grant rights to a container, or to possessor, owner, group, everyone; shows first what it comes to.").footer("grant").changes(),
    entry(A::Ungrant, "ungrant", Keys, "u", "Take back what a container was granted.").changes(),
    entry(A::Move, "move", Keys, "m", "Move or link the key to a place that is picked.").footer("move").changes(),
    entry(A::Reveal, "reveal", Keys, "p", "Show the payload for some seconds; that it was shown is recorded.").footer("payload"),
    entry(A::Timeout, "timeout", Keys, "t", "Let the key expire after a time, or never.").footer("timeout").changes(),
    entry(A::Unlink, "unlink", Keys, "U", "Remove the link from the keyring above; the last one takes the key with it.").footer("unlink").changes(),
    entry(A::Revoke, "revoke", Keys, "R", "Revoke the key: it stays, and every use fails.").footer("revoke").changes(),
    entry(A::Invalidate, "invalidate", Keys, "I", "Invalidate the key: it and all links to it are gone at once.").footer("invalidate").changes(),
    entry(A::Create, "create", Containers, "n", "Create a container.").footer("new").changes(),
    entry(A::Shell, "shell", Containers, "s", "Open a shell in the container; its end comes back here.").footer("shell").changes(),
    entry(A::Kill, "kill", Containers, "K", "Kill the container with everything in it.").footer("kill").changes(),
    entry(A::Intercept, "intercept", Containers, "i", "Decide who answers the container's key requests of a type.").footer("intercept").changes(),
    entry(A::Unintercept, "unintercept", Containers, "x", "Remove the rule under the cursor.").footer("drop rule").changes(),
    entry(A::Remove, "remove", Containers, "D", "Remove a container that is dead or was never started.").footer("remove").changes(),
    entry(A::Answer, "answer", Upcalls, "a", "Answer the request with a payload, typed unseen or from a file.").footer("answer").changes(),
    entry(A::FromKeyring, "from-keyring", Upcalls, "c", "Answer the request with a copy of its container's key of the same type and description.").footer("copy").changes(),
    entry(A::Negate, "negate", Upcalls, "n", "Say that there is no such key (ENOKEY).").footer("negate").changes(),
    entry(A::Reject, "reject", Upcalls, "x", "Reject the request with an error of your choice.").footer("reject").changes(),
    entry(A::Reroute, "reroute", Upcalls, "m", "Give the request to another queue, or to other agents, than its rule does.").footer("reroute").changes(),
    entry(A::Follow, "follow", Events, "p f", "Stay where the cursor is, or follow the newest event again.").footer("follow/pause"),
    entry(A::Order, "order", Events, "o", "The newest event last, or first.").footer("order"),
    entry(A::Up, "up", List, "up k", "One row up."),
    entry(A::Down, "down", List, "down j", "One row down."),
    entry(A::PageUp, "page-up", List, "pageup ctrl-b", "A screen up."),
    entry(A::PageDown, "page-down", List, "pagedown ctrl-f", "A screen down."),
    entry(A::First, "first", List, "home <", "To the first row."),
    entry(A::Last, "last", List, "end G >", "To the last row."),
    entry(A::Close, "close", List, "left h", "Close what is open, or go to what is above."),
    entry(A::Open, "open", List, "right l", "Open what is closed, or go to what is below."),
    entry(A::Enter, "enter", List, "enter", "Open or close; show the details alone where there is no room beside."),
    entry(A::Details, "details", List, "d", "Show the details alone, where there is no room for all of them beside."),
    entry(A::Mark, "mark", List, "space", "Mark the row for the next action, or take the mark away.").footer("mark"),
    entry(A::ClearMarks, "clear-marks", List, "M", "Take all marks away."),
    entry(A::Filter, "filter", Global, "/", "Show only what meets all words: type:user owner:root container:web desc:token, -word for what does not.").footer("filter"),
    entry(A::ClearFilter, "clear-filter", Global, "esc", "Show everything again."),
    entry(A::CommandLine, "command", Global, ":", "Type a command by its name; Tab completes it.").footer("command"),
    entry(A::Help, "help", Global, "? f1", "This list; type to search it.").footer("help"),
    entry(A::NextPage, "next-page", Global, "tab", "The next page."),
    entry(A::PreviousPage, "previous-page", Global, "backtab", "The page before."),
    entry(A::Page(0), "page-1", Global, "1", "The first page."),
    entry(A::Page(1), "page-2", Global, "2", "The second page."),
    entry(A::Page(2), "page-3", Global, "3", "The third page."),
    entry(A::Page(3), "page-4", Global, "4", "The fourth page."),
    entry(A::Page(4), "page-5", Global, "5", "The fifth page."),
    entry(A::Refresh, "refresh", Global, "r ctrl-l", "Read everything again and draw it anew."),
    entry(A::Suspend, "suspend", Global, "ctrl-z", "Back to the shell for a while; fg returns."),
    entry(A::Quit, "quit", Global, "q ctrl-c", "End.").footer("quit"),
    entry(A::Confirm, "confirm", Dialog, "enter", "Do it."),
    entry(A::Cancel, "cancel", Dialog, "esc ctrl-c", "Leave the dialog without doing anything."),
    entry(A::NextField, "next-field", Dialog, "tab down", "The next field."),
    entry(A::PreviousField, "previous-field", Dialog, "backtab up", "The field before."),
    entry(A::Toggle, "toggle", Dialog, "space", "Choose what the cursor is on, or not."),
    entry(A::Complete, "complete", Dialog, "ctrl-n", "The next completion."),
];

/// The line of an action.
#[must_use]
pub fn of(action: Action) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.action == action)
}

/// The line of a name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_action_stands_once_under_one_name_with_a_sentence() {
        let mut actions = HashSet::new();
        let mut names = HashSet::new();
        for entry in TABLE {
            assert!(actions.insert(entry.action), "{entry:?}");
            assert!(names.insert(entry.name), "{entry:?}");
            assert!(entry.help.ends_with('.'), "{entry:?}");
            assert!(Scope::ALL.contains(&entry.scope));
        }
    }
}

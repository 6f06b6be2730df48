//! A tree of which only the rows on the screen are ever looked at.
//!
//! Nodes lie in one arena; what is visible is a flat list of their numbers, made anew when something
//! was opened, closed, read or filtered, and a frame draws a window of it. So a frame costs the same
//! with ten keys and with a hundred thousand.

use std::collections::HashMap;
use std::hash::Hash;

/// What a tree can hold.
pub trait Item: PartialEq {
    /// What makes it the same one after its surroundings were read again, among its siblings.
    type Id: Eq + Hash;

    /// Its identity.
    fn id(&self) -> Self::Id;
}

/// A node. That of one that was removed names nothing from then on, also when its place is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    at: usize,
    born: u64,
}

/// What is known of the things below a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// There can be none.
    Nothing,
    /// Nobody has looked yet.
    Unread,
    /// They were asked for.
    Reading,
    /// They are its children.
    Read,
}

/// One node.
#[derive(Debug)]
pub struct Node<T> {
    /// What it is.
    pub item: T,
    /// How many nodes are above it.
    pub depth: usize,
    /// What is known of the things below it.
    pub below: Below,
    /// Whether they are shown.
    pub is_open: bool,
    parent: Option<NodeId>,
    children: Vec<NodeId>,
    born: u64,
}

/// The tree, what is visible of it, and where the cursor stands.
#[derive(Debug)]
pub struct Tree<T> {
    arena: Vec<Option<Node<T>>>,
    free: Vec<usize>,
    births: u64,
    roots: Vec<NodeId>,
    rows: Vec<NodeId>,
    cursor: usize,
    top: usize,
}

impl<T: Item> Default for Tree<T> {
    fn default() -> Self {
        Self {
            arena: Vec::new(),
            free: Vec::new(),
            births: 0,
            roots: Vec::new(),
            rows: Vec::new(),
            cursor: 0,
            top: 0,
        }
    }
}

impl<T: Item> Tree<T> {
    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node<T>> {
        self.arena
            .get(id.at)?
            .as_ref()
            .filter(|node| node.born == id.born)
    }

    /// A node, to be changed. What is visible is not made anew by that.
    pub fn node_mut(&mut self, id: NodeId) -> Option<&mut Node<T>> {
        self.arena
            .get_mut(id.at)?
            .as_mut()
            .filter(|node| node.born == id.born)
    }

    /// The node above.
    #[must_use]
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.node(id)?.parent
    }

    /// The nodes below.
    #[must_use]
    pub fn children(&self, id: NodeId) -> &[NodeId] {
        self.node(id).map_or(&[], |node| &node.children)
    }

    /// The nodes at the top.
    #[must_use]
    pub fn roots(&self) -> &[NodeId] {
        &self.roots
    }

    /// All nodes that are there, in no order.
    pub fn all(&self) -> impl Iterator<Item = (NodeId, &Node<T>)> {
        let numbered = self.arena.iter().enumerate();
        numbered.filter_map(|(at, node)| {
            let node = node.as_ref()?;
            let born = node.born;
            Some((NodeId { at, born }, node))
        })
    }

    /// All items, in no order, to be changed. Who they are stays the same.
    pub fn items_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let nodes = self.arena.iter_mut().flatten();
        nodes.map(|node| &mut node.item)
    }

    /// Makes `items` the children of a node, or the roots. One that was there stays as it was, with
    /// everything below it, and takes over the new item; the others go. Says whether anything is
    /// different; call [`Self::arrange`] then.
    pub fn merge(
        &mut self,
        parent: Option<NodeId>,
        items: impl IntoIterator<Item = (T, Below)>,
    ) -> bool {
        let mut is_changed = false;
        let depth = match parent {
            Some(id) => match self.node_mut(id) {
                Some(node) => {
                    is_changed |= node.below != Below::Read;
                    node.below = Below::Read;
                    node.depth + 1
                }
                None => return false,
            },
            None => 0,
        };
        let before = match parent.and_then(|id| self.node_mut(id)) {
            Some(node) => std::mem::take(&mut node.children),
            None => std::mem::take(&mut self.roots),
        };
        let mut known: HashMap<T::Id, NodeId> = before
            .iter()
            .filter_map(|id| Some((self.node(*id)?.item.id(), *id)))
            .collect();
        let mut after = Vec::new();
        for (item, below) in items {
            let same = known.remove(&item.id());
            after.push(match same.and_then(|id| Some((id, self.node_mut(id)?))) {
                Some((id, node)) => {
                    is_changed |= node.item != item;
                    node.item = item;
                    if below == Below::Nothing || node.below == Below::Nothing {
                        node.below = below;
                    }
                    id
                }
                None => self.insert(Node {
                    item,
                    depth,
                    below,
                    is_open: false,
                    parent,
                    children: Vec::new(),
                    born: 0,
                }),
            });
        }
        for gone in known.into_values() {
            self.remove(gone);
        }
        is_changed |= before != after;
        match parent.and_then(|id| self.node_mut(id)) {
            Some(node) => node.children = after,
            None => self.roots = after,
        }
        is_changed
    }

    fn insert(&mut self, mut node: Node<T>) -> NodeId {
        self.births += 1;
        let born = self.births;
        node.born = born;
        if let Some(at) = self.free.pop()
            && let Some(place) = self.arena.get_mut(at)
        {
            *place = Some(node);
            return NodeId { at, born };
        }
        self.arena.push(Some(node));
        let at = self.arena.len() - 1;
        NodeId { at, born }
    }

    fn remove(&mut self, id: NodeId) {
        let mut doomed = vec![id];
        while let Some(id) = doomed.pop() {
            if self.node(id).is_none() {
                continue;
            }
            if let Some(node) = self.arena.get_mut(id.at).and_then(Option::take) {
                doomed.extend(node.children);
                self.free.push(id.at);
            }
        }
    }

    /// Makes the list of what is visible anew. With a filter these are the nodes it wants, whether
    /// what is above them is open or not, and all above them.
    pub fn arrange(&mut self, wanted: Option<&mut dyn FnMut(&T) -> bool>) {
        let at = self.current();
        let wanted = wanted.map(|wanted| self.wanted(wanted));
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        let mut next: Vec<NodeId> = self.roots.iter().rev().copied().collect();
        while let Some(id) = next.pop() {
            let Some(node) = self.node(id) else { continue };
            let follow = match &wanted {
                Some(set) if !set.get(id.at).copied().unwrap_or(false) => continue,
                Some(_) => true,
                None => node.is_open,
            };
            rows.push(id);
            if follow {
                next.extend(node.children.iter().rev());
            }
        }
        self.rows = rows;
        if let Some(id) = at
            && self.rows.get(self.cursor) != Some(&id)
            && let Some(row) = self.rows.iter().position(|row| *row == id)
        {
            self.cursor = row;
        }
        self.cursor = self.cursor.min(self.rows.len().saturating_sub(1));
    }

    /// For each place of the arena whether the filter wants it or something below it.
    fn wanted(&self, wanted: &mut dyn FnMut(&T) -> bool) -> Vec<bool> {
        let mut set = vec![false; self.arena.len()];
        for (id, node) in self.all() {
            if set.get(id.at) == Some(&true) || !wanted(&node.item) {
                continue;
            }
            let mut next = Some(id);
            while let Some(up) = next {
                match set.get_mut(up.at) {
                    // Above it all is marked already.
                    Some(true) if up != id => break,
                    Some(mark) => *mark = true,
                    None => break,
                }
                next = self.parent(up);
            }
        }
        set
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The node in a row.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<NodeId> {
        self.rows.get(row).copied()
    }

    /// The node under the cursor.
    #[must_use]
    pub fn current(&self) -> Option<NodeId> {
        self.row(self.cursor)
    }

    /// The item under the cursor.
    #[must_use]
    pub fn current_item(&self) -> Option<&T> {
        Some(&self.node(self.current()?)?.item)
    }

    /// The row of the cursor.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Moves the cursor to a row, or the last one.
    pub fn go_to(&mut self, row: usize) {
        self.cursor = row.min(self.rows.len().saturating_sub(1));
    }

    /// Moves the cursor by so many rows.
    pub fn go_by(&mut self, rows: isize) {
        self.go_to(self.cursor.saturating_add_signed(rows));
    }

    /// Moves the cursor to a node, if it is visible.
    pub fn go_to_node(&mut self, id: NodeId) {
        if let Some(row) = self.rows.iter().position(|row| *row == id) {
            self.cursor = row;
        }
    }

    /// Moves the cursor to the node above, and says whether there is one.
    pub fn go_up(&mut self) -> bool {
        let above = self.current().and_then(|id| self.parent(id));
        if let Some(id) = above {
            // It stands in an earlier row, mostly close by.
            let rows = self.rows.get(..self.cursor).unwrap_or_default();
            if let Some(row) = rows.iter().rposition(|row| *row == id) {
                self.cursor = row;
            }
        }
        above.is_some()
    }

    /// The rows that a window of this height shows, with the cursor in it.
    pub fn window(&mut self, height: usize) -> std::ops::Range<usize> {
        let height = height.max(1);
        let last_top = self.rows.len().saturating_sub(height);
        self.top = self
            .top
            .clamp((self.cursor + 1).saturating_sub(height), self.cursor)
            .min(last_top);
        self.top..(self.top + height).min(self.rows.len())
    }

    /// Whether a node is the last one below the one above it.
    #[must_use]
    pub fn is_last(&self, id: NodeId) -> bool {
        match self.parent(id) {
            Some(parent) => self.children(parent).last() == Some(&id),
            None => self.roots.last() == Some(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Name(&'static str);

    impl Item for Name {
        type Id = &'static str;

        fn id(&self) -> &'static str {
            self.0
        }
    }

    fn items(names: &[&'static str]) -> Vec<(Name, Below)> {
        names
            .iter()
            .map(|name| (Name(name), Below::Unread))
            .collect()
    }

    fn rows(tree: &Tree<Name>) -> Vec<&'static str> {
        (0..tree.len())
            .map(|row| tree.node(tree.row(row).unwrap()).unwrap().item.0)
            .collect()
    }

    fn two_levels() -> Tree<Name> {
        let mut tree = Tree::default();
        tree.merge(None, items(&["a", "b"]));
        let a = tree.roots()[0];
        tree.merge(Some(a), items(&["a1", "a2"]));
        tree.node_mut(a).unwrap().is_open = true;
        tree.arrange(None);
        tree
    }

    #[test]
    fn what_is_closed_is_not_shown() {
        let mut tree = two_levels();
        assert_eq!(rows(&tree), ["a", "a1", "a2", "b"]);
        let a = tree.roots()[0];
        tree.node_mut(a).unwrap().is_open = false;
        tree.arrange(None);
        assert_eq!(rows(&tree), ["a", "b"]);
    }

    #[test]
    fn the_cursor_stays_with_its_node_when_others_come_and_go() {
        let mut tree = two_levels();
        tree.go_to(2);
        let a = tree.roots()[0];
        tree.merge(Some(a), items(&["a0", "a2", "a3"]));
        tree.arrange(None);
        assert_eq!(rows(&tree), ["a", "a0", "a2", "a3", "b"]);
        assert_eq!(tree.current_item(), Some(&Name("a2")));
    }

    #[test]
    fn a_node_that_dies_under_the_cursor_leaves_it_at_the_next_row() {
        let mut tree = two_levels();
        tree.go_to(1);
        let a = tree.roots()[0];
        tree.merge(Some(a), items(&["a2"]));
        tree.arrange(None);
        assert_eq!(tree.current_item(), Some(&Name("a2")));
        tree.merge(None, items(&[]));
        tree.arrange(None);
        assert_eq!(tree.current_item(), None);
        assert_eq!(tree.window(5), 0..0);
    }

    #[test]
    fn places_of_removed_nodes_are_used_again() {
        let mut tree = two_levels();
        let size = tree.arena.len();
        for _ in 0..10 {
            tree.merge(None, items(&["x"]));
            tree.merge(None, items(&["y", "z"]));
        }
        assert!(tree.arena.len() <= size + 2, "{}", tree.arena.len());
    }

    #[test]
    fn a_filter_shows_what_it_wants_and_the_way_to_it() {
        let mut tree = two_levels();
        let a = tree.roots()[0];
        tree.node_mut(a).unwrap().is_open = false;
        tree.arrange(Some(&mut |item: &Name| item.0 == "a2"));
        assert_eq!(rows(&tree), ["a", "a2"]);
        tree.arrange(None);
        assert_eq!(rows(&tree), ["a", "b"]);
    }

    #[test]
    fn the_window_follows_the_cursor() {
        let mut tree = Tree::default();
        tree.merge(None, items(&["0", "1", "2", "3", "4"]));
        tree.arrange(None);
        assert_eq!(tree.window(2), 0..2);
        tree.go_to(3);
        assert_eq!(tree.window(2), 2..4);
        tree.go_by(-2);
        assert_eq!(tree.window(2), 1..3);
        tree.go_to(99);
        assert_eq!(tree.window(10), 0..5);
    }
}

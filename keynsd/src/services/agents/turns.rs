//! Whose turn it is at an agent that several containers share.
//!
//! Requests are let in by shares of their containers, but what an agent does at once is less than one
//! share, and a container whose descriptions keep the agent's program busy could have it for itself for
//! ever: its next requests were woken first. So a free place goes to the container that has the fewest
//! at this agent, of those to the one that was served the longest ago. And the last one of several is
//! never for a container that has another: whoever comes next finds it free.

use keyns::engine::ContainerId;

use super::registry::AgentId;
use crate::services::upcalls::pending::RequestId;

/// Containers of which an agent remembers when it served them; others were served longest ago.
const REMEMBERED: usize = 64;

/// The containers an agent has served, the last one at the end.
#[derive(Debug, Default)]
pub(super) struct Turns(Vec<ContainerId>);

impl Turns {
    pub(super) fn served(&mut self, container: ContainerId) {
        self.0.retain(|served| *served != container);
        self.0.push(container);
        if self.0.len() > REMEMBERED {
            self.0.remove(0);
        }
    }

    /// The less, the longer ago; 0: not remembered.
    fn of(&self, container: ContainerId) -> usize {
        let at = self.0.iter().position(|served| *served == container);
        at.map_or(0, |at| at + 1)
    }
}

/// A request that found all its agents busy.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) request: RequestId,
    pub(super) container: ContainerId,
    /// The agents it would go to.
    pub(super) agents: Vec<AgentId>,
}

/// The places of an agent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    pub(super) agent: AgentId,
    /// How many it has.
    pub(super) most: usize,
    /// Whether it serves more than one container and what is in that.
    pub(super) shared: bool,
    /// The containers whose requests it works on, once for each.
    pub(super) taken: &'a [ContainerId],
    pub(super) turns: &'a Turns,
}

impl Places<'_> {
    /// Whether a request of `container` may have a place now, `waiting` being those that want one too.
    pub(super) fn has_one_for(&self, container: ContainerId, waiting: &[Waiter]) -> bool {
        let free = self.most.saturating_sub(self.taken.len());
        let mine = self.rank(container);
        if free == 1 && self.most > 1 && self.shared && mine.0 > 0 {
            return false;
        }
        let mut first: Vec<ContainerId> = waiting
            .iter()
            .filter(|w| w.agents.contains(&self.agent) && self.rank(w.container) < mine)
            .map(|w| w.container)
            .collect();
        first.sort_unstable();
        first.dedup();
        first.len() < free
    }

    /// The less, the sooner it is served.
    fn rank(&self, container: ContainerId) -> (usize, usize) {
        let taken = self.taken.iter().filter(|c| **c == container).count();
        (taken, self.turns.of(container))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ContainerId = ContainerId(1);
    const B: ContainerId = ContainerId(2);
    const C: ContainerId = ContainerId(3);

    fn may(most: usize, shared: bool, taken: &[ContainerId], who: ContainerId) -> bool {
        let turns = &Turns::default();
        let places = Places {
            agent: 1,
            most,
            shared,
            taken,
            turns,
        };
        places.has_one_for(who, &[])
    }

    #[test]
    fn the_last_of_several_places_is_for_a_container_that_has_none() {
        assert!(may(4, true, &[A, A], A));
        assert!(!may(4, true, &[A, A, A], A));
        assert!(may(4, true, &[A, A, A], B));
        assert!(!may(4, true, &[A, A, A, B], C));
        // Where nobody else can come, or there is no more than one.
        assert!(may(4, false, &[A, A, A], A));
        assert!(may(1, true, &[], A));
    }

    #[test]
    fn the_container_that_was_served_longest_ago_goes_first() {
        let mut turns = Turns::default();
        turns.served(A);
        turns.served(B);
        turns.served(A);
        let waiting: Vec<_> = [(1, A), (2, B), (3, B), (4, C)]
            .into_iter()
            .map(|(request, container)| Waiter {
                request,
                container,
                agents: vec![1],
            })
            .collect();
        let mut places = Places {
            agent: 1,
            most: 1,
            shared: true,
            taken: &[],
            turns: &turns,
        };
        let can = |places: &Places<'_>| [A, B, C].map(|c| places.has_one_for(c, &waiting));
        assert_eq!(can(&places), [false, false, true]);
        // Two of one container are not in the way of others twice.
        places.most = 3;
        assert_eq!(can(&places), [true, true, true]);
        // Those that wait for another agent are not in the way at all.
        (places.agent, places.most) = (2, 1);
        assert_eq!(can(&places), [true, true, true]);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut turns = Turns::default();
        (0..100).for_each(|id| turns.served(ContainerId(id)));
        assert_eq!(turns.0.len(), REMEMBERED);
        assert_eq!(turns.of(ContainerId(0)), 0);
        assert!(turns.of(ContainerId(98)) < turns.of(ContainerId(99)));
    }
}

//! Which notifications are handed out, and how far each partition may be committed.
//!
//! For each partition: `committable <= offset` of every unacknowledged notification that was handed out in its term. A term
//! begins with the first record after an assignment, and ends with the revocation. This member may not commit what it
//! handed out in an earlier term.

use std::collections::{BTreeSet, HashMap};

/// One record that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ticket {
    pub partition: i32,
    pub offset: i64,
    term: u64,
}

#[derive(Debug, Default)]
pub(super) struct Acks {
    held: HashMap<i32, Held>,
    terms: u64,
}

/// A partition in its term.
#[derive(Debug)]
struct Held {
    term: u64,
    /// Unacknowledged offsets.
    open: BTreeSet<i64>,
    /// One past the last that was handed out.
    next_offset: i64,
    committable: i64,
}

impl Acks {
    /// A record goes to the reader. Offsets of a partition ascend; one that does not belongs to a topic that was created
    /// again, and begins a new term.
    pub fn hand_out(&mut self, partition: i32, offset: i64) -> Ticket {
        if self.held.get(&partition).is_some_and(|held| offset < held.next_offset) {
            self.held.remove(&partition);
        }
        let terms = &mut self.terms;
        let held = self.held.entry(partition).or_insert_with(|| {
            *terms += 1;
            Held { term: *terms, open: BTreeSet::new(), next_offset: offset, committable: offset }
        });
        held.open.insert(offset);
        held.next_offset = offset + 1;
        Ticket { partition, offset, term: held.term }
    }

    /// The offset to commit, if this acknowledgement moves it.
    pub fn acknowledge(&mut self, ticket: Ticket) -> Option<i64> {
        let held = self.held.get_mut(&ticket.partition).filter(|held| held.term == ticket.term)?;
        held.open.remove(&ticket.offset);
        let committable = held.open.first().copied().unwrap_or(held.next_offset);
        let moved = committable > held.committable;
        held.committable = committable;
        moved.then_some(committable)
    }

    /// Whether the partition is still in the term in which the record was handed out.
    pub fn is_held(&self, ticket: Ticket) -> bool {
        self.held.get(&ticket.partition).is_some_and(|held| held.term == ticket.term)
    }

    /// The group revokes these partitions.
    pub fn lose(&mut self, partitions: impl IntoIterator<Item = i32>) {
        for partition in partitions {
            self.held.remove(&partition);
        }
    }

    /// The group revokes all partitions.
    pub fn lose_all(&mut self) {
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_committed_past_what_is_not_acknowledged() {
        let mut acks = Acks::default();
        // Offset 12 is a control record.
        let [a, b, c] = [10, 11, 13].map(|offset| acks.hand_out(0, offset));
        assert_eq!(acks.acknowledge(c), None);
        assert_eq!(acks.acknowledge(a), Some(11));
        assert_eq!(acks.acknowledge(a), None);
        assert_eq!(acks.acknowledge(b), Some(14));
    }

    #[test]
    fn notifications_from_before_a_lost_partition_are_not_committed() {
        let mut acks = Acks::default();
        let before = acks.hand_out(0, 10);
        acks.lose([0]);
        assert!(!acks.is_held(before));
        let again = acks.hand_out(0, 10);
        assert_eq!(acks.acknowledge(before), None);
        assert_eq!(acks.acknowledge(again), Some(11));
    }

    #[test]
    fn offsets_of_a_topic_that_was_created_again_start_from_zero() {
        let mut acks = Acks::default();
        let old = acks.hand_out(0, 100);
        let new = acks.hand_out(0, 0);
        assert_eq!(acks.acknowledge(old), None);
        assert_eq!(acks.acknowledge(new), Some(1));
    }

    #[derive(Debug, Clone)]
    enum Step {
        HandOut { partition: i32, skip: i64 },
        Acknowledge(prop::sample::Index),
        Lose(i32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3, 0..3_i64).prop_map(|(partition, skip)| Step::HandOut { partition, skip }),
            4 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
            1 => (0..3).prop_map(Step::Lose),
        ]
    }

    proptest! {
        /// A plain model: all that was ever handed out, in a list.
        #[test]
        fn commits_are_as_far_as_they_may_be_and_no_further(steps in prop::collection::vec(step(), 1..200)) {
            let mut acks = Acks::default();
            let mut out: Vec<(Ticket, bool, bool)> = Vec::new(); // Acknowledged, lost.
            let (mut next, mut committed) = (BTreeMap::<i32, i64>::new(), BTreeMap::<i32, i64>::new());
            for step in steps {
                match step {
                    Step::HandOut { partition, skip } => {
                        let offset = next.get(&partition).copied().unwrap_or(0) + skip;
                        next.insert(partition, offset + 1);
                        out.push((acks.hand_out(partition, offset), false, false));
                    }
                    Step::Acknowledge(index) if !out.is_empty() => {
                        let chosen = index.index(out.len());
                        out[chosen].1 = true;
                        let ticket = out[chosen].0;
                        let partition = ticket.partition;
                        let moved = acks.acknowledge(ticket);
                        if out[chosen].2 {
                            prop_assert_eq!(moved, None, "of a partition that was lost");
                            continue;
                        }
                        if let Some(offset) = moved {
                            prop_assert!(committed.get(&partition).is_none_or(|before| *before < offset));
                            committed.insert(partition, offset);
                        }
                        let mine = || out.iter().filter(|(it, _, lost)| it.partition == partition && !lost);
                        let first_open = mine().filter(|(_, done, _)| !done).map(|(it, ..)| it.offset).min();
                        let last = mine().map(|(it, ..)| it.offset + 1).max();
                        let begun = mine().map(|(it, ..)| it.offset).min();
                        if let (Some(open), Some(committed)) = (first_open, committed.get(&partition)) {
                            prop_assert!(*committed <= open, "past what is not acknowledged");
                        }
                        if let Some(wanted) = first_open.or(last) && Some(wanted) != begun {
                            prop_assert_eq!(committed.get(&partition).copied(), Some(wanted));
                        }
                    }
                    Step::Acknowledge(_) => {}
                    Step::Lose(partition) => {
                        acks.lose([partition]);
                        for (ticket, _, lost) in &mut out {
                            *lost |= ticket.partition == partition;
                        }
                        // The next owner continues from there.
                        let from = committed.get(&partition).copied().unwrap_or(0);
                        next.insert(partition, from);
                    }
                }
            }
        }
    }
}

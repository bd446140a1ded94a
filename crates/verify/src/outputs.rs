//! Output that may be missing from a topic without being lost: it was deleted, or can't be read yet.

use std::{collections::HashMap, ops::Range};

use kafka::{Bounds, scan::Unread};

use super::report::Reason;

/// The records seen on a topic.
///
/// The output of one commands partition is published in order of the commands, so it is in that order in each partition of
/// the output. If a missing record was ever in such a partition, it came before the first or after the last record seen
/// there.
#[derive(Debug)]
pub(crate) struct Seen {
    bounds: Vec<Bounds>,
    pub(crate) unread: Vec<Unread>,
    /// By partition of the commands and partition of the output: the first and the last command whose output was seen.
    spans: HashMap<(i32, i32), (i64, i64)>,
}

impl Seen {
    /// `bounds` end where the check ends. Their starts are replaced by the topic's starts `now`: records deleted since then
    /// are not read.
    pub(crate) fn new(mut bounds: Vec<Bounds>, now: &[Bounds]) -> Self {
        for (bounds, now) in bounds.iter_mut().zip(now) {
            bounds.start = now.start.clamp(bounds.start, bounds.end);
        }
        Self { bounds, unread: Vec::new(), spans: HashMap::new() }
    }

    /// A record of that command was seen in that partition, after all that were seen there before.
    pub(crate) fn see(&mut self, command: (i32, i64), partition: i32) {
        let (of, offset) = command;
        self.spans.entry((of, partition)).and_modify(|span| span.1 = offset).or_insert((offset, offset));
    }

    /// The offsets to read.
    pub(crate) fn wanted(&self) -> Vec<(i32, Range<i64>)> {
        (0..).zip(&self.bounds).map(|(partition, bounds)| (partition, bounds.start..bounds.end)).collect()
    }

    /// Why an unseen record of that command may exist or have existed; `None` if it is lost.
    pub(crate) fn excuse(&self, partition: i32, offset: i64) -> Option<Reason> {
        let spans = |of: i32| self.spans.get(&(partition, of)).copied();
        let deleted = self.bounds.iter().zip(0..).filter(|(bounds, _)| bounds.start > 0);
        // A command's output can be deleted in part, so the first command seen may lack some of its own.
        if deleted.into_iter().any(|(_, of)| spans(of).is_none_or(|(first, _)| offset <= first)) {
            return Some(Reason::OutputDeleted);
        }
        let held_back = |unread: &Unread| spans(unread.partition).is_none_or(|(_, last)| offset >= last);
        self.unread.iter().any(held_back).then_some(Reason::OutputHeldBack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(start: i64, end: i64) -> Bounds {
        Bounds { start, end }
    }

    fn seen(bounds: Vec<Bounds>) -> Seen {
        let now = bounds.clone();
        Seen::new(bounds, &now)
    }

    #[test]
    fn records_deleted_since_the_start_are_not_read() {
        let now = [bounds(7, 30), bounds(40, 50), bounds(1, 20)];
        let seen = Seen::new(vec![bounds(3, 9), bounds(0, 5), bounds(2, 9)], &now);
        assert_eq!(seen.wanted(), [(0, 7..9), (1, 5..5), (2, 2..9)]);
        assert_eq!(seen.excuse(0, 100), Some(Reason::OutputDeleted));
    }

    #[test]
    fn a_missing_record_is_lost_if_the_whole_topic_was_read() {
        let seen = seen(vec![bounds(0, 9), bounds(0, 0)]);
        assert_eq!(seen.excuse(0, 0), None);
    }

    #[test]
    fn a_record_before_the_first_retained_one_may_have_been_deleted() {
        let mut seen = seen(vec![bounds(3, 9), bounds(0, 5)]);
        assert_eq!(seen.excuse(0, 100), Some(Reason::OutputDeleted));
        for offset in [10, 10, 12] {
            seen.see((0, offset), 0);
        }
        seen.see((0, 4), 1);
        let excused: Vec<_> = (8..14).filter(|&offset| seen.excuse(0, offset).is_some()).collect();
        assert_eq!(excused, [8, 9, 10]);
        // Nothing of partition 1 was seen there.
        assert_eq!(seen.excuse(1, 100), Some(Reason::OutputDeleted));
    }

    #[test]
    fn a_record_after_the_last_readable_one_may_be_held_back() {
        let mut seen = seen(vec![bounds(0, 9), bounds(0, 5)]);
        seen.unread.push(Unread { partition: 1, offsets: 3..5 });
        for offset in [1, 5] {
            seen.see((0, offset), 1);
        }
        let excused: Vec<_> = (0..8).filter(|&offset| seen.excuse(0, offset).is_some()).collect();
        assert_eq!(excused, [5, 6, 7]);
        assert_eq!(seen.excuse(0, 5), Some(Reason::OutputHeldBack));
        assert_eq!(seen.wanted(), [(0, 0..9), (1, 0..5)]);
    }
}

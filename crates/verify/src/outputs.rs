//! What may be missing on a topic of the output without being lost: what was deleted, and what can't be read yet.

use std::{collections::HashMap, ops::Range};

use kafka::{Bounds, scan::Unread};

use super::{report::Reason, source::Topic};

/// What a first reading saw of a topic.
///
/// The output of one commands partition is published in order of the commands. So in each partition of the output it
/// lies in that order, and what is missing lay before the first or lies behind the last that was seen, if it lay in
/// that partition at all.
#[derive(Debug)]
pub struct Seen {
    pub topic: Topic,
    pub bounds: Vec<Bounds>,
    pub unread: Vec<Unread>,
    /// By partition of the commands and partition of the output: offsets of the commands that were seen first and last.
    spans: HashMap<(i32, i32), (i64, i64)>,
}

impl Seen {
    #[must_use]
    pub fn new(topic: Topic, bounds: Vec<Bounds>) -> Self {
        Self { topic, bounds, unread: Vec::new(), spans: HashMap::new() }
    }

    /// A record of that command was seen in that partition, behind all that were seen there before.
    pub fn see(&mut self, command: (i32, i64), partition: i32) {
        let (of, offset) = command;
        self.spans.entry((of, partition)).and_modify(|span| span.1 = offset).or_insert((offset, offset));
    }

    /// What was deleted since is not looked for.
    pub fn forget(&mut self, now: &[Bounds]) {
        for (bounds, now) in self.bounds.iter_mut().zip(now) {
            bounds.start = now.start.clamp(bounds.start, bounds.end);
        }
    }

    /// What there is to read, less what could not be read the first time.
    pub fn readable(&self) -> Vec<(i32, Range<i64>)> {
        let mut wanted: Vec<_> =
            self.bounds.iter().zip(0..).map(|(bounds, q)| (q, bounds.start..bounds.end)).collect();
        for unread in &self.unread {
            for (_, offsets) in wanted.iter_mut().filter(|(partition, _)| *partition == unread.partition) {
                offsets.end = offsets.end.min(unread.offsets.start);
            }
        }
        wanted
    }

    /// Of each partition what was deleted between this reading and a later one.
    pub fn deleted_since(&self, again: &Self) -> Vec<(i32, Range<i64>)> {
        let pairs = self.bounds.iter().zip(&again.bounds).zip(0..);
        let gone = pairs.map(|((before, after), of)| (of, before.start..after.start));
        gone.filter(|(_, offsets)| !offsets.is_empty()).collect()
    }

    /// Why a record of that command that was not seen is not known to be lost; `None` where it is.
    #[must_use]
    pub fn excuse(&self, partition: i32, offset: i64) -> Option<Reason> {
        let spans = |of: i32| self.spans.get(&(partition, of)).copied();
        let deleted = self.bounds.iter().zip(0..).filter(|(bounds, _)| bounds.start > 0);
        // A command's output can be deleted in part: the first one that was seen proves nothing about itself.
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

    #[test]
    fn with_everything_there_what_is_missing_is_lost() {
        let seen = Seen::new(Topic::Notifications, vec![bounds(0, 9), bounds(0, 0)]);
        assert_eq!(seen.excuse(0, 0), None);
    }

    #[test]
    fn what_lies_before_the_first_that_is_left_may_have_been_deleted() {
        let mut seen = Seen::new(Topic::Notifications, vec![bounds(3, 9), bounds(0, 5)]);
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
    fn what_lies_behind_the_last_that_could_be_read_may_still_come() {
        let mut seen = Seen::new(Topic::Rejections, vec![bounds(0, 9), bounds(0, 5)]);
        seen.unread.push(Unread { partition: 1, offsets: 3..5 });
        for offset in [1, 5] {
            seen.see((0, offset), 1);
        }
        let excused: Vec<_> = (0..8).filter(|&offset| seen.excuse(0, offset).is_some()).collect();
        assert_eq!(excused, [5, 6, 7]);
        assert_eq!(seen.excuse(0, 5), Some(Reason::OutputHeldBack));
        assert_eq!(seen.readable(), [(0, 0..9), (1, 0..3)]);
    }
}

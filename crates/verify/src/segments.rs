//! Which commands of a partition can be decided again, and which logs cover them.

use std::{collections::BTreeSet, ops::Range};

/// Consecutive commands of one partition that are checked in the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offsets: Range<i64>,
    /// The topic still retains them, so they are decided again. Otherwise the first of `logs` is trusted.
    pub(crate) retained: bool,
    /// The logs that must have them, by index; those without a gap first.
    pub(crate) logs: Vec<usize>,
}

/// The part of a partition that one log covers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// The next offset that the log lacks.
    pub(crate) logged: i64,
    /// The offsets that it never received.
    pub(crate) gaps: Vec<Range<i64>>,
}

impl Coverage {
    /// Whether it has the partition from the beginning, and so knew every use of a key.
    pub(crate) fn is_whole(&self) -> bool {
        self.gaps.is_empty()
    }

    fn covers(&self, offset: i64) -> bool {
        offset < self.logged && !self.gaps.iter().any(|gap| gap.contains(&offset))
    }
}

/// Cuts `0..published` at the topic's start and wherever a log's coverage begins or ends.
pub(crate) fn segments(start: i64, published: i64, logs: &[Coverage]) -> Vec<Segment> {
    let mut cuts = BTreeSet::from([0, start, published]);
    for log in logs {
        cuts.insert(log.logged);
        cuts.extend(log.gaps.iter().flat_map(|gap| [gap.start, gap.end]));
    }
    let cuts: Vec<i64> = cuts.into_iter().filter(|cut| (0..=published).contains(cut)).collect();
    let segments = cuts.windows(2).map(|cut| Segment {
        offsets: cut[0]..cut[1],
        retained: cut[0] >= start,
        logs: witnesses(cut[0], logs),
    });
    segments.collect()
}

/// The logs that cover the offset. Logs that knew everything before it come first.
fn witnesses(offset: i64, logs: &[Coverage]) -> Vec<usize> {
    let mut covering: Vec<_> = (0..logs.len()).filter(|&log| logs[log].covers(offset)).collect();
    covering.sort_by_key(|&log| !logs[log].is_whole());
    covering
}

/// The segment that contains the offset.
pub(crate) fn around(segments: &[Segment], offset: i64) -> Option<&Segment> {
    let place = segments.partition_point(|segment| segment.offsets.end <= offset);
    segments.get(place).filter(|segment| segment.offsets.contains(&offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(logged: i64, gaps: &[Range<i64>]) -> Coverage {
        Coverage { logged, gaps: gaps.to_vec() }
    }

    #[test]
    fn are_cut_where_the_topic_begins_and_where_a_log_begins_or_ends() {
        let found = segments(10, 50, &[covers(60, &[]), covers(30, std::slice::from_ref(&(0..5)))]);
        let found: Vec<_> =
            found.into_iter().map(|segment| (segment.offsets, segment.retained, segment.logs)).collect();
        assert_eq!(
            found,
            [
                (0..5, false, vec![0]),
                (5..10, false, vec![0, 1]),
                (10..30, true, vec![0, 1]),
                (30..50, true, vec![0]),
            ]
        );
    }

    #[test]
    fn end_at_the_published_offset() {
        assert_eq!(segments(0, 0, &[covers(7, &[])]), []);
        assert_eq!(segments(9, 4, &[]), [Segment { offsets: 0..4, retained: false, logs: vec![] }]);
        let all = segments(0, 4, &[covers(7, &[])]);
        assert_eq!(around(&all, 3), Some(&Segment { offsets: 0..4, retained: true, logs: vec![0] }));
        assert_eq!((around(&all, 4), around(&all, -1)), (None, None));
    }
}

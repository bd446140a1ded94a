//! Reports deviations at once, and merges unchecked records into ranges.

use std::collections::BTreeMap;

use contract::Decision;

use super::{
    VerifyError,
    report::{Deviation, Reason, Report, Summary, Unchecked},
};

/// Reports and counts.
pub(crate) struct Findings<'a> {
    report: &'a mut dyn Report,
    pub(crate) summary: Summary,
    unchecked: BTreeMap<(String, i32, Reason), Stretch>,
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    first_offset: i64,
    next_offset: i64,
    count: Option<u64>,
}

impl std::fmt::Debug for Findings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Findings").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl<'a> Findings<'a> {
    pub(crate) fn new(report: &'a mut dyn Report) -> Self {
        Self { report, summary: Summary::default(), unchecked: BTreeMap::new() }
    }

    pub(crate) fn deviation(&mut self, deviation: &Deviation) -> Result<(), VerifyError> {
        self.summary.deviations += 1;
        self.report.deviation(deviation)
    }

    /// One record or command could not be checked. It is reported together with its neighbours as one range.
    pub(crate) fn unchecked(&mut self, topic: &str, partition: i32, offset: i64, reason: Reason) {
        self.stretch(topic, partition, offset..offset + 1, Some(1), reason);
    }

    /// `count` of these offsets could not be checked.
    pub(crate) fn stretch(
        &mut self,
        topic: &str,
        partition: i32,
        offsets: std::ops::Range<i64>,
        count: Option<u64>,
        reason: Reason,
    ) {
        let new = Stretch { first_offset: offsets.start, next_offset: offsets.end, count };
        self.unchecked
            .entry((topic.to_owned(), partition, reason))
            .and_modify(|stretch| {
                stretch.first_offset = stretch.first_offset.min(new.first_offset);
                stretch.next_offset = stretch.next_offset.max(new.next_offset);
                stretch.count = stretch.count.zip(new.count).map(|(one, other)| one + other);
            })
            .or_insert(new);
    }

    /// A command was decided, or a log has its decision.
    pub(crate) fn count(&mut self, decision: &Decision) {
        let Summary { commands, events, duplicates, rejections, notifications, .. } = &mut self.summary;
        *commands += 1;
        match decision {
            Decision::Accepted(event) => {
                *events += 1;
                *notifications += event.notification_count() as u64;
            }
            Decision::Duplicate { .. } => *duplicates += 1,
            Decision::Rejected(_) => *rejections += 1,
        }
    }

    pub(crate) fn ahead(&mut self, records: u64) {
        self.report.ahead(records);
    }

    pub(crate) fn advanced(&mut self, records: u64) {
        self.report.advanced(records);
    }

    /// Reports what could not be checked, and returns the counts.
    pub(crate) fn finish(mut self) -> Result<Summary, VerifyError> {
        self.summary.unchecked = self.unchecked.len() as u64;
        for ((topic, partition, reason), stretch) in self.unchecked {
            let Stretch { first_offset, next_offset, count } = stretch;
            self.report.unchecked(&Unchecked {
                topic,
                partition,
                first_offset,
                next_offset,
                count,
                reason,
            })?;
        }
        Ok(self.summary)
    }
}

//! Taking partitions up: what is known of each, where that lets it begin, and from when it is held.

use std::time::Instant;

#[cfg(test)]
use super::Mutation;
use super::{HeldUp, Intake, Partition, source_error};
use crate::{
    event_log::{Cursor, Intervention},
    kafka::{Source, SourceError},
    processor::{
        ProcessorError,
        running::Running,
        start::{AtAnchor, Facts, Refusal, Start, plan, retained_anchor},
    },
};

impl<S: Source> Intake<S> {
    pub(super) fn take_up_assigned(&mut self) -> Result<(), ProcessorError> {
        let waiting: Vec<i32> = self
            .partitions
            .iter()
            .filter_map(|(&number, partition)| partition.running.is_none().then_some(number))
            .collect();
        if waiting.is_empty() {
            self.held_up = None;
            return Ok(());
        }
        if self.held_up.as_ref().is_some_and(|held_up| Instant::now() < held_up.retry_at) {
            return Ok(());
        }
        match self.take_up(&waiting) {
            Ok(()) => {
                self.held_up = None;
                Ok(())
            }
            Err(ProcessorError::Source(SourceError::Retriable(reason))) => {
                self.put_off(&waiting, &reason);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Something changed, so the next attempt need not wait.
    pub(super) fn retry_now(&mut self) {
        if let Some(held_up) = &mut self.held_up {
            held_up.retry_at = Instant::now();
        }
    }

    fn put_off(&mut self, partitions: &[i32], reason: &str) {
        let now = Instant::now();
        let retry_at = now + self.timing.retry;
        let Some(held_up) = &mut self.held_up else {
            tracing::warn!(?partitions, reason, "can't take up partitions yet; trying again");
            self.held_up = Some(HeldUp { reason: reason.to_owned(), since: now, said_at: now, retry_at });
            return;
        };
        held_up.retry_at = retry_at;
        reason.clone_into(&mut held_up.reason);
        if now - held_up.said_at >= self.timing.say {
            held_up.said_at = now;
            tracing::warn!(
                ?partitions,
                reason,
                seconds = (now - held_up.since).as_secs(),
                "still can't take up partitions; trying again. Where the brokers answer and it is the group's \
                 committed offsets that can't be had, they lost the end of a transaction: see 'still can't take up \
                 partitions' in the README"
            );
        }
    }

    /// As if `behind` of `Refusal::PublishedUnknown` were the log's end.
    #[cfg(test)]
    fn break_plan(&self, start: Start) -> Start {
        let skips = start.accepted.iter().any(|(flag, _)| *flag == "skip-unpublished");
        if skips && self.ownership.is_broken_by(Mutation::SkipToLogged) {
            return Start { offset: start.logged, published: start.logged, ..start };
        }
        start
    }

    /// Learns the facts, decides where to begin, writes it down, and begins.
    fn take_up(&mut self, partitions: &[i32]) -> Result<(), ProcessorError> {
        let log = &self.log;
        let facts = facts(&mut self.source, partitions, |partition| {
            Ok(log.lock().expect("no holder panics").cursor(partition)?)
        })?;
        let mut planned: Vec<(Facts, Start)> = Vec::with_capacity(facts.len());
        let mut refusals: Vec<Refusal> = Vec::new();
        for facts in facts {
            let planned_start = plan(&facts, self.accept);
            #[cfg(test)]
            let planned_start = planned_start.map(|start| self.break_plan(start));
            match planned_start {
                Ok(start) => planned.push((facts, start)),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if !refusals.is_empty() {
            return Err(ProcessorError::Refused(refusals));
        }
        // Before anything is published: from then on an absent or lower offset says that Kafka forgot it. Where
        // the group's offset is not what this begins with, nothing would tell the next start of it.
        let first: Vec<_> = planned
            .iter()
            .filter(|(facts, start)| facts.committed != Some(start.published))
            .map(|(facts, start)| (facts.partition, start.published))
            .collect();
        if !first.is_empty() {
            self.source.commit_first(&first).map_err(source_error)?;
        }
        let mut starts = Vec::with_capacity(planned.len());
        for (facts, start) in planned {
            starts.push((facts.partition, start.offset));
            self.hold(&facts, start)?;
        }
        if let Err(error) = self.source.start(&starts) {
            for (partition, _) in starts {
                self.ownership.give_up(&[partition]);
                self.partitions.insert(partition, Partition { running: None });
            }
            return Err(source_error(error));
        }
        self.ownership.set_membership(self.source.membership());
        Ok(())
    }

    fn hold(&mut self, facts: &Facts, start: Start) -> Result<(), ProcessorError> {
        let partition = facts.partition;
        if let Some(gap) = &start.gap {
            tracing::warn!(
                kafka.partition = partition,
                gap.first_offset = gap.first_offset,
                gap.next_offset = gap.next_offset,
                gap.reason,
                "this log will never hold these commands"
            );
        }
        let (flags, details): (Vec<_>, Vec<_>) = start.accepted.into_iter().unzip();
        let intervention = (!flags.is_empty()).then(|| Intervention {
            flag: flags.join(", "),
            details: details.join("\n"),
            at: jiff::Timestamp::now().as_millisecond(),
        });
        self.log.lock().expect("no holder panics").take_up(partition, start.gap, intervention.as_ref())?;
        let epoch = self.ownership.take_up(partition, start.published, start.offset);
        {
            let mut progress = self.progress.lock().expect("no holder panics");
            progress.end(Instant::now(), partition, facts.bounds.end);
            progress.moved(Instant::now(), partition, start.published, start.offset);
        }
        let running = Running { epoch, logged: start.logged, sent: start.offset, polled: start.offset };
        tracing::info!(
            kafka.partition = partition,
            kafka.offset = start.offset,
            logged = start.logged,
            published = start.published,
            "reading"
        );
        self.partitions.insert(partition, Partition { running: Some(running) });
        Ok(())
    }
}

/// What is known of these partitions: `plan` decides by it, here and in `check`.
pub fn facts<S: Source>(
    source: &mut S,
    partitions: &[i32],
    cursor: impl Fn(i32) -> Result<Option<Cursor>, ProcessorError>,
) -> Result<Vec<Facts>, ProcessorError> {
    let committed = source.committed(partitions).map_err(source_error)?;
    let mut facts = Vec::with_capacity(partitions.len());
    for (partition, committed) in committed {
        let bounds = source.bounds(partition).map_err(source_error)?;
        facts.push(Facts { partition, cursor: cursor(partition)?, committed, bounds, at_anchor: None });
    }
    let anchors: Vec<_> = facts
        .iter()
        .filter_map(|facts| {
            let anchor = retained_anchor(facts.cursor.as_ref(), facts.bounds)?;
            Some((facts.partition, anchor.offset))
        })
        .collect();
    let records = source.records_at(&anchors).map_err(source_error)?;
    for ((partition, _), record) in anchors.into_iter().zip(records) {
        if let Some(facts) = facts.iter_mut().find(|facts| facts.partition == partition) {
            facts.at_anchor = Some(AtAnchor::from(record.as_ref()));
        }
    }
    Ok(facts)
}

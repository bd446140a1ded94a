//! Starts partitions: learns the facts of each, plans its first offset and its cursors, and begins to hold it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use event_log::{Cursor, Intervention};
use kafka::{EndOffsets, Source, SourceError, mark::NextOffset};

use super::{Intake, Role, assignments::Delayed, gather::Running, source_error};
use crate::{
    ProcessorError,
    start::{AtAnchor, Facts, Refusal, Start, retained_anchor},
};

/// How long to learn the facts of one partition after another before starting those whose facts are known: nothing is polled
/// in the meantime, and a partition whose leader does not answer takes two seconds.
const LEARN: Duration = Duration::from_secs(4);
/// If an attempt took at least this long, there is a pause before the next one, so that the records of running partitions are
/// polled. From one attempt to the next it grows, up to this many times as long: the first ones may have found a transaction
/// that is aborted since.
const LONG: (Duration, u32) = (Duration::from_secs(1), 4);

impl<S: Source> Intake<S> {
    /// Starts the partitions that have not started, if an attempt is due.
    pub(super) fn start_assigned(&mut self) -> Result<(), ProcessorError> {
        let mut waiting = self.assignments.waiting();
        if waiting.is_empty() {
            self.assignments.delayed = None;
            return Ok(());
        }
        if let Some(delayed) = &self.assignments.delayed {
            if Instant::now() < delayed.retry_at {
                return Ok(());
            }
            // Partitions without an answer last time come last, so that they do not use up the time of the others.
            waiting.sort_by_key(|partition| delayed.unknown.contains_key(partition));
        }
        let began = Instant::now();
        let unknown = match self.start_partitions(&waiting) {
            Ok(unknown) => unknown,
            // A follower can do what this stage can't: take a new client.
            Err(error) if !self.is_member() && self.is_delayed_for(self.timing.silence) => return Err(error),
            Err(ProcessorError::Source(SourceError::Retriable(reason))) => {
                waiting.into_iter().map(|partition| (partition, reason.clone())).collect()
            }
            Err(error) => return Err(error),
        };
        if unknown.is_empty() {
            self.assignments.delayed = None;
        } else {
            self.delay(unknown, began.elapsed());
        }
        Ok(())
    }

    fn is_delayed_for(&self, duration: Duration) -> bool {
        self.assignments.delayed.as_ref().is_some_and(|delayed| delayed.since.elapsed() >= duration)
    }

    fn delay(&mut self, unknown: BTreeMap<i32, String>, took: Duration) {
        let now = Instant::now();
        let failed = self.assignments.delayed.as_ref().map_or(0, |delayed| delayed.failed);
        let pause = if took < LONG.0 { Duration::ZERO } else { took * failed.min(LONG.1) };
        let retry_at = now + self.timing.retry.max(pause);
        let partitions: Vec<i32> = unknown.keys().copied().collect();
        let reason = unknown.values().next().cloned();
        let Some(delayed) = &mut self.assignments.delayed else {
            tracing::warn!(?partitions, reason, "cannot start these partitions yet; trying again");
            self.assignments.delayed =
                Some(Delayed { unknown, since: now, logged_at: now, retry_at, failed: 1 });
            return;
        };
        (delayed.retry_at, delayed.unknown, delayed.failed) = (retry_at, unknown, failed + 1);
        if now - delayed.logged_at >= self.timing.say {
            delayed.logged_at = now;
            tracing::warn!(
                ?partitions,
                reason,
                seconds = (now - delayed.since).as_secs(),
                "still cannot start these partitions; trying again. Where the brokers answer and it is the group's \
                 committed offsets that can't be had, they lost the end of a transaction: see 'still cannot start \
                 these partitions' in docs/troubleshooting.md"
            );
        }
    }

    /// Learns the facts, plans where to start, records the plan, and starts. Returns the partitions whose facts are
    /// unavailable, with the reasons; the others have started.
    fn start_partitions(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, String>, ProcessorError> {
        let log = &self.log;
        let membership = self.source.membership();
        let Learned { facts, mut unknown } = learn(&mut self.source, partitions, LEARN, |partition| {
            Ok(log.lock().expect("no holder panics").cursor(partition)?)
        })?;
        let mut planned: Vec<(Facts, Start)> = Vec::with_capacity(facts.len());
        let mut refusals: Vec<Refusal> = Vec::new();
        for facts in facts {
            match (self.terms.plan)(&facts, self.assignments.accept(facts.partition, self.terms.accept)) {
                Ok(start) => planned.push((facts, start)),
                Err(refusal @ Refusal::Undecided { .. }) => {
                    unknown.insert(facts.partition, refusal.to_string());
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        if !refusals.is_empty() {
            return Err(ProcessorError::Refused(refusals));
        }
        for (facts, start) in &planned {
            self.note_accepted(facts.partition, start)?;
        }
        let marker = self.terms.marker;
        let first: Vec<_> = planned
            .iter()
            .filter(|(facts, start)| start.has_to_commit(facts, marker))
            .map(|(facts, start)| NextOffset {
                partition: facts.partition,
                offset: start.published,
                mark: marker.mark(start.clock),
            })
            .collect();
        if !first.is_empty() && self.is_member() {
            // In another generation, the next owner of the partitions may have committed more.
            if membership.is_none() || self.source.membership() != membership {
                let reason = "the consumer group moved on while its offsets were asked for".to_owned();
                return Err(source_error(SourceError::Retriable(reason)));
            }
            self.source.commit_first(&first).map_err(source_error)?;
        }
        let mut starts = Vec::with_capacity(planned.len());
        for (facts, start) in planned {
            let first = (facts.partition, start.offset);
            if self.start_partition(&facts, start)? {
                starts.push(first);
            }
        }
        if let Err(error) = self.source.start(&starts) {
            for (partition, _) in starts {
                self.owner.release(&[partition]);
                self.assignments.halt(partition);
            }
            return Err(source_error(error));
        }
        self.owner.set_membership(self.source.membership());
        Ok(unknown)
    }

    /// Processes of one group must decide alike. While new settings are being rolled out, they do not.
    fn warn_of_other_rules(&self, facts: &Facts) {
        let own = self.terms.marker.rules;
        if let Some(mark) = facts.committed.and_then(|found| found.mark).filter(|mark| mark.rules != own) {
            tracing::warn!(
                kafka.partition = facts.partition,
                committed_by = %mark.instance,
                rules = %mark.rules,
                own_rules = %own,
                "the group's offset was committed under other limits, topics for replies or another idempotency window \
                 than this process has; until all processes have the same, their logs can differ"
            );
        }
    }

    /// Records accepted losses in the log. Called before their offset is committed with a mark: after that, no stop asks
    /// about them. Attempts with the same result are recorded once.
    fn note_accepted(&mut self, partition: i32, start: &Start) -> Result<(), ProcessorError> {
        let (flags, details): (Vec<_>, Vec<_>) =
            start.accepted.iter().map(|(loss, reason)| (loss.as_str(), reason.as_str())).unzip();
        let noted = (flags.join(", "), start.published);
        if flags.is_empty() || self.assignments.accepted.get(&partition) == Some(&noted) {
            return Ok(());
        }
        let (flag, details) = (noted.0.clone(), details.join("\n"));
        let intervention = Intervention { at: jiff::Timestamp::now().as_millisecond(), flag, details };
        self.log.lock().expect("no holder panics").record_intervention(
            partition,
            &intervention,
            start.published,
        )?;
        tracing::warn!(
            kafka.partition = partition,
            accepted = intervention.flag,
            published = start.published,
            reason = intervention.details,
            "starting where it would have stopped, as '--accept' says; the log records it"
        );
        self.assignments.accepted.insert(partition, noted);
        Ok(())
    }

    /// Returns whether it has started.
    fn start_partition(&mut self, facts: &Facts, start: Start) -> Result<bool, ProcessorError> {
        let partition = facts.partition;
        let mut log = self.log.lock().expect("no holder panics");
        if let Role::Follower(handover) = &self.role
            && !handover.may_append(partition)
        {
            // Taken since its facts were learned, as the next change will say.
            return Ok(false);
        }
        let published = match &self.role {
            Role::Member(_) => Some(start.published),
            Role::Follower(_) => facts.published_by_group(),
        };
        log.start_partition(partition, start.gap.clone(), published)?;
        drop(log);
        if let Some(gap) = &start.gap {
            tracing::warn!(
                kafka.partition = partition,
                gap.first_offset = gap.first_offset,
                gap.next_offset = gap.next_offset,
                gap.reason,
                "this log will never hold these commands"
            );
        }
        self.warn_of_other_rules(facts);
        let epoch = self.owner.start_partition(partition, start.published, start.offset, start.clock);
        {
            let mut progress = self.watch.progress();
            progress.end(Instant::now(), partition, EndOffsets::all_stable(facts.bounds.end));
            progress.moved(Instant::now(), partition, start.published, start.offset);
            // Now, not when positions are next checked: a failure may end the session before that.
            self.observer.position(partition, start.published, progress.known_end(partition));
        }
        let running = Running { epoch, logged: start.logged, sent: start.offset, polled: start.offset };
        tracing::info!(
            kafka.partition = partition,
            kafka.offset = start.offset,
            logged = start.logged,
            published = start.published,
            "{}",
            if self.is_member() { "reading" } else { "following" }
        );
        self.assignments.start(partition, running);
        Ok(true)
    }
}

/// The facts of partitions, from which `plan` decides, here and in `check`.
#[derive(Debug)]
pub struct Learned {
    pub facts: Vec<Facts>,
    /// By partition, why its facts are unavailable now. Partitions for which there was no time are in neither.
    pub unknown: BTreeMap<i32, String>,
}

/// Learns the facts, one partition after another, and starts with no further one after `within`. A partition whose leader
/// does not answer does not hold back the others.
pub fn learn<S: Source>(
    source: &mut S,
    partitions: &[i32],
    within: Duration,
    cursor: impl Fn(i32) -> Result<Option<Cursor>, ProcessorError>,
) -> Result<Learned, ProcessorError> {
    let deadline = Instant::now() + within;
    let committed: BTreeMap<_, _> = source.committed(partitions).map_err(source_error)?.into_iter().collect();
    let mut facts = Vec::with_capacity(partitions.len());
    let mut unknown = BTreeMap::new();
    for &partition in partitions {
        if Instant::now() >= deadline {
            break;
        }
        let Some(&committed) = committed.get(&partition) else {
            let reason = "the group's committed offset can't be had in time: a transaction that moves it has not ended";
            unknown.insert(partition, reason.to_owned());
            continue;
        };
        let bounds = match source.bounds(partition) {
            Ok(bounds) => bounds,
            Err(SourceError::Retriable(reason)) => {
                unknown.insert(partition, reason);
                continue;
            }
            Err(error) => return Err(source_error(error)),
        };
        let cursor = cursor(partition)?;
        facts.push(Facts { partition, cursor, committed, bounds, at_anchor: None });
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
        match record {
            Ok(record) => {
                if let Some(facts) = facts.iter_mut().find(|facts| facts.partition == partition) {
                    facts.at_anchor = Some(AtAnchor::from(record.as_ref()));
                }
            }
            Err(reason) => {
                facts.retain(|facts| facts.partition != partition);
                unknown.insert(partition, reason);
            }
        }
    }
    Ok(Learned { facts, unknown })
}

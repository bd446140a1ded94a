//! The polling thread's part: takes partitions up and gives them back, and gathers records into batches.
//!
//! A state machine that never waits for another stage: a revocation is a state in which the pipeline
//! drains while polling goes on, so a rebalance and a stop are served whatever the stages ahead do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{
    Observer, ProcessorError,
    batch::{Chunk, Fetched},
    ownership::Ownership,
    running::Running,
    start::{Accept, AtAnchor, Facts, Refusal, Start, plan, retained_anchor},
    timing::Timing,
};
use crate::{
    activity::{ActivityId, Record},
    event_log::{EventLog, Intervention},
    kafka::{Polled, Source, SourceError},
};

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub records: usize,
    /// Of keys, values and headers.
    pub bytes: usize,
}

/// A partition that the group assigned to this instance.
#[derive(Debug)]
struct Partition {
    /// `None` until its offsets are known.
    running: Option<Running>,
}

/// Partitions that the group takes away, and until when they may drain. Of these nothing new is taken in,
/// and no batch is cut: what was gathered is dropped, so a batch would pass over it.
type Revoking = (Vec<i32>, Instant);

fn is_among(revoking: &Option<Revoking>, partition: i32) -> bool {
    revoking.as_ref().is_some_and(|(partitions, _)| partitions.contains(&partition))
}

/// Gathers records of the partitions that are held.
pub struct Intake<S: Source> {
    source: S,
    ownership: Arc<Ownership<S::Membership>>,
    log: Arc<Mutex<EventLog>>,
    observer: Arc<dyn Observer>,
    accept: Accept,
    caps: Caps,
    timing: Timing,
    partitions: BTreeMap<i32, Partition>,
    pending: BTreeMap<i32, Vec<Record>>,
    pending_records: usize,
    pending_bytes: usize,
    /// Partitions that the group takes away, until they are drained.
    revoking: Option<Revoking>,
    retry_at: Option<Instant>,
    positions_at: Instant,
    polled_at: Instant,
    /// The last poll brought nothing.
    exhausted: bool,
}

impl<S: Source> std::fmt::Debug for Intake<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl<S: Source> Intake<S> {
    pub fn new(
        source: S,
        ownership: Arc<Ownership<S::Membership>>,
        log: Arc<Mutex<EventLog>>,
        observer: Arc<dyn Observer>,
        accept: Accept,
        caps: Caps,
        timing: Timing,
    ) -> Self {
        Self {
            source,
            ownership,
            log,
            observer,
            accept,
            caps,
            timing,
            partitions: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_records: 0,
            pending_bytes: 0,
            revoking: None,
            retry_at: None,
            positions_at: Instant::now(),
            polled_at: Instant::now(),
            exhausted: true,
        }
    }

    pub fn is_full(&self) -> bool {
        self.pending_records >= self.caps.records || self.pending_bytes >= self.caps.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.pending_records == 0
    }

    pub fn held(&self) -> usize {
        self.partitions.len()
    }

    /// Whether every assigned partition is being read.
    pub fn is_settled(&self) -> bool {
        self.partitions.values().all(|partition| partition.running.is_some())
    }

    /// Serves what the other stages asked for, then polls once.
    pub fn step(&mut self, timeout: Duration) -> Result<(), ProcessorError> {
        if self.ownership.take_restart() {
            self.restart()?;
        }
        self.answer()?;
        self.take_up_assigned()?;
        self.polled_at = Instant::now();
        self.exhausted = false;
        match self.source.poll(timeout).map_err(source_error)? {
            Polled::Record(record) => self.gather(record)?,
            Polled::Assigned(partitions) => {
                tracing::info!(?partitions, "partitions assigned");
                for partition in partitions {
                    self.partitions.insert(partition, Partition { running: None });
                }
                self.retry_at = None;
                self.ownership.set_membership(self.source.membership());
            }
            Polled::Revoked(partitions) => self.revoke(partitions)?,
            Polled::Lost(partitions) => {
                tracing::warn!(
                    ?partitions,
                    "partitions lost; what was in flight is left to their next owner"
                );
                self.release(&partitions)?;
            }
            Polled::Nothing => self.exhausted = true,
        }
        Ok(())
    }

    /// Serves the other stages and the group while there is no room for records: polls seldom, and what a
    /// poll brings is one record over the cap.
    pub fn serve(&mut self) -> Result<(), ProcessorError> {
        if self.polled_at.elapsed() >= self.timing.serve { self.step(Duration::ZERO) } else { self.answer() }
    }

    fn answer(&mut self) -> Result<(), ProcessorError> {
        if self.ownership.membership_wanted() {
            self.ownership.set_membership(self.source.membership());
        }
        self.finish_revocation()
    }

    /// Whether a batch is to be cut: full, or everything that has arrived, or a look at idle partitions.
    pub fn is_ready(&self) -> bool {
        let arrived = !self.is_empty() && self.exhausted;
        self.is_full() || arrived || self.positions_at.elapsed() >= self.timing.positions
    }

    /// Takes what was gathered, in one chunk a partition (two where `logged` lies inside it).
    pub fn take_batch(&mut self) -> Result<Vec<Chunk<Fetched>>, ProcessorError> {
        let positions: BTreeMap<i32, i64> =
            self.source.positions().map_err(source_error)?.into_iter().collect();
        if self.positions_at.elapsed() >= self.timing.positions {
            self.positions_at = Instant::now();
            for (&partition, &position) in &positions {
                self.observer.position(partition, position, self.source.known_end(partition));
            }
        }
        let mut pending = std::mem::take(&mut self.pending);
        (self.pending_records, self.pending_bytes) = (0, 0);
        let mut chunks = Vec::new();
        for (&number, partition) in &mut self.partitions {
            let Some(running) = &mut partition.running else { continue };
            // Nothing was gathered of what is taken away, so its position says nothing.
            if is_among(&self.revoking, number) {
                continue;
            }
            let records = pending.remove(&number).unwrap_or_default();
            // Past control records that were read behind the last record.
            running.polled = running.polled.max(positions.get(&number).copied().unwrap_or(0));
            running.cut(number, records, &mut chunks);
        }
        Ok(chunks)
    }

    /// Whether all that was handed on has been through the pipeline.
    pub fn is_drained(&self) -> bool {
        self.drained(self.partitions.keys())
    }

    fn drained<'a>(&self, mut partitions: impl Iterator<Item = &'a i32>) -> bool {
        let held = self.ownership.snapshot().held;
        partitions.all(|number| {
            let running = self.partitions.get(number).and_then(|partition| partition.running.as_ref());
            // What is not held any more has nothing in flight that could come out.
            running.is_none_or(|running| {
                held.get(number).is_none_or(|held| held.epoch != running.epoch || held.done >= running.sent)
            })
        })
    }

    /// Gives every partition back, and the source with them.
    pub fn close(mut self) -> S {
        let partitions: Vec<_> = self.partitions.keys().copied().collect();
        if let Err(error) = self.release(&partitions) {
            tracing::debug!(%error, "while closing");
        }
        self.source
    }

    fn gather(&mut self, record: Record) -> Result<(), ProcessorError> {
        let at = record.coordinates;
        if is_among(&self.revoking, at.partition) {
            return Ok(());
        }
        let Some(running) =
            self.partitions.get_mut(&at.partition).and_then(|partition| partition.running.as_mut())
        else {
            return Ok(());
        };
        // Of an earlier fetch, from before a restart.
        if at.offset < running.polled {
            return Ok(());
        }
        if at.partition > ActivityId::MAX_PARTITION || at.offset > ActivityId::MAX_OFFSET {
            return Err(ProcessorError::IdSpaceExceeded { partition: at.partition, offset: at.offset });
        }
        running.polled = at.offset + 1;
        self.pending_records += 1;
        self.pending_bytes += record.bytes();
        self.pending.entry(at.partition).or_default().push(record);
        Ok(())
    }

    fn take_up_assigned(&mut self) -> Result<(), ProcessorError> {
        let waiting: Vec<i32> = self
            .partitions
            .iter()
            .filter_map(|(&number, partition)| partition.running.is_none().then_some(number))
            .collect();
        if waiting.is_empty() || self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Ok(());
        }
        match self.take_up(&waiting) {
            Ok(()) => {
                self.retry_at = None;
                Ok(())
            }
            Err(ProcessorError::Source(SourceError::Retriable(reason))) => {
                tracing::warn!(partitions = ?waiting, reason, "can't take up partitions yet; trying again");
                self.retry_at = Some(Instant::now() + self.timing.retry);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Learns the facts, decides where to begin, writes it down, and begins.
    fn take_up(&mut self, partitions: &[i32]) -> Result<(), ProcessorError> {
        let facts = self.facts(partitions)?;
        let mut planned: Vec<(Facts, Start)> = Vec::with_capacity(facts.len());
        let mut refusals: Vec<Refusal> = Vec::new();
        for facts in facts {
            match plan(&facts, self.accept) {
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

    fn facts(&mut self, partitions: &[i32]) -> Result<Vec<Facts>, ProcessorError> {
        let committed = self.source.committed(partitions).map_err(source_error)?;
        let mut facts = Vec::with_capacity(partitions.len());
        for (partition, committed) in committed {
            let bounds = self.source.bounds(partition).map_err(source_error)?;
            let cursor = self.log.lock().expect("no holder panics").cursor(partition)?;
            facts.push(Facts { partition, cursor, committed, bounds, at_anchor: None });
        }
        let anchors: Vec<_> = facts
            .iter()
            .filter_map(|facts| {
                let anchor = retained_anchor(facts.cursor.as_ref(), facts.bounds)?;
                Some((facts.partition, anchor.offset))
            })
            .collect();
        let records = self.source.records_at(&anchors).map_err(source_error)?;
        for ((partition, _), record) in anchors.into_iter().zip(records) {
            if let Some(facts) = facts.iter_mut().find(|facts| facts.partition == partition) {
                facts.at_anchor = Some(AtAnchor::from(record.as_ref()));
            }
        }
        Ok(facts)
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

    fn revoke(&mut self, partitions: Vec<i32>) -> Result<(), ProcessorError> {
        tracing::info!(?partitions, "partitions revoked; finishing what is in flight");
        // A second revocation while one drains: the first has waited long enough to be told so.
        if let Some((earlier, _)) = self.revoking.take() {
            self.release(&earlier)?;
        }
        for partition in &partitions {
            self.drop_pending(*partition);
        }
        // The group is in its next generation already, and these partitions are still this member's.
        self.ownership.set_membership(self.source.membership());
        self.revoking = Some((partitions, Instant::now() + self.timing.drain));
        self.finish_revocation()
    }

    fn finish_revocation(&mut self) -> Result<(), ProcessorError> {
        let Some((partitions, deadline)) = self.revoking.take() else { return Ok(()) };
        if !self.drained(partitions.iter()) {
            if Instant::now() < deadline {
                self.revoking = Some((partitions, deadline));
                return Ok(());
            }
            tracing::warn!(?partitions, "not drained in time; what is in flight is left to the next owner");
        }
        self.release(&partitions)
    }

    /// Ends the epochs first, so that nothing in flight can be published any more, then gives them back.
    fn release(&mut self, partitions: &[i32]) -> Result<(), ProcessorError> {
        self.ownership.give_up(partitions);
        // Lost while it drained: were it still taken for revoked, its next assignment would be given back.
        if let Some((revoked, _)) = &mut self.revoking {
            revoked.retain(|partition| !partitions.contains(partition));
        }
        self.revoking.take_if(|(revoked, _)| revoked.is_empty());
        for &partition in partitions {
            self.drop_pending(partition);
            self.partitions.remove(&partition);
            self.observer.released(partition);
        }
        self.source.release(partitions).map_err(source_error)?;
        self.ownership.set_membership(self.source.membership());
        Ok(())
    }

    fn drop_pending(&mut self, partition: i32) {
        for record in self.pending.remove(&partition).unwrap_or_default() {
            self.pending_records -= 1;
            self.pending_bytes -= record.bytes();
        }
    }

    /// Back to the cursors, with everything: what was in flight is void.
    fn restart(&mut self) -> Result<(), ProcessorError> {
        let partitions: Vec<_> = self
            .partitions
            .iter_mut()
            .filter_map(|(&number, partition)| partition.running.take().map(|_| number))
            .collect();
        tracing::warn!(?partitions, "going back to the cursors");
        self.ownership.give_up(&partitions);
        for &partition in &partitions {
            self.drop_pending(partition);
        }
        self.source.halt(&partitions).map_err(source_error)?;
        self.retry_at = None;
        Ok(())
    }
}

fn source_error(error: SourceError) -> ProcessorError {
    ProcessorError::Source(error)
}

//! The polling stage: starts and releases partitions, and gathers records into batches.
//!
//! A state machine that never waits for another stage: a revocation is a state in which the pipeline drains while polling
//! continues, so rebalances and stops are served whatever the other stages do. This module polls. `gather` cuts batches;
//! `assignments` has the assigned partitions, `starting` starts them and `release` releases them; `liveness` checks whether
//! Kafka still answers, and `watch` whether the partitions make progress.

mod assignments;
mod gather;
mod liveness;
mod release;
mod starting;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use assignments::Assignments;
use contract::{ActivityId, Record};
use event_log::EventLog;
pub use gather::Caps;
use gather::Gathered;
use kafka::{Polled, Source, SourceError};
use liveness::Liveness;
pub use starting::{Learned, learn};
use watch::Watch;

use super::{
    Observer, ProcessorError, batch::Batch, handover::Handover, ownership::Owner, progress::Progress,
    start::Terms, timing::Timing,
};

/// Records polled before the other stages are served again: less than a millisecond of them.
pub const AT_ONCE: usize = 512;

#[derive(Debug, Clone)]
pub(crate) struct IntakeOptions {
    pub terms: Terms,
    pub caps: Caps,
    pub timing: Timing,
    pub role: Role,
}

/// What it is in the group, which says which partitions it reads.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// Those that the group assigns. If there is a follower, it gets the others.
    Member(Option<Arc<Handover>>),
    /// Those that the member of the same instance does not have.
    Follower(Arc<Handover>),
}

pub(crate) struct Intake<S: Source> {
    pub(super) source: S,
    pub(super) owner: Owner<S::Membership>,
    log: Arc<Mutex<EventLog>>,
    observer: Arc<dyn Observer>,
    terms: Terms,
    timing: Timing,
    role: Role,
    gathered: Gathered,
    assignments: Assignments,
    liveness: Liveness,
    watch: Watch,
    positions_at: Instant,
    polled_at: Instant,
    /// The last poll returned nothing.
    exhausted: bool,
}

impl<S: Source> Intake<S> {
    pub fn new(
        source: S,
        owner: Owner<S::Membership>,
        log: Arc<Mutex<EventLog>>,
        observer: Arc<dyn Observer>,
        progress: Arc<Mutex<Progress>>,
        options: IntakeOptions,
    ) -> Self {
        let IntakeOptions { terms, caps, timing, role } = options;
        Self {
            source,
            owner,
            log,
            observer,
            terms,
            timing,
            role,
            gathered: Gathered::new(caps),
            assignments: Assignments::default(),
            liveness: Liveness::begin(timing.silence),
            watch: Watch::new(progress),
            positions_at: Instant::now(),
            polled_at: Instant::now(),
            exhausted: true,
        }
    }

    fn is_member(&self) -> bool {
        matches!(self.role, Role::Member(_))
    }

    pub fn is_full(&self) -> bool {
        self.gathered.is_full()
    }

    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    pub fn held(&self) -> usize {
        self.assignments.len()
    }

    /// Whether every assigned partition is being read.
    pub fn is_settled(&self) -> bool {
        self.assignments.waiting().is_empty()
    }

    /// Why commands, or some of them, are not being processed; `None` if all are. A member without partitions is on standby,
    /// and waits for nothing.
    pub fn waits_for(&mut self) -> Option<String> {
        let other = self.waits_for_others();
        let is_running = |partition| self.is_running(partition);
        self.watch.progress().reason(Instant::now(), self.timing.stall, is_running, other)
    }

    fn waits_for_others(&mut self) -> Option<String> {
        if let Some(reason) = self.liveness.reason() {
            return Some(reason.to_owned());
        }
        if !self.is_settled() {
            let delayed = self.assignments.delayed.as_ref();
            let why = delayed.and_then(|delayed| delayed.unknown.iter().next());
            let why =
                why.map_or(String::new(), |(partition, reason)| format!(": partition {partition}: {reason}"));
            return Some(format!("starting partitions{why}"));
        }
        // The next step restarts from the cursors; until then the processor must not be reported as ready.
        if self.owner.is_restart_wanted() {
            return Some("restarting from the committed cursors".to_owned());
        }
        if self.assignments.len() == 0 && self.source.membership().is_none() {
            return Some("waiting to join the consumer group".to_owned());
        }
        self.owner.publisher_waits_for()
    }

    /// Serves the requests of the other stages, then polls once.
    pub fn step(&mut self, timeout: Duration) -> Result<(), ProcessorError> {
        if self.owner.take_restart() {
            self.hear();
            self.watch.progress().interrupted();
            self.restart()?;
        }
        self.answer()?;
        self.start_assigned()?;
        self.listen()?;
        self.watch_progress();
        self.polled_at = Instant::now();
        self.poll(timeout).map(drop)
    }

    /// Gathers the records that have already arrived, [`AT_ONCE`] at most. Serving the other stages costs more than a
    /// record, so it is done only once for all of them.
    pub fn gather_arrived(&mut self) -> Result<(), ProcessorError> {
        for _ in 0..AT_ONCE {
            if self.is_full() || !self.poll(Duration::ZERO)? {
                break;
            }
        }
        Ok(())
    }

    /// Polls once. Returns whether there was a record.
    fn poll(&mut self, timeout: Duration) -> Result<bool, ProcessorError> {
        self.exhausted = false;
        let polled = self.source.poll(timeout).map_err(source_error)?;
        // A loss is decided by this client's own clock, so it is no sign of the brokers.
        if !matches!(polled, Polled::Nothing | Polled::Lost(_)) {
            self.liveness.heard();
        }
        match polled {
            Polled::Record(record) => {
                self.gather(record)?;
                return Ok(true);
            }
            Polled::Assigned(partitions) => {
                tracing::info!(?partitions, "partitions assigned");
                self.assign(partitions);
            }
            Polled::Revoked(partitions) => self.revoke(partitions)?,
            Polled::Lost(partitions) => {
                tracing::warn!(?partitions, "partitions lost; their next owner publishes what was in flight");
                self.release(&partitions)?;
            }
            Polled::Nothing => self.exhausted = true,
        }
        Ok(false)
    }

    /// From now on these partitions belong to this stage; the next step starts them.
    pub fn assign(&mut self, partitions: Vec<i32>) {
        if let Role::Member(Some(handover)) = &self.role {
            handover.take(&partitions);
        }
        self.assignments.assign(partitions);
        self.forget_others();
        self.owner.set_membership(self.source.membership());
    }

    /// Serves the other stages and the group while there is no room for records. Polls rarely, since each poll may return
    /// one record more than the cap.
    pub fn serve(&mut self) -> Result<(), ProcessorError> {
        if self.polled_at.elapsed() >= self.timing.serve { self.step(Duration::ZERO) } else { self.answer() }
    }

    fn answer(&mut self) -> Result<(), ProcessorError> {
        if self.owner.is_membership_wanted() {
            self.owner.set_membership(self.source.membership());
        }
        self.finish_revocation()
    }

    /// Whether to cut a batch while `in_flight` others are under way: it is full, it has everything that has arrived, or the
    /// positions of idle partitions are due.
    pub fn is_ready(&self, in_flight: usize) -> bool {
        let arrived = self.exhausted && self.is_worth_a_batch(in_flight);
        self.is_full() || arrived || self.positions_at.elapsed() >= self.timing.positions
    }

    /// Whether the gathered records are worth a batch after the `in_flight` ones.
    pub fn is_worth_a_batch(&self, in_flight: usize) -> bool {
        self.gathered.is_worth_a_batch(in_flight)
    }

    /// Takes the gathered records, as one chunk per partition (two if `logged` is inside it).
    pub fn take_batch(&mut self) -> Result<Batch, ProcessorError> {
        let positions: BTreeMap<i32, i64> =
            self.source.positions().map_err(source_error)?.into_iter().collect();
        if self.positions_at.elapsed() >= self.timing.positions {
            self.positions_at = Instant::now();
        }
        let mut gathered = self.gathered.take();
        let mut batch = Batch::new();
        for (partition, running) in self.assignments.cuttable() {
            let records = gathered.remove(&partition).unwrap_or_default();
            // Past the control records after the last record.
            running.polled = running.polled.max(positions.get(&partition).copied().unwrap_or(0));
            running.cut(partition, records, &mut batch);
        }
        Ok(batch)
    }

    /// Whether everything that was handed on has been through the pipeline.
    pub fn is_drained(&self) -> bool {
        self.drained(&self.assignments.all())
    }

    fn drained(&self, partitions: &[i32]) -> bool {
        let held = self.owner.held();
        partitions.iter().all(|&partition| {
            // Nothing in flight of a partition that is no longer held will be published.
            self.assignments.running(partition).is_none_or(|running| {
                held.get(&partition)
                    .is_none_or(|held| held.epoch != running.epoch || held.done >= running.sent)
            })
        })
    }

    /// Releases every partition, and returns the source.
    pub fn close(mut self) -> S {
        let partitions = self.assignments.all();
        if let Err(error) = self.release(&partitions) {
            tracing::debug!(%error, "while closing");
        }
        self.source
    }

    fn gather(&mut self, record: Record) -> Result<(), ProcessorError> {
        let at = record.coordinates;
        if self.assignments.is_revoking(at.partition) {
            return Ok(());
        }
        let Some(running) = self.assignments.running_mut(at.partition) else { return Ok(()) };
        // The record is from an earlier fetch, before a restart.
        if at.offset < running.polled {
            return Ok(());
        }
        if at.partition > ActivityId::MAX_PARTITION || at.offset > ActivityId::MAX_OFFSET {
            return Err(ProcessorError::IdSpaceExceeded { partition: at.partition, offset: at.offset });
        }
        running.polled = at.offset + 1;
        self.gathered.add(record);
        Ok(())
    }
}

fn source_error(error: SourceError) -> ProcessorError {
    ProcessorError::Source(error)
}

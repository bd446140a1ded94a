//! The polling thread's part: takes partitions up and gives them back, and gathers records into batches.
//!
//! A state machine that never waits for another stage: a revocation is a state in which the pipeline
//! drains while polling goes on, so a rebalance and a stop are served whatever the stages ahead do.
//! Here it polls and cuts batches; `take_up` and `give_back` are the two ends of holding a partition.

mod give_back;
mod silence;
mod take_up;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::{ActivityId, Record};
use event_log::EventLog;
use kafka::{Polled, Source, SourceError};
use silence::Silence;
pub use take_up::{Learned, learn};

use super::{
    Observer, ProcessorError, batch::Batch, ownership::Owner, progress::Progress, running::Running,
    start::Terms, timing::Timing,
};

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub records: usize,
    /// Of keys, values and headers.
    pub bytes: usize,
}

impl Caps {
    /// Whether so much is a full batch.
    #[must_use]
    pub fn are_reached(&self, records: usize, bytes: usize) -> bool {
        records >= self.records || bytes >= self.bytes
    }

    /// Whether so much is worth a batch behind those that are under way. The more they are, the more it has to be: each
    /// takes its time, however small it is, and all behind it wait for that.
    #[must_use]
    pub fn is_worth_a_batch(&self, records: usize, bytes: usize, under_way: usize) -> bool {
        let enough = |gathered: usize, cap: usize| 4 * gathered >= under_way * cap;
        records > 0 && (enough(records, self.records) || enough(bytes, self.bytes))
    }
}

/// Records taken in before the other stages are served again: less than a millisecond of them.
pub const AT_ONCE: usize = 512;

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

/// Partitions that can't be taken up yet, because nobody tells what has to be known of them.
#[derive(Debug)]
struct HeldUp {
    /// By partition, why.
    unknown: BTreeMap<i32, String>,
    since: Instant,
    said_at: Instant,
    retry_at: Instant,
}

/// What the intake is told.
#[derive(Debug, Clone, Copy)]
pub struct IntakeOptions {
    pub terms: Terms,
    pub caps: Caps,
    pub timing: Timing,
}

/// Gathers records of the partitions that are held.
pub(crate) struct Intake<S: Source> {
    pub(super) source: S,
    pub(super) owner: Owner<S::Membership>,
    log: Arc<Mutex<EventLog>>,
    observer: Arc<dyn Observer>,
    terms: Terms,
    caps: Caps,
    timing: Timing,
    partitions: BTreeMap<i32, Partition>,
    pending: BTreeMap<i32, Vec<Record>>,
    pending_records: usize,
    pending_bytes: usize,
    /// What was accepted of a partition that is not held yet, as the log records it: flags, and what counts as published.
    /// Its offset may be committed already, and then nothing asks for it again.
    accepted: BTreeMap<i32, (String, i64)>,
    /// Partitions that were held once: of these nothing more is accepted, that was said of the state at the start.
    held_once: BTreeSet<i32>,
    /// Partitions that the group takes away, until they are drained.
    revoking: Option<Revoking>,
    /// While partitions can't be taken up.
    held_up: Option<HeldUp>,
    silence: Silence,
    progress: Arc<Mutex<Progress>>,
    /// When progress was last looked at, and when the brokers are next asked where the topic ends.
    watched_at: Option<Instant>,
    ask_ends_at: Instant,
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
        owner: Owner<S::Membership>,
        log: Arc<Mutex<EventLog>>,
        observer: Arc<dyn Observer>,
        progress: Arc<Mutex<Progress>>,
        options: IntakeOptions,
    ) -> Self {
        let IntakeOptions { terms, caps, timing } = options;
        Self {
            source,
            owner,
            log,
            observer,
            terms,
            caps,
            timing,
            partitions: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_records: 0,
            pending_bytes: 0,
            accepted: BTreeMap::new(),
            held_once: BTreeSet::new(),
            revoking: None,
            held_up: None,
            silence: Silence::begin(timing.silence),
            progress,
            watched_at: None,
            ask_ends_at: Instant::now(),
            positions_at: Instant::now(),
            polled_at: Instant::now(),
            exhausted: true,
        }
    }

    pub fn is_full(&self) -> bool {
        self.caps.are_reached(self.pending_records, self.pending_bytes)
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

    /// Why no commands are being processed, or not all, where that is so. A member that the group gave no partitions waits
    /// for nothing: it stands by.
    pub fn waits_for(&mut self) -> Option<String> {
        let other = self.waits_for_others();
        let progress = self.progress.lock().expect("no holder panics");
        progress.reason(Instant::now(), self.timing.stall, |number| self.is_running(number), other)
    }

    fn waits_for_others(&mut self) -> Option<String> {
        if let Some(reason) = self.silence.reason() {
            return Some(reason.to_owned());
        }
        if !self.is_settled() {
            let why = self.held_up.as_ref().and_then(|held_up| held_up.unknown.iter().next());
            let why =
                why.map_or(String::new(), |(partition, reason)| format!(": partition {partition}: {reason}"));
            return Some(format!("taking up partitions{why}"));
        }
        // The next step goes back; until then nobody may take it for ready.
        if self.owner.is_restart_wanted() {
            return Some("restarting from the committed cursors".to_owned());
        }
        if self.partitions.is_empty() && self.source.membership().is_none() {
            return Some("the group has not taken this instance in yet".to_owned());
        }
        self.owner.publisher_waits_for()
    }

    /// Serves what the other stages asked for, then polls once.
    pub fn step(&mut self, timeout: Duration) -> Result<(), ProcessorError> {
        if self.owner.take_restart() {
            self.hear();
            self.progress.lock().expect("no holder panics").interrupted();
            self.restart()?;
        }
        self.answer()?;
        self.take_up_assigned()?;
        self.listen()?;
        self.watch();
        self.polled_at = Instant::now();
        self.poll(timeout).map(drop)
    }

    /// Takes in what has arrived already. Serving the other stages costs more than a record, so it is done once for so
    /// many of them.
    pub fn gather_arrived(&mut self) -> Result<(), ProcessorError> {
        for _ in 0..AT_ONCE {
            if self.is_full() || !self.poll(Duration::ZERO)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether it brought a record.
    fn poll(&mut self, timeout: Duration) -> Result<bool, ProcessorError> {
        self.exhausted = false;
        let polled = self.source.poll(timeout).map_err(source_error)?;
        // What is lost is lost by this side's own clock.
        if !matches!(polled, Polled::Nothing | Polled::Lost(_)) {
            self.silence.broken();
        }
        match polled {
            Polled::Record(record) => {
                self.gather(record)?;
                return Ok(true);
            }
            Polled::Assigned(partitions) => {
                tracing::info!(?partitions, "partitions assigned");
                for partition in partitions {
                    self.partitions.insert(partition, Partition { running: None });
                }
                self.forget_others();
                self.retry_now();
                self.owner.set_membership(self.source.membership());
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
        Ok(false)
    }

    /// Serves the other stages and the group while there is no room for records: polls seldom, and what a
    /// poll brings is one record over the cap.
    pub fn serve(&mut self) -> Result<(), ProcessorError> {
        if self.polled_at.elapsed() >= self.timing.serve { self.step(Duration::ZERO) } else { self.answer() }
    }

    fn answer(&mut self) -> Result<(), ProcessorError> {
        if self.owner.is_membership_wanted() {
            self.owner.set_membership(self.source.membership());
        }
        self.finish_revocation()
    }

    /// Whether a batch is to be cut, while so many are under way: full, or everything that has arrived, or a look at
    /// idle partitions.
    pub fn is_ready(&self, under_way: usize) -> bool {
        let arrived = self.exhausted && self.is_worth_a_batch(under_way);
        self.is_full() || arrived || self.positions_at.elapsed() >= self.timing.positions
    }

    /// Whether what was gathered is worth a batch behind those that are under way.
    pub fn is_worth_a_batch(&self, under_way: usize) -> bool {
        self.caps.is_worth_a_batch(self.pending_records, self.pending_bytes, under_way)
    }

    /// Takes what was gathered, in one chunk a partition (two where `logged` lies inside it).
    pub fn take_batch(&mut self) -> Result<Batch, ProcessorError> {
        let positions: BTreeMap<i32, i64> =
            self.source.positions().map_err(source_error)?.into_iter().collect();
        if self.positions_at.elapsed() >= self.timing.positions {
            self.positions_at = Instant::now();
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
        let held = self.owner.held();
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
}

fn source_error(error: SourceError) -> ProcessorError {
    ProcessorError::Source(error)
}

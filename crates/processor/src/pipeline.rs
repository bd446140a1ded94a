//! The stages of one session, from joining the group to leaving it.
//!
//! A pipeline has no threads and never waits on its own: its users call [`Pipeline::step`] for each [`Stage`], on a thread
//! per stage (`driver`) or in any order on one thread (`simulation`). Between two stages there is room for one batch.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use contract::Decider;
use event_log::EventLog;
use kafka::{Sink, Source};

use super::{
    Observer, ProcessorError,
    append::Append,
    batch::Batch,
    decide::decide,
    follow::Follow,
    handover::Handover,
    intake::{Caps, Intake, IntakeOptions, Role},
    ownership::{self, Ownership},
    progress::Progress,
    publish::{Attempt, BatchPlace, Publish, PublishOptions, PublisherWait},
    slot::Slot,
    start::{Accept, Plan, Terms},
    timing::Timing,
};

/// How long a poll waits if nothing arrives. A stop is noticed within this time.
pub const IDLE: Duration = Duration::from_millis(50);
/// The same while the next stage is busy and there is room to gather more.
pub const BUSY: Duration = Duration::from_millis(1);
/// How many times as long as a step the follower pauses after it, while own commands are in flight and while they wait.
const YIELD: (u32, u32) = (1, 9);
/// The longest of these pauses. A step can take long because it waits for the log or the brokers.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// The options of a session, which also has a source and a sink.
#[derive(Debug, Clone)]
pub(crate) struct SessionOptions {
    pub accept: Accept,
    pub plan: Plan,
    pub caps: Caps,
    /// Batches that may be in flight at once, besides the one that is gathered.
    pub batches: usize,
    pub publish: PublishOptions,
    pub timing: Timing,
    pub progress: Arc<Mutex<Progress>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Poll,
    Decide,
    Append,
    Publish,
    Follow,
}

impl Stage {
    pub const ALL: [Self; 5] = [Self::Poll, Self::Decide, Self::Append, Self::Publish, Self::Follow];

    /// The name of its thread.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Decide => "decide",
            Self::Append => "append",
            Self::Publish => "publish",
            Self::Follow => "follow",
        }
    }
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Worked,
    Wait(StageWait),
    /// The session is over for this stage.
    Ended,
}

/// What a stage waits for before its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StageWait {
    /// A batch, and room for it in the next stage.
    Batch,
    Publisher(PublisherWait),
    For(Duration),
}

/// How the session should end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Until when a stop waits for the work in flight.
    pub stop_by: Option<Instant>,
    pub failed: bool,
    /// The first error of any stage.
    error: Option<ProcessorError>,
}

/// The state of the publishing stage.
pub(crate) struct Publishing<K: Sink> {
    pub publish: Publish<K>,
    pub batch: Option<Batch>,
    /// The place in the batch from which the next transaction publishes.
    place: BatchPlace,
}

/// One session.
pub(crate) struct Pipeline<S: Source, K: Sink<Membership = S::Membership>> {
    /// `None` once the group was left.
    pub(super) intake: Mutex<Option<Intake<S>>>,
    decider: Decider,
    pub(super) append: Append<Ownership<S::Membership>>,
    /// `None` once the publishing stage let go of the sink.
    pub(super) publishing: Mutex<Option<Publishing<K>>>,
    pub(super) to_decide: Slot,
    pub(super) to_append: Slot,
    pub(super) to_publish: Slot,
    pub(super) in_flight: AtomicUsize,
    most_in_flight: usize,
    /// No room for records: the session's own commands wait in Kafka.
    has_backlog: AtomicBool,
    /// `None` if the log has only what this instance publishes, or once the follower has ended.
    pub(super) follow: Mutex<Option<Follow<S>>>,
    handover: Option<Arc<Handover>>,
    pub(super) ownership: Ownership<S::Membership>,
    log: Arc<Mutex<EventLog>>,
    observer: Arc<dyn Observer>,
    pub(super) ending: Mutex<Ending>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl<S: Source, K: Sink<Membership = S::Membership>> Pipeline<S, K> {
    pub fn new(
        source: S,
        sink: K,
        follow: Option<Follow<S>>,
        log: &Arc<Mutex<EventLog>>,
        decider: &Decider,
        options: SessionOptions,
        observer: &Arc<dyn Observer>,
    ) -> Self {
        let SessionOptions { accept, plan, caps, batches, publish, timing, progress } = options;
        let (owner, publication) = ownership::handles();
        let ownership = Ownership::clone(&owner);
        let terms = Terms { accept, marker: publish.marker, plan };
        let handover = follow.as_ref().map(|follow| Arc::clone(follow.handover()));
        let intake = Intake::new(
            source,
            owner,
            Arc::clone(log),
            Arc::clone(observer),
            progress,
            IntakeOptions { terms, caps, timing, role: Role::Member(handover.clone()) },
        );
        let publish = Publish::new(sink, publication, publish, Arc::clone(observer), timing);
        Self {
            intake: Mutex::new(Some(intake)),
            decider: decider.clone(),
            append: Append::new(Arc::clone(log), ownership.clone()),
            publishing: Mutex::new(Some(Publishing { publish, batch: None, place: BatchPlace::default() })),
            to_decide: Slot::default(),
            to_append: Slot::default(),
            to_publish: Slot::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: batches,
            has_backlog: AtomicBool::new(false),
            follow: Mutex::new(follow),
            handover,
            ownership,
            log: Arc::clone(log),
            observer: Arc::clone(observer),
            ending: Mutex::default(),
        }
    }

    /// One step of a stage, which waits for nothing but Kafka and the disk. Its error fails the session.
    pub fn step(&self, stage: Stage) -> Step {
        if stage != Stage::Poll && lock(&self.ending).failed {
            return Step::Ended;
        }
        let stepped = match stage {
            Stage::Poll => self.poll(),
            Stage::Decide => pass(&self.to_decide, &self.to_append, |batch| {
                decide(&self.decider, batch);
                Ok(())
            }),
            Stage::Append => self.append_next(),
            Stage::Publish => self.publish(),
            Stage::Follow => self.follow(),
        };
        stepped.unwrap_or_else(|error| {
            self.fail(error);
            Step::Worked
        })
    }

    /// Requests a stop: consumption ends, the work in flight may finish within this time, and then the polling stage leaves
    /// the group. The stop is recorded as clean only if everything was finished.
    pub fn stop(&self, within: Duration) {
        lock(&self.ending).stop_by.get_or_insert_with(|| Instant::now() + within);
    }

    /// Ends the session without waiting for the work in flight. The polling stage leaves the group with its next step.
    pub fn fail(&self, error: ProcessorError) {
        let mut ending = lock(&self.ending);
        ending.failed = true;
        ending.error.get_or_insert(error);
        drop(ending);
        self.abandon();
    }

    /// A stage has ended, be it by a panic: drops its Kafka client now, which may take a while and must not wait for the
    /// other stages.
    pub fn close(&self, stage: Stage) {
        match stage {
            Stage::Poll => drop(self.intake.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Stage::Publish => drop(self.publishing.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Stage::Follow => drop(self.follow.lock().unwrap_or_else(PoisonError::into_inner).take()),
            Stage::Decide | Stage::Append => {}
        }
    }

    /// After all stages ended: whether the session was stopped, or why it failed.
    pub fn result(&self) -> Result<(), ProcessorError> {
        lock(&self.ending).error.take().map_or(Ok(()), Err)
    }

    /// No stage waits for another any more, and nothing further is published.
    pub fn abandon(&self) {
        self.ownership.abandon();
        self.to_decide.close();
        self.to_append.close();
        self.to_publish.close();
    }

    /// Waits as a step asked for. The stage's own thread does that.
    pub fn wait(&self, stage: Stage, wait: StageWait) {
        match (stage, wait) {
            (_, StageWait::For(duration)) => std::thread::sleep(duration),
            (_, StageWait::Publisher(wait)) => {
                if let Some(publishing) = &*lock(&self.publishing) {
                    publishing.publish.wait(wait);
                }
            }
            (Stage::Poll | Stage::Follow, StageWait::Batch) => {}
            (Stage::Decide, StageWait::Batch) => self.to_decide.await_full_and_room_in(&self.to_append),
            (Stage::Append, StageWait::Batch) => self.to_append.await_full_and_room_in(&self.to_publish),
            (Stage::Publish, StageWait::Batch) => self.to_publish.await_full(),
        }
    }

    fn poll(&self) -> Result<Step, ProcessorError> {
        let mut intake = lock(&self.intake);
        let (failed, stop_by) = {
            let ending = lock(&self.ending);
            (ending.failed, ending.stop_by)
        };
        match (&mut *intake, stop_by) {
            (None, _) => Ok(Step::Ended),
            (Some(_), _) if failed => {
                self.abandon();
                drop(intake.take().map(Intake::close));
                Ok(Step::Ended)
            }
            (Some(consuming), None) => self.consume(consuming),
            (Some(draining), Some(stop_by)) => {
                let is_drained = draining.is_drained();
                if !is_drained && Instant::now() < stop_by {
                    // The publisher may need the group's next generation to finish.
                    draining.serve()?;
                    return Ok(Step::Wait(StageWait::For(BUSY)));
                }
                self.leave(&mut intake, is_drained)
            }
        }
    }

    fn consume(&self, intake: &mut Intake<S>) -> Result<Step, ProcessorError> {
        let mut step = Step::Worked;
        // Only this stage fills the slot: if it has room now, it has room below.
        let before = self.in_flight.load(Ordering::SeqCst);
        let busy = self.to_decide.is_full() || before >= self.most_in_flight;
        let has_backlog = busy && intake.is_full();
        self.has_backlog.store(has_backlog, Ordering::Relaxed);
        if has_backlog {
            // No room for records, but rebalances are served all the same.
            intake.serve()?;
            step = Step::Wait(StageWait::For(BUSY));
        } else {
            intake.step(if intake.is_empty() && !busy {
                IDLE
            } else if busy || !intake.is_worth_a_batch(before) {
                BUSY
            } else {
                Duration::ZERO
            })?;
            intake.gather_arrived()?;
        }
        self.observer.polled(intake.held(), intake.waits_for().as_deref());
        if !busy && intake.is_ready(self.in_flight.load(Ordering::SeqCst)) {
            let batch = intake.take_batch()?;
            if !batch.is_empty() {
                self.in_flight.fetch_add(1, Ordering::SeqCst);
                self.to_decide.put(batch);
            }
        }
        Ok(step)
    }

    /// Leaves the group. If nothing is in flight, records how far the output is published, which is then known exactly.
    fn leave(&self, intake: &mut Option<Intake<S>>, is_drained: bool) -> Result<Step, ProcessorError> {
        let published = if is_drained { self.ownership.published() } else { Vec::new() };
        if !is_drained {
            tracing::warn!(
                "stopping with batches in flight; the next start resumes from the committed cursors"
            );
        }
        // Before the partitions are released: nothing of an ended epoch is published.
        self.abandon();
        // From here on the follower writes nothing to the log: it would undo the record of the clean stop.
        if let Some(handover) = &self.handover {
            handover.close();
        }
        // First: closing can take as long as a process has to stop.
        let recorded = lock(&self.log).record_clean_stop(&published);
        drop(intake.take().map(Intake::close));
        recorded?;
        Ok(Step::Ended)
    }

    /// Checkpoints the log only while no batch can be appended. A batch would wait for it, and the slower the disk is, the
    /// longer: a checkpoint waits for the disk twice.
    fn append_next(&self) -> Result<Step, ProcessorError> {
        let step = pass(&self.to_append, &self.to_publish, |batch| self.append(batch))?;
        if step != Step::Worked {
            self.append.checkpoint_if_due();
        }
        Ok(step)
    }

    fn append(&self, batch: &mut Batch) -> Result<(), ProcessorError> {
        let begun = Instant::now();
        self.append.append(batch)?;
        let commands = batch.iter().map(|chunk| chunk.records.len()).sum();
        let next_offsets: Vec<_> = batch.iter().map(|chunk| (chunk.partition, chunk.next_offset)).collect();
        self.observer.appended(&next_offsets, commands, begun.elapsed());
        Ok(())
    }

    /// What the session owns comes first: the follower takes at most half of the time while own commands are in flight, and at
    /// most a tenth while they have to wait.
    fn follow(&self) -> Result<Step, ProcessorError> {
        if self.ownership.is_abandoned() {
            return Ok(Step::Ended);
        }
        let mut follow = lock(&self.follow);
        let Some(follow) = &mut *follow else { return Ok(Step::Ended) };
        let (reads, took) = (follow.is_reading(), follow.step(IDLE)?);
        let pause = if !reads {
            IDLE
        } else if self.has_backlog.load(Ordering::Relaxed) {
            took * YIELD.1
        } else if self.in_flight.load(Ordering::SeqCst) > 0 {
            took * YIELD.0
        } else {
            // While own batches come, the stage that appends them does this between two of them.
            follow.checkpoint_if_due();
            Duration::ZERO
        };
        let pause = pause.min(LONGEST_PAUSE);
        Ok(if pause.is_zero() { Step::Worked } else { Step::Wait(StageWait::For(pause)) })
    }

    /// One attempt at a transaction, or at the first producer.
    fn publish(&self) -> Result<Step, ProcessorError> {
        if self.ownership.is_abandoned() {
            return Ok(Step::Ended);
        }
        let mut publishing = lock(&self.publishing);
        let Some(Publishing { publish, batch, place }) = &mut *publishing else { return Ok(Step::Ended) };
        if batch.is_none() && publish.has_producer() {
            *batch = self.to_publish.take();
            if batch.is_none() {
                return Ok(Step::Wait(StageWait::Batch));
            }
        }
        match publish.attempt(batch.as_deref().unwrap_or_default(), *place)? {
            Attempt::Through => {
                *place = BatchPlace::default();
                if batch.take().is_some() {
                    self.in_flight.fetch_sub(1, Ordering::SeqCst);
                }
            }
            Attempt::UpTo(next) => *place = next,
            Attempt::Wait(wait) => return Ok(Step::Wait(StageWait::Publisher(wait))),
        }
        Ok(Step::Worked)
    }
}

/// Takes a batch through a stage, if there is one, and room for it after the stage.
fn pass(
    from: &Slot,
    to: &Slot,
    work: impl FnOnce(&mut Batch) -> Result<(), ProcessorError>,
) -> Result<Step, ProcessorError> {
    if from.is_closed() {
        return Ok(Step::Ended);
    }
    if to.is_full() {
        return Ok(Step::Wait(StageWait::Batch));
    }
    let Some(mut batch) = from.take() else { return Ok(Step::Wait(StageWait::Batch)) };
    work(&mut batch)?;
    to.put(batch);
    Ok(Step::Worked)
}

#[cfg(test)]
mod tests;

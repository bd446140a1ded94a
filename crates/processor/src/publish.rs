//! The publisher's stage: outputs and offsets, for what is still held when it is committed.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contract::{Decision, Notification, Record, ReplyTopics, rejection_record};
use kafka::{
    OutputTopic, PublishError, Sink,
    mark::{Marker, NextOffset},
    refusal::OutputRefusal,
    repeats::{self, Origin},
    replies::ReplyCounts,
};

use super::{
    AbortReason, Observer, ProcessorError,
    batch::Chunk,
    ownership::{Held, Publication, Snapshot},
    timing::Timing,
};

/// Attempts at one transaction whose abort succeeded, before the producer is made anew.
const ATTEMPTS: u32 = 5;
/// How soon a wait notices that the session ends.
const SLICE: Duration = Duration::from_millis(20);

/// A place in a batch: one transaction publishes from one up to another. The default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    chunk: usize,
    command: usize,
}

/// What one attempt achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The batch is out, or what is left of it is void.
    Through,
    /// It is out up to this place.
    UpTo(Place),
    /// Nothing more is out. The next attempt is from the same place, when this has passed.
    Wait(Wait),
}

/// What the next attempt waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The group's next generation: a membership of another version than this one.
    Membership {
        seen: u64,
    },
    For(Duration),
}

/// What was published and what became of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sent {
    bytes: usize,
    notifications: u64,
    rejections: u64,
}

/// What the publisher needs to know besides the batches.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// The commands topic's name, for rejections.
    pub topic: String,
    /// `ce_source` of the notifications.
    pub source: String,
    /// Of the offsets.
    pub marker: Marker,
    /// Bytes of one record that the rejections topic takes.
    pub rejection_bytes: usize,
    /// Where replies may go.
    pub replies: ReplyTopics,
    /// A transaction closes when its output has this many bytes.
    pub output_bytes: usize,
}

/// Whether there is a producer to publish with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Producer {
    /// Not yet.
    None,
    Usable,
    /// It was given up with a transaction whose end is unknown.
    Void,
}

/// A transaction of which the broker refused something for good. Until all of it is out, each command has a
/// transaction of its own, so that the one at fault is known and all before it are published.
#[derive(Debug, Default)]
struct Suspect {
    /// By partition, where the suspicion ends.
    until: BTreeMap<i32, i64>,
    /// Partition and offset of the command that was refused alone.
    alone: Option<(i32, i64, OutputRefusal)>,
}

/// Publishes batches in order.
pub(crate) struct Publish<K: Sink> {
    pub(super) sink: K,
    publication: Publication<K::Membership>,
    options: PublishOptions,
    observer: Arc<dyn Observer>,
    timing: Timing,
    producer: Producer,
    /// At the transaction under way.
    attempts: u32,
    /// Of the transaction under way: how many commands' output it has, the last of them, and the offsets that it moves.
    commands: usize,
    last: Option<(i32, i64)>,
    offsets: BTreeMap<i32, i64>,
    suspect: Option<Suspect>,
    fenced: Option<Instant>,
    /// The last one that was published, whose memory the next one uses.
    notification: Notification,
}

impl<K: Sink> std::fmt::Debug for Publish<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publish").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<K: Sink> Publish<K>
where
    K::Membership: Clone,
{
    pub fn new(
        sink: K,
        publication: Publication<K::Membership>,
        options: PublishOptions,
        observer: Arc<dyn Observer>,
        timing: Timing,
    ) -> Self {
        let producer = Producer::None;
        // Making it can take as long as the brokers are away, and that is not known before it fails.
        publication.set_waits_for(Some("making the first producer".into()));
        let notification = Notification::default();
        Self {
            sink,
            publication,
            options,
            observer,
            timing,
            producer,
            attempts: 0,
            commands: 0,
            last: None,
            offsets: BTreeMap::new(),
            suspect: None,
            fenced: None,
            notification,
        }
    }

    /// Whether there is a producer to publish a batch with.
    pub(super) fn has_producer(&self) -> bool {
        self.producer == Producer::Usable
    }

    /// Waits as an attempt asked for, or until the session is abandoned.
    pub fn wait(&self, wait: Wait) {
        match wait {
            Wait::Membership { seen } => self.publication.await_membership(seen, self.timing.generation),
            Wait::For(duration) => {
                let until = Instant::now() + duration;
                while Instant::now() < until && !self.publication.is_abandoned() {
                    std::thread::sleep(SLICE.min(duration));
                }
            }
        }
    }

    /// One transaction of the batch, or one attempt at a producer: waits for the broker only.
    pub fn attempt(&mut self, batch: &[Chunk], from: Place) -> Result<Progress, ProcessorError> {
        match self.producer {
            Producer::Usable => {}
            Producer::None | Producer::Void => return self.reset(from),
        }
        if from.chunk >= batch.len() {
            return Ok(Progress::Through);
        }
        let snapshot = self.publication.snapshot();
        let begun = Instant::now();
        match self.transact(batch, from, &snapshot) {
            Ok(next) => {
                self.attempts = 0;
                Ok(if next.chunk < batch.len() { Progress::UpTo(next) } else { Progress::Through })
            }
            Err(PublishError::StaleMembership(reason)) => {
                tracing::debug!(reason, "waiting for the group");
                self.publication.set_error(format!("the consumer group moved on: {reason}"));
                self.observer.aborted(match self.still_holds(&snapshot) {
                    true => AbortReason::Rebalanced,
                    false => AbortReason::Revoked,
                });
                self.publication.want_membership();
                Ok(Progress::Wait(Wait::Membership { seen: snapshot.membership_version }))
            }
            Err(PublishError::Aborted(reason)) if self.attempts < ATTEMPTS => {
                self.attempts += 1;
                tracing::warn!(reason, attempts = self.attempts, "transaction aborted; trying again");
                self.publication.set_error(reason);
                self.observer.aborted(AbortReason::Refused);
                Ok(Progress::Wait(Wait::For(self.timing.aborted * self.attempts)))
            }
            Err(PublishError::Fatal(reason)) => Err(ProcessorError::Publish(reason)),
            Err(PublishError::Refused(refusal)) => {
                self.suspect(&refusal)?;
                self.recover(PublishError::Refused(refusal), begun.elapsed(), from)
            }
            Err(error) => self.recover(error, begun.elapsed(), from),
        }
    }

    /// A refusal that repeats for one command alone is an error; before that, it is looked for.
    fn suspect(&mut self, refusal: &OutputRefusal) -> Result<(), ProcessorError> {
        let suspect = self.suspect.get_or_insert_default();
        suspect.until.extend(&self.offsets);
        if self.commands > 1 {
            return Ok(());
        }
        // Without output it is an offset alone that was refused.
        let moved =
            || self.offsets.iter().next().map(|(&partition, &next_offset)| (partition, next_offset - 1));
        let Some((partition, offset)) = self.last.or_else(moved) else { return Ok(()) };
        let before = suspect.alone.replace((partition, offset, refusal.clone()));
        match before {
            Some((p, o, before)) if (p, o, before.code) == (partition, offset, refusal.code) => {
                Err(ProcessorError::OutputRefused { partition, offset, refusal: refusal.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What is out, or another instance's, is under no suspicion.
    fn clear_suspicion(&mut self, snapshot: &Snapshot<K::Membership>) {
        let out = &self.offsets;
        // A batch that is void says nothing.
        let Some(suspect) = self.suspect.as_mut().filter(|_| !out.is_empty()) else { return };
        suspect.until.retain(|partition, until| {
            snapshot.held.contains_key(partition) && out.get(partition).is_none_or(|out| out < until)
        });
        if suspect.until.is_empty() {
            self.suspect = None;
        }
    }

    /// Whether all partitions of the transaction under way are held as they were.
    fn still_holds(&self, snapshot: &Snapshot<K::Membership>) -> bool {
        let now = self.publication.held();
        let epoch = |held: &BTreeMap<i32, Held>, partition: &i32| held.get(partition).map(|held| held.epoch);
        self.offsets.keys().all(|partition| epoch(&now, partition) == epoch(&snapshot.held, partition))
    }

    /// The batch's end is unknown. A new producer fences the old one and settles what it left open; then
    /// everything in flight is void, and the partitions are taken up again at the cursors.
    fn recover(
        &mut self,
        error: PublishError,
        took: Duration,
        from: Place,
    ) -> Result<Progress, ProcessorError> {
        tracing::warn!(%error, "making a new producer");
        self.observer.aborted(match error {
            PublishError::Fenced(_) => AbortReason::Fenced,
            PublishError::TimedOut(_) => AbortReason::TimedOut,
            PublishError::Refused(_) | PublishError::Aborted(_) => AbortReason::Refused,
            _ => AbortReason::Unknown,
        });
        // A transaction that took too long was ended by the broker, which fences its producer as well: this process
        // was frozen, or the broker away. That says nothing of anybody else.
        if let PublishError::Fenced(reason) = &error
            && took < self.timing.transaction
        {
            let now = Instant::now();
            if self.fenced.replace(now).is_some_and(|before| now - before < self.timing.fenced_twice) {
                return Err(ProcessorError::FencedTwice(reason.clone()));
            }
        }
        self.publication.set_error(error.to_string());
        // Making one can take as long as the brokers are away.
        self.publication.set_waits_for(Some(format!("making a new producer: {error}")));
        self.producer = Producer::Void;
        self.attempts = 0;
        self.reset(from)
    }

    fn reset(&mut self, from: Place) -> Result<Progress, ProcessorError> {
        match self.sink.reset() {
            Ok(()) => {
                let before = std::mem::replace(&mut self.producer, Producer::Usable);
                if before == Producer::None {
                    self.publication.set_waits_for(None);
                    return Ok(Progress::UpTo(from));
                }
                // First, so that nobody sees it wait for nothing in between.
                self.publication.want_restart();
                self.publication.set_waits_for(None);
                Ok(Progress::Through)
            }
            Err(PublishError::Fatal(reason)) => Err(ProcessorError::Publish(reason)),
            Err(error) => {
                repeats::warn(Origin::Program, &format!("no producer yet; trying again: {error}"));
                self.publication.set_error(error.to_string());
                self.publication.set_waits_for(Some(format!("no producer yet: {error}")));
                Ok(Progress::Wait(Wait::For(self.timing.reset)))
            }
        }
    }

    /// One transaction: from `from` up to the returned place.
    fn transact(
        &mut self,
        batch: &[Chunk],
        from: Place,
        snapshot: &Snapshot<K::Membership>,
    ) -> Result<Place, PublishError> {
        (self.commands, self.last, self.offsets) = (0, None, BTreeMap::new());
        let mut clocks: BTreeMap<i32, i64> = BTreeMap::new();
        let mut sent = Sent::default();
        let mut begun = false;
        let started = Instant::now();
        let mut at = from;
        'batch: while let Some(chunk) = batch.get(at.chunk) {
            let held = snapshot.held.get(&chunk.partition).filter(|held| held.epoch == chunk.epoch);
            if let Some(held) = held {
                let clock = clocks.entry(chunk.partition).or_insert(held.clock);
                while let Some((record, decision)) = chunk.command(at.command) {
                    let offset = record.coordinates.offset;
                    *clock = record.coordinates.advance(*clock);
                    if offset >= held.published {
                        if !begun {
                            self.sink.begin()?;
                            begun = true;
                        }
                        self.commands += 1;
                        self.last = Some((chunk.partition, offset));
                        self.offsets.insert(chunk.partition, offset + 1);
                        self.send(record, decision, &mut sent)?;
                    }
                    at.command += 1;
                    let is_alone = self.suspect.is_some() && self.commands > 0;
                    if sent.bytes >= self.options.output_bytes || is_alone {
                        break 'batch;
                    }
                }
                // Past control records behind the last record.
                if chunk.next_offset > held.published {
                    self.offsets.insert(chunk.partition, chunk.next_offset);
                }
            }
            at = Place { chunk: at.chunk + 1, command: 0 };
        }
        let mut replies = ReplyCounts::default();
        if !self.offsets.is_empty() {
            if !begun {
                self.sink.begin()?;
            }
            replies = self.commit(&clocks, snapshot)?;
        }
        for (&partition, &clock) in &clocks {
            self.publication.set_clock(partition, snapshot.held[&partition].epoch, clock);
        }
        if begun {
            self.observer.published(sent.notifications, sent.rejections, started.elapsed());
            self.observer.replied(&replies);
        }
        self.note(batch, from, at, snapshot);
        self.clear_suspicion(snapshot);
        Ok(at)
    }

    fn commit(
        &mut self,
        clocks: &BTreeMap<i32, i64>,
        snapshot: &Snapshot<K::Membership>,
    ) -> Result<ReplyCounts, PublishError> {
        // Asked once more, as late as can be: what was lost meanwhile would only be refused.
        let Some(membership) = snapshot.membership.as_ref().filter(|_| self.still_holds(snapshot)) else {
            self.sink.abort()?;
            return Err(PublishError::StaleMembership("this instance is not a member now".into()));
        };
        let marked = |(&partition, &offset): (&i32, &i64)| {
            let clock = clocks.get(&partition).copied().unwrap_or_default();
            NextOffset { partition, offset, mark: self.options.marker.mark(clock) }
        };
        let offsets: Vec<_> = self.offsets.iter().map(marked).collect();
        self.sink.commit(&offsets, membership)
    }

    fn send(&mut self, command: &Record, decision: &Decision, sent: &mut Sent) -> Result<(), PublishError> {
        match decision {
            Decision::Accepted(event) => {
                let mut notifications = event.notifications(&self.options.source, &command.headers);
                while notifications.next_into(&mut self.notification) {
                    let record = &self.notification.record;
                    sent.bytes += record.bytes();
                    sent.notifications += 1;
                    self.sink.send(OutputTopic::Notifications, record)?;
                }
            }
            Decision::Duplicate { .. } => {}
            Decision::Rejected(problems) => {
                let record =
                    rejection_record(command, &self.options.topic, problems, self.options.rejection_bytes);
                sent.bytes += record.bytes();
                sent.rejections += 1;
                self.sink.send(OutputTopic::Rejections, &record)?;
            }
        }
        if let Some(reply) = self.options.replies.reply(command, decision) {
            sent.bytes += reply.record.bytes();
            self.sink.reply(&reply)?;
        }
        Ok(())
    }

    /// What is out is out: moves the shared cursors, and tells whoever watches.
    fn note(&self, batch: &[Chunk], from: Place, to: Place, snapshot: &Snapshot<K::Membership>) {
        for chunk in &batch[from.chunk..batch.len().min(to.chunk + 1)] {
            if let Some(&next_offset) = self.offsets.get(&chunk.partition) {
                self.publication.set_published(
                    chunk.partition,
                    chunk.epoch,
                    next_offset.min(chunk.next_offset),
                );
            }
        }
        for (index, chunk) in batch.iter().enumerate().take(to.chunk + 1).skip(from.chunk) {
            let held = snapshot.held.get(&chunk.partition).is_some_and(|held| held.epoch == chunk.epoch);
            let first = if index == from.chunk { from.command } else { 0 };
            let last = if index == to.chunk { to.command } else { chunk.records.len() };
            if held {
                self.observer.decided(chunk.partition, chunk.decided(first, last));
            }
            if index < to.chunk {
                self.publication.set_done(chunk.partition, chunk.epoch, chunk.next_offset);
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The publisher's stage: publishes outputs and offsets of the partitions that are still held at the commit.

mod contents;
mod transaction;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use contract::ReplyTopics;
use kafka::{
    PublishError, Sink,
    mark::Marker,
    refusal::OutputRefusal,
    repeats::{self, Origin},
};

pub use self::contents::Contents;
use self::transaction::Transaction;
use super::{
    AbortReason, Observer, ProcessorError,
    batch::Chunk,
    ownership::{Publication, Snapshot},
    timing::Timing,
};

/// Attempts at one transaction whose abort succeeded, before the producer is replaced.
const ATTEMPTS: u32 = 5;
/// How soon a wait notices that the session ends.
const SLICE: Duration = Duration::from_millis(20);

/// A place in a batch. One transaction publishes from one place up to another. The default is the beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchPlace {
    chunk: usize,
    command: usize,
}

/// What one attempt achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The batch is published, or the rest of it is stale.
    Through,
    /// It is published up to this place.
    UpTo(BatchPlace),
    /// Nothing more is published. The next attempt starts at the same place, after this wait.
    Wait(PublisherWait),
}

/// What the next attempt waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublisherWait {
    /// The group's next generation: a membership of another version than this one.
    Membership {
        seen: u64,
    },
    For(Duration),
}

/// The publisher's options.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// The commands topic's name, for rejections.
    pub topic: String,
    /// `ce_source` of the notifications.
    pub source: String,
    /// Marks the committed offsets.
    pub marker: Marker,
    /// Bytes of the largest record that the rejections topic accepts.
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
    /// The outcome of its last transaction is unknown.
    InDoubt,
}

/// A transaction in which the broker permanently refused something. Until all of it is published, each command gets a
/// transaction of its own: this finds the command at fault, and publishes all commands before it.
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
    /// Attempts at the current transaction.
    attempts: u32,
    suspect: Option<Suspect>,
    fenced: Option<Instant>,
    /// When a transaction was last aborted that took long.
    aborted_by_others: Option<Instant>,
    /// The memory of the notification that is sent.
    text: String,
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
        // Making it can take as long as the brokers are unreachable, and only its failure shows that.
        publication.set_waits_for(Some("making the first producer".into()));
        Self {
            sink,
            publication,
            options,
            observer,
            timing,
            producer,
            attempts: 0,
            suspect: None,
            fenced: None,
            aborted_by_others: None,
            text: String::new(),
        }
    }

    /// Whether there is a producer to publish a batch with.
    pub(super) fn has_producer(&self) -> bool {
        self.producer == Producer::Usable
    }

    /// Waits as an attempt asked for, or until the session is abandoned.
    pub fn wait(&self, wait: PublisherWait) {
        match wait {
            PublisherWait::Membership { seen } => {
                self.publication.await_membership(seen, self.timing.generation);
            }
            PublisherWait::For(duration) => {
                let until = Instant::now() + duration;
                while Instant::now() < until && !self.publication.is_abandoned() {
                    std::thread::sleep(SLICE.min(duration));
                }
            }
        }
    }

    /// One transaction of the batch, or one attempt to make a producer. Waits only for the broker.
    pub fn attempt(&mut self, batch: &[Chunk], from: BatchPlace) -> Result<Attempt, ProcessorError> {
        match self.producer {
            Producer::Usable => {}
            Producer::None | Producer::InDoubt => return self.reset(from),
        }
        if from.chunk >= batch.len() {
            return Ok(Attempt::Through);
        }
        let snapshot = self.publication.snapshot();
        let begun = Instant::now();
        let mut transaction = Transaction::default();
        match self.transact(batch, from, &snapshot, &mut transaction) {
            Ok(next) => {
                self.attempts = 0;
                Ok(if next.chunk < batch.len() { Attempt::UpTo(next) } else { Attempt::Through })
            }
            Err(PublishError::StaleMembership(reason)) => {
                tracing::debug!(reason, "waiting for the group");
                self.publication.set_error(format!("the consumer group moved on: {reason}"));
                self.observer.aborted(match self.still_holds(&snapshot, &transaction) {
                    true => AbortReason::Rebalanced,
                    false => AbortReason::Revoked,
                });
                self.publication.want_membership();
                Ok(Attempt::Wait(PublisherWait::Membership { seen: snapshot.membership_version }))
            }
            Err(PublishError::Aborted(reason)) if self.attempts < ATTEMPTS => {
                self.attempts += 1;
                tracing::warn!(reason, attempts = self.attempts, "transaction aborted; trying again");
                self.publication.set_error(reason);
                self.observer.aborted(AbortReason::Refused);
                Ok(Attempt::Wait(PublisherWait::For(self.timing.aborted * self.attempts)))
            }
            Err(PublishError::Fatal(reason)) => Err(ProcessorError::Publish(reason)),
            Err(PublishError::Refused(refusal)) => {
                self.suspect(&refusal, &transaction)?;
                self.recover(PublishError::Refused(refusal), begun.elapsed(), from)
            }
            Err(error) => self.recover(error, begun.elapsed(), from),
        }
    }

    /// Narrows a refusal down to one command. It becomes an error once it repeats for one command alone.
    fn suspect(&mut self, refusal: &OutputRefusal, transaction: &Transaction) -> Result<(), ProcessorError> {
        let suspect = self.suspect.get_or_insert_default();
        suspect.until.extend(&transaction.contents.offsets);
        if transaction.commands > 1 {
            return Ok(());
        }
        // Without output, only an offset was refused.
        let moved = || {
            let (&partition, &next_offset) = transaction.contents.offsets.first_key_value()?;
            Some((partition, next_offset - 1))
        };
        let Some((partition, offset)) = transaction.last.or_else(moved) else { return Ok(()) };
        let before = suspect.alone.replace((partition, offset, refusal.clone()));
        match before {
            Some((p, o, before)) if (p, o, before.code) == (partition, offset, refusal.code) => {
                Err(ProcessorError::OutputRefused { partition, offset, refusal: refusal.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Ends the suspicion of partitions that are published that far, or that belong to another instance by now.
    fn clear_suspicion(&mut self, snapshot: &Snapshot<K::Membership>, transaction: &Transaction) {
        let out = &transaction.contents.offsets;
        // A stale batch proves nothing.
        let Some(suspect) = self.suspect.as_mut().filter(|_| !out.is_empty()) else { return };
        suspect.until.retain(|partition, until| {
            snapshot.held.contains_key(partition) && out.get(partition).is_none_or(|out| out < until)
        });
        if suspect.until.is_empty() {
            self.suspect = None;
        }
    }

    /// Whether all partitions of the transaction are still held in the same epochs.
    fn still_holds(&self, snapshot: &Snapshot<K::Membership>, transaction: &Transaction) -> bool {
        let partitions = transaction.contents.offsets.keys();
        let epochs = partitions.map(|&partition| (partition, snapshot.held[&partition].epoch));
        self.publication.held().are_held_in(epochs)
    }

    /// The transaction's outcome is unknown. A new producer fences the old one and settles its open transaction; then
    /// everything in flight is stale, and the partitions restart from the cursors.
    fn recover(
        &mut self,
        error: PublishError,
        took: Duration,
        from: BatchPlace,
    ) -> Result<Attempt, ProcessorError> {
        tracing::warn!(%error, "making a new producer");
        self.observer.aborted(match error {
            PublishError::Fenced(_) => AbortReason::Fenced,
            PublishError::TimedOut(_) => AbortReason::TimedOut,
            PublishError::Refused(_) | PublishError::Aborted(_) => AbortReason::Refused,
            _ => AbortReason::Unknown,
        });
        // Of a transaction that took long, the brokers or the next owner of its partitions have fenced the producer, to abort
        // it: this process was frozen, or the brokers unreachable. It does not mean that another process has its log.
        if let PublishError::Fenced(reason) = &error {
            if took >= self.timing.aborted_by_others {
                self.aborted_by_others = Some(Instant::now());
            } else if self.is_fenced_twice() {
                return Err(ProcessorError::FencedTwice(reason.clone()));
            }
        }
        self.publication.set_error(error.to_string());
        // Making one can take as long as the brokers are unreachable.
        self.publication.set_waits_for(Some(format!("making a new producer: {error}")));
        self.producer = Producer::InDoubt;
        self.attempts = 0;
        self.reset(from)
    }

    /// Whether it was fenced before. Both producers, or several owners of partitions that it had, are fenced at nearly one time.
    fn is_fenced_twice(&mut self) -> bool {
        let Timing { fenced_once, fenced_twice, .. } = self.timing;
        if self.aborted_by_others.is_some_and(|before| before.elapsed() < fenced_once) {
            return false;
        }
        match self.fenced.map(|before| before.elapsed()) {
            Some(since) if since < fenced_once => false,
            Some(since) if since < fenced_twice => true,
            _ => {
                self.fenced = Some(Instant::now());
                false
            }
        }
    }

    fn reset(&mut self, from: BatchPlace) -> Result<Attempt, ProcessorError> {
        match self.sink.reset() {
            Ok(()) => {
                let before = std::mem::replace(&mut self.producer, Producer::Usable);
                if before == Producer::None {
                    self.publication.set_waits_for(None);
                    return Ok(Attempt::UpTo(from));
                }
                // First, so that it is never seen without a reason to wait.
                self.publication.want_restart();
                self.publication.set_waits_for(None);
                Ok(Attempt::Through)
            }
            Err(PublishError::Fatal(reason)) => Err(ProcessorError::Publish(reason)),
            Err(error) => {
                repeats::warn(Origin::Program, &format!("no producer yet; trying again: {error}"));
                self.publication.set_error(error.to_string());
                self.publication.set_waits_for(Some(format!("no producer yet: {error}")));
                Ok(Attempt::Wait(PublisherWait::For(self.timing.reset)))
            }
        }
    }
}

#[cfg(test)]
mod tests;

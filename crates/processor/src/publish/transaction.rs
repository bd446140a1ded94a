//! One transaction: sends its output and offsets, and moves the `published` cursors after the commit.

use std::{ops::ControlFlow, time::Instant};

use contract::{Decision, Record, rejection_record};
use kafka::{OutputTopic, PublishError, Sink, mark::NextOffset, replies::ReplyCounts};

use super::{BatchPlace, Contents, Publish};
use crate::{
    batch::Chunk,
    ownership::{HeldPartition, Snapshot},
};

/// What one transaction contains. It is kept when the transaction fails, to find the command at fault.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// The number of commands in it whose output was not published before. Kafka's transaction begins with the first.
    pub commands: usize,
    /// Partition and offset of the last of them.
    pub last: Option<(i32, i64)>,
    pub contents: Contents,
    sent: Sent,
}

/// The output sent in one transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sent {
    bytes: usize,
    notifications: u64,
    rejections: u64,
}

impl<K: Sink> Publish<K>
where
    K::Membership: Clone,
{
    /// One transaction, from `from` up to the returned place.
    pub(super) fn transact(
        &mut self,
        batch: &[Chunk],
        from: BatchPlace,
        snapshot: &Snapshot<K::Membership>,
        transaction: &mut Transaction,
    ) -> Result<BatchPlace, PublishError> {
        let started = Instant::now();
        let to = self.fill(batch, from, snapshot, transaction)?;
        let replies = self.commit(snapshot, transaction)?;
        for (&partition, &clock) in &transaction.contents.clocks {
            self.publication.set_clock(partition, snapshot.held[&partition].epoch, clock);
        }
        if transaction.commands > 0 {
            let Sent { notifications, rejections, .. } = transaction.sent;
            self.observer.published(notifications, rejections, started.elapsed());
            self.observer.replied(&replies);
        }
        self.note(batch, from, to, snapshot, transaction);
        self.clear_suspicion(snapshot, transaction);
        Ok(to)
    }

    /// Adds commands until the batch ends or the transaction is full. Skips chunks that are stale.
    fn fill(
        &mut self,
        batch: &[Chunk],
        from: BatchPlace,
        snapshot: &Snapshot<K::Membership>,
        transaction: &mut Transaction,
    ) -> Result<BatchPlace, PublishError> {
        let mut at = from;
        while let Some(chunk) = batch.get(at.chunk) {
            if let Some(held) = snapshot.held.held_in(chunk.partition, chunk.epoch)
                && self.add_chunk(chunk, &mut at.command, held, transaction)?.is_break()
            {
                break;
            }
            at = BatchPlace { chunk: at.chunk + 1, command: 0 };
        }
        Ok(at)
    }

    /// Adds the commands of a chunk from `next` on, and moves `next`. Breaks when the transaction is full.
    fn add_chunk(
        &mut self,
        chunk: &Chunk,
        next: &mut usize,
        held: &HeldPartition,
        transaction: &mut Transaction,
    ) -> Result<ControlFlow<()>, PublishError> {
        while let Some((record, decision)) = chunk.command(*next) {
            if transaction.contents.pass(record.coordinates, held) {
                self.add_command(record, decision, transaction)?;
            }
            *next += 1;
            if self.is_full(transaction) {
                return Ok(ControlFlow::Break(()));
            }
        }
        transaction.contents.pass_end(chunk.partition, chunk.next_offset, held);
        Ok(ControlFlow::Continue(()))
    }

    fn add_command(
        &mut self,
        record: &Record,
        decision: &Decision,
        transaction: &mut Transaction,
    ) -> Result<(), PublishError> {
        if transaction.commands == 0 {
            self.sink.begin()?;
        }
        // Before its output is sent, so that a refusal finds it.
        transaction.commands += 1;
        transaction.last = Some((record.coordinates.partition, record.coordinates.offset));
        self.send(record, decision, &mut transaction.sent)
    }

    fn is_full(&self, transaction: &Transaction) -> bool {
        let is_alone = self.suspect.is_some() && transaction.commands > 0;
        transaction.sent.bytes >= self.options.output_bytes || is_alone
    }

    /// Commits the output and the offsets. A transaction without offsets has no output either, and never begins.
    fn commit(
        &mut self,
        snapshot: &Snapshot<K::Membership>,
        transaction: &Transaction,
    ) -> Result<ReplyCounts, PublishError> {
        let contents = &transaction.contents;
        if contents.offsets.is_empty() {
            return Ok(ReplyCounts::default());
        }
        if transaction.commands == 0 {
            self.sink.begin()?;
        }
        // Checked again, as late as possible: the broker would refuse the offsets of a partition lost in the meantime.
        let still_holds = self.still_holds(snapshot, transaction);
        let Some(membership) = snapshot.membership.as_ref().filter(|_| still_holds) else {
            self.sink.abort()?;
            return Err(PublishError::StaleMembership("this instance is not a member now".into()));
        };
        let marked = |(&partition, &offset): (&i32, &i64)| {
            let clock = contents.clock(partition, &snapshot.held[&partition]);
            NextOffset { partition, offset, mark: self.options.marker.mark(clock) }
        };
        let offsets: Vec<_> = contents.offsets.iter().map(marked).collect();
        self.sink.commit(&offsets, membership)
    }

    pub(super) fn send(
        &mut self,
        command: &Record,
        decision: &Decision,
        sent: &mut Sent,
    ) -> Result<(), PublishError> {
        match decision {
            Decision::Accepted(event) => {
                let mut notifications = event.notifications(&self.options.source, &command.headers);
                while let Some(notification) = notifications.next_in(&mut self.text) {
                    let record = notification.output();
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
                record.with_ref(|record| self.sink.send(OutputTopic::Rejections, record))?;
            }
        }
        if let Some(reply) = self.options.replies.reply(command, decision) {
            sent.bytes += reply.record.bytes();
            self.sink.reply(&reply)?;
        }
        Ok(())
    }

    /// After the commit: moves the shared cursors, and notifies the observer.
    fn note(
        &self,
        batch: &[Chunk],
        from: BatchPlace,
        to: BatchPlace,
        snapshot: &Snapshot<K::Membership>,
        transaction: &Transaction,
    ) {
        for chunk in &batch[from.chunk..batch.len().min(to.chunk + 1)] {
            if let Some(&next_offset) = transaction.contents.offsets.get(&chunk.partition) {
                self.publication.set_published(
                    chunk.partition,
                    chunk.epoch,
                    next_offset.min(chunk.next_offset),
                );
            }
        }
        for (index, chunk) in batch.iter().enumerate().take(to.chunk + 1).skip(from.chunk) {
            let first = if index == from.chunk { from.command } else { 0 };
            let last = if index == to.chunk { to.command } else { chunk.records.len() };
            if snapshot.held.held_in(chunk.partition, chunk.epoch).is_some() {
                self.observer.decided(chunk.partition, chunk.decided(first, last));
            }
            if index < to.chunk {
                self.publication.set_done(chunk.partition, chunk.epoch, chunk.next_offset);
            }
        }
    }
}

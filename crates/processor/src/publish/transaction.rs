//! One transaction: sends its output and offsets, and moves the `published` cursors after the commit.

use std::{collections::BTreeMap, time::Instant};

use contract::{Decision, Record, rejection_record};
use kafka::{OutputTopic, PublishError, Sink, mark::NextOffset, replies::ReplyCounts};

use super::{Place, Publish, Sent};
use crate::{batch::Chunk, ownership::Snapshot};

impl<K: Sink> Publish<K>
where
    K::Membership: Clone,
{
    /// One transaction, from `from` up to the returned place. This is where the rule of the two cursors decides what is
    /// published: a command's output is sent exactly if `offset >= published`.
    pub(super) fn transact(
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
                    // Output below `published` is out already: this comparison keeps it from being published twice.
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
                // Past the control records after the last record.
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
        // Checked once more, as late as possible: the broker would refuse the offsets of a partition lost in the meantime.
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

    pub(super) fn send(
        &mut self,
        command: &Record,
        decision: &Decision,
        sent: &mut Sent,
    ) -> Result<(), PublishError> {
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

    /// After the commit: moves the shared cursors, and notifies the observer.
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

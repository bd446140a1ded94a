//! Which partitions are held, in which epochs, and how far each is: what the handles share, without their lock.

use std::{collections::BTreeMap, ops::Deref};

/// One uninterrupted period in which one partition is held; never used twice in a process.
pub type Epoch = u64;

/// A partition that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HeldPartition {
    pub epoch: Epoch,
    /// The next offset whose output is not published. The publisher moves it.
    pub published: i64,
    /// The next offset that has not been through the whole pipeline. `done >= published` once started.
    pub done: i64,
    /// The partition's clock at `published`: the highest known valid record timestamp before it.
    pub clock: i64,
}

/// The partitions that are held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HeldPartitions(BTreeMap<i32, HeldPartition>);

/// To read; the methods below are the only ones that change anything.
impl Deref for HeldPartitions {
    type Target = BTreeMap<i32, HeldPartition>;

    fn deref(&self) -> &BTreeMap<i32, HeldPartition> {
        &self.0
    }
}

impl HeldPartitions {
    /// From now on the partition is held, in an epoch that nothing in flight has.
    pub fn start(&mut self, partition: i32, held: HeldPartition) {
        self.0.insert(partition, held);
    }

    /// From now on these partitions are not held; nothing in flight of them will be published.
    pub fn release(&mut self, partitions: &[i32]) {
        self.0.retain(|partition, _| !partitions.contains(partition));
    }

    /// Everything in flight is stale.
    pub fn release_all(&mut self) {
        self.0.clear();
    }

    /// The partition, if it is held in this epoch.
    #[must_use]
    pub fn held_in(&self, partition: i32, epoch: Epoch) -> Option<&HeldPartition> {
        self.get(&partition).filter(|held| held.epoch == epoch)
    }

    /// Whether all of these partitions are held in these epochs.
    pub fn are_held_in(&self, epochs: impl IntoIterator<Item = (i32, Epoch)>) -> bool {
        epochs.into_iter().all(|(partition, epoch)| self.held_in(partition, epoch).is_some())
    }

    /// What the log records as `published_seen`.
    #[must_use]
    pub fn published(&self) -> Vec<(i32, i64)> {
        self.iter().map(|(&partition, held)| (partition, held.published)).collect()
    }

    /// Outputs below `next_offset` are published.
    pub fn set_published(&mut self, partition: i32, epoch: Epoch, next_offset: i64) {
        self.advance(partition, epoch, |held| &mut held.published, next_offset);
    }

    /// Everything below `next_offset` has been through the pipeline.
    pub fn set_done(&mut self, partition: i32, epoch: Epoch, next_offset: i64) {
        self.advance(partition, epoch, |held| &mut held.done, next_offset);
    }

    /// The partition's clock after what has been through the pipeline.
    pub fn set_clock(&mut self, partition: i32, epoch: Epoch, clock: i64) {
        self.advance(partition, epoch, |held| &mut held.clock, clock);
    }

    /// Cursors only move forward, and not by work of an epoch that has ended.
    fn advance(
        &mut self,
        partition: i32,
        epoch: Epoch,
        cursor: impl FnOnce(&mut HeldPartition) -> &mut i64,
        to: i64,
    ) {
        if let Some(held) = self.0.get_mut(&partition).filter(|held| held.epoch == epoch) {
            let cursor = cursor(held);
            *cursor = to.max(*cursor);
        }
    }
}

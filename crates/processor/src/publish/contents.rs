//! Which output and which offsets one transaction has, apart from sending them.

use std::collections::BTreeMap;

use contract::Coordinates;

use crate::ownership::HeldPartition;

/// The offsets that one transaction commits, and the clocks there.
#[derive(Debug, Default)]
pub struct Contents {
    /// By partition, the offset to commit. If there is none, there is no output either, and no transaction.
    pub offsets: BTreeMap<i32, i64>,
    /// By partition, the clock after all commands that the transaction passed, those published before included.
    pub clocks: BTreeMap<i32, i64>,
}

/// Whether the output of the command at this offset is published already. This comparison keeps a notification from being
/// published twice: `published` moves only in the Kafka transaction that publishes everything below it, so output is visible
/// exactly if `offset < published`. After a crash, commands are read again from below `published` if the log needs them.
fn is_published(offset: i64, published: i64) -> bool {
    offset < published
}

impl Contents {
    /// Passes a command of a partition that is held. Returns whether the transaction has its output: unless
    /// [`is_published`].
    #[must_use]
    pub fn pass(&mut self, command: Coordinates, held: &HeldPartition) -> bool {
        let Coordinates { partition, offset, .. } = command;
        let clock = self.clocks.entry(partition).or_insert(held.clock);
        *clock = command.advance(*clock);
        let is_new = !is_published(offset, held.published);
        if is_new {
            self.offsets.insert(partition, offset + 1);
        }
        is_new
    }

    /// Passes the end of a chunk: the control records after its last record.
    pub fn pass_end(&mut self, partition: i32, next_offset: i64, held: &HeldPartition) {
        if next_offset > held.published {
            self.offsets.insert(partition, next_offset);
        }
    }

    /// The clock to commit with the partition's offset.
    #[must_use]
    pub fn clock(&self, partition: i32, held: &HeldPartition) -> i64 {
        self.clocks.get(&partition).copied().unwrap_or(held.clock)
    }
}

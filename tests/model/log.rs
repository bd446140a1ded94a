//! What the durable log of an instance has of a partition: decisions by offset, claims of keys, and the cursor.

use event_log::{Anchor, Cursor};

use super::{
    commands::{Commands, MOST, Outcome},
    rules::Settle,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Log {
    /// It has a cursor for the partition.
    pub is_known: bool,
    pub logged: u8,
    pub outcomes: [Option<Outcome>; MOST],
    /// One bit for each offset that the log will never have.
    pub gaps: u8,
    /// One bit for each offset whose claim of a key is in the log.
    pub claims: u8,
    /// Some offset has two rows.
    pub is_doubled: bool,
    pub seen: Option<u8>,
    pub clean: bool,
    /// What `clean` has to be. The program does not have this.
    pub is_stopped: bool,
}

/// The bit of an offset in a set.
fn bit(offset: u8) -> u8 {
    1 << offset
}

impl Log {
    pub fn is_gap(&self, offset: u8) -> bool {
        self.gaps & bit(offset) != 0
    }

    pub fn outcome(&self, offset: u8) -> Option<Outcome> {
        self.outcomes[usize::from(offset)]
    }

    /// The offsets that the log has decisions for, below `next`.
    fn decided(&self, next: u8) -> impl DoubleEndedIterator<Item = u8> {
        (0..next).filter(|offset| self.outcome(*offset).is_some())
    }

    /// The partition's clock after the commands below `next`.
    pub fn clock(&self, commands: &Commands, next: u8) -> u8 {
        self.decided(next).map(|offset| commands.timestamp(offset)).max().unwrap_or(0)
    }

    /// As the processor reads it.
    pub fn cursor(&self, partition: u8, commands: &Commands) -> Option<Cursor> {
        self.is_known.then(|| Cursor {
            partition: partition.into(),
            logged: self.logged.into(),
            clock: self.clock(commands, self.logged).into(),
            published_seen: self.seen.map(i64::from),
            clean: self.clean,
            anchor: self.decided(self.logged).next_back().map(|offset| Anchor {
                offset: offset.into(),
                timestamp: commands.timestamp(offset).into(),
                checksum: commands.checksum(offset),
            }),
        })
    }

    /// Decides a command by the claims in the log.
    pub fn decide(&self, commands: &Commands, settle: Settle, offset: u8) -> Outcome {
        let clock = self.clock(commands, offset).max(commands.timestamp(offset));
        let has_claim = |other: &u8| self.claims & bit(*other) != 0 && commands.share_a_key(*other, offset);
        let latest = self.decided(self.logged.max(offset + 1)).rev().find(has_claim);
        let claim = latest.map(|latest| {
            let first = match self.outcome(latest) {
                Some(Outcome::Duplicate(of)) => of,
                _ => latest,
            };
            (latest, first, self.clock(commands, latest + 1))
        });
        commands.decide(settle, offset, claim, clock)
    }

    /// Decides and appends the commands of one partition up to `next`.
    pub fn append(&mut self, commands: &Commands, settle: Settle, first: u8, next: u8) {
        for offset in first..next {
            let outcome = self.decide(commands, settle, offset);
            self.is_doubled |= self.outcomes[usize::from(offset)].replace(outcome).is_some();
            if outcome != Outcome::Rejected && commands.share_a_key(offset, offset) {
                self.claims |= bit(offset);
            }
        }
        self.is_known = true;
        self.logged = next;
        (self.clean, self.is_stopped) = (false, false);
    }

    /// Forgets the claims of these commands.
    pub fn drop_claims(&mut self, first: u8, next: u8) {
        (first..next).for_each(|offset| self.claims &= !bit(offset));
    }

    pub fn raise_seen(&mut self, published: u8) {
        self.is_known = true;
        self.seen = self.seen.max(Some(published));
    }

    /// As the log records it when the partition starts.
    pub fn start_partition(&mut self, gap: Option<u8>, published: Option<u8>) {
        if let Some(next) = gap {
            (self.logged..next).for_each(|offset| self.gaps |= bit(offset));
            self.logged = next;
        }
        self.is_known = true;
        self.seen = published.or(self.seen);
        (self.clean, self.is_stopped) = (false, false);
    }

    pub fn record_clean_stop(&mut self, published: u8, is_drained: bool) {
        (self.seen, self.clean, self.is_stopped) = (Some(published), true, is_drained);
    }
}

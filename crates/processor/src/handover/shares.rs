//! Which partitions are whose: what the session and the follower share, without their lock.

use std::collections::{BTreeSet, VecDeque};

/// A change that the follower has to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The partition is to be followed.
    Follow(i32),
    /// The session has it, or will have it.
    Leave(i32),
}

/// The partitions of a log, shared out between its session and its follower.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Shares {
    /// The topic's partitions, as far as known.
    known: BTreeSet<i32>,
    /// Those that the group gave to this instance.
    owned: BTreeSet<i32>,
    /// Those that the follower may append.
    followed: BTreeSet<i32>,
    changes: VecDeque<Change>,
    is_closed: bool,
}

impl Shares {
    /// These are the topic's partitions.
    pub fn know(&mut self, partitions: &[i32]) {
        for &partition in partitions {
            if self.known.insert(partition) && !self.owned.contains(&partition) {
                self.changes.push_back(Change::Follow(partition));
            }
        }
    }

    /// The session has these partitions from now on: the follower appends nothing more of them.
    pub fn take(&mut self, partitions: &[i32]) {
        for &partition in partitions {
            if self.owned.insert(partition) {
                self.followed.remove(&partition);
                self.changes.push_back(Change::Leave(partition));
            }
        }
    }

    /// The session has released these partitions.
    pub fn give(&mut self, partitions: &[i32]) {
        for partition in partitions {
            if self.owned.remove(partition) && self.known.contains(partition) {
                self.changes.push_back(Change::Follow(*partition));
            }
        }
    }

    /// The session ends: nothing more is followed.
    pub fn close(&mut self) {
        self.is_closed = true;
        self.followed.clear();
        self.changes.clear();
    }

    /// The follower has a new client, which has read nothing.
    pub fn restart(&mut self) {
        self.followed.clear();
        self.changes =
            self.known.difference(&self.owned).map(|&partition| Change::Follow(partition)).collect();
    }

    /// Whether there is anything to follow.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        !self.is_closed && self.known.difference(&self.owned).next().is_some()
    }

    /// The next change. A partition that it names to be followed may be appended once this returns.
    #[must_use]
    pub fn next_change(&mut self) -> Option<Change> {
        if self.is_closed {
            return None;
        }
        while let Some(change) = self.changes.pop_front() {
            match change {
                // Taken again in the meantime.
                Change::Follow(partition) if self.owned.contains(&partition) => {}
                Change::Follow(partition) => {
                    self.followed.insert(partition);
                    return Some(change);
                }
                Change::Leave(_) => return Some(change),
            }
        }
        None
    }

    /// Whether the follower may append to the partition.
    #[must_use]
    pub fn may_append(&self, partition: i32) -> bool {
        self.followed.contains(&partition)
    }
}

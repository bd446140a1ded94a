//! Which partitions the follower may append, and which belong to the session's own pipeline.
//!
//! Two threads append to one log: the session's, for the partitions that the group gave to this instance, and the
//! follower's, for all others. A partition changes hands in two steps. The polling thread takes it at once, before it reads
//! the log's cursor: from then on the follower appends nothing of it, since an append asks [`Handover::may_append`] under the
//! log's lock. The follower learns of it later, by [`Handover::next`], and drops what it has read.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use event_log::{EventLog, LogError, Stretch};

use super::{
    append::Held,
    ownership::{Epoch, Ownership},
};

/// A change that the follower has to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The partition is to be followed.
    Follow(i32),
    /// The session has it, or will have it.
    Leave(i32),
}

#[derive(Debug, Default)]
struct State {
    /// The topic's partitions, as far as known.
    known: BTreeSet<i32>,
    /// Those that the group gave to this instance.
    owned: BTreeSet<i32>,
    /// Those that the follower may append.
    followed: BTreeSet<i32>,
    changes: VecDeque<Change>,
    is_closed: bool,
    /// On purpose, the follower appends what was taken.
    #[cfg(test)]
    pub is_ignored: bool,
}

/// Shared by the session's polling thread and the follower.
#[derive(Debug, Default)]
pub(crate) struct Handover(Mutex<State>);

impl Handover {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    /// These are the topic's partitions.
    pub fn know(&self, partitions: &[i32]) {
        let State { known, owned, changes, .. } = &mut *self.lock();
        for &partition in partitions {
            if known.insert(partition) && !owned.contains(&partition) {
                changes.push_back(Change::Follow(partition));
            }
        }
    }

    /// The session has these partitions from now on: the follower appends nothing more of them.
    pub fn take(&self, partitions: &[i32]) {
        let State { owned, followed, changes, .. } = &mut *self.lock();
        for &partition in partitions {
            if owned.insert(partition) {
                followed.remove(&partition);
                changes.push_back(Change::Leave(partition));
            }
        }
    }

    /// The session has released these partitions.
    pub fn give(&self, partitions: &[i32]) {
        let State { known, owned, changes, .. } = &mut *self.lock();
        for partition in partitions {
            if owned.remove(partition) && known.contains(partition) {
                changes.push_back(Change::Follow(*partition));
            }
        }
    }

    /// The session ends: nothing more is followed.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.followed.clear();
        state.changes.clear();
    }

    /// The follower has a new client, which has read nothing.
    pub fn restart(&self) {
        let State { known, owned, followed, changes, .. } = &mut *self.lock();
        followed.clear();
        *changes = known.difference(owned).map(|&partition| Change::Follow(partition)).collect();
    }

    /// Whether there is anything to follow.
    pub fn is_needed(&self) -> bool {
        let state = self.lock();
        !state.is_closed && state.known.difference(&state.owned).next().is_some()
    }

    /// The next change. A partition that it names to be followed may be appended once this returns.
    pub fn next(&self) -> Option<Change> {
        let State { owned, followed, changes, is_closed, .. } = &mut *self.lock();
        if *is_closed {
            return None;
        }
        while let Some(change) = changes.pop_front() {
            match change {
                // Taken again in the meantime.
                Change::Follow(partition) if owned.contains(&partition) => {}
                Change::Follow(partition) => {
                    followed.insert(partition);
                    return Some(change);
                }
                Change::Leave(_) => return Some(change),
            }
        }
        None
    }

    /// Whether the follower may append to the partition. Ask under the log's lock.
    pub fn may_append(&self, partition: i32) -> bool {
        let state = self.lock();
        #[cfg(test)]
        if state.is_ignored {
            return true;
        }
        state.followed.contains(&partition)
    }

    #[cfg(test)]
    pub fn ignore(&self) {
        self.lock().is_ignored = true;
    }
}

/// What the follower holds.
#[derive(Debug)]
pub(crate) struct Followed<M> {
    pub ownership: Ownership<M>,
    pub handover: Arc<Handover>,
}

impl<M> Held for Followed<M> {
    fn is_held(&self, partition: i32, epoch: Epoch) -> bool {
        self.handover.may_append(partition) && self.ownership.is_held(partition, epoch)
    }

    fn append(&self, log: &mut EventLog, stretches: &mut [Stretch<'_>]) -> Result<(), LogError> {
        log.append_followed(stretches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(handover: &Handover) -> Vec<Change> {
        std::iter::from_fn(|| handover.next()).collect()
    }

    fn appended(handover: &Handover) -> Vec<i32> {
        (0..9).filter(|&partition| handover.may_append(partition)).collect()
    }

    #[test]
    fn what_is_not_owned_is_followed() {
        let handover = Handover::default();
        handover.take(&[1]);
        handover.know(&[0, 1, 2]);
        assert!(handover.is_needed());
        assert_eq!(appended(&handover), [0; 0]);
        assert_eq!(changes(&handover), [Change::Leave(1), Change::Follow(0), Change::Follow(2)]);
        assert_eq!(appended(&handover), [0, 2]);
        handover.know(&[0, 1, 2, 3]);
        assert_eq!(changes(&handover), [Change::Follow(3)]);
        handover.take(&[0, 2, 3]);
        assert!(!handover.is_needed());
    }

    #[test]
    fn a_partition_that_is_taken_is_appended_no_more() {
        let handover = Handover::default();
        handover.know(&[0]);
        assert_eq!(changes(&handover), [Change::Follow(0)]);
        handover.take(&[0]);
        assert_eq!(appended(&handover), [0; 0]);
        // Given back before the follower has heard that it was taken: what it has read is void all the same.
        handover.give(&[0]);
        assert_eq!(appended(&handover), [0; 0]);
        assert_eq!(handover.next(), Some(Change::Leave(0)));
        assert_eq!(appended(&handover), [0; 0]);
        assert_eq!(handover.next(), Some(Change::Follow(0)));
        assert_eq!(appended(&handover), [0]);
    }

    #[test]
    fn a_partition_that_is_taken_again_is_not_followed() {
        let handover = Handover::default();
        handover.know(&[0]);
        handover.take(&[0]);
        handover.give(&[0]);
        handover.take(&[0]);
        assert_eq!(changes(&handover), [Change::Leave(0), Change::Leave(0)]);
        assert_eq!(appended(&handover), [0; 0]);
    }

    #[test]
    fn after_a_restart_everything_is_followed_and_after_the_end_nothing() {
        let handover = Handover::default();
        handover.know(&[0, 1]);
        handover.take(&[1]);
        assert_eq!(changes(&handover), [Change::Follow(0), Change::Leave(1)]);
        handover.restart();
        assert_eq!(appended(&handover), [0; 0]);
        assert_eq!(changes(&handover), [Change::Follow(0)]);
        handover.close();
        handover.give(&[1]);
        assert_eq!((appended(&handover), changes(&handover), handover.is_needed()), (vec![], vec![], false));
    }
}

//! Which partitions the follower may append, and which belong to the session's own pipeline.
//!
//! Two threads append to one log: the session's, for the partitions that the group gave to this instance, and the
//! follower's, for all others. A partition changes hands in two steps. The polling thread takes it at once, before it reads
//! the log's cursor: from then on the follower appends nothing of it, since an append asks [`Handover::may_append`] under the
//! log's lock. The follower learns of it later, by [`Handover::next`], and drops what it has read.
//!
//! [`Shares`] decides; the checked model calls it too. [`Handover`] locks it.

mod shares;

use std::sync::{Arc, Mutex, MutexGuard};

use event_log::{EventLog, LogError, Stretch};

use super::{
    append::Held,
    ownership::{Epoch, Ownership},
};

pub use shares::{Change, Shares};

/// Shared by the session's polling thread and the follower.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    shares: Mutex<Shares>,
    /// On purpose, the follower appends what was taken.
    #[cfg(test)]
    is_ignored: std::sync::atomic::AtomicBool,
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().expect("no holder panics")
    }

    /// These are the topic's partitions.
    pub fn know(&self, partitions: &[i32]) {
        self.lock().know(partitions);
    }

    /// The session has these partitions from now on: the follower appends nothing more of them.
    pub fn take(&self, partitions: &[i32]) {
        self.lock().take(partitions);
    }

    /// The session has released these partitions.
    pub fn give(&self, partitions: &[i32]) {
        self.lock().give(partitions);
    }

    /// The session ends: nothing more is followed.
    pub fn close(&self) {
        self.lock().close();
    }

    /// The follower has a new client, which has read nothing.
    pub fn restart(&self) {
        self.lock().restart();
    }

    /// Whether there is anything to follow.
    pub fn is_needed(&self) -> bool {
        self.lock().is_needed()
    }

    /// The next change. A partition that it names to be followed may be appended once this returns.
    pub fn next(&self) -> Option<Change> {
        self.lock().next_change()
    }

    /// Whether the follower may append to the partition. Ask under the log's lock.
    pub fn may_append(&self, partition: i32) -> bool {
        #[cfg(test)]
        if self.is_ignored.load(std::sync::atomic::Ordering::SeqCst) {
            return true;
        }
        self.lock().may_append(partition)
    }

    #[cfg(test)]
    pub fn ignore(&self) {
        self.is_ignored.store(true, std::sync::atomic::Ordering::SeqCst);
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
        // Given back before the follower has heard that it was taken: what it has read is stale all the same.
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

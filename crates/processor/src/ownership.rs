//! Which partitions this instance may publish for, shared by all stages.
//!
//! Only the thread that polls changes it, in the order in which librdkafka tells of rebalances: an epoch
//! that ended is removed before the membership of the next generation is put in. So a stage that sees a
//! membership sees the ownership that goes with it, and a batch that outlived its assignment is never
//! published under the next one.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard},
    time::Duration,
};

#[cfg(test)]
use super::simulation::Mutation;

/// One uninterrupted time of holding one partition; never used twice in a process.
pub type Epoch = u64;

/// A partition that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub epoch: Epoch,
    /// The next offset whose output is not out. Moved by the publisher only.
    pub published: i64,
    /// The next offset that has not been through the whole pipeline. `done >= published` once started.
    pub done: i64,
    /// The partition's clock at `published`: the highest valid record timestamp before it, as far as it is known.
    pub clock: i64,
}

#[derive(Debug)]
struct State<M> {
    held: BTreeMap<i32, Held>,
    membership: Option<M>,
    membership_version: u64,
    next_epoch: Epoch,
    membership_wanted: bool,
    restart_wanted: bool,
    abandoned: bool,
    publisher_waits_for: Option<String>,
    publisher_error: Option<String>,
    #[cfg(test)]
    mutation: Option<Mutation>,
}

/// The shared ownership.
#[derive(Debug)]
pub struct Ownership<M> {
    state: Mutex<State<M>>,
    changed: Condvar,
}

/// What a publisher may act on: taken at one instant.
#[derive(Debug, Clone)]
pub struct Snapshot<M> {
    pub held: BTreeMap<i32, Held>,
    pub membership: Option<M>,
    pub membership_version: u64,
}

impl<M> Default for Ownership<M> {
    fn default() -> Self {
        let state = State {
            held: BTreeMap::new(),
            membership: None,
            membership_version: 0,
            next_epoch: 1,
            membership_wanted: false,
            restart_wanted: false,
            abandoned: false,
            publisher_waits_for: None,
            publisher_error: None,
            #[cfg(test)]
            mutation: None,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }
}

impl<M: Clone + PartialEq> Ownership<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().expect("no holder panics")
    }

    /// Breaks the rule from now on, for the simulation to notice.
    #[cfg(test)]
    pub(super) fn mutate(&self, mutation: Option<Mutation>) {
        self.lock().mutation = mutation;
    }

    #[cfg(test)]
    pub(super) fn is_broken_by(&self, mutation: Mutation) -> bool {
        self.lock().mutation == Some(mutation)
    }

    /// A partition is held from now on. The polling thread's.
    pub fn take_up(&self, partition: i32, published: i64, done: i64, clock: i64) -> Epoch {
        let mut state = self.lock();
        #[cfg(test)]
        let published = if state.mutation == Some(Mutation::IgnorePublished) { done } else { published };
        let epoch = state.next_epoch;
        state.next_epoch += 1;
        state.held.insert(partition, Held { epoch, published, done, clock });
        epoch
    }

    /// These partitions are not held any more; what is in flight of them is not published. The polling thread's.
    pub fn give_up(&self, partitions: &[i32]) {
        let mut state = self.lock();
        #[cfg(test)]
        if state.mutation == Some(Mutation::OutliveAssignment) {
            return;
        }
        for partition in partitions {
            state.held.remove(partition);
        }
        self.changed.notify_all();
    }

    /// The membership that goes with the ownership as it now is. The polling thread's.
    pub fn set_membership(&self, membership: Option<M>) {
        let mut state = self.lock();
        state.membership_wanted = false;
        if state.membership != membership {
            state.membership = membership;
            state.membership_version += 1;
            self.changed.notify_all();
        }
    }

    /// Whether the publisher asked for a newer membership.
    pub fn membership_wanted(&self) -> bool {
        self.lock().membership_wanted
    }

    /// Why nothing can be published now, or `None` where it can. The publisher's.
    pub fn set_publisher_waits_for(&self, reason: Option<String>) {
        self.lock().publisher_waits_for = reason;
    }

    /// Why nothing can be published now, where that is so.
    pub fn publisher_waits_for(&self) -> Option<String> {
        self.lock().publisher_waits_for.clone()
    }

    /// Why an attempt to publish failed. The publisher's.
    pub fn set_publisher_error(&self, error: String) {
        self.lock().publisher_error = Some(error);
    }

    /// The last error of the publisher, once.
    pub fn take_publisher_error(&self) -> Option<String> {
        self.lock().publisher_error.take()
    }

    pub fn is_held(&self, partition: i32, epoch: Epoch) -> bool {
        let state = self.lock();
        #[cfg(test)]
        if state.mutation == Some(Mutation::AppendAnyEpoch) {
            return true;
        }
        state.held.get(&partition).is_some_and(|held| held.epoch == epoch)
    }

    pub fn snapshot(&self) -> Snapshot<M> {
        let state = self.lock();
        Snapshot {
            held: state.held.clone(),
            membership: state.membership.clone(),
            membership_version: state.membership_version,
        }
    }

    /// The publisher asks for a newer membership.
    pub fn want_membership(&self) {
        self.lock().membership_wanted = true;
    }

    /// Waits for a membership other than version `seen`, or for any change of ownership, at most `timeout`.
    pub fn await_membership(&self, seen: u64, timeout: Duration) {
        let state = self.lock();
        let changed = self
            .changed
            .wait_timeout_while(state, timeout, |state| state.membership_version == seen && !state.abandoned);
        drop(changed.expect("no holder panics"));
    }

    /// Outputs below `next_offset` are out. The publisher's.
    pub fn set_published(&self, partition: i32, epoch: Epoch, next_offset: i64) {
        if let Some(held) = self.lock().held.get_mut(&partition).filter(|held| held.epoch == epoch) {
            held.published = held.published.max(next_offset);
        }
    }

    /// The partition's clock after what has been through the pipeline. The publisher's.
    pub fn set_clock(&self, partition: i32, epoch: Epoch, clock: i64) {
        if let Some(held) = self.lock().held.get_mut(&partition).filter(|held| held.epoch == epoch) {
            held.clock = held.clock.max(clock);
        }
    }

    /// Everything below `next_offset` has been through the pipeline. The publisher's.
    pub fn set_done(&self, partition: i32, epoch: Epoch, next_offset: i64) {
        if let Some(held) = self.lock().held.get_mut(&partition).filter(|held| held.epoch == epoch) {
            held.done = held.done.max(next_offset);
        }
    }

    /// What the log notes as `published_seen`.
    pub fn published(&self) -> Vec<(i32, i64)> {
        self.lock().held.iter().map(|(&partition, held)| (partition, held.published)).collect()
    }

    /// Everything in flight is void; the polling thread is to take up all partitions anew, at the cursors.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.held.clear();
        state.restart_wanted = true;
        self.changed.notify_all();
    }

    pub fn is_restart_wanted(&self) -> bool {
        self.lock().restart_wanted
    }

    pub fn take_restart(&self) -> bool {
        std::mem::take(&mut self.lock().restart_wanted)
    }

    /// The session ends without waiting for what is in flight.
    pub fn abandon(&self) {
        self.lock().abandoned = true;
        self.changed.notify_all();
    }

    pub fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }
}

//! Which partitions this instance may publish for.
//!
//! Three handles to one state, so that the types say who may do what: the polling thread has the only [`Owner`], which
//! starts and releases partitions; the publisher has the [`Publication`], which moves their cursors and signals the polling
//! thread; every stage can read the [`Ownership`].
//!
//! The owner acts in the order in which librdkafka reports rebalances: it ends an epoch before it sets the membership of
//! the next generation. So a stage that sees a membership sees the ownership that goes with it, and a batch that outlived
//! its assignment is never published under the next one.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

/// One uninterrupted period in which one partition is held; never used twice in a process.
pub(crate) type Epoch = u64;

/// A partition that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldPartition {
    pub epoch: Epoch,
    /// The next offset whose output is not published. The publisher moves it.
    pub published: i64,
    /// The next offset that has not been through the whole pipeline. `done >= published` once started.
    pub done: i64,
    /// The partition's clock at `published`: the highest known valid record timestamp before it.
    pub clock: i64,
}

#[derive(Debug)]
struct State<M> {
    held: BTreeMap<i32, HeldPartition>,
    membership: Option<M>,
    membership_version: u64,
    next_epoch: Epoch,
    is_abandoned: bool,
    wants_membership: bool,
    wants_restart: bool,
    publisher_waits_for: Option<String>,
    publisher_error: Option<String>,
}

#[derive(Debug)]
struct Shared<M> {
    state: Mutex<State<M>>,
    changed: Condvar,
}

/// The part that every stage may read.
#[derive(Debug)]
pub(crate) struct Ownership<M>(Arc<Shared<M>>);

/// The polling thread's handle, the only one that starts and releases partitions.
#[derive(Debug)]
pub(crate) struct Owner<M>(Ownership<M>);

/// The publisher's handle: sets how far it is, and asks the polling thread for what it needs.
#[derive(Debug)]
pub(crate) struct Publication<M>(Ownership<M>);

/// The state that the publisher acts on, taken at one instant.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<M> {
    pub held: BTreeMap<i32, HeldPartition>,
    pub membership: Option<M>,
    pub membership_version: u64,
}

/// The handles of a new session, which holds nothing yet.
pub(crate) fn handles<M>() -> (Owner<M>, Publication<M>) {
    let state = State {
        held: BTreeMap::new(),
        membership: None,
        membership_version: 0,
        next_epoch: 1,
        is_abandoned: false,
        wants_membership: false,
        wants_restart: false,
        publisher_waits_for: None,
        publisher_error: None,
    };
    let ownership = Ownership(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }));
    (Owner(ownership.clone()), Publication(ownership))
}

impl<M> Clone for Ownership<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Deref for Owner<M> {
    type Target = Ownership<M>;

    fn deref(&self) -> &Ownership<M> {
        &self.0
    }
}

impl<M> Deref for Publication<M> {
    type Target = Ownership<M>;

    fn deref(&self) -> &Ownership<M> {
        &self.0
    }
}

impl<M> Snapshot<M> {
    /// The partition, if it is held in this epoch.
    pub fn held_in(&self, partition: i32, epoch: Epoch) -> Option<&HeldPartition> {
        self.held.get(&partition).filter(|held| held.epoch == epoch)
    }
}

impl<M> Ownership<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.0.state.lock().expect("no holder panics")
    }

    pub fn is_held(&self, partition: i32, epoch: Epoch) -> bool {
        self.lock().held.get(&partition).is_some_and(|held| held.epoch == epoch)
    }

    pub fn held(&self) -> BTreeMap<i32, HeldPartition> {
        self.lock().held.clone()
    }

    /// What the log records as `published_seen`.
    pub fn published(&self) -> Vec<(i32, i64)> {
        self.lock().held.iter().map(|(&partition, held)| (partition, held.published)).collect()
    }

    /// The session ends without waiting for the work in flight.
    pub fn abandon(&self) {
        self.lock().is_abandoned = true;
        self.0.changed.notify_all();
    }

    pub fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned
    }
}

impl<M: PartialEq> Owner<M> {
    /// From now on the partition is held.
    pub fn start_partition(&self, partition: i32, published: i64, done: i64, clock: i64) -> Epoch {
        let mut state = self.lock();
        let epoch = state.next_epoch;
        state.next_epoch += 1;
        state.held.insert(partition, HeldPartition { epoch, published, done, clock });
        epoch
    }

    /// From now on these partitions are not held; nothing in flight of them will be published.
    pub fn release(&self, partitions: &[i32]) {
        self.lock().held.retain(|partition, _| !partitions.contains(partition));
        self.0.0.changed.notify_all();
    }

    /// The membership that belongs to the ownership as it is now.
    pub fn set_membership(&self, membership: Option<M>) {
        let mut state = self.lock();
        state.wants_membership = false;
        if state.membership != membership {
            state.membership = membership;
            state.membership_version += 1;
            self.0.0.changed.notify_all();
        }
    }

    /// Whether the publisher asked for a newer membership.
    pub fn is_membership_wanted(&self) -> bool {
        self.lock().wants_membership
    }

    pub fn is_restart_wanted(&self) -> bool {
        self.lock().wants_restart
    }

    pub fn take_restart(&self) -> bool {
        std::mem::take(&mut self.lock().wants_restart)
    }

    /// Why nothing can be published now; `None` if it can.
    pub fn publisher_waits_for(&self) -> Option<String> {
        self.lock().publisher_waits_for.clone()
    }

    /// The last error of the publisher, once.
    pub fn take_publisher_error(&self) -> Option<String> {
        self.lock().publisher_error.take()
    }
}

impl<M: Clone> Publication<M> {
    pub fn snapshot(&self) -> Snapshot<M> {
        let state = self.lock();
        Snapshot {
            held: state.held.clone(),
            membership: state.membership.clone(),
            membership_version: state.membership_version,
        }
    }

    /// Outputs below `next_offset` are published.
    pub fn set_published(&self, partition: i32, epoch: Epoch, next_offset: i64) {
        self.advance(partition, epoch, |held| &mut held.published, next_offset);
    }

    /// Everything below `next_offset` has been through the pipeline.
    pub fn set_done(&self, partition: i32, epoch: Epoch, next_offset: i64) {
        self.advance(partition, epoch, |held| &mut held.done, next_offset);
    }

    /// The partition's clock after what has been through the pipeline.
    pub fn set_clock(&self, partition: i32, epoch: Epoch, clock: i64) {
        self.advance(partition, epoch, |held| &mut held.clock, clock);
    }

    fn advance(
        &self,
        partition: i32,
        epoch: Epoch,
        cursor: impl FnOnce(&mut HeldPartition) -> &mut i64,
        to: i64,
    ) {
        if let Some(held) = self.lock().held.get_mut(&partition).filter(|held| held.epoch == epoch) {
            let cursor = cursor(held);
            *cursor = to.max(*cursor);
        }
    }

    /// Asks for a newer membership.
    pub fn want_membership(&self) {
        self.lock().wants_membership = true;
    }

    /// Waits for a membership other than version `seen`, or for the end of the session, at most `timeout`.
    pub fn await_membership(&self, seen: u64, timeout: Duration) {
        let is_old = |state: &mut State<M>| state.membership_version == seen && !state.is_abandoned;
        drop(self.0.0.changed.wait_timeout_while(self.lock(), timeout, is_old).expect("no holder panics"));
    }

    /// Everything in flight is stale; all partitions must start again from their cursors.
    pub fn want_restart(&self) {
        let mut state = self.lock();
        state.held.clear();
        state.wants_restart = true;
        self.0.0.changed.notify_all();
    }

    /// Why nothing can be published now; `None` if it can.
    pub fn set_waits_for(&self, reason: Option<String>) {
        self.lock().publisher_waits_for = reason;
    }

    /// Why an attempt to publish failed.
    pub fn set_error(&self, error: String) {
        self.lock().publisher_error = Some(error);
    }
}

//! Which partitions this instance may publish for.
//!
//! Three handles to one state, so that the types say who may do what: the polling thread has the only [`Owner`], which
//! starts and releases partitions; the publisher has the [`Publication`], which moves their cursors and signals the polling
//! thread; every stage can read the [`Ownership`].
//!
//! The owner acts in the order in which librdkafka reports rebalances: it ends an epoch before it sets the membership of
//! the next generation. So a stage that sees a membership sees the ownership that goes with it, and a batch that outlived
//! its assignment is never published under the next one.
//!
//! What is held, and how far it is, is decided by [`HeldPartitions`], which the checked model calls too. The handles lock it.

mod held;

use std::{
    ops::Deref,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

pub use held::{Epoch, HeldPartition, HeldPartitions};

#[derive(Debug)]
struct State<M> {
    held: HeldPartitions,
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
    pub held: HeldPartitions,
    pub membership: Option<M>,
    pub membership_version: u64,
}

/// The handles of a new session, which holds nothing yet.
pub(crate) fn handles<M>() -> (Owner<M>, Publication<M>) {
    let state = State {
        held: HeldPartitions::default(),
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

impl<M> Ownership<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.0.state.lock().expect("no holder panics")
    }

    pub fn is_held(&self, partition: i32, epoch: Epoch) -> bool {
        self.lock().held.held_in(partition, epoch).is_some()
    }

    pub fn held(&self) -> HeldPartitions {
        self.lock().held.clone()
    }

    /// What the log records as `published_seen`.
    pub fn published(&self) -> Vec<(i32, i64)> {
        self.lock().held.published()
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
        state.held.start(partition, HeldPartition { epoch, published, done, clock });
        epoch
    }

    /// From now on these partitions are not held; nothing in flight of them will be published.
    pub fn release(&self, partitions: &[i32]) {
        self.lock().held.release(partitions);
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
        self.lock().held.set_published(partition, epoch, next_offset);
    }

    /// Everything below `next_offset` has been through the pipeline.
    pub fn set_done(&self, partition: i32, epoch: Epoch, next_offset: i64) {
        self.lock().held.set_done(partition, epoch, next_offset);
    }

    /// The partition's clock after what has been through the pipeline.
    pub fn set_clock(&self, partition: i32, epoch: Epoch, clock: i64) {
        self.lock().held.set_clock(partition, epoch, clock);
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
        state.held.release_all();
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

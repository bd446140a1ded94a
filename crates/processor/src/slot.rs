//! Room for one batch between two stages.

use std::sync::{Condvar, Mutex, MutexGuard};

use super::batch::Batch;

#[derive(Debug, Default)]
struct State {
    batch: Option<Batch>,
    closed: bool,
}

/// One stage fills it, the next one empties it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    pub fn is_full(&self) -> bool {
        self.lock().batch.is_some()
    }

    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Call it only if the slot is not full.
    pub fn put(&self, batch: Batch) {
        self.lock().batch = Some(batch);
        self.changed.notify_all();
    }

    pub fn take(&self) -> Option<Batch> {
        let taken = self.lock().batch.take();
        self.changed.notify_all();
        taken
    }

    /// From now on, no stage waits for it.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until there is a batch.
    pub fn await_full(&self) {
        self.wait_while(|state| state.batch.is_none());
    }

    /// Waits until there is a batch here and none in the next slot.
    pub fn await_full_and_room_in(&self, next: &Slot) {
        self.await_full();
        next.wait_while(|state| state.batch.is_some());
    }

    fn wait_while(&self, is_to_wait: impl Fn(&State) -> bool) {
        let waited = self.changed.wait_while(self.lock(), |state| !state.closed && is_to_wait(state));
        drop(waited.expect("no holder panics"));
    }
}

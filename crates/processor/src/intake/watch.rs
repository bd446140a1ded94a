//! Checks at intervals whether the partitions make progress, whatever the other stages do.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use kafka::Source;

use super::{Intake, Role};
use crate::progress::Progress;

/// The progress of the partitions, and when to check it next.
#[derive(Debug)]
pub(super) struct Watch {
    progress: Arc<Mutex<Progress>>,
    watched_at: Option<Instant>,
    ask_ends_at: Instant,
    /// Since when this is a member of the group.
    member_since: Option<Instant>,
}

impl Watch {
    pub fn new(progress: Arc<Mutex<Progress>>) -> Self {
        Self { progress, watched_at: None, ask_ends_at: Instant::now(), member_since: None }
    }

    pub fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no holder panics")
    }
}

impl<S: Source> Intake<S> {
    /// Whether a partition is being read.
    pub fn is_running(&self, number: i32) -> bool {
        self.assignments.running(number).is_some()
    }

    /// Records the errors reported since the last call.
    pub(super) fn hear(&mut self) {
        let mut progress = self.watch.progress();
        for error in self.source.take_error().into_iter().chain(self.owner.take_publisher_error()) {
            progress.hear(Instant::now(), error);
        }
    }

    /// Queries the topic's ends from the brokers, and compares the published offsets with them.
    pub(super) fn watch_progress(&mut self) {
        let now = Instant::now();
        if now >= self.watch.ask_ends_at
            && let Some(mut ends) = self.source.ends(&self.assignments.all_running())
        {
            if !self.is_member() {
                // It publishes nothing.
                ends.missing = None;
            }
            self.hand_over(ends.partitions.as_deref());
            self.watch.progress().ended(now, ends);
            self.watch.ask_ends_at = now + self.timing.ends;
        }
        if self.watch.watched_at.is_some_and(|watched_at| now - watched_at < self.timing.positions) {
            return;
        }
        self.watch.watched_at = Some(now);
        self.hear();
        let mut progress = self.watch.progress();
        for (&partition, held) in self.owner.held().iter() {
            progress.moved(now, partition, held.published, held.done);
            self.observer.position(partition, held.published, progress.known_end(partition));
        }
        progress.warn(now, self.timing.stall, self.timing.say, |number| self.is_running(number));
    }

    /// Partitions that the group gave to others are followed. Until it has said which those are, none is: with the first
    /// one, the log no longer relies on its clean stop.
    fn hand_over(&mut self, partitions: Option<&[i32]>) {
        let (Role::Member(Some(handover)), Some(partitions)) = (&self.role, partitions) else { return };
        let since = &mut self.watch.member_since;
        let is_member = self.source.membership().is_some();
        *since = is_member.then(|| since.unwrap_or_else(Instant::now));
        let got_nothing = since.is_some_and(|since| since.elapsed() >= self.timing.unassigned);
        if self.assignments.were_given || self.exhausted && got_nothing {
            handover.know(partitions);
        }
    }

    /// Forgets partitions that this session or an earlier one held, and that now belong to another instance.
    pub(super) fn forget_others(&mut self) {
        let mut progress = self.watch.progress();
        let others: Vec<i32> =
            progress.partitions().filter(|number| !self.assignments.contains(*number)).collect();
        for partition in others {
            progress.forget(partition);
            self.observer.released(partition);
        }
    }
}

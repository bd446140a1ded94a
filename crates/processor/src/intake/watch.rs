//! Whether the partitions get on, looked at now and then, whatever the stages ahead do.

use std::time::Instant;

use kafka::Source;

use super::Intake;

impl<S: Source> Intake<S> {
    /// Whether a partition is being read.
    pub fn is_running(&self, number: i32) -> bool {
        self.partitions.get(&number).is_some_and(|partition| partition.running.is_some())
    }

    /// Takes down what was heard of errors.
    pub(super) fn hear(&mut self) {
        let mut progress = self.progress.lock().expect("no holder panics");
        for error in self.source.take_error().into_iter().chain(self.owner.take_publisher_error()) {
            progress.hear(Instant::now(), error);
        }
    }

    /// Asks the brokers where the topic ends, and holds what is published against it.
    pub(super) fn watch(&mut self) {
        let now = Instant::now();
        if now >= self.ask_ends_at {
            let running: Vec<i32> =
                self.partitions.keys().copied().filter(|&number| self.is_running(number)).collect();
            if let Some(ends) = self.source.ends(&running) {
                self.progress.lock().expect("no holder panics").ended(now, ends);
                self.ask_ends_at = now + self.timing.ends;
            }
        }
        if self.watched_at.is_some_and(|watched_at| now - watched_at < self.timing.positions) {
            return;
        }
        self.watched_at = Some(now);
        self.hear();
        let mut progress = self.progress.lock().expect("no holder panics");
        for (partition, held) in self.owner.held() {
            progress.moved(now, partition, held.published, held.done);
            self.observer.position(partition, held.published, progress.known_end(partition));
        }
        progress.warn(now, self.timing.stall, self.timing.say, |number| self.is_running(number));
    }

    /// What was held before, by this session or the one before it, and is another instance's by now.
    pub(super) fn forget_others(&mut self) {
        let mut progress = self.progress.lock().expect("no holder panics");
        let others: Vec<i32> =
            progress.partitions().filter(|number| !self.partitions.contains_key(number)).collect();
        for partition in others {
            progress.forget(partition);
            self.observer.released(partition);
        }
    }
}

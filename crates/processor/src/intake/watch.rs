//! Whether the partitions get on, looked at now and then, whatever the stages ahead do.

use std::time::Instant;

use kafka::Source;

use super::Intake;
use crate::ProcessorError;

impl<S: Source> Intake<S> {
    /// Whether a partition is being read.
    pub fn is_running(&self, number: i32) -> bool {
        self.partitions.get(&number).is_some_and(|partition| partition.running.is_some())
    }

    /// Takes down what was heard of errors.
    pub(super) fn hear(&mut self) {
        let mut progress = self.progress.lock().expect("no holder panics");
        for error in self.source.take_error().into_iter().chain(self.ownership.take_publisher_error()) {
            progress.hear(Instant::now(), error);
        }
    }

    /// Asks the brokers where the topic ends, and holds what is published against it.
    pub(super) fn watch(&mut self) -> Result<(), ProcessorError> {
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
            return Ok(());
        }
        self.watched_at = Some(now);
        self.hear();
        let held = self.held_now()?;
        let mut progress = self.progress.lock().expect("no holder panics");
        for (partition, published, done) in held {
            progress.moved(now, partition, published, done);
            self.observer.position(partition, published, progress.known_end(partition));
        }
        progress.warn(now, self.timing.stall, self.timing.say, |number| self.is_running(number));
        Ok(())
    }

    /// Of each held partition, up to where it is published and has been through the pipeline.
    fn held_now(&mut self) -> Result<Vec<(i32, i64, i64)>, ProcessorError> {
        #[cfg(test)]
        if self.ownership.is_broken_by(super::Mutation::ReadForPublished) {
            let positions = self.source.positions().map_err(super::source_error)?;
            return Ok(positions.into_iter().map(|(partition, read)| (partition, read, read)).collect());
        }
        let held = self.ownership.snapshot().held;
        Ok(held.into_iter().map(|(partition, held)| (partition, held.published, held.done)).collect())
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

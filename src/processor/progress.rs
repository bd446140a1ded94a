//! Whether each partition gets on: what is published of it, against where the topic ends.
//!
//! It outlives sessions, so that a failure which ends one after another does not look like so many beginnings. It knows
//! no clock: each call says what time it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::End;
use crate::kafka::Ends;

/// What is known of the partitions that this instance holds, or held before an interruption.
#[derive(Debug, Default)]
pub struct Progress {
    partitions: BTreeMap<i32, Watched>,
    /// Of the topics that output goes to, those that do not exist.
    missing: Vec<String>,
    missing_said_at: Option<Instant>,
    /// The last error that anybody told of.
    heard: Option<(Instant, String)>,
}

#[derive(Debug, Default)]
struct Watched {
    published: i64,
    /// What has been through the pipeline, which below `published` fills the log only.
    done: i64,
    end: Option<End>,
    /// Since when nothing moved while there was something to do.
    still_since: Option<Instant>,
    said_at: Option<Instant>,
    /// Why work was interrupted, until something is published since, or there is nothing to publish.
    interrupted: Option<String>,
}

impl Watched {
    /// The first offset that did not get through.
    fn offset(&self) -> i64 {
        self.published.min(self.done)
    }

    fn is_behind(&self) -> bool {
        self.end.is_some_and(|end| self.offset() < end.offset)
    }

    /// How long it has stalled, where that is `timeout` at least.
    fn stalled(&self, now: Instant, timeout: Duration) -> Option<Duration> {
        self.still_since.map(|since| now - since).filter(|still| *still >= timeout)
    }
}

impl Progress {
    /// Where a held partition is.
    pub fn moved(&mut self, now: Instant, partition: i32, published: i64, done: i64) {
        let watched = self.partitions.entry(partition).or_default();
        let has_moved = (watched.published, watched.done) != (published, done);
        if published > watched.published {
            watched.interrupted = None;
        }
        (watched.published, watched.done) = (published, done);
        self.look(now, partition, has_moved);
    }

    /// Where the topic ends, as the brokers said.
    pub fn ended(&mut self, now: Instant, ends: Ends) {
        if let Some(error) = ends.error {
            self.hear(now, format!("where the topic ends: {error}"));
        }
        for (partition, offset) in ends.offsets {
            // Else it was given away since the question.
            if self.partitions.contains_key(&partition) {
                self.end(now, partition, offset);
            }
        }
        if let Some(missing) = ends.missing {
            if missing.is_empty() {
                self.missing_said_at = None;
            }
            self.missing = missing;
        }
    }

    /// The same of one partition.
    pub fn end(&mut self, now: Instant, partition: i32, offset: i64) {
        self.partitions.entry(partition).or_default().end = Some(End { offset, at: now });
        self.look(now, partition, false);
    }

    fn look(&mut self, now: Instant, partition: i32, has_moved: bool) {
        let Some(watched) = self.partitions.get_mut(&partition) else { return };
        if has_moved || !watched.is_behind() {
            if watched.said_at.take().is_some() {
                tracing::info!(
                    kafka.partition = partition,
                    kafka.offset = watched.offset(),
                    "the partition moves again"
                );
            }
            watched.still_since = None;
        }
        if watched.is_behind() {
            watched.still_since.get_or_insert(now);
        } else if watched.end.is_some() {
            watched.interrupted = None;
        }
    }

    /// An error that may be why nothing moves.
    pub fn hear(&mut self, now: Instant, error: String) {
        self.heard = Some((now, error));
    }

    /// All work went back to the cursors, because of the last error.
    pub fn interrupted(&mut self) {
        let reason = self.heard.as_ref().map_or("an unknown error", |(_, error)| error);
        for watched in self.partitions.values_mut() {
            watched.interrupted = Some(reason.to_owned());
        }
    }

    /// Another instance has it.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Those that are known, held or not.
    pub fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.partitions.keys().copied()
    }

    /// Where a partition ends, and when the brokers said so.
    pub fn known_end(&self, partition: i32) -> Option<End> {
        self.partitions.get(&partition)?.end
    }

    /// Why nothing gets on, where that is so: a partition of these that stalls, an output topic that is gone, or work that
    /// was interrupted. `other` is a reason from elsewhere, which stands unless a partition stalls.
    pub fn reason(
        &self,
        now: Instant,
        timeout: Duration,
        held: impl Fn(i32) -> bool,
        other: Option<String>,
    ) -> Option<String> {
        let held = || self.partitions.iter().filter(|(partition, _)| held(**partition));
        let mut stalled = held()
            .filter_map(|(partition, watched)| Some((*partition, watched, watched.stalled(now, timeout)?)));
        if let Some((partition, watched, still)) = stalled.next() {
            let (offset, seconds, end) =
                (watched.offset(), still.as_secs(), watched.end.map_or(0, |end| end.offset));
            let others = match stalled.count() {
                0 => String::new(),
                count => format!(" ({count} more stalled)"),
            };
            let error = other.or_else(|| self.error_of(watched));
            let error = error.map_or(String::new(), |error| format!("; last error: {error}"));
            return Some(format!(
                "partition {partition} is stalled at offset {offset} for {seconds} s, and the topic ends at \
                 {end}{others}{error}"
            ));
        }
        other.or_else(|| self.missing_topics()).or_else(|| {
            let reason = held().find_map(|(_, watched)| watched.interrupted.as_deref())?;
            Some(format!("nothing was published since an error: {reason}"))
        })
    }

    fn missing_topics(&self) -> Option<String> {
        let topic = self.missing.first()?;
        Some(format!("the topic '{topic}' does not exist, so nothing can be published. Create it again"))
    }

    fn error_of(&self, watched: &Watched) -> Option<String> {
        let heard = self.heard.as_ref();
        let since = |(at, _): &&(Instant, String)| watched.still_since.is_some_and(|since| *at >= since);
        watched.interrupted.clone().or_else(|| heard.filter(since).map(|(_, error)| error.clone()))
    }

    /// Warns of what `reason` says, once and then again and again.
    pub fn warn(&mut self, now: Instant, timeout: Duration, again: Duration, held: impl Fn(i32) -> bool) {
        let is_due = |said_at: Option<Instant>| said_at.is_none_or(|said_at| now - said_at >= again);
        let due: Vec<i32> = self
            .partitions
            .iter()
            .filter(|(partition, watched)| {
                held(**partition) && watched.stalled(now, timeout).is_some() && is_due(watched.said_at)
            })
            .map(|(&partition, _)| partition)
            .collect();
        for partition in due {
            let watched = &self.partitions[&partition];
            let error = self.error_of(watched);
            tracing::warn!(
                kafka.partition = partition,
                kafka.offset = watched.offset(),
                end = watched.end.map(|end| end.offset),
                seconds = watched.stalled(now, timeout).map(|still| still.as_secs()),
                error,
                "the partition is stalled: there are records, and nothing is published"
            );
            self.partitions.entry(partition).and_modify(|watched| watched.said_at = Some(now));
        }
        if let Some(reason) = self.missing_topics().filter(|_| is_due(self.missing_said_at)) {
            tracing::warn!("{reason}");
            self.missing_said_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;

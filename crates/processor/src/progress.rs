//! Whether each partition gets on: what is published of it, against where the topic ends.
//!
//! It outlives sessions, so that a failure which ends one after another does not look like so many beginnings. It knows
//! no clock: each call says what time it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kafka::{EndOffsets, Ends};

use super::End;

/// The ends are asked for every few seconds, and each leader that does not answer takes two of them: an age below this says
/// nothing yet.
const MAY_TAKE: Duration = Duration::from_secs(30);

/// What holds back records that are there and cannot be read.
const OPEN_TRANSACTION: &str = "all before it is done, and a producer's open transaction holds back the rest. \
                                'kafka-transactions.sh find-hanging --topic TOPIC' finds it";

/// What is known of the partitions that this instance holds, or held before an interruption.
#[derive(Debug, Default)]
pub struct Progress {
    partitions: BTreeMap<i32, Watched>,
    /// Of the topics that output goes to, those that do not exist.
    missing: Vec<String>,
    missing_said_at: Option<Instant>,
    unknown_said_at: Option<Instant>,
    /// The last error that was reported.
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
        self.end.is_some_and(|end| self.offset() < end.offsets.high_watermark)
    }

    /// Whether all that can be read is through, so that what there is belongs to, or comes after, an open transaction.
    fn is_held_back(&self) -> bool {
        self.is_behind() && self.end.is_some_and(|end| self.offset() >= end.offsets.stable)
    }

    /// How long the brokers have not said where it ends, where that is `timeout` at least.
    fn end_unknown(&self, now: Instant, timeout: Duration) -> Option<Duration> {
        let age = now - self.end?.at;
        (age >= timeout.max(MAY_TAKE)).then_some(age)
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
        for (partition, offsets) in ends.offsets {
            // Else it was given away since the question.
            if self.partitions.contains_key(&partition) {
                self.end(now, partition, offsets);
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
    pub fn end(&mut self, now: Instant, partition: i32, offsets: EndOffsets) {
        self.partitions.entry(partition).or_default().end = Some(End { offsets, at: now });
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

    /// Why nothing gets on, or why that is not known: a partition of these that stalls, an output topic that is gone, work
    /// that was interrupted, or brokers that do not say where a partition ends. `other` is a reason from elsewhere, which
    /// stands unless a partition stalls.
    pub fn reason(
        &self,
        now: Instant,
        timeout: Duration,
        held_by: impl Fn(i32) -> bool,
        other: Option<String>,
    ) -> Option<String> {
        let held = || self.partitions.iter().filter(|(partition, _)| held_by(**partition));
        let mut stalled = held()
            .filter_map(|(partition, watched)| Some((*partition, watched, watched.stalled(now, timeout)?)));
        if let Some((partition, watched, still)) = stalled.next() {
            let end = watched.end.map_or(0, |end| end.offsets.high_watermark);
            let (offset, seconds) = (watched.offset(), still.as_secs());
            let others = match stalled.count() {
                0 => String::new(),
                count => format!(" ({count} more stalled)"),
            };
            let error = other.or_else(|| self.error_of(watched));
            let error = if watched.is_held_back() {
                format!(": {OPEN_TRANSACTION}")
            } else {
                error.map_or(String::new(), |error| format!("; last error: {error}"))
            };
            return Some(format!(
                "partition {partition} is stalled at offset {offset} for {seconds} s, and the topic ends at \
                 {end}{others}{error}"
            ));
        }
        let interrupted = || {
            let reason = held().find_map(|(_, watched)| watched.interrupted.as_deref())?;
            Some(format!("nothing was published since an error: {reason}"))
        };
        let unknown = || self.unknown_end(now, timeout, &held_by);
        other.or_else(|| self.missing_topics()).or_else(interrupted).or_else(unknown)
    }

    fn unknown_end(&self, now: Instant, timeout: Duration, held: impl Fn(i32) -> bool) -> Option<String> {
        let held = self.partitions.iter().filter(|(partition, _)| held(**partition));
        let mut unknown =
            held.filter_map(|(number, watched)| Some((number, watched.end_unknown(now, timeout)?)));
        let (partition, age) = unknown.next()?;
        let others = match unknown.count() {
            0 => String::new(),
            count => format!(" ({count} more unknown)"),
        };
        let error = self.heard.as_ref().map_or(String::new(), |(_, error)| format!("; last error: {error}"));
        Some(format!(
            "the end of partition {partition} has been unknown for {} s, so its lag is unknown too{others}{error}",
            age.as_secs()
        ))
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
                end = watched.end.map(|end| end.offsets.high_watermark),
                seconds = watched.stalled(now, timeout).map(|still| still.as_secs()),
                error,
                reason = watched.is_held_back().then_some(OPEN_TRANSACTION),
                "the partition is stalled: there are records, and nothing is published"
            );
            self.partitions.entry(partition).and_modify(|watched| watched.said_at = Some(now));
        }
        if let Some(reason) = self.missing_topics().filter(|_| is_due(self.missing_said_at)) {
            tracing::warn!("{reason}");
            self.missing_said_at = Some(now);
        }
        let unknown = self.unknown_end(now, timeout, held);
        if unknown.is_none() {
            self.unknown_said_at = None;
        } else if let Some(reason) = unknown.filter(|_| is_due(self.unknown_said_at)) {
            tracing::warn!("{reason}");
            self.unknown_said_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;

//! Whether each partition makes progress: its published offset, compared with the topic's end.
//!
//! It outlives sessions, so that a failure that ends one session after another does not look like repeated fresh starts. It
//! has no clock: each call passes the time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kafka::{EndOffsets, Ends};

use super::End;

/// The ends are queried every few seconds, and each leader that does not answer takes two seconds: an age below this means
/// nothing yet.
const MAY_TAKE: Duration = Duration::from_secs(30);

/// What hides records that exist and cannot be read.
const OPEN_TRANSACTION: &str = "all before it is done, and a producer's open transaction holds back the rest. \
                                'kafka-transactions.sh find-hanging --topic TOPIC' finds it";

/// The progress of the partitions that this instance holds, or held before an interruption.
#[derive(Debug, Default)]
pub struct Progress {
    partitions: BTreeMap<i32, Watched>,
    /// Output topics that do not exist.
    missing: Vec<String>,
    missing_said_at: Option<Instant>,
    unknown_said_at: Option<Instant>,
    /// The last error that was reported.
    heard: Option<(Instant, String)>,
}

#[derive(Debug, Default)]
struct Watched {
    published: i64,
    /// The next offset that has not been through the pipeline. Below `published`, the pipeline only fills the log.
    done: i64,
    end: Option<End>,
    /// Since when nothing moved although there was something to do.
    still_since: Option<Instant>,
    said_at: Option<Instant>,
    /// Why work was interrupted, until something is published after that, or there is nothing to publish.
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

    /// Whether everything that can be read is through, so that the rest belongs to, or comes after, an open transaction.
    fn is_held_back(&self) -> bool {
        self.is_behind() && self.end.is_some_and(|end| self.offset() >= end.offsets.stable)
    }

    /// How long the brokers have not reported its end, if that is at least `timeout`.
    fn end_unknown(&self, now: Instant, timeout: Duration) -> Option<Duration> {
        let age = now - self.end?.at;
        (age >= timeout.max(MAY_TAKE)).then_some(age)
    }

    /// How long it has stalled, if that is at least `timeout`.
    fn stalled(&self, now: Instant, timeout: Duration) -> Option<Duration> {
        self.still_since.map(|since| now - since).filter(|still| *still >= timeout)
    }
}

impl Progress {
    /// The cursors of a held partition.
    pub fn moved(&mut self, now: Instant, partition: i32, published: i64, done: i64) {
        let watched = self.partitions.entry(partition).or_default();
        let has_moved = (watched.published, watched.done) != (published, done);
        if published > watched.published {
            watched.interrupted = None;
        }
        (watched.published, watched.done) = (published, done);
        self.look(now, partition, has_moved);
    }

    /// The topic's ends, as the brokers reported them.
    pub fn ended(&mut self, now: Instant, ends: Ends) {
        if let Some(error) = ends.error {
            self.hear(now, format!("where the topic ends: {error}"));
        }
        for (partition, offsets) in ends.offsets {
            // Otherwise it was released since the query.
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

    /// An error that may be the reason why nothing moves.
    pub fn hear(&mut self, now: Instant, error: String) {
        self.heard = Some((now, error));
    }

    /// All work restarted from the cursors, because of the last error.
    pub fn interrupted(&mut self) {
        let reason = self.heard.as_ref().map_or("an unknown error", |(_, error)| error);
        for watched in self.partitions.values_mut() {
            watched.interrupted = Some(reason.to_owned());
        }
    }

    /// Another instance has the partition.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// All known partitions, held or not.
    pub fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.partitions.keys().copied()
    }

    /// A partition's end, and when the brokers reported it.
    pub fn known_end(&self, partition: i32) -> Option<End> {
        self.partitions.get(&partition)?.end
    }

    /// Why there is no progress, or why that is unknown: a stalled partition among these, a missing output topic,
    /// interrupted work, or brokers that do not report a partition's end. `other` is a reason from elsewhere, which is
    /// returned unless a partition stalls.
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

    /// Logs what `reason` returns as a warning, at once and then repeatedly.
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
                "the partition is stalled: there are records, and none gets through"
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

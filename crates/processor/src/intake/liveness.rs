//! If nothing arrives: whether there is nothing to read, the brokers are unreachable, or the group has dropped this member.

use std::time::{Duration, Instant};

use kafka::{Source, SourceError, liveness::Probe};

use super::{Intake, source_error};
use crate::ProcessorError;

/// The time since the brokers and the group were last heard.
#[derive(Debug)]
pub(super) struct Liveness {
    since: Instant,
    ask_at: Instant,
    /// When the wait for Kafka was last logged.
    said_at: Option<Instant>,
    /// Why Kafka is being waited for, once the brokers were probed.
    reason: Option<String>,
    /// Since when the brokers answer, but the group has not admitted this member.
    unjoined: Option<Instant>,
    /// A flag, because every record counts, and reading the clock for each would be too slow.
    was_heard: bool,
}

impl Liveness {
    /// Starts as if the brokers were heard just now.
    pub fn begin(patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            since: now,
            ask_at: now + patience,
            said_at: None,
            reason: None,
            unjoined: None,
            was_heard: false,
        }
    }

    /// The brokers or the group were heard.
    pub fn heard(&mut self) {
        self.was_heard = true;
    }

    /// Why Kafka is being waited for; `None` if it is not.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref().filter(|_| !self.was_heard)
    }
}

impl<S: Source> Intake<S> {
    /// Probes the brokers after a long silence, and logs if they do not answer. Returns an error if only a new client would
    /// get an answer, so that the next session makes one.
    pub(super) fn listen(&mut self) -> Result<(), ProcessorError> {
        if self.liveness.was_heard {
            self.end_silence();
        }
        let now = Instant::now();
        if now < self.liveness.ask_at {
            return Ok(());
        }
        let Some(probe) = self.source.probe(self.liveness.since) else { return Ok(()) };
        tracing::debug!(?probe, "probed the brokers");
        self.liveness.ask_at = now + self.timing.silence;
        match probe {
            Probe::ClientStuck => {
                let reason = "the brokers answer a new Kafka client, but not this one, which lost them";
                return Err(source_error(SourceError::Retriable(reason.into())));
            }
            Probe::Reached if !self.is_member() || self.source.membership().is_some() => self.end_silence(),
            Probe::Reached => {
                let waited = now - *self.liveness.unjoined.get_or_insert(now);
                if waited >= self.timing.unjoined {
                    let seconds = waited.as_secs();
                    let reason = format!(
                        "the brokers answer, but the consumer group has admitted no member for {seconds} s"
                    );
                    return Err(source_error(SourceError::Retriable(reason)));
                }
                self.wait_on(
                    now,
                    "the brokers answer, but this instance has not joined the consumer group yet".into(),
                );
            }
            Probe::Unreachable(reason) => {
                self.liveness.unjoined = None;
                self.wait_on(now, reason);
            }
        }
        Ok(())
    }

    /// Starts over. If the wait for Kafka was logged, logs that it is over.
    fn end_silence(&mut self) {
        if self.liveness.said_at.is_some() {
            let seconds = self.liveness.since.elapsed().as_secs();
            tracing::info!(seconds, "Kafka answers again");
        }
        self.liveness = Liveness::begin(self.timing.silence);
    }

    fn wait_on(&mut self, now: Instant, reason: String) {
        if now - self.liveness.said_at.unwrap_or(self.liveness.since) >= self.timing.say {
            self.liveness.said_at = Some(now);
            let seconds = (now - self.liveness.since).as_secs();
            tracing::warn!(reason, seconds, "still waiting for Kafka; consumption is paused");
        }
        self.liveness.reason = Some(reason);
    }
}

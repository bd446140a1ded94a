//! Where nothing arrives: whether nothing is there, or the brokers are away, or this member is forgotten.

use std::time::{Duration, Instant};

use kafka::{Source, SourceError, liveness::Probe};

use super::{Intake, source_error};
use crate::ProcessorError;

/// The time since the last sign of brokers and group.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    ask_at: Instant,
    /// When it was last said that Kafka is waited for.
    said_at: Option<Instant>,
    /// Why it is, where the brokers were asked.
    reason: Option<String>,
    /// Since when the brokers answer, without the group's having taken this member in.
    unjoined: Option<Instant>,
    /// A flag, because records are signs too, and looking at the clock for each would cost.
    broken: bool,
}

impl Silence {
    /// Begins now, with a sign.
    pub fn begin(patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            since: now,
            ask_at: now + patience,
            said_at: None,
            reason: None,
            unjoined: None,
            broken: false,
        }
    }

    /// There was a sign.
    pub fn broken(&mut self) {
        self.broken = true;
    }

    /// Why Kafka is waited for, where it is known to be.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref().filter(|_| !self.broken)
    }
}

impl<S: Source> Intake<S> {
    /// Asks for a sign where there was none for long. Without one it says so; where a new client would get one, the
    /// error makes room for it.
    pub(super) fn listen(&mut self) -> Result<(), ProcessorError> {
        if self.silence.broken {
            self.end_silence();
        }
        let now = Instant::now();
        if now < self.silence.ask_at {
            return Ok(());
        }
        let Some(reach) = self.source.probe(self.silence.since) else { return Ok(()) };
        tracing::debug!(?reach, "asked the brokers for a sign");
        self.silence.ask_at = now + self.timing.silence;
        match reach {
            Probe::ClientStuck => {
                let reason = "the brokers answer a new Kafka client, but not this one, which lost them";
                return Err(source_error(SourceError::Retriable(reason.into())));
            }
            Probe::Reached if self.source.membership().is_some() => self.end_silence(),
            Probe::Reached => {
                let waited = now - *self.silence.unjoined.get_or_insert(now);
                if waited >= self.timing.unjoined {
                    let seconds = waited.as_secs();
                    let reason = format!("the brokers answer, but the group took nobody in for {seconds} s");
                    return Err(source_error(SourceError::Retriable(reason)));
                }
                self.wait_on(now, "the brokers answer, and the group has not taken this instance in".into());
            }
            Probe::Unreachable(reason) => {
                self.silence.unjoined = None;
                self.wait_on(now, reason);
            }
        }
        Ok(())
    }

    /// Begins anew, and says so where it was said before that Kafka is waited for.
    fn end_silence(&mut self) {
        if self.silence.said_at.is_some() {
            let seconds = self.silence.since.elapsed().as_secs();
            tracing::info!(seconds, "the wait for Kafka is over");
        }
        self.silence = Silence::begin(self.timing.silence);
    }

    fn wait_on(&mut self, now: Instant, reason: String) {
        if now - self.silence.said_at.unwrap_or(self.silence.since) >= self.timing.say {
            self.silence.said_at = Some(now);
            let seconds = (now - self.silence.since).as_secs();
            tracing::warn!(reason, seconds, "still waiting for Kafka; nothing is taken in meanwhile");
        }
        self.silence.reason = Some(reason);
    }
}

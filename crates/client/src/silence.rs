//! Whether a Kafka client that hears nothing has only nothing to hear, or has lost the brokers for good.

use std::time::{Duration, Instant};

use kafka::reach::{Asking, Reach};

/// So long nothing has to be heard before the brokers are asked.
const SILENCE: Duration = Duration::from_secs(10);

/// Since when nothing was heard.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    ask_at: Instant,
    asking: Asking<Reach>,
}

impl Silence {
    pub fn begin() -> Self {
        let since = Instant::now();
        Self { since, ask_at: since + SILENCE, asking: Asking::default() }
    }

    /// Something was heard.
    pub fn broken(&mut self) {
        self.since = Instant::now();
        self.ask_at = self.since + SILENCE;
    }

    /// Whether it is time to ask.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.ask_at
    }

    /// Whether the client has lost the brokers, as `ask` finds out on a thread of its own. Waits for nobody.
    pub fn is_final(&mut self, ask: impl FnOnce() -> Reach + Send + 'static) -> bool {
        let Some(reach) = self.asking.answer(self.since, ask) else { return false };
        self.broken();
        if let Reach::Away(reason) = &reach {
            tracing::debug!(reason, "the brokers do not answer");
        }
        reach == Reach::Lost
    }
}

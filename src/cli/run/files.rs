//! Watches the log's files: whether they still exist, and how large the -wal file is.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use event_log::{LogError, LogFiles};

use crate::metrics::Metrics;

/// Between two checks.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the -wal file may be larger than usual before a line is logged, and the time between two such lines.
const LARGE: Duration = Duration::from_secs(30);
const REPEAT: Duration = Duration::from_secs(600);
/// Until a stop is noticed.
const NOTICE: Duration = Duration::from_millis(20);

/// Watches until `ended`. Sets `stop` and fails if a file is gone: while no commands arrive, nothing else would notice.
pub(super) fn watch(
    files: &LogFiles,
    metrics: &Metrics,
    ended: &AtomicBool,
    stop: &AtomicBool,
) -> Result<(), LogError> {
    let mut growth = Growth::new(LogFiles::usual_wal_bytes());
    while !ended.load(Ordering::SeqCst) {
        files.check().inspect_err(|_| stop.store(true, Ordering::SeqCst))?;
        let wal_bytes = files.wal_bytes().unwrap_or(0);
        metrics.log_wal_bytes.set(i64::try_from(wal_bytes).unwrap_or(i64::MAX));
        if growth.is_worth_a_line(wal_bytes, Instant::now()) {
            let path = files.database().display();
            tracing::warn!(
                wal_bytes,
                usual_bytes = LogFiles::usual_wal_bytes(),
                "{path}-wal keeps growing: a program that has been reading the event log in one transaction keeps SQLite \
                 from emptying it; find it with `fuser -v {path}` and end it, or its transaction"
            );
        }
        let until = Instant::now() + INTERVAL;
        while Instant::now() < until && !ended.load(Ordering::SeqCst) {
            thread::sleep(NOTICE);
        }
    }
    Ok(())
}

/// Decides when to log that the -wal file is large.
#[derive(Debug)]
struct Growth {
    usual: u64,
    large_since: Option<Instant>,
    logged: Option<Instant>,
}

impl Growth {
    fn new(usual: u64) -> Self {
        Self { usual, large_since: None, logged: None }
    }

    /// A large append makes it large for a moment; only a reader keeps it large.
    fn is_worth_a_line(&mut self, bytes: u64, now: Instant) -> bool {
        if bytes <= self.usual {
            self.large_since = None;
            return false;
        }
        let since = *self.large_since.get_or_insert(now);
        let is_due = now - since >= LARGE && self.logged.is_none_or(|logged| now - logged >= REPEAT);
        if is_due {
            self.logged = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_rarely_that_the_wal_stays_large() {
        let mut growth = Growth::new(100);
        let start = Instant::now();
        let mut at = |seconds, bytes| growth.is_worth_a_line(bytes, start + Duration::from_secs(seconds));
        assert!(!at(0, 101));
        assert!(!at(20, 100), "emptied meanwhile");
        assert!(!at(40, 500));
        assert!(!at(69, 500));
        assert!(at(70, 500));
        assert!(!at(71, 600));
        assert!(!at(669, 600));
        assert!(at(670, 600));
        assert!(!at(680, 50));
        assert!(!at(1_269, 600));
        assert!(!at(1_298, 600));
        assert!(at(1_299, 600));
    }
}

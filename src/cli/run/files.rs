//! Looking after the log's files: whether they are still there, and how large the -wal file has become.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use event_log::{LogError, LogFiles};

use crate::metrics::Metrics;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// For how long the -wal file may be larger than usual before somebody is told, and between two such lines.
const LARGE: Duration = Duration::from_secs(30);
const REPEAT: Duration = Duration::from_secs(600);
/// Until a stop is noticed.
const NOTICE: Duration = Duration::from_millis(20);

/// Looks until `ended`. A file that is gone sets `stop`, and is the error: nobody would notice it as long as no commands
/// arrive.
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
        let until = Instant::now() + LOOK;
        while Instant::now() < until && !ended.load(Ordering::SeqCst) {
            thread::sleep(NOTICE);
        }
    }
    Ok(())
}

/// When to say that the -wal file is large.
#[derive(Debug)]
struct Growth {
    usual: u64,
    large_since: Option<Instant>,
    said: Option<Instant>,
}

impl Growth {
    fn new(usual: u64) -> Self {
        Self { usual, large_since: None, said: None }
    }

    /// One large append makes it large for a moment; only a reader keeps it so.
    fn is_worth_a_line(&mut self, bytes: u64, now: Instant) -> bool {
        if bytes <= self.usual {
            self.large_since = None;
            return false;
        }
        let since = *self.large_since.get_or_insert(now);
        let is_due = now - since >= LARGE && self.said.is_none_or(|said| now - said >= REPEAT);
        if is_due {
            self.said = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_seldom_that_the_wal_stays_large() {
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

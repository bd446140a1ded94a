//! Waits for other processes. Each kind of test sets its own time limit.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Whether it comes true in time.
pub fn holds_within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Waits for it to come true, and fails the test where it does not in time.
#[track_caller]
pub fn wait_within(patience: Duration, what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(patience, condition), "waited in vain for {what}");
}

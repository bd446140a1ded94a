//! Waiting for others, and saying so.

use std::{
    thread,
    time::{Duration, Instant},
};

/// After this a test has failed, on a slow machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A line for whoever watches; the test runner does not hide it.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let line = format!($($argument)*);
        let _ = writeln!(std::io::stderr(), "{line}");
    }};
}
pub(crate) use say;

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

/// Waits for it to come true, and fails the test where it does not.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    assert!(holds_within(PATIENCE, condition), "waited in vain for {what}");
}

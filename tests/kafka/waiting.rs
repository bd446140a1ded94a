//! Waits for other processes, and prints that it waits.

#[path = "../support/waiting.rs"]
mod within;

use std::time::Duration;

pub use within::{holds_within, wait_within};

/// After this a test has failed, on a slow machine too.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A line for whoever watches; the test runner does not hide it.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let line = format!($($argument)*);
        let _ = writeln!(std::io::stderr(), "{line}");
    }};
}
pub(crate) use say;

/// Asks until there is an answer, and fails the test where there is none.
#[track_caller]
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let mut answer = None;
    wait_until(what, || {
        answer = ask();
        answer.is_some()
    });
    answer.expect("there is one")
}

/// Waits for it to come true, and fails the test where it does not.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, condition);
}

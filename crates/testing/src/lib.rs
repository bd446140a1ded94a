//! Helpers that the tests of several crates share.

pub mod contract;

use std::{
    io,
    sync::{Arc, LazyLock, Mutex},
};

use tracing::Dispatch;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps a second subscriber registered. With a single one, `tracing-core` asks the default of whichever thread comes to a log
/// line first, and another test's thread has none: the line would be disabled for all threads.
static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));

/// The log lines that this thread writes during `work`, and the result of `work`.
pub fn said_by<T>(work: impl FnOnce() -> T) -> (String, T) {
    LazyLock::force(&SECOND);
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let done = tracing::subscriber::with_default(subscriber, work);
    let said = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    (said, done)
}

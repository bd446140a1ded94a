//! Helpers that the tests of several crates share.

pub mod contract;

use std::{
    io,
    sync::{Arc, Mutex},
};

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

/// The log lines that this thread writes during `work`, and the result of `work`.
pub fn said_by<T>(work: impl FnOnce() -> T) -> (String, T) {
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let done = tracing::subscriber::with_default(subscriber, work);
    let said = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    (said, done)
}

//! Stopping in order on a signal, for commands that go on until they get one.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Becomes true with the first SIGINT or SIGTERM. The second one ends the process.
pub fn on_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the asynchronous runtime")?;
    // Before this returns, so that no signal comes too early.
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("can't listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("can't listen for SIGTERM")?;
    drop(guard);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let wait = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.swap(true, Ordering::SeqCst) {
                process::exit(130);
            }
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(wait))
        .context("can't start a thread")?;
    Ok(stop)
}

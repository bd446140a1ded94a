//! Blocking work on a separate thread.

use std::thread;

use tokio::sync::oneshot;

/// Runs work that may wait for brokers. Not on the runtime's own threads for blocking work: the runtime waits for those when
/// it shuts down, and abandons this one.
pub(super) async fn on_its_own<T: Send + 'static>(
    name: &str,
    blocking: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // The caller may be gone.
            let _ = done.send(blocking());
        })
        .map_err(|error| format!("a thread could not be started: {error}"))?;
    result.await.map_err(|_| format!("the thread '{name}' failed"))
}

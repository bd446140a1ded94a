//! What blocks, on a thread of its own.

use std::thread;

use tokio::sync::oneshot;

/// Runs what may wait for brokers. It is not one of the runtime's own threads for what blocks: those are waited for when
/// the runtime ends, and this one stays behind.
pub(super) async fn on_its_own<T: Send + 'static>(
    name: &str,
    blocking: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Who wanted to know may be gone.
            let _ = done.send(blocking());
        })
        .map_err(|error| format!("a thread could not be started: {error}"))?;
    result.await.map_err(|_| format!("the thread '{name}' failed"))
}

//! Health and metrics over HTTP: `/livez`, `/readyz` and `/metrics`.
//!
//! Live means that the polling thread has recently given a sign of life; otherwise a restart helps. Ready means that
//! commands are being processed. A processor that waits for brokers or disk space is live but not ready, and gives the
//! reason.

mod listener;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::{self, Metrics};

/// How long the polling thread may be silent: well above the longest poll, since a transactional request times out after
/// ten seconds, and another may follow.
const SILENCE: Duration = Duration::from_secs(60);

/// What the processor reports about itself.
#[derive(Debug)]
pub(crate) struct Health {
    ready: AtomicBool,
    reason: Mutex<String>,
    started: Instant,
    /// Milliseconds from `started` to the last sign of life.
    heartbeat: AtomicU64,
}

impl Health {
    /// Alive, and not ready because it is starting.
    pub(crate) fn new() -> Self {
        Self {
            ready: AtomicBool::new(false),
            reason: Mutex::new("starting".to_owned()),
            started: Instant::now(),
            heartbeat: AtomicU64::new(0),
        }
    }

    /// A sign of life from the polling thread.
    pub(crate) fn beat(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heartbeat.store(millis, Ordering::Relaxed);
    }

    /// Commands are being processed.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Commands are not being processed, and why.
    pub(crate) fn set_unready(&self, reason: impl Into<String>) {
        *self.reason() = reason.into();
        self.ready.store(false, Ordering::Release);
    }

    /// # Errors
    ///
    /// Why commands are not being processed.
    fn readiness(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Acquire) { Ok(()) } else { Err(self.reason().clone()) }
    }

    /// Time since the last sign of life.
    fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    fn reason(&self) -> MutexGuard<'_, String> {
        // A panic leaves no half-written text.
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone)]
struct Admin {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

/// Serves until `shutdown` resolves and the requests in flight are answered.
///
/// # Errors
///
/// The listener fails.
pub(crate) async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Admin { health, metrics });
    listener::serve(listener, routes, shutdown).await
}

async fn livez(State(Admin { health, .. }): State<Admin>) -> impl IntoResponse {
    let silence = health.silence();
    if silence <= SILENCE {
        (StatusCode::OK, "alive\n".to_owned())
    } else {
        let text = format!("no sign of life from the polling thread for {} s\n", silence.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

async fn readyz(State(Admin { health, .. }): State<Admin>) -> impl IntoResponse {
    match health.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn render(State(Admin { metrics, .. }): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.render())
}

/// Why a processor is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// It answered with a reason.
    #[error("not ready: {0}")]
    Said(String),
    /// Nobody answered, or not in time, or not in HTTP.
    #[error("no answer from http://{address}/readyz: {source}")]
    NoAnswer { address: SocketAddr, source: io::Error },
}

/// Asks the processor whose admin server listens on `address` whether it is ready, for containers without an HTTP
/// client. The unspecified address is replaced by the loopback address.
///
/// # Errors
///
/// It is not ready, or does not answer in time.
pub fn probe_ready(address: SocketAddr, timeout: Duration) -> Result<(), NotReady> {
    let address = reachable(address);
    let answer = request(address, timeout).map_err(|source| NotReady::NoAnswer { address, source })?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if answer.starts_with("HTTP/1.") && status == "200" {
        return Ok(());
    }
    let reason = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    Err(NotReady::Said(if reason.is_empty() { format!("status {status:?}") } else { reason.to_owned() }))
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn request(address: SocketAddr, timeout: Duration) -> io::Result<String> {
    // The answer is one sentence; the admin server never sends more.
    const LONGEST: u64 = 64 * 1024;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests;

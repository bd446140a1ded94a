//! Signals: those that stop a command in order, and one that must not end it.
#![allow(unsafe_code)]

use std::{
    fmt,
    mem::MaybeUninit,
    process, ptr,
    sync::{Arc, OnceLock},
    thread,
    time::Duration,
};

use anyhow::Context;
use nix::libc;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry;

/// A stop takes up to 5 s, including the last log lines; the next start finishes the rest.
pub const LONGEST: Duration = Duration::from_millis(4_300);
/// The exit code after a second signal.
pub const AT_ONCE: u8 = 130;
/// For the last lines of a command that ends without returning to `main`.
const LAST_LINES: Duration = Duration::from_millis(200);

/// The signals that stop a command: SIGINT, SIGTERM, and SIGHUP of a terminal that was closed.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if it is ignored, as under `nohup`.
    hang_up: Option<Signal>,
}

impl Signals {
    /// Starts listening. Call it within a runtime.
    pub fn listen() -> anyhow::Result<Self> {
        let hang_up = (!is_hang_up_ignored())
            .then(|| signal(SignalKind::hangup()).context("can't listen for SIGHUP"))
            .transpose()?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("can't listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("can't listen for SIGTERM")?,
            hang_up,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Signalled {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signalled("SIGINT", libc::SIGINT),
            _ = self.terminate.recv() => Signalled("SIGTERM", libc::SIGTERM),
            _ = hang_up => Signalled("SIGHUP", libc::SIGHUP),
        }
    }
}

/// Ignores SIGXFSZ: a file that may not grow any more (`ulimit -f`) is then an error of the write, as a full disk is,
/// instead of the process's end.
pub fn survive_file_size_limit() {
    // SAFETY: no handler is installed, only the disposition changes, before there is another thread.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn is_hang_up_ignored() -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only fills in the old one, which is valid as zeros too.
    let old = unsafe {
        libc::sigaction(libc::SIGHUP, ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    old.sa_sigaction == libc::SIG_IGN
}

/// A received signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signalled(&'static str, i32);

impl fmt::Display for Signalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The first signal, once it was received.
#[derive(Debug, Default)]
pub struct StopRequest(OnceLock<Signalled>);

impl StopRequest {
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.0.get().is_some()
    }

    /// The exit code that shells give to a command that the signal ended; `None` without a signal.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        self.0.get().and_then(|Signalled(_, number)| u8::try_from(128 + number).ok())
    }
}

/// Reports the first signal. A second one ends the process, and so does the time `longest` after the first, so that brokers
/// that do not answer are not waited for.
pub fn on_signal(longest: Option<Duration>) -> anyhow::Result<Arc<StopRequest>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the asynchronous runtime")?;
    // Before this returns, so that no signal is missed.
    let guard = runtime.enter();
    let mut signals = Signals::listen()?;
    drop(guard);
    let stop = Arc::new(StopRequest::default());
    let request = Arc::clone(&stop);
    let wait = async move {
        let _ = request.0.set(signals.next().await);
        let late = async {
            match longest {
                Some(longest) => tokio::time::sleep(longest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = signals.next() => i32::from(AT_ONCE),
            () = late => 0,
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let code = runtime.block_on(wait);
            telemetry::flush(LAST_LINES);
            process::exit(code);
        })
        .context("can't start a thread")?;
    Ok(stop)
}

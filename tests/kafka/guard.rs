//! Processes that end with the test, however the test ends.
//!
//! `Drop` is not enough: a static value is never dropped, and a test program that is killed drops nothing. So each
//! process has a watchdog beside it, a shell that reads from a pipe whose other end only the test program holds. When
//! that is closed, by whatever end, the watchdog kills the process and removes its folder.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Waits for the end of its input; then `$1` is killed, and `$2` removed once that is over.
const WATCHDOG: &str = r#"
read -r line
kill -KILL "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
[ -z "$2" ] || rm -rf -- "$2"
"#;

/// A process with its watchdog.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    watchdog: Child,
    status: Option<ExitStatus>,
}

impl Guarded {
    /// Starts the process. `folder` is removed with it where nobody else does that any more.
    pub fn start(command: &mut Command, folder: &Path) -> io::Result<Self> {
        let child = command.spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", &child.id().to_string()])
            .arg(if keeps() { Path::new("") } else { folder })
            // Rust's pipes are closed in other children, so the test program alone holds the other end.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C ends the test program; the watchdog has to outlive it.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, watchdog, status: None })
    }

    /// The read end of its standard output, once, where that is piped.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, where the process has not ended yet.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let id = i32::try_from(self.child.id()).expect("a process id");
            // Not waited for yet, so the id is still this child's.
            kill(Pid::from_raw(id), signal).expect("the child is there");
        }
    }

    /// How it ended, where it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("a child");
            if self.status.is_some() {
                self.dismiss();
            }
        }
        self.status
    }

    /// Waits for its end; `None` if it runs for longer than this.
    pub fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(60)).expect("a killed process ends")
    }

    /// The id is free for others from now on.
    fn dismiss(&mut self) {
        // Either may fail because it has ended.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.dismiss();
        }
    }
}

/// Whether folders are left behind for whoever wants to look into them: `KAFKA_TEST_KEEP=1`.
pub fn keeps() -> bool {
    std::env::var_os("KAFKA_TEST_KEEP").is_some()
}

/// A temporary folder, removed with the value.
pub fn folder(name: &str) -> tempfile::TempDir {
    let mut folder = tempfile::Builder::new()
        .prefix(&format!("activity-stream-{name}-"))
        .tempdir()
        .expect("a temporary folder");
    if keeps() {
        folder.disable_cleanup(true);
        super::say!("{name}: kept in {}", folder.path().display());
    }
    folder
}

//! A process that consumes commands, and how far it is.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    guard::{self, Guarded},
    progress::Progress,
    topics::{self, Names},
};

/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(10);
/// A process that gets nowhere for so long has failed.
const STUCK: Duration = Duration::from_secs(120);

/// It runs, until the value is dropped.
pub struct Running {
    // Before the folder, so that it ends before its files are removed.
    process: Guarded,
    command: Command,
    folder: TempDir,
    progress: Progress,
    servers: String,
    names: Names,
}

impl Running {
    /// `command` gets a folder for files of its own.
    pub fn start(
        command: impl FnOnce(&Names, &Path) -> Command,
        servers: &str,
        names: Names,
        partitions: i32,
    ) -> Self {
        let folder = guard::folder("bench");
        let said = File::create(folder.path().join("said")).expect("a file for standard error");
        let mut command = command(&names, folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let process = Guarded::start(&mut command, folder.path()).expect("it starts");
        let progress = Progress::new(servers, &names, partitions);
        Self { process, command, folder, progress, servers: servers.to_owned(), names }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until this number of commands is committed, and returns how many are.
    pub fn await_committed(&mut self, wanted: u64) -> u64 {
        self.try_await_committed(wanted).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The same, or what is wrong with the process.
    pub fn try_await_committed(&mut self, wanted: u64) -> Result<u64, String> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            // Each command has one offset, since no transaction posted them.
            let committed = self.progress.published().unwrap_or(last);
            if committed >= wanted {
                return Ok(committed);
            }
            if committed > last {
                (last, moved) = (committed, Instant::now());
            }
            let ended = self.process.ended();
            if ended.is_some() || moved.elapsed() > STUCK {
                let said = self.said();
                return Err(format!(
                    "it is at {committed} of {wanted} commands, and ended: {ended:?}. It said:\n{said}"
                ));
            }
            thread::sleep(LOOK);
        }
    }

    /// Stops it and starts it again, with the files that it had.
    pub fn restart(&mut self) {
        self.end();
        self.process = Guarded::start(&mut self.command, self.folder.path()).expect("it starts");
    }

    fn end(&mut self) {
        self.process.signal(Signal::SIGTERM);
        if self.process.wait(Duration::from_secs(30)).is_none() {
            self.process.kill();
        }
    }

    /// What it wrote to standard error.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// Stops it, and removes its output.
    pub fn stop(mut self) {
        self.end();
        topics::delete(&self.servers, &self.names.notifications);
        topics::delete(&self.servers, &self.names.rejections);
    }
}

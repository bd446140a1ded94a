//! The program as processes beside a real broker.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::Mutex,
    time::Instant,
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

pub use super::{broker::SESSION_MS, waiting::PATIENCE};
use super::{
    guard::{self, Guarded},
    progress::Progress,
    topics::Names,
};

/// Of standard error, where a test fails.
const LINES: usize = 40;

/// How the instances of a test are members of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joining {
    /// That of KIP-848.
    pub new_protocol: bool,
    /// By a `group.instance.id`, the instance's name.
    pub is_static: bool,
    /// For how long a member is waited for, in milliseconds; in the new protocol the brokers say that.
    session_ms: u64,
}

impl Joining {
    /// Unless a test is about another one.
    pub const USUAL: Self = Self { new_protocol: false, is_static: false, session_ms: SESSION_MS };
    pub const STATIC: Self = Self { is_static: true, ..Self::USUAL };
    pub const NEW: Self = Self { new_protocol: true, ..Self::USUAL };
    pub const NEW_STATIC: Self = Self { new_protocol: true, ..Self::STATIC };

    /// For a test in which no member is to be missed, however busy the machine is.
    pub const fn lasting(self) -> Self {
        Self { session_ms: 45_000, ..self }
    }
}

/// One test's own: a folder with configuration and logs, topics and a group.
#[derive(Debug)]
pub struct Setup {
    pub servers: String,
    pub names: Names,
    pub partitions: i32,
    joining: Mutex<Joining>,
    folder: TempDir,
    begun: Instant,
}

impl Setup {
    /// Makes the topics on the broker at `servers`.
    pub fn new(test: &str, servers: &str, partitions: i32) -> Self {
        let setup = Self::without_topics(test, servers, partitions);
        setup.names.create(servers, partitions);
        setup
    }

    /// For a test that makes its topics itself.
    pub fn without_topics(test: &str, servers: &str, partitions: i32) -> Self {
        let names = Names::of(test);
        let (folder, begun) = (guard::folder(test), Instant::now());
        let joining = Mutex::new(Joining::USUAL);
        let setup = Self { servers: servers.into(), names, partitions, joining, folder, begun };
        setup.configure("");
        setup
    }

    /// For instances that are started from now on.
    pub fn join_as(&self, joining: Joining) {
        *self.joining.lock().expect("never poisoned") = joining;
        self.configure("");
    }

    fn joining(&self) -> Joining {
        *self.joining.lock().expect("never poisoned")
    }

    /// Writes the configuration file that all processes of the test read; `more` is TOML with sections of its own.
    ///
    /// A session is short, so that a killed member is soon missed, and outlasts a machine that is busy for a moment. In the
    /// new protocol the brokers say how short.
    pub fn configure(&self, more: &str) {
        let Names { commands, notifications, rejections, group } = &self.names;
        let servers = &self.servers;
        let Joining { new_protocol, session_ms, .. } = self.joining();
        let properties = match new_protocol {
            true => "\"group.protocol\" = \"consumer\"".to_owned(),
            false => {
                format!("\"session.timeout.ms\" = \"{session_ms}\"\n\"heartbeat.interval.ms\" = \"500\"")
            }
        };
        let text = format!(
            r#"
[kafka]
bootstrap_servers = "{servers}"
group = "{group}"

[kafka.properties]
{properties}

[topics]
commands = "{commands}"
notifications = "{notifications}"
rejections = "{rejections}"

{more}
"#
        );
        fs::write(self.config(), text).expect("the configuration");
    }

    /// Whether that file says so.
    pub fn is_at_least_once(&self) -> bool {
        fs::read_to_string(self.config()).expect("the configuration").contains("\"at-least-once\"")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config(&self) -> PathBuf {
        self.folder().join("config.toml")
    }

    /// The event log of one instance.
    pub fn log(&self, instance: &str) -> PathBuf {
        self.folder().join(format!("{instance}.db"))
    }

    /// The program with the test's configuration, and with nothing of this process's environment that would
    /// change what it does. `arguments` begin with the subcommand.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_activity-stream"));
        for (name, _) in std::env::vars_os() {
            let ours = name.to_string_lossy().starts_with("ACTIVITY_STREAM_");
            if ours || name == "RUST_LOG" || name == "CLICOLOR_FORCE" {
                command.env_remove(name);
            }
        }
        command.args(arguments).arg("--config").arg(self.config());
        command
    }

    /// Starts `run` with the log of `instance`.
    pub fn start(&self, instance: &str, more: &[&str]) -> Instance {
        self.spawn(instance, self.run(instance, more))
    }

    /// The same where no file may have more bytes than this, until [`Instance::confine`].
    pub fn start_confined(&self, instance: &str, bytes: u64, more: &[&str]) -> Instance {
        let run = self.run(instance, more);
        let mut command = Command::new("sh");
        // A write that is refused should be an error, as on a full disk, and not end the process. `ulimit` counts
        // blocks of 512 bytes; the soft limit can be lifted again.
        command.args(["-c", r#"trap '' XFSZ; ulimit -S -f "$0"; exec "$@""#, &(bytes / 512).to_string()]);
        command.arg(run.get_program()).args(run.get_args());
        for (name, value) in run.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.spawn(instance, command)
    }

    /// Starts `run`, which must end on its own, and returns its last line, which has the reason.
    #[track_caller]
    pub fn refusal(&self, instance: &str, more: &[&str]) -> String {
        self.start(instance, more).refusal()
    }

    fn run(&self, instance: &str, more: &[&str]) -> Command {
        let mut command = self.program(&["run"]);
        // It distinguishes the group's members.
        command.arg("--log-file").arg(self.log(instance));
        command.args(["-X", &format!("client.id={instance}")]);
        if self.joining().is_static {
            command.args(["-X", &format!("group.instance.id={instance}")]);
        }
        command.args(more);
        command
    }

    fn spawn(&self, instance: &str, mut command: Command) -> Instance {
        let said = self.folder().join(format!("{instance}.stderr"));
        let file = File::options().create(true).append(true).open(&said).expect("a file for stderr");
        let begun = file.metadata().expect("a file").len().try_into().expect("a length");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let process = Guarded::start(&mut command, self.folder()).expect("the program starts");
        Instance { name: instance.to_owned(), log: self.log(instance), process, said, begun }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        super::say!("{}: {} s", self.names.group, self.begun.elapsed().as_secs());
    }
}

impl Progress {
    /// That of a test's group.
    pub fn of(setup: &Setup) -> Self {
        Self::new(&setup.servers, &setup.names, setup.partitions)
    }
}

/// A running `activity-stream run`. It is killed when it goes out of scope.
#[derive(Debug)]
pub struct Instance {
    pub name: String,
    pub log: PathBuf,
    process: Guarded,
    /// Where standard error goes, of all processes with this name one behind the other.
    said: PathBuf,
    begun: usize,
}

impl Instance {
    /// What it wrote to standard error since it was started.
    pub fn stderr(&self) -> String {
        let bytes = fs::read(&self.said).expect("standard error");
        String::from_utf8_lossy(&bytes[self.begun..]).into_owned()
    }

    /// SIGSTOP: it keeps its connections, and does nothing.
    pub fn freeze(&mut self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// SIGCONT: it continues as if no time had passed.
    pub fn thaw(&mut self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// SIGKILL, and waits for the end.
    #[track_caller]
    pub fn kill(mut self) {
        self.assert_running();
        self.process.kill();
    }

    /// SIGTERM, and waits for a clean end.
    #[track_caller]
    pub fn stop(mut self) -> String {
        // Before its first line the system's own answer to the signal may still be in force: to end it at once.
        super::wait_until("its first line", || {
            self.assert_running();
            !self.stderr().is_empty()
        });
        self.process.signal(Signal::SIGTERM);
        let status = self.end();
        assert_eq!(status.code(), Some(0), "{}: {}", self.name, self.stderr());
        self.stderr()
    }

    /// Waits until it ends on its own.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let status = self.process.wait(PATIENCE);
        status.unwrap_or_else(|| panic!("{} is still running:\n{}", self.name, self.stderr()))
    }

    /// Waits until it ends on its own with an error, and returns the sentences with the reason.
    #[track_caller]
    pub fn refusal(mut self) -> String {
        let status = self.end();
        let said = self.stderr();
        assert_eq!(status.code(), Some(1), "{}: {said}", self.name);
        let (_, reason) = said.rsplit_once("activity-stream: ").expect("a reason");
        reason.to_owned()
    }

    /// Lifts the limit of [`Setup::start_confined`], or sets another one.
    pub fn confine(&self, bytes: Option<u64>) {
        let soft = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        let status = Command::new("prlimit")
            .args(["--pid", &self.process.id().to_string(), &format!("--fsize={soft}:")])
            .status()
            .expect("'prlimit' of util-linux");
        assert!(status.success(), "prlimit: {status}");
    }

    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// It has not stopped on its own.
    #[track_caller]
    pub fn assert_running(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("{} ended by itself with {status}:\n{}", self.name, self.stderr());
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.stderr();
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("\n");
            super::say!("--- what {} said last\n{last}", self.name);
        }
    }
}

//! Helpers for tests of the whole program: the binary as a process that ends with its test, and brokers on this machine.
#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod poster;
mod waiting;

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use kafka::{Settings, Topics, embedded::EmbeddedBroker};
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
pub use waiting::holds_within;
use waiting::wait_within;

/// After this a test has failed, on a slow machine too.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The program, with nothing of this process's environment that would change what it does.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_activity-stream"));
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy().starts_with("ACTIVITY_STREAM_");
        if ours || name == "RUST_LOG" || name == "CLICOLOR_FORCE" {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

/// Starts a process with nothing that is open here, and with no signal ignored, as `nohup` leaves them. librdkafka leaves its
/// sockets open over an exec, and those of another test's broker would keep its port open after the broker is gone.
pub fn spawn(command: &mut Command) -> Child {
    use std::os::unix::process::CommandExt as _;

    let prepare = || {
        for signal in [libc::SIGHUP, libc::SIGINT] {
            // SAFETY: no handler of this process is set, only the default.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        #[cfg(target_os = "linux")]
        {
            // SAFETY: it closes nothing before the exec, and is a system call, which a child after a fork may make.
            let failed = unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
            if failed != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `prepare` neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) };
    let _forking = FORKING.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn().expect("the program starts")
}

/// Held while a child may still have what is open here: until its exec.
static FORKING: RwLock<()> = RwLock::new(());

/// Takes the only node of this broker away. It binds its port once more at once, which fails, and ends this process, while a
/// child holds it.
pub fn take_down(broker: &EmbeddedBroker) {
    let _no_child = FORKING.write().unwrap_or_else(PoisonError::into_inner);
    broker.cluster().broker_down(1).expect("it goes down");
}

/// What a process left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Exit code and both streams, as a snapshot shows them.
    pub fn transcript(&self) -> String {
        let code = self.status.code().map_or_else(|| self.status.to_string(), |code| code.to_string());
        let mut text = format!("exit {code}\n");
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                text.push_str(&format!("--- {name}\n{stream}"));
            }
        }
        text
    }

    /// Standard output, where the process ended well.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.status.success(), "{}", self.transcript());
        self.stdout
    }
}

/// Runs the program to its end with these bytes as its standard input.
#[track_caller]
pub fn run(command: Command, input: &[u8]) -> Finished {
    let mut running = Running::start_with_input(command, input);
    running.wait(PATIENCE)
}

/// A process that is killed when it goes out of scope.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    pub fn start(command: Command) -> Self {
        Self::start_with_input(command, b"")
    }

    pub fn start_with_input(mut command: Command, input: &[u8]) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(&mut command);
        let (stdout, stderr) = (Arc::default(), Arc::default());
        let mut readers = vec![
            gather(child.stdout.take().expect("piped"), Arc::clone(&stdout)),
            gather(child.stderr.take().expect("piped"), Arc::clone(&stderr)),
        ];
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_vec();
        // A program that ends without reading its input is not the test's failure.
        readers.push(thread::spawn(move || drop(stdin.write_all(&input))));
        Self { child, stdout, stderr, readers }
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().expect("never poisoned").clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("never poisoned").clone()
    }

    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub fn signal(&self, signal: Signal) {
        // Not waited for yet, so the id is still this child's.
        kill(Pid::from_raw(self.id()), signal).expect("the child is there");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> Finished {
        let mut status = None;
        let ended = holds_within(patience, || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert!(ended, "still running; stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        Finished { status: status.expect("ended"), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits until standard output has this number of lines, and returns them.
    #[track_caller]
    pub fn lines(&mut self, count: usize) -> Vec<String> {
        wait_until(&format!("{count} lines of output"), || {
            let complete = self.stdout().matches('\n').count() >= count;
            assert!(complete || self.is_running(), "ended early: {}", self.stderr());
            complete
        });
        self.stdout().lines().take(count).map(str::to_owned).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either may fail because it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(stream: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            into.lock().expect("never poisoned").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// Waits for it to come true, and fails the test where it does not.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, condition);
}

/// A folder that is removed with the value.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// An address of this machine at which nobody answers.
pub fn deaf_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// The topics of the default configuration.
pub fn topics(partitions: i32) -> Topics {
    Topics {
        commands: "activity.commands".into(),
        notifications: "activity.notifications".into(),
        rejections: "activity.rejections".into(),
        replies: contract::ReplyTopics::default(),
        partitions,
        replication_factor: 1,
        largest_command: 512 * 1024,
    }
}

/// Of the default group, with fetches that return soon.
pub fn settings(broker: &EmbeddedBroker, topics: Topics) -> Settings {
    Settings {
        bootstrap_servers: broker.bootstrap_servers(),
        group: "activity-stream".into(),
        properties: [("fetch.wait.max.ms".to_owned(), "10".to_owned())].into(),
        topics,
    }
}

/// A broker in this process, for as long as the value lives.
pub fn broker(partitions: i32) -> EmbeddedBroker {
    EmbeddedBroker::start(&topics(partitions)).expect("the embedded broker starts")
}

/// Runs the program to its end with nobody who reads its standard output.
#[track_caller]
pub fn run_unread(command: Command) -> Finished {
    let (reader, unread) = std::io::pipe().expect("a pipe");
    drop(reader);
    run_into(command, unread)
}

/// Runs the program to its end with this as its standard output.
#[track_caller]
pub fn run_into(mut command: Command, stdout: impl Into<Stdio>) -> Finished {
    command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    drop(command);
    let stderr = Arc::default();
    let readers = vec![gather(child.stderr.take().expect("piped"), Arc::clone(&stderr))];
    Running { child, stdout: Arc::default(), stderr, readers }.wait(PATIENCE)
}

//! The processor as a process among others: its standard error, signals, limits and its HTTP listener, beside an embedded
//! broker.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read, Write, pipe},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::support::{self, PATIENCE, Running, folder, holds_within, poster::Poster, program, wait_until};
use super::world::{self, broker, settings};
use activity_stream::admin::probe_ready;
use contract::Header;
use event_log::LogReader;
use kafka::embedded::EmbeddedBroker;
use nix::libc;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use serde_json::Value;

fn arguments(servers: &str, log: &Path, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["run", "--guarantee", "at-least-once", "-b", servers].map(String::from).into();
    arguments.extend(["-X", "fetch.wait.max.ms=10", "--log-file"].map(String::from));
    arguments.push(log.display().to_string());
    arguments.extend(more.iter().map(|&it| it.to_owned()));
    arguments
}

fn run(servers: &str, log: &Path, more: &[&str]) -> Command {
    let arguments = arguments(servers, log, more);
    program(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// `run` behind a line of shell that changes what it inherits.
fn run_behind(line: &str, servers: &str, log: &Path, more: &[&str]) -> Command {
    let program = run(servers, log, more);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{line}; exec \"$0\" \"$@\"")]).arg(program.get_program());
    shell.args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

fn post(broker: &EmbeddedBroker, count: usize) {
    let poster = Poster::new(&settings(broker)).unwrap();
    let value = format!(r#"{{"objectType":"case","objectId":"7","content":"{}"}}"#, "x".repeat(400));
    for _ in 0..count {
        poster.post(value.as_bytes(), &[]).unwrap();
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
}

fn decided(log: &Path) -> u64 {
    LogReader::open(log).map_or(0, |reader| reader.stats().unwrap().counts.events)
}

fn log_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("activity.db")
}

/// A process whose standard error is somebody else's matter; it is killed with the value.
struct Deaf(Child);

impl Deaf {
    fn start(mut command: Command, stderr: impl Into<Stdio>) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Self(support::spawn(command))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).expect("the child is there");
    }

    #[track_caller]
    fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        let ended = holds_within(PATIENCE, || {
            status = self.0.try_wait().expect("a child");
            status.is_some()
        });
        assert!(ended, "still running");
        status.unwrap().code()
    }

    #[track_caller]
    fn decides_and_stops(mut self, broker: &EmbeddedBroker, log: &Path) {
        for _ in 0..3 {
            post(broker, 100);
            let posted = u64::try_from(world::commands(broker)).unwrap();
            wait_until("decisions", || {
                assert!(self.0.try_wait().expect("a child").is_none(), "it ended");
                decided(log) == posted
            });
        }
        self.signal(Signal::SIGTERM);
        assert_eq!(self.wait(), Some(0));
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("a device that is always full")
}

/// So much is logged that each kind of standard error is in the way.
const EVERYTHING: [&str; 4] = ["--set", "telemetry.filter=trace", "-X", "debug=all"];

#[test]
fn decides_and_stops_with_standard_error_on_a_full_disk() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let process = Deaf::start(run(&broker.bootstrap_servers(), &log, &EVERYTHING), full());
    process.decides_and_stops(&broker, &log);
    // Nor does the reason of a failure change the exit code.
    let mut failing = Deaf::start(run("localhost:1", folder.path(), &["--set", "no.such=key"]), full());
    assert_eq!(failing.wait(), Some(1));
}

#[test]
fn decides_and_stops_with_standard_error_closed() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let closed = run_behind("exec 2>&-", &broker.bootstrap_servers(), &log, &EVERYTHING);
    Deaf::start(closed, Stdio::null()).decides_and_stops(&broker, &log);
    let failing = run_behind("exec 2>&-", "localhost:1", folder.path(), &["--set", "no.such=key"]);
    assert_eq!(Deaf::start(failing, Stdio::null()).wait(), Some(1));
}

#[test]
fn decides_and_stops_when_the_reader_of_standard_error_is_gone() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let (_, writer) = pipe().unwrap();
    let process = Deaf::start(run(&broker.bootstrap_servers(), &log, &EVERYTHING), writer);
    process.decides_and_stops(&broker, &log);
    let (_, writer) = pipe().unwrap();
    let mut failing = Deaf::start(run("localhost:1", folder.path(), &["--set", "no.such=key"]), writer);
    assert_eq!(failing.wait(), Some(1));
}

/// A pipe without room for a byte.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let bytes = unread_capacity(&writer);
    writer.write_all(&vec![b'.'; bytes]).unwrap();
    (reader, writer)
}

fn unread_capacity(writer: &PipeWriter) -> usize {
    // SAFETY: the descriptor is open; the call takes and gives numbers.
    let bytes = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_GETPIPE_SZ) };
    usize::try_from(bytes).expect("the size of a pipe")
}

#[test]
fn decides_and_stops_when_nobody_reads_standard_error() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let (mut reader, writer) = full_pipe();
    let address = free_address();
    let listen = format!("admin.listen={address}");
    let mut more = EVERYTHING.to_vec();
    more.extend(["--set", &listen]);
    let process = Deaf::start(run(&broker.bootstrap_servers(), &log, &more), writer);
    post(&broker, 100);
    wait_until("dropped lines", || {
        let metrics = TcpStream::connect(address).map(|_| get(address, "/metrics")).unwrap_or_default();
        let dropped =
            metrics.lines().find_map(|it| it.strip_prefix("activity_stream_log_lines_dropped_total "));
        dropped.is_some_and(|count| count != "0")
    });
    // Now somebody reads, and learns that lines are missing.
    let (found, reported) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut seen = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(1..) = reader.read(&mut chunk).inspect(|&read| seen.extend_from_slice(&chunk[..read])) {
            if String::from_utf8_lossy(&seen).contains("log lines were dropped: standard error was full") {
                let _ = found.send(());
                seen.clear();
            }
            seen.drain(..seen.len().saturating_sub(2 * chunk.len()));
        }
    });
    reported.recv_timeout(PATIENCE).expect("waited in vain for the number of dropped lines");
    drop(process);
    reading.join().unwrap();

    let (reader, writer) = full_pipe();
    let process = Deaf::start(run(&broker.bootstrap_servers(), &log, &EVERYTHING), writer);
    process.decides_and_stops(&broker, &log);
    // The reason of a failure is not waited for either.
    let (_reader, writer) = full_pipe();
    let mut failing = Deaf::start(program(&["log", "list", "--log-file", "/no/such/file"]), writer);
    assert_eq!(failing.wait(), Some(1));
    drop(reader);
}

#[test]
fn a_closed_terminal_stops_it_in_order_unless_that_is_ignored() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let mut running = Running::start(run(&broker.bootstrap_servers(), &log, &[]));
    post(&broker, 10);
    wait_until("decisions", || decided(&log) == 10);
    running.signal(Signal::SIGHUP);
    let finished = running.wait(PATIENCE);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
    assert!(finished.stderr.contains("SIGHUP: finishing what is in flight"), "{}", finished.stderr);

    let mut running = Running::start(run_behind("trap '' HUP", &broker.bootstrap_servers(), &log, &[]));
    post(&broker, 10);
    wait_until("decisions", || decided(&log) == 20);
    running.signal(Signal::SIGHUP);
    post(&broker, 10);
    wait_until("decisions behind nohup", || decided(&log) == 30);
    running.signal(Signal::SIGTERM);
    let finished = running.wait(PATIENCE);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
    assert!(!finished.stderr.contains("SIGHUP"), "{}", finished.stderr);
}

/// Raises what `ulimit -S -f` of the process set.
fn raise_file_size_limit(process: &Running) {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is read during the call, and the old one is not asked for.
    let raised =
        unsafe { libc::prlimit(process.id(), libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(raised, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_file_that_may_not_grow_is_waited_for_like_a_full_disk() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let limited = run_behind("ulimit -S -f 512", &broker.bootstrap_servers(), &log, &[]);
    let mut running = Running::start(limited);
    wait_until("the sentence", || {
        post(&broker, 500);
        assert!(running.is_running(), "{}", running.stderr());
        running.stderr().contains("the disk is full")
    });
    assert!(running.is_running());
    let posted = u64::try_from(world::commands(&broker)).unwrap();
    assert!(decided(&log) < posted);
    raise_file_size_limit(&running);
    wait_until("all decisions", || decided(&log) == posted);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(PATIENCE).status.code(), Some(0));
}

/// An idempotency key among more headers than librdkafka reads was no key at all.
#[test]
fn a_command_with_more_headers_than_can_be_read_is_rejected() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let mut running = Running::start(run(&broker.bootstrap_servers(), &log, &[]));
    let poster = Poster::new(&settings(&broker)).unwrap();
    for count in [100_000, 100_001] {
        let headers = vec![Header { name: b"h"[..].into(), value: None }; count];
        poster.post(br#"{"objectType":"case","objectId":"7"}"#, &headers).unwrap();
    }
    wait_until("decisions", || {
        poster.deliveries(Duration::from_millis(10));
        assert!(running.is_running(), "{}", running.stderr());
        let counts = LogReader::open(&log).map(|reader| reader.stats().unwrap().counts);
        counts.is_ok_and(|counts| (counts.events, counts.rejections) == (1, 1))
    });
    wait_until("the rejection", || {
        let servers = broker.bootstrap_servers();
        let list = program(&["rejections", "list", "--code", "unreadable_headers", "-b", &servers]);
        support::run(list, b"").stdout.contains("unreadable_headers")
    });
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(PATIENCE).status.code(), Some(0));
}

/// Kafka gives the membership to whoever came last.
#[test]
fn a_group_instance_id_that_another_process_took_stops_it() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let more = ["-X", "group.instance.id=one", "-X", "heartbeat.interval.ms=200"];
    let mut running = Running::start(run(&broker.bootstrap_servers(), &log, &more));
    post(&broker, 10);
    wait_until("decisions", || decided(&log) == 10);
    broker.cluster().request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID]);
    let finished = running.wait(PATIENCE);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.transcript());
    let reason = "joined the consumer group with the same group.instance.id";
    assert!(finished.stderr.contains(reason), "{}", finished.transcript());
}

/// Its session ended while it joined again, and nobody says so: others may have owned its partitions.
#[test]
fn a_static_member_that_comes_back_under_another_id_begins_again_and_loses_nothing() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let id = ["-X", "group.instance.id=one", "-X", "heartbeat.interval.ms=100"];
    let mut running = Running::start(run(&broker.bootstrap_servers(), &log, &id));
    post(&broker, 10);
    wait_until("decisions", || decided(&log) == 10);
    broker.cluster().request_errors(Api::JoinGroup, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    broker.cluster().request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS]);
    wait_until("the loss", || running.stderr().contains("partitions lost"));
    post(&broker, 10);
    wait_until("decisions after it", || decided(&log) == 20);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(PATIENCE).status.code(), Some(0));
}

/// A stop takes 5 s. This leaves time for a busy machine, and tells it from one that waits for brokers: for a delivery (35 s),
/// for the end of a request (60 s), or for ever.
const STOPPED: Duration = Duration::from_secs(30);

/// A broker that takes connections and says nothing.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn stops_while_a_broker_is_silent() {
    let folder = folder();
    let (listener, address) = silent();
    let mut running = Running::start(run(&address, &log_in(&folder), &[]));
    await_connection(&listener);
    running.signal(Signal::SIGTERM);
    let finished = running.wait(STOPPED);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());

    // In a session, with something in flight.
    let broker = broker();
    let log = log_in(&folder);
    let mut running = Running::start(run(&broker.bootstrap_servers(), &log, &[]));
    post(&broker, 10);
    wait_until("decisions", || decided(&log) == 10);
    post(&broker, 10);
    broker.cluster().broker_round_trip_time(1, Duration::from_secs(3600)).unwrap();
    running.signal(Signal::SIGTERM);
    let finished = running.wait(STOPPED);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
}

#[test]
fn tail_stops_while_a_broker_is_silent() {
    let (listener, address) = silent();
    let mut running = Running::start(program(&["tail", "notifications", "-b", &address]));
    await_connection(&listener);
    running.signal(Signal::SIGTERM);
    let finished = running.wait(STOPPED);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.transcript());
}

fn await_connection(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    wait_until("a connection", || listener.accept().is_ok());
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn half_open_connections_silence_neither_the_listener_nor_the_kafka_client() {
    let (broker, folder) = (broker(), folder());
    let log = log_in(&folder);
    let address = free_address();
    let listen = format!("admin.listen={address}");
    let more = ["--set", &listen, "-X", "connections.max.idle.ms=1000"];
    let process = run_behind("ulimit -n 256", &broker.bootstrap_servers(), &log, &more);
    let mut running = Running::start(process);
    wait_until("readiness", || probe_ready(address, Duration::from_secs(1)).is_ok());
    let half_open: Vec<_> = (0..340).map(|_| TcpStream::connect(address).expect("a connection")).collect();
    for _ in 0..3 {
        let live = get(address, "/livez");
        assert!(live.starts_with("HTTP/1.1 200"), "{live}");
        post(&broker, 100);
    }
    // Whatever is open besides: most of what the process may have is left for Kafka and the log.
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.id())).unwrap().count();
    assert!(open < 128, "{open} descriptors");
    // The client has to connect again.
    support::take_down(&broker);
    wait_until("the outage", || running.stderr().contains("librdkafka"));
    broker.cluster().broker_up(1).unwrap();
    post(&broker, 100);
    wait_until("decisions", || decided(&log) == 400);
    assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
    drop(half_open);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(PATIENCE).status.code(), Some(0));
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn the_reason_of_a_failure_is_one_line_of_the_format_of_the_log_lines() {
    let folder = folder();
    let json = ["--set", "telemetry.format=json"];
    // What is refused with telemetry running, and before.
    let no_log = program(&["log", "list", "--log-file", "/no/such/file", json[0], json[1]]);
    let two_bad_keys = program(&["check", json[0], json[1], "--set", "no.such=key", "--set", "other.key=x"]);
    for (command, problems) in [(no_log, 1), (two_bad_keys, 2)] {
        let finished = support::run(command, b"");
        assert_eq!(finished.status.code(), Some(1), "{}", finished.transcript());
        let lines: Vec<Value> =
            finished.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(lines.len(), problems, "{}", finished.stderr);
        for line in lines {
            assert_eq!((&line["level"], &line["target"]), (&"ERROR".into(), &"activity_stream".into()));
            assert!(line["message"].as_str().is_some_and(|it| !it.is_empty()), "{line}");
            assert!(line["timestamp"].as_str().is_some_and(|it| it.ends_with('Z')), "{line}");
        }
    }
    // A line break of somebody else's does not make two lines of one.
    let mut command = program(&["log", "list", "--log-file"]);
    command.arg(folder.path().join("no\nsuch\nfile"));
    let finished = support::run(command, b"");
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    assert!(finished.stderr.starts_with("activity-stream: "), "{}", finished.stderr);
}

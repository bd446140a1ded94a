//! The log's files, with processes: refused files, waits, and changes noticed while the processor runs.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::support::{
    PATIENCE, Running, broker, deaf_address, folder, poster::Poster, program, run, topics, wait_until,
};
use activity_stream::admin::probe_ready;
use event_log::LogReader;
use kafka::{Settings, embedded::EmbeddedBroker};
use nix::{sys::signal::Signal, sys::stat::Mode, unistd::mkfifo};
use rusqlite::Connection;

/// `run` on that log, ready to tell how it is at an address of its own.
fn processor(broker: &EmbeddedBroker, log: &Path) -> (Command, SocketAddr) {
    let admin = deaf_address();
    let brokers = broker.bootstrap_servers();
    let mut command = program(&["run", "--guarantee", "at-least-once", "-b", &brokers]);
    command.args(["-X", "session.timeout.ms=6000", "-X", "fetch.wait.max.ms=10"]);
    command.args(["--set", &format!("admin.listen={admin}"), "--log-file"]).arg(log);
    (command, admin.parse().expect("an address"))
}

fn readiness(admin: SocketAddr) -> Result<(), String> {
    probe_ready(admin, Duration::from_secs(5)).map_err(|error| format!("{error:#}"))
}

/// Posts this number of commands, and waits until the broker has them.
fn post(broker: &EmbeddedBroker, commands: usize) {
    let settings = Settings {
        bootstrap_servers: broker.bootstrap_servers(),
        group: "activity-stream".into(),
        properties: Default::default(),
        topics: topics(1),
    };
    let poster = Poster::new(&settings).unwrap();
    for number in 0..commands {
        let value = format!(r#"{{"objectType":"case","objectId":"{number}"}}"#);
        poster.post(value.as_bytes(), &[]).unwrap();
    }
    wait_until("deliveries", || {
        poster.deliveries(Duration::from_millis(10));
        poster.in_flight() == 0
    });
}

fn events(log: &Path) -> u64 {
    LogReader::open(log).ok().and_then(|log| log.stats().ok()).map_or(0, |stats| stats.counts.events)
}

fn beside(log: &Path, suffix: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[test]
fn every_command_refuses_what_is_not_a_regular_file() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let device = folder.path().join("device");
    std::os::unix::fs::symlink("/dev/null", &device).unwrap();
    let nobody = deaf_address();
    let backup = folder.path().join("backup.db");
    let cases: [(&str, &[&str]); 5] = [
        (fifo.to_str().unwrap(), &["is a FIFO"]),
        (device.to_str().unwrap(), &["is a device"]),
        (folder.path().to_str().unwrap(), &["is a directory"]),
        (":memory:", &["not the path of a file", "path"]),
        ("file:activity.db", &["not the path of a file", "path"]),
    ];
    for (path, wanted) in cases {
        let commands: [&[&str]; 8] = [
            &["run", "-b", &nobody, "--log-file", path],
            &["log", "list", "--log-file", path],
            &["log", "stats", "--log-file", path],
            &["log", "show", "01a20ada-2c7b-89d1-8003-000000003039", "--log-file", path],
            &["log", "rebuild", "--log-file", path],
            &["log", "backup", backup.to_str().unwrap(), "--log-file", path],
            &["check", "-b", &nobody, "--log-file", path],
            &["verify", "-b", &nobody, "--log", path],
        ];
        for arguments in commands {
            let mut command = program(arguments);
            command.current_dir(folder.path());
            let ended = run(command, b"");
            assert_ne!(ended.status.code(), Some(0), "{arguments:?}: {}", ended.transcript());
            let said = ended.transcript();
            // `verify` asks the brokers first.
            let asked = arguments[0] == "verify" && said.contains(&nobody);
            assert!(asked || wanted.iter().any(|text| said.contains(text)), "{arguments:?}: {said}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was made");
    assert!(fs::symlink_metadata(&device).unwrap().is_symlink());
}

/// Two containers with the one file of the log mounted into each have different folders around it.
#[test]
fn a_bind_mount_of_the_database_alone_is_locked_too() {
    let (folder, broker) = (folder(), broker(1));
    let log = folder.path().join("activity.db");
    let mounted = folder.path().join("other/mounted.db");
    fs::create_dir(mounted.parent().unwrap()).unwrap();
    fs::write(&mounted, "").unwrap();
    let (command, admin) = processor(&broker, &log);
    let running = Running::start(command);
    wait_until("readiness", || readiness(admin).is_ok());

    let (program, _) = processor(&broker, &mounted);
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
    command.arg("mount --bind \"$0\" \"$1\" || exit 99; shift; exec \"$@\"").args([&log, &mounted]);
    command.arg(program.get_program()).args(program.get_args());
    let ended = run(command, b"");
    if ended.status.code() == Some(99) || ended.stderr.contains("unshare:") {
        eprintln!("skipped: this machine lets nobody mount: {}", ended.stderr);
        return;
    }
    assert_eq!(ended.status.code(), Some(1), "{}", ended.transcript());
    assert!(ended.stderr.contains("locked: another process runs on the event log"), "{}", ended.stderr);
    assert!(!beside(&mounted, "-wal").exists() && !beside(&mounted, "-instance").exists());
    post(&broker, 100);
    wait_until("the first to go on", || events(&log) == 100);
    drop(running);
}

#[test]
fn a_removed_log_stops_an_idle_processor() {
    for suffix in ["", "-wal", "-instance"] {
        let (folder, broker) = (folder(), broker(1));
        let log = folder.path().join("activity.db");
        let (command, admin) = processor(&broker, &log);
        let mut running = Running::start(command);
        post(&broker, 10);
        wait_until("decisions", || events(&log) == 10);
        wait_until("readiness", || readiness(admin).is_ok());
        fs::remove_file(beside(&log, suffix)).unwrap();
        let ended = running.wait(PATIENCE);
        assert_eq!(ended.status.code(), Some(1), "{suffix}: {}", ended.transcript());
        let said = ended.stderr.lines().last().unwrap_or_default();
        assert!(said.contains("removed or replaced while the event log was open"), "{suffix}: {said}");
        assert!(said.contains(beside(&log, suffix).to_str().unwrap()), "{suffix}: {said}");
    }
}

#[test]
fn a_write_lock_of_another_program_is_waited_for() {
    let (folder, broker) = (folder(), broker(1));
    let log = folder.path().join("activity.db");
    let (command, admin) = processor(&broker, &log);
    let mut running = Running::start(command);
    post(&broker, 10);
    wait_until("decisions", || events(&log) == 10);

    let other = Connection::open(&log).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    post(&broker, 10);
    wait_until("it to say so", || {
        assert!(running.is_running(), "{}", running.stderr());
        readiness(admin).is_err_and(|reason| reason.contains("has held the write lock on the database"))
    });
    other.execute_batch("COMMIT").unwrap();
    wait_until("it to go on", || events(&log) == 20);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(PATIENCE).status.code(), Some(0));

    // And at the start.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (command, admin) = processor(&broker, &log);
    let mut running = Running::start(command);
    wait_until("it to say so", || {
        assert!(running.is_running(), "{}", running.stderr());
        readiness(admin).is_err_and(|reason| reason.contains("has held the write lock on the database"))
    });
    other.execute_batch("COMMIT").unwrap();
    post(&broker, 10);
    wait_until("it to go on", || events(&log) == 30);
}

#[test]
fn a_backup_ends_while_commands_arrive() {
    let (folder, broker) = (folder(), broker(1));
    let log = folder.path().join("activity.db");
    let (command, _) = processor(&broker, &log);
    let running = Running::start(command);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                post(&broker, 20);
            }
        });
        // Also if what follows fails.
        let _end = Ends(&done);
        wait_until("decisions", || events(&log) >= 200);
        for number in 0..3 {
            let copy = folder.path().join(format!("backup-{number}.db"));
            let mut command = program(&["log", "backup", "--json", "--log-file"]);
            command.arg(&log).arg(&copy);
            let before = events(&log);
            let ended = run(command, b"");
            assert_eq!(ended.status.code(), Some(0), "{}", ended.transcript());
            let copied = events(&copy);
            assert!(copied >= before && before > 0, "{copied} of {before} events");
            assert!(ended.stdout.contains(&format!("\"events\":{copied}")), "{}", ended.stdout);
            assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7, 0);
            assert!(!beside(&copy, "-instance").exists());
        }
        let inode = fs::metadata(folder.path().join("backup-0.db")).unwrap().ino();
        let mut command = program(&["log", "backup", "--log-file"]);
        command.arg(&log).arg(folder.path().join("backup-0.db"));
        let refused = run(command, b"");
        assert_eq!(refused.status.code(), Some(1), "{}", refused.transcript());
        assert_eq!(fs::metadata(folder.path().join("backup-0.db")).unwrap().ino(), inode);
    });
    drop(running);
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A log with this number of events, and nothing else in its folder.
fn filled(folder: &Path, commands: usize) -> PathBuf {
    let broker = broker(1);
    let log = folder.join("activity.db");
    let (mut command, _) = processor(&broker, &log);
    command.args(["--set", "log.read_model=false"]);
    let mut running = Running::start(command);
    post(&broker, commands);
    wait_until("decisions", || events(&log) == commands as u64);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(PATIENCE).status.code(), Some(0));
    log
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A file that may not grow fails as on a full disk.
#[test]
fn a_backup_that_finds_no_room_leaves_nothing() {
    let folder = folder();
    let log = filled(folder.path(), 500);
    let before = names(folder.path());
    let backup = folder.path().join("backup.db");
    let program = program(&["log", "backup", backup.to_str().unwrap()]);
    let mut command = Command::new("sh");
    // In blocks of 512 bytes, or of 1024: less than the backup, and enough for the log's own -shm file.
    command.args(["-c", "ulimit -f 64; exec \"$@\"", "sh"]);
    command.arg(program.get_program()).args(program.get_args()).arg("--log-file").arg(&log);
    let ended = run(command, b"");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.transcript());
    assert!(ended.stderr.contains("backup.db: the disk is full"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("full").count(), 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("append"), "{}", ended.stderr);
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_backup_of_a_damaged_log_is_refused_with_what_was_found() {
    let folder = folder();
    let log = filled(folder.path(), 20);
    let before = names(folder.path());
    let connection = Connection::open(&log).unwrap();
    connection.execute("UPDATE events SET timestamp = timestamp + 1 WHERE position = 7", []).unwrap();
    drop(connection);
    let mut command = program(&["log", "backup", "--log-file"]);
    command.arg(&log).arg(folder.path().join("backup.db"));
    let ended = run(command, b"");
    assert_eq!(ended.status.code(), Some(1), "{}", ended.transcript());
    assert!(ended.stderr.contains("table events, position 7: its checksum is"), "{}", ended.stderr);
    assert!(ended.stderr.contains("backup.db was not made"), "{}", ended.stderr);
    assert_eq!(names(folder.path()), before);
}

#[test]
fn the_folder_of_a_demonstration_is_private() {
    let folder = folder();
    let kept = folder.path().join("a/kept");
    let mut command = program(&["demo", "--data-dir"]);
    command.arg(&kept);
    run(command, b"").success();
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777 & !0o700, 0);
}

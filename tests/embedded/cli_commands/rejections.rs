use std::{
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, Output, Stdio},
};

use contract::Record;
use kafka::embedded::EmbeddedBroker;
use nix::sys::signal::Signal;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use tempfile::TempDir;

use super::{
    assert_output,
    samples::{SHARE, UPDATE, WRONG, publish, record},
};
use crate::support::{PATIENCE, Running, broker, folder, program, run, spawn, wait_until};

fn commands() -> Vec<Record> {
    let mut keyless = record(0, 5, Some(b"no json"), None);
    keyless.key = None;
    let mut far = record(7, 8, Some(WRONG.as_bytes()), None);
    far.coordinates.partition = 7;
    vec![
        record(0, 1, Some(UPDATE.as_bytes()), None),
        record(0, 3, Some(WRONG.as_bytes()), Some("mine")),
        record(0, 4, Some(WRONG.as_bytes()), None),
        keyless,
        far,
    ]
}

#[test]
fn lists_and_shows_what_was_refused_and_why() {
    let broker = broker(1);
    publish(&broker, &commands());
    let address = broker.bootstrap_servers();
    let rejections = |arguments: &[&str]| {
        let mut command = program(&["rejections"]);
        command.args(arguments).args(["-b", &address]);
        run(command, b"").transcript()
    };
    assert_output!("rejections-list", rejections(&["list"]));
    assert_output!("rejections-list-json", rejections(&["list", "--json"]));
    assert_output!("rejections-list-code", rejections(&["list", "--code", "misspelt_targets"]));
    assert_output!("rejections-list-code-json", rejections(&["list", "--code", "not_json", "--json"]));
    assert_output!("rejections-list-bad-code", rejections(&["list", "--code", "misspelt"]));
    assert_output!("rejections-show", rejections(&["show", "0:3"]));
    assert_output!("rejections-show-json", rejections(&["show", "0:5", "--json"]));
    assert_output!("rejections-show-none", rejections(&["show", "0:1"]));
    assert_output!("rejections-show-bad-place", rejections(&["show", "3"]));
    // Ids of 0:3 on this topic, and on one of another name.
    let by_id = rejections(&["show", "01a20ada-2c7b-89d1-8000-000000000003"]);
    assert_eq!(by_id, rejections(&["show", "0:3"]));
    let other = "01a20ada-2c7b-88a9-8000-000000000003";
    assert_output!("rejections-show-other-topic", rejections(&["show", other]));
    assert_output!("rejections-list-other-topic", rejections(&["list", "--at", "0:3", "--at", other]));
}

#[test]
fn a_replay_posts_once_however_often_it_is_done() {
    let (broker, folder) = (broker(1), folder());
    publish(&broker, &commands());
    let address = broker.bootstrap_servers();
    let replay = |arguments: &[&str]| {
        // Nothing is right now that was wrong, so all would be refused before they are posted.
        let mut command = program(&["rejections", "replay", "--no-check", "-b", &address]);
        command.args(arguments);
        run(command, b"").transcript()
    };
    assert_output!("rejections-replay-nothing-chosen", replay(&[]));
    assert_output!("rejections-replay-dry-run", replay(&["--code", "wrong_type", "--dry-run"]));
    assert_output!("rejections-replay-one", replay(&["--at", "0:5", "--json"]));
    // There are a rejection of another reason, and none at all.
    let places = ["--dry-run", "--at", "0:5", "--at", "0:1", "--at", "0:3"];
    assert_output!("rejections-replay-not-there", replay(&[&places[..], &["--code", "wrong_type"]].concat()));
    let other = ["--at", "0:5", "--at", "01a20ada-2c7b-88a9-8000-000000000003"];
    assert_output!("rejections-replay-other-topic", replay(&other));
    // Partition 7 is not there.
    assert_output!("rejections-replay-all", replay(&["--all"]));
    replay(&["--all"]);

    // What was wrong is now allowed: nothing is, here, so all are rejected again, each known by its key.
    let log = folder.path().join("activity.db");
    let path = log.to_str().unwrap();
    let mut command = program(&["run", "-b", &address, "--log-file", path, "--guarantee", "at-least-once"]);
    command.args(["-X", "fetch.wait.max.ms=10"]);
    let mut running = Running::start(command);
    let stats = || run(program(&["log", "stats", "--json", "--log-file", path]), b"").stdout;
    wait_until("decisions", || stats().contains(r#""commands":7,"#));
    running.signal(Signal::SIGTERM);
    assert!(running.wait(PATIENCE).status.success());
    let mut command = program(&["rejections", "list", "--json", "--code", "not_json", "-b", &address]);
    command.args(["--at", "0:0"]);
    assert!(run(command, b"").stdout.contains("not_json"));
    // The seven replays that were refused are no commands of their own.
    let dry = replay(&["--all", "--dry-run"]);
    assert!(dry.contains("11 rejections: 3 would be posted, 7 repeated, 1 not"), "{dry}");
}

/// What nothing was changed about is not posted to be rejected once more.
#[test]
fn reports_and_skips_commands_that_would_be_rejected_again() {
    let broker = broker(1);
    publish(&broker, &commands());
    let address = broker.bootstrap_servers();
    let replay = |arguments: &[&str]| {
        let mut command = program(&["rejections", "replay", "-b", &address, "--all"]);
        command.args(arguments);
        run(command, b"").transcript()
    };
    assert_output!("rejections-replay-invalid", replay(&[]));
    assert_output!("rejections-replay-invalid-json", replay(&["--json"]));
    assert_output!("rejections-replay-invalid-dry-run", replay(&["--dry-run"]));
    let mut client = ClientConfig::new();
    let client: BaseConsumer = client.set("bootstrap.servers", &address).create().unwrap();
    assert_eq!(client.fetch_watermarks("activity.commands", 0, PATIENCE).unwrap(), (0, 0));
}

/// A broker, and a log beside it, where commands were refused for their size.
struct TooLarge {
    broker: EmbeddedBroker,
    folder: TempDir,
}

impl TooLarge {
    /// Posts this many commands without a key of their own.
    fn new(count: usize) -> Self {
        let too_large = Self { broker: broker(1), folder: folder() };
        let posted = run(too_large.program(&["post"]), format!("{SHARE}\n").repeat(count).as_bytes());
        assert!(posted.status.success(), "{}", posted.stderr);
        let mut running = too_large.start("limits.value_bytes=10");
        wait_until("rejections", || too_large.counts(&format!(r#""rejections":{count},"#)));
        running.signal(Signal::SIGTERM);
        assert!(running.wait(PATIENCE).status.success());
        too_large
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = program(arguments);
        command.args(["-b", &self.broker.bootstrap_servers(), "--log-file"]);
        command.arg(self.folder.path().join("activity.db"));
        command
    }

    fn start(&self, limit: &str) -> Running {
        let mut command = self.program(&["run", "--guarantee", "at-least-once"]);
        command.args(["-X", "fetch.wait.max.ms=10", "--set", limit]);
        Running::start(command)
    }

    /// Whether `log stats` says so.
    fn counts(&self, what: &str) -> bool {
        run(self.program(&["log", "stats", "--json"]), b"").stdout.contains(what)
    }

    fn replay(&self) -> Command {
        self.program(&["rejections", "replay", "--code", "too_large"])
    }

    /// Commands on the topic.
    fn commands(&self) -> i64 {
        let mut config = ClientConfig::new();
        let client: BaseConsumer =
            config.set("bootstrap.servers", self.broker.bootstrap_servers()).create().unwrap();
        client.fetch_watermarks("activity.commands", 0, PATIENCE).unwrap().1
    }
}

/// A command that a lower limit refused is accepted when the limit is back, once.
#[test]
fn after_a_changed_limit_a_replay_is_accepted_once() {
    let too_large = TooLarge::new(1);
    for _ in 0..2 {
        let replayed = run(too_large.replay(), b"");
        assert!(replayed.status.success(), "{}", replayed.transcript());
    }
    let _running = too_large.start("limits.value_bytes=512KiB");
    wait_until("the replays", || {
        too_large.counts(r#""commands":3,"events":1,"duplicates":1,"rejections":1,"#)
    });
}

#[test]
fn a_replay_that_was_killed_is_done_again() {
    const COUNT: i64 = 4000;
    let too_large = TooLarge::new(COUNT as usize);
    // Nobody reads more than a line, so it waits at a full pipe, with some posted and some not.
    let mut killed = too_large.replay();
    let mut killed = spawn(killed.stdin(Stdio::null()).stdout(Stdio::piped()));
    let _rest = read_line(&mut killed);
    killed.kill().unwrap();
    assert!(!killed.wait().unwrap().success());
    let replayed = run(too_large.replay(), b"");
    assert!(replayed.stdout.ends_with("4000 rejections: 4000 posted\n"), "{}", replayed.stderr);
    let commands = too_large.commands();
    assert!((2 * COUNT + 1..3 * COUNT).contains(&commands), "{commands}");
    let _running = too_large.start("limits.value_bytes=512KiB");
    let wanted = format!(
        r#""commands":{commands},"events":{COUNT},"duplicates":{},"rejections":{COUNT},"#,
        commands - 2 * COUNT
    );
    wait_until("the replays", || too_large.counts(&wanted));
}

/// Rejections that print more than a pipe and a buffer hold.
fn many(count: i64) -> Vec<Record> {
    (0..count).map(|offset| record(0, offset, Some(WRONG.as_bytes()), None)).collect()
}

/// Reads the first line; the pipe is closed with what comes back.
fn read_line(child: &mut Child) -> impl Read + use<> {
    let mut line = String::new();
    let mut stdout = BufReader::with_capacity(1, child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("0:0"), "{line}");
    stdout
}

/// Reads the first line only, as `head -n 1` does.
fn first_line(arguments: &[&str]) -> Output {
    let mut command = program(&["rejections"]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(&mut command);
    drop(read_line(&mut child));
    child.wait_with_output().unwrap()
}

#[test]
fn a_reader_that_stops_early_is_an_error_only_if_something_was_to_be_posted() {
    let broker = broker(1);
    publish(&broker, &many(3000));
    let address = broker.bootstrap_servers();
    // A dry run's exit code is an answer, read or not: these would be rejected again.
    let commands: [(&[&str], i32); 3] = [
        (&["list", "--code", "wrong_type"], 0),
        (&["replay", "--all", "--dry-run", "--no-check"], 0),
        (&["replay", "--all", "--dry-run"], 1),
    ];
    for (arguments, code) in commands {
        let output = first_line(&[arguments, &["-b", &address]].concat());
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(code), &b""[..]), "{output:?}");
    }
    let output = first_line(&["replay", "--all", "--no-check", "-b", &address]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not all commands were posted"), "{said}");
}

#[test]
fn does_nothing_without_rejections() {
    let broker = broker(2);
    let address = broker.bootstrap_servers();
    let rejections = |arguments: &[&str]| {
        let mut command = program(&["rejections"]);
        command.args(arguments).args(["-b", &address]);
        run(command, b"").success()
    };
    assert_eq!(rejections(&["list"]), "0 rejections\n");
    assert_eq!(rejections(&["list", "--json", "--code", "too_large"]), "");
    assert_eq!(rejections(&["replay", "--all"]), "0 rejections: 0 posted\n");
    assert_eq!(rejections(&["replay", "--code", "too_large", "--json"]), "");
}

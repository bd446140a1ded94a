use activity_stream::activity::Record;

use nix::sys::signal::Signal;

use crate::{
    assert_output,
    samples::{SHARE, UPDATE, WRONG, publish, record},
    support::{PATIENCE, Running, broker, folder, program, run, wait_until},
};

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
}

#[test]
fn a_replay_posts_once_however_often_it_is_done() {
    let (broker, folder) = (broker(1), folder());
    publish(&broker, &commands());
    let address = broker.bootstrap_servers();
    let replay = |arguments: &[&str]| {
        let mut command = program(&["rejections", "replay", "-b", &address]);
        command.args(arguments);
        run(command, b"").transcript()
    };
    assert_output!("rejections-replay-nothing-chosen", replay(&[]));
    assert_output!("rejections-replay-dry-run", replay(&["--code", "wrong_type", "--dry-run"]));
    assert_output!("rejections-replay-one", replay(&["--at", "0:5", "--json"]));
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
    assert!(dry.contains("11 rejections: 4 would be posted, 7 repeated"), "{dry}");
}

/// A command that a lower limit refused is accepted when the limit is back, once.
#[test]
fn after_a_changed_limit_a_replay_is_accepted_once() {
    let (broker, folder) = (broker(1), folder());
    let address = broker.bootstrap_servers();
    let log = folder.path().join("activity.db");
    let path = log.to_str().unwrap().to_owned();
    let start = |limit: &str| {
        let mut command =
            program(&["run", "-b", &address, "--log-file", &path, "--guarantee", "at-least-once"]);
        command.args(["-X", "fetch.wait.max.ms=10", "--set", limit]);
        Running::start(command)
    };
    let count = |what: &str| {
        let stats = run(program(&["log", "stats", "--json", "--log-file", &path]), b"").stdout;
        stats.contains(what)
    };
    let posted = run(program(&["post", "-b", &address]), format!("{SHARE}\n").as_bytes());
    assert!(posted.status.success(), "{}", posted.transcript());
    let mut running = start("limits.value_bytes=10");
    wait_until("a rejection", || count(r#""rejections":1,"#));
    running.signal(Signal::SIGTERM);
    assert!(running.wait(PATIENCE).status.success());
    for _ in 0..2 {
        let replay = ["rejections", "replay", "--code", "too_large", "-b", &address];
        let replayed = run(program(&replay), b"");
        assert!(replayed.status.success(), "{}", replayed.transcript());
    }
    let _running = start("limits.value_bytes=512KiB");
    wait_until("the replays", || count(r#""commands":3,"events":1,"duplicates":1,"rejections":1,"#));
}

//! Exit codes if nobody reads the output.

use std::{fs::File, path::Path, process::Command};

use rusqlite::Connection;

use super::samples::{WRONG, fill_log, publish, record};
use crate::support::{Finished, broker, deaf_address, folder, program, run, run_into, run_unread};

fn damage(log: &Path) {
    let change = "UPDATE events SET json = replace(json, 'case', 'cave') WHERE position = 2; \
                  UPDATE gaps SET next_offset = 3";
    Connection::open(log).unwrap().execute_batch(change).unwrap();
}

#[track_caller]
fn assert_code(finished: &Finished, wanted: i32) {
    assert_eq!(finished.status.code(), Some(wanted), "{}", finished.transcript());
}

/// Makes a new command for each way to run it.
#[track_caller]
fn assert_same_unread(wanted: i32, command: impl Fn() -> Command) {
    assert_code(&run(command(), b""), wanted);
    assert_code(&run_unread(command()), wanted);
}

#[test]
fn an_exit_code_that_is_an_answer_stays_so_when_nobody_reads_the_output() {
    let folder = folder();
    let log = fill_log(folder.path());
    let path = log.to_str().unwrap();
    let commands: [&[&str]; 4] =
        [&["log", "check"], &["log", "check", "--json"], &["log", "stats"], &["log", "stats", "--json"]];
    let all_have = |code| {
        for arguments in commands {
            assert_same_unread(code, || program(&[arguments, &["--log-file", path]].concat()));
        }
    };
    all_have(0);
    damage(&log);
    all_have(1);
    let deaf = deaf_address();
    for json in [None, Some("--json")] {
        let check = || {
            let mut command = program(&["check", "-b", &deaf, "--log-file", "/dev/null"]);
            command.args(json);
            command
        };
        assert_same_unread(1, check);
    }
    let address = format!("admin.listen={deaf}");
    assert_same_unread(1, || program(&["check", "--ready", "--json", "--set", &address]));
}

#[test]
fn a_dry_run_that_would_not_post_everything_says_so_when_nobody_reads_the_output() {
    let broker = broker(1);
    publish(&broker, &[record(0, 0, Some(WRONG.as_bytes()), None)]);
    let address = broker.bootstrap_servers();
    assert_same_unread(1, || program(&["rejections", "replay", "--dry-run", "--all", "-b", &address]));
}

#[test]
fn a_command_that_only_shows_something_is_done_when_nobody_reads_on() {
    let folder = folder();
    let log = fill_log(folder.path());
    let path = log.to_str().unwrap();
    let broker = broker(1);
    publish(&broker, &[record(0, 0, Some(WRONG.as_bytes()), None)]);
    let address = broker.bootstrap_servers();
    let commands: [&[&str]; 7] = [
        &["log", "list", "--log-file", path],
        &["log", "list", "--json", "--log-file", path],
        &["log", "show", "0:1", "--log-file", path],
        &["schema", "asyncapi"],
        &["rejections", "list", "-b", &address],
        &["rejections", "show", "0:0", "-b", &address],
        // It would go on for ever.
        &["tail", "rejections", "--from", "beginning", "-b", &address],
    ];
    for arguments in commands {
        let finished = run_unread(program(arguments));
        assert_code(&finished, 0);
        assert!(!finished.stderr.contains("activity-stream:"), "{arguments:?}: {}", finished.stderr);
    }
}

#[test]
fn damage_that_a_list_has_met_is_an_answer_when_nobody_reads_on() {
    let folder = folder();
    let log = fill_log(folder.path());
    damage(&log);
    for json in [None, Some("--json")] {
        let list = || {
            let mut command = program(&["log", "list", "--log-file", log.to_str().unwrap()]);
            command.args(json);
            command
        };
        assert_same_unread(1, list);
        let finished = run_unread(list());
        assert!(finished.stderr.contains("table events, position 2"), "{}", finished.stderr);
    }
}

#[test]
fn reports_output_that_does_not_fit_on_the_disk() {
    let folder = folder();
    let log = fill_log(folder.path());
    let path = log.to_str().unwrap();
    let commands: [&[&str]; 6] = [
        &["log", "list", "--log-file", path],
        &["log", "check", "--log-file", path],
        &["schema", "command"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
    ];
    for arguments in commands {
        let finished = run_into(program(arguments), File::create("/dev/full").unwrap());
        assert_code(&finished, 1);
        let wanted = "activity-stream: can't write to standard output: No space left on device";
        assert!(finished.stderr.starts_with(wanted), "{arguments:?}: {}", finished.stderr);
        assert_eq!(finished.stderr.matches("No space left").count(), 1, "{}", finished.stderr);
    }
    assert_code(&run_unread(program(&["--help"])), 0);
    assert_code(&run_into(program(&["no-such-command"]), File::create("/dev/full").unwrap()), 2);
}

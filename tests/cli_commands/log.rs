use std::fs;

use activity_stream::activity::{ActivityId, Coordinates, topic_bits};

use crate::{
    assert_output,
    samples::{MIDNIGHT, TOPIC, fill_log, open_log},
    support::{folder, program, run},
};

fn id(topic: &str, partition: i32, offset: i64, timestamp: i64) -> String {
    ActivityId::new(topic_bits(topic), Coordinates { partition, offset, timestamp }).to_string()
}

#[test]
fn lists_events() {
    let folder = folder();
    let path = fill_log(folder.path());
    let list = |arguments: &[&str]| {
        let mut command = program(&["log", "list", "--log-file", path.to_str().unwrap()]);
        command.args(arguments);
        run(command, b"").transcript()
    };
    let positions = |arguments: &[&str]| -> Vec<i64> {
        let output = list(&[arguments, &["--json"]].concat());
        let lines = output.lines().filter(|line| line.starts_with('{'));
        lines
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["position"].as_i64().unwrap()
            })
            .collect()
    };
    assert_output!(fixed "log-list", list(&[]));
    assert_output!(fixed "log-list-json", list(&["--json"]));
    assert_eq!(positions(&["--order", "descending"]), [3, 2, 1]);
    assert_eq!(positions(&["--order", "descending", "--limit", "2"]), [3, 2]);
    assert!(positions(&["--limit", "0"]).is_empty());
    assert_eq!(positions(&["--object", "customer/42"]), [1, 3]);
    assert!(positions(&["--object", "customer/43"]).is_empty());
    // Since includes its moment, until does not.
    assert_eq!(positions(&["--since", "2026-11-24T00:01:00Z"]), [2, 3]);
    assert_eq!(positions(&["--since", "2026-11-24T00:01:00.0000001Z"]), [3]);
    assert_eq!(positions(&["--until", "2026-11-24T00:01:00Z"]), [1]);
    assert_eq!(positions(&["--since", "2026-11-24", "--until", "2026-11-24T00:05:00.001Z"]), [1, 2, 3]);
    assert_output!(fixed "log-list-bad-object", list(&["--object", "customer"]));
    assert_output!(fixed "log-list-bad-since", list(&["--since", "soon"]));
}

#[test]
fn the_read_model_is_rebuilt_and_answers_as_the_log_does() {
    let folder = folder();
    let path = fill_log(folder.path());
    let log = |arguments: &[&str]| {
        let mut command = program(&["log"]);
        command.args(arguments).args(["--log-file", path.to_str().unwrap()]);
        run(command, b"").transcript()
    };
    let list = ["list", "--object", "customer/42", "--json"];
    let scanned = log(&list);
    assert_output!("log-rebuild", log(&["rebuild"]));
    assert!(folder.path().join("activity.db-read-model").exists());
    assert_eq!(log(&list), scanned);
    assert_output!(fixed "log-stats-read-model", log(&["stats"]));
    assert!(log(&["stats", "--json"]).contains(r#""read_model":{"covered":3,"behind":0}"#));
    assert!(log(&["rebuild", "--json"]).contains(r#""events":3}"#));
}

#[test]
fn shows_what_became_of_a_command() {
    let folder = folder();
    let path = fill_log(folder.path());
    let minute = |offset: i64| MIDNIGHT + offset * 60_000;
    let cases = [
        ("event", id(TOPIC, 0, 0, minute(0))),
        ("duplicate", id(TOPIC, 0, 2, minute(2))),
        ("rejection", id(TOPIC, 0, 3, minute(3))),
        ("rejection-without-time", id(TOPIC, 0, 4, -1)),
        ("other-topic", id("other", 0, 0, minute(0))),
        ("unknown-partition", id(TOPIC, 9, 0, minute(0))),
        ("not-yet", id(TOPIC, 0, 6, minute(6))),
        ("in-gap", id(TOPIC, 3, 2, minute(2))),
        ("other-command", id(TOPIC, 0, 0, minute(1))),
        ("no-command", id(TOPIC, 0, 5, minute(5))),
        ("no-activity-id", "67e55044-10b1-426f-9247-bb680e5fe0c8".to_owned()),
        ("no-id", "42".to_owned()),
    ];
    for (name, id) in cases {
        let show = |json: &[&str]| {
            let mut command = program(&["log", "show", &id, "--log-file", path.to_str().unwrap()]);
            command.args(json);
            run(command, b"").transcript()
        };
        assert_output!(fixed format!("log-show-{name}"), show(&[]));
        if show(&[]).starts_with("exit 0") {
            assert_output!(fixed format!("log-show-{name}-json"), show(&["--json"]));
        } else {
            assert_eq!(show(&[]), show(&["--json"]));
        }
    }
}

#[test]
fn counts() {
    let folder = folder();
    let path = fill_log(folder.path());
    let stats = |path: &str, json: &[&str]| {
        let mut command = program(&["log", "stats", "--log-file", path]);
        command.args(json);
        run(command, b"").transcript()
    };
    let path = path.to_str().unwrap();
    assert_output!(fixed "log-stats", stats(path, &[]));
    assert_output!(fixed "log-stats-json", stats(path, &["--json"]));
    let empty = folder.path().join("empty.db");
    // Open while it is read.
    let _writer = open_log(empty.clone());
    assert_output!(fixed "log-stats-empty", stats(empty.to_str().unwrap(), &[]));
}

#[test]
fn says_what_is_wrong_with_a_file() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("foreign.db"), "not a database, and longer than the header of one is. ".repeat(4))
        .unwrap();
    for (name, file) in [("missing", "none.db"), ("foreign", "foreign.db"), ("folder", ".")] {
        let output = run(program(&["log", "list", "--log-file", &path(file)]), b"");
        assert_output!(fixed format!("log-{name}"), output.transcript());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "reading made no file");
}

use std::{fs, path::Path};

use contract::{ActivityId, Coordinates, topic_bits};
use event_log::{Chunk, Gap, Intervention};
use rusqlite::Connection;

use super::{
    assert_output,
    samples::{MIDNIGHT, TOPIC, UPDATE, decider, fill_log, open_log, record},
};
use crate::support::{folder, program, run, run_unread};

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
        ("place-unknown-partition", "9:0".to_owned()),
        ("place-not-yet", "0:6".to_owned()),
        ("place-in-gap", "3:2".to_owned()),
        ("place-no-command", "0:5".to_owned()),
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

/// As the other commands name one.
#[test]
fn a_command_is_shown_by_its_place_too() {
    let folder = folder();
    let path = fill_log(folder.path());
    let show = |named: &str, json: &[&str]| {
        let mut command = program(&["log", "show", named, "--log-file", path.to_str().unwrap()]);
        command.args(json);
        run(command, b"").success()
    };
    for (offset, timestamp) in [(0, MIDNIGHT), (2, MIDNIGHT + 120_000), (3, MIDNIGHT + 180_000), (4, -1)] {
        let (id, place) = (id(TOPIC, 0, offset, timestamp), format!("0:{offset}"));
        assert_eq!(show(&place, &[]), show(&id, &[]));
        assert_eq!(show(&place, &["--json"]), show(&id, &["--json"]));
    }
}

/// What `--json` prints of times is what `--since` reads, so one leads to the other.
#[test]
fn times_of_json_are_those_of_since() {
    let folder = folder();
    let path = fill_log(folder.path());
    let list = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let mut command = program(&["log", "list", "--json", "--log-file", path.to_str().unwrap()]);
        command.args(arguments);
        run(command, b"").success().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = list(&[]);
    let since = all[1]["timestamp"].as_str().expect("a date-time");
    assert_eq!(list(&["--since", since]), all[1..]);
}

/// One start with a flag concerns all partitions, with other numbers in each.
#[test]
fn prints_a_loss_accepted_for_several_partitions_once() {
    let folder = folder();
    let path = folder.path().join("activity.db");
    let mut log = open_log(path.clone());
    for partition in 0..6 {
        let intervention = Intervention {
            at: MIDNIGHT + i64::from(partition),
            flag: "lost-commands".into(),
            details: format!(
                "partition {partition}: commands were deleted: it holds {} to 20",
                partition + 2
            ),
        };
        let gap = Gap {
            first_offset: 0,
            next_offset: i64::from(partition) + 2,
            reason: "deleted before they were decided".into(),
        };
        log.record_intervention(partition, &intervention, 1).unwrap();
        log.start_partition(partition, Some(gap), Some(1)).unwrap();
    }
    drop(log);
    let output = run(program(&["log", "stats", "--log-file", path.to_str().unwrap()]), b"").success();
    for said in ["commands were deleted", "deleted before they were decided"] {
        assert_eq!(output.matches(said).count(), 1, "{output}");
    }
    assert!(output.contains("partitions 0, 1, 2, 3, 4, 5 at 2026-11-24T00:00:00.000Z: commands"), "{output}");
    assert!(output.contains("it holds 2/3/4/5/6/7 to 20"), "{output}");
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

/// Changes the file as a disk might, without the program.
fn change(path: &Path, change: &str) {
    Connection::open(path).unwrap().execute_batch(change).unwrap();
}

fn log(path: &Path, arguments: &[&str]) -> String {
    let mut command = program(&["log"]);
    command.args(arguments).args(["--log-file", path.to_str().unwrap()]);
    run(command, b"").transcript()
}

#[test]
fn names_damaged_rows_and_lists_the_others() {
    let folder = folder();
    let path = fill_log(folder.path());
    assert_output!(fixed "log-check", log(&path, &["check"]));
    assert_output!(fixed "log-check-json", log(&path, &["check", "--json"]));
    change(
        &path,
        "UPDATE events SET json = replace(json, 'case', 'cave') WHERE position = 2; \
         UPDATE gaps SET next_offset = 3",
    );
    let damaged = id(TOPIC, 0, 1, MIDNIGHT + 60_000);
    assert_output!(fixed "log-damaged-list", log(&path, &["list"]));
    assert_output!(fixed "log-damaged-list-json", log(&path, &["list", "--order", "descending", "--json"]));
    assert_output!(fixed "log-damaged-show", log(&path, &["show", &damaged]));
    assert_output!(fixed "log-damaged-stats", log(&path, &["stats"]));
    assert_output!(fixed "log-damaged-check", log(&path, &["check"]));
    assert_output!(fixed "log-damaged-check-json", log(&path, &["check", "--json"]));
}

#[test]
fn a_log_of_schema_version_1_is_shown_and_its_check_says_that_it_has_no_checksums() {
    let folder = folder();
    let path = folder.path().join("activity.db");
    fs::copy("crates/event-log/tests/fixtures/event-log-v1.sqlite", &path).unwrap();
    assert_output!(fixed "log-version-1-check", log(&path, &["check"]));
    assert!(log(&path, &["check", "--json"]).contains(r#""checksums":false"#));
    // Without a checksum only what is no JSON shows.
    change(&path, "UPDATE events SET json = '}' WHERE position = 2");
    let list = log(&path, &["list", "--limit", "2"]);
    assert!(list.starts_with("exit 1\n") && list.contains("position 2: its JSON is unreadable"), "{list}");
    let shown = list.lines().find(|line| line.contains("case/")).unwrap();
    assert!(log(&path, &["show", shown.split(' ').next().unwrap()]).starts_with("exit 0\n"), "{list}");
}

#[test]
fn a_damaged_last_position_ends_no_command() {
    let folder = folder();
    let path = fill_log(folder.path());
    change(&path, "UPDATE events SET position = 4611686018427387904 WHERE position = 3");
    for arguments in [
        &["list"][..],
        &["list", "--order", "descending"],
        &["list", "--object", "customer/42"],
        &["list", "--since", "2020-01-01"],
        &["check"],
    ] {
        let found = log(&path, arguments);
        assert!(found.starts_with("exit 1\n"), "{found}");
        assert!(
            found.contains("table events, positions 3 to 4611686018427387903: the row is missing"),
            "{found}"
        );
        assert!(found.contains("table events, position 4611686018427387904: its checksum is"), "{found}");
    }
}

#[test]
fn offsets_that_no_row_can_have_are_answered() {
    let folder = folder();
    let path = fill_log(folder.path());
    let beyond = log(&path, &["show", "0:9223372036854775807"]);
    assert!(beyond.starts_with("exit 1\n") && beyond.contains("is only at offset 6 there"), "{beyond}");

    fs::copy("crates/event-log/tests/fixtures/event-log-v1.sqlite", &path).unwrap();
    let shown = log(&path, &["list", "--limit", "1", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(shown.lines().nth(2).unwrap()).unwrap();
    let place = format!("{}:{}", shown["partition"], shown["offset"]);
    for offset in [0, i64::MAX] {
        change(&path, &format!("UPDATE events SET offset = {offset} WHERE position = 1"));
        for arguments in [&["show", &place][..], &["check"]] {
            let found = log(&path, arguments);
            assert!(found.starts_with("exit 1\n") && found.contains("table events, position 1: "), "{found}");
        }
    }
}

#[test]
fn every_reader_of_the_log_reports_a_damaged_wal_file() {
    let folder = folder();
    let mut running = open_log(folder.path().join("running.db"));
    for offset in 0..4 {
        let verdicts = vec![decider().read(&record(0, offset, Some(UPDATE.as_bytes()), None))];
        running.append(vec![Chunk { partition: 0, next_offset: offset + 1, verdicts }], &[]).unwrap();
    }
    assert_output!(fixed "log-check-in-use", log(running.files().database(), &["check"]));
    assert!(log(running.files().database(), &["check", "--json"]).contains(r#""wal_checked":false"#));
    // As a kill leaves it.
    let path = folder.path().join("activity.db");
    for suffix in ["", "-wal"] {
        fs::copy(
            folder.path().join(format!("running.db{suffix}")),
            folder.path().join(format!("activity.db{suffix}")),
        )
        .unwrap();
    }
    assert!(log(&path, &["check"]).starts_with("exit 0\n"));
    let wal = folder.path().join("activity.db-wal");
    let mut bytes = fs::read(&wal).unwrap();
    let end = bytes.len();
    // In the second last append, so that the last one goes as well.
    bytes[end - end / 3] ^= 4;
    fs::write(&wal, bytes).unwrap();
    assert_output!(fixed "log-check-wal", log(&path, &["check"]));
    let backup = folder.path().join("backup.db");
    for arguments in [&["list"][..], &["show", "0:0"], &["stats"], &["backup", backup.to_str().unwrap()]] {
        let found = log(&path, arguments);
        assert!(found.starts_with("exit 1\n"), "{found}");
        assert!(
            found.contains("the -wal file: frame ") && found.contains("events may be missing"),
            "{found}"
        );
    }
    assert!(!backup.exists());
    let unread = run_unread(program(&["log", "list", "--log-file", path.to_str().unwrap()]));
    assert_eq!(unread.status.code(), Some(1), "{}", unread.stderr);
    drop(open_log(path.clone()));
    assert!(log(&path, &["check"]).starts_with("exit 0\n"), "the appends that are left are in the database");
}

#[test]
fn no_flipped_bit_makes_a_list_wrong_in_silence() {
    let folder = folder();
    let path = fill_log(folder.path());
    let bytes = fs::read(&path).unwrap();
    let wanted = log(&path, &["list", "--json"]);
    let events: Vec<_> = wanted.lines().filter(|line| line.starts_with('{')).collect();
    let mut random = fastrand::Rng::with_seed(4);
    let used: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut noticed = 0;
    for _ in 0..100 {
        let (at, bit) = (used[random.usize(..used.len())], random.u32(..8));
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        fs::write(&path, flipped).unwrap();
        let found = log(&path, &["list", "--json"]);
        assert!(found == wanted || found.starts_with("exit 1\n"), "byte {at} bit {bit}: {found}");
        assert!(!found.contains("panicked"), "byte {at} bit {bit}: {found}");
        let listed = found.lines().filter(|line| line.starts_with('{'));
        assert!(listed.clone().all(|line| events.contains(&line)), "byte {at} bit {bit}: {found}");
        noticed += usize::from(found != wanted);
    }
    assert!(noticed > 10);
}

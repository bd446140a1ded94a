//! `demo`, as people and scripts run it.

use std::fs;

use super::support::{self, Running, folder, program, run};
use event_log::LogReader;
use nix::sys::signal::Signal;
use serde_json::Value;

/// Examples of the contract.
const CALLS: [&str; 5] = [
    "tests/examples/1-everyone.json",
    "tests/examples/2-administrators-only.json",
    "tests/examples/3-notify-accounting.json",
    "tests/examples/4-file-attachment.json",
    "tests/examples/5-on-a-case.json",
];

fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "[id]");
    settings.add_filter(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "[time]");
    // A command that names no object has no key, and goes into any partition.
    settings.add_filter(r#""partition":[0-9]+,"offset":[0-9]+"#, r#""partition":[n],"offset":[n]"#);
    settings
}

/// The lines of `--json`, the summary last.
fn json_lines(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn outcomes(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["outcome"].as_str()).collect()
}

#[track_caller]
fn assert_sums(lines: &[Value]) {
    let summary = &lines.last().unwrap()["summary"];
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!(count("commands"), count("events") + count("duplicates") + count("rejections"));
    let shown = outcomes(lines);
    let of = |outcome: &str| shown.iter().filter(|shown| **shown == outcome).count() as u64;
    assert_eq!(count("events"), of("event"));
    assert_eq!(count("duplicates"), of("duplicate"));
    assert_eq!(count("rejections"), of("rejection"));
    let notifications = lines.iter().filter(|line| line.get("notification").is_some()).count() as u64;
    assert_eq!(count("notifications"), notifications);
}

#[test]
fn without_files_it_shows_the_five_calls_and_what_else_can_become_of_a_command() {
    let finished = run(program(&["demo"]), b"");
    settings().bind(|| insta::assert_snapshot!("demo", finished.transcript()));
}

#[test]
fn as_json_it_is_one_object_a_line_and_a_summary() {
    let stdout = run(program(&["demo", "--json"]), b"").success();
    assert_sums(&json_lines(&stdout));
    settings().bind(|| insta::assert_snapshot!("demo_json", stdout));
}

/// Section 5 of the contract.
#[test]
fn the_five_calls_give_what_the_contract_says() {
    let mut command = program(&["demo", "--json"]);
    command.args(CALLS);
    let lines = json_lines(&run(command, b"").success());
    assert_sums(&lines);
    let events: Vec<_> = lines.iter().filter(|line| line["outcome"] == "event").collect();
    assert_eq!(events.len(), 5);
    let targets = |call: usize| events[call]["activity"]["targets"].to_string();
    let everyone = r#"[{"@type":"Everyone","notify":false}]"#;
    let identity = |id: &str, rest: &str, notify: bool| {
        format!(r#"{{"@type":"Identity","targetId":{{"id":"{id}"{rest}}},"notify":{notify}}}"#)
    };
    let administrators = r#","domain":"nordlys","name":"Administrators","type":"Group""#;
    let accounting = r#","domain":"nordlys","name":"Accounting","type":"OrganizationUnit""#;
    let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap().to_string();
    assert_eq!(targets(0), everyone);
    assert_eq!(targets(1), parsed(format!("[{}]", identity("administrators", administrators, false))));
    assert_eq!(
        targets(2),
        parsed(format!(
            "[{},{}]",
            identity("administrators", administrators, false),
            identity("accounting", accounting, true)
        ))
    );
    assert_eq!(targets(3), parsed(format!("[{}]", identity("administrators", "", false))));
    assert_eq!(
        events[3]["activity"]["attachments"].to_string(),
        r#"[{"@type":"file","id":"bill-2026-0117.pdf"}]"#
    );
    assert_eq!(targets(4), everyone);
    let notifications: Vec<_> = lines.iter().filter_map(|line| line.get("notification")).collect();
    assert_eq!(notifications.len(), 1);
    assert_eq!(notifications[0]["key"], "Identity:nordlys/accounting");
    let id = format!("{}/1", events[2]["id"].as_str().unwrap());
    assert_eq!(notifications[0]["value"]["id"], id.as_str());
}

#[test]
fn lines_are_posted_as_the_raw_bytes_that_they_are() {
    let input =
        b"{\"objectType\":\"case\",\"objectId\":\"7\"}\r\n \n\xff\xfe\n{\"objectType\":\"case\"\n[1]\nlast";
    let lines = json_lines(&run(program(&["demo", "--json", "-"]), input).success());
    assert_sums(&lines);
    let what: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            let code = line["problems"][0]["code"].as_str().unwrap_or("");
            Some((line["line"].as_u64()?, line["outcome"].as_str()?, code))
        })
        .collect();
    assert_eq!(
        what,
        [
            (1, "event", ""),
            (3, "rejection", "not_utf8"),
            (4, "rejection", "not_json"),
            (5, "rejection", "not_an_object"),
            (6, "rejection", "not_json"),
        ]
    );
}

#[test]
fn somebody_who_types_sees_what_becomes_of_a_command_before_the_next() {
    // Standard input stays open until the line is there.
    let folder = folder();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut running = Running::start(program(&["demo", "--json", pipe.to_str().unwrap()]));
    let mut typing = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    for objects in 1..=3 {
        use std::io::Write;
        writeln!(typing, r#"{{"objectType":"case","objectId":"{objects}"}}"#).unwrap();
        let lines = running.lines(objects);
        assert!(lines[objects - 1].contains(r#""outcome":"event""#), "{lines:?}");
    }
    drop(typing);
    assert!(running.wait(support::PATIENCE).status.success());
}

#[test]
fn a_signal_ends_it_in_order_and_the_temporary_folder_with_it() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        ends_in_order(signal, code);
    }
}

fn ends_in_order(signal: Signal, code: i32) {
    let (folder, temporary) = (folder(), folder());
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = program(&["demo", "--json", pipe.to_str().unwrap()]);
    command.env("TMPDIR", temporary.path());
    let mut running = Running::start(command);
    let mut typing = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    std::io::Write::write_all(&mut typing, b"{}\n").unwrap();
    running.lines(1);
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 1);
    running.signal(signal);
    let finished = running.wait(support::PATIENCE);
    assert_eq!(finished.status.code(), Some(code), "{}", finished.transcript());
    assert!(!finished.stdout.contains("summary"), "{}", finished.transcript());
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
}

#[test]
fn reports_a_command_too_large_for_the_embedded_broker_and_posts_the_rest() {
    let large = |bytes: usize| {
        format!(r#"{{"objectType":"case","objectId":"1","content":"{}"}}"#, "x".repeat(bytes)).into_bytes()
    };
    let small = b"{\"objectType\":\"case\",\"objectId\":\"1\"}".to_vec();
    let input =
        [small.clone(), large(6 << 20), large(4_000_000), small.clone(), large(400_000), small].join(&b'\n');
    let finished = run(program(&["demo", "--json", "-"]), &input);
    assert_eq!(finished.status.code(), Some(1));
    let lines = json_lines(&finished.stdout);
    assert_sums(&lines);
    let mut unposted = lines.iter().filter(|line| line.get("error").is_some());
    assert_eq!(unposted.next().unwrap()["line"], 2);
    assert!(unposted.next().is_none());
    assert_eq!(outcomes(&lines), ["event", "rejection", "event", "event", "event"]);
}

#[test]
fn a_data_folder_keeps_the_log_and_is_not_used_twice() {
    let folder = folder();
    let path = folder.path().join("kept");
    let arguments = ["demo", "--data-dir", path.to_str().unwrap()];
    run(program(&arguments), b"").success();
    let stats = LogReader::open(path.join("activity.db")).unwrap().stats().unwrap();
    assert_eq!((stats.counts.events, stats.counts.duplicates, stats.counts.rejections), (6, 1, 4));
    let again = run(program(&arguments), b"");
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains("holds the log of an earlier run"), "{}", again.stderr);
}

#[test]
fn reports_a_missing_file_before_anything_starts() {
    let finished = run(program(&["demo", CALLS[0], "no-such-file.json"]), b"");
    insta::assert_snapshot!(finished.transcript(), @r"
    exit 1
    --- stderr
    activity-stream: can't open 'no-such-file.json': No such file or directory (os error 2)
    ");
}

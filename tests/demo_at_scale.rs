//! 100,000 commands through `demo`. A separate test program, because the operating system reports the peak memory of all
//! child processes together.

mod support;

use std::fmt::Write as _;

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;
use support::{folder, program, run};

const COMMANDS: u64 = 100_000;
/// The project's own bound on a demonstration's memory.
const PEAK_KIB: i64 = 200 * 1024;

/// One in ten is bad, in five ways; of the others, one in three notifies somebody.
fn commands() -> (String, u64, u64) {
    let bad =
        ["{", "7", r#"{"objectType":"case"}"#, r#"{"objectType":"case","objectId":"1","targets":[]}"#, "[]"];
    let (mut text, mut rejections, mut notifications) = (String::new(), 0, 0);
    for number in 0..COMMANDS {
        if number % 10 == 7 {
            writeln!(text, "{}", bad[usize::try_from(number / 10 % 5).unwrap()]).unwrap();
            rejections += 1;
            continue;
        }
        let notify = number % 3 == 0;
        notifications += u64::from(notify);
        writeln!(
            text,
            r#"{{"@type":"update","objectType":"case","objectId":"{}","content":"{}","targets":[{{"targetId":"user-{}","notify":{notify}}},"auditors"],"number":{number}}}"#,
            number * 7919 % 5003,
            "lorem ipsum ".repeat(usize::try_from(number % 20).unwrap()),
            number % 101,
        )
        .unwrap();
    }
    (text, rejections, notifications)
}

#[test]
fn a_hundred_thousand_commands_add_up_in_little_memory() {
    let folder = folder();
    let path = folder.path().join("commands.ndjson");
    let (text, rejections, notifications) = commands();
    std::fs::write(&path, text).unwrap();
    let stdout = run(program(&["demo", "--json", path.to_str().unwrap()]), b"").success();
    let summary: Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        summary["summary"],
        serde_json::json!({
            "commands": COMMANDS,
            "events": COMMANDS - rejections,
            "duplicates": 0,
            "rejections": rejections,
            "notifications": notifications,
        })
    );
    // In input order, each once.
    let shown = stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter_map(|line| line["line"].as_u64());
    assert!(shown.eq(1..=COMMANDS));
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(peak < PEAK_KIB, "{peak} KiB");
}

//! Text from other programs: it can't mislead a terminal, and programs get it unchanged.

use contract::{ActivityId, Coordinates, Decider, Limits, topic_bits};
use event_log::Chunk;

use super::samples::{TOPIC, open_log, publish, record};
use crate::support::{broker, folder, program, run};

/// A right-to-left override, an isolate, a zero-width space and joiner, a mark, a delete and a C1 control character stand
/// in it as they are.
const GOOD: &str = "{\"objectType\":\"ca\u{202e}se\",\"objectId\":\"7\u{200b}\",\"@type\":\"sh\u{200d}are\",\
                    \"content\":\"a\u{7f}b\u{9b}31m\u{202e}c\",\"x\u{feff}\":\"\u{7f}\u{2066}\",\
                    \"targets\":[{\"targetId\":\"bo\u{61c}\",\"notify\":true}]}";
/// Names and values of it are in problems.
const BAD: &str = "{\"objectType\":\"case\u{7f}\",\"objectId\":\"7\",\"publishedAt\":\"\u{202e}now\",\
                   \"targets\":[{\"targetId\":\"a\",\"not\u{200f}fy\u{9b}\":1}]}";
const KEY: &str = "k\u{202e}ey\u{7f}\u{1b}[31m";

fn misleads(c: char) -> bool {
    let hidden = ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2060}'..='\u{2069}').contains(&c)
        || ['\u{61c}', '\u{feff}'].contains(&c);
    hidden || (c.is_control() && c != '\n')
}

#[track_caller]
fn text(command: std::process::Command, input: &[u8]) -> String {
    let shown = run(command, input).transcript();
    assert!(!shown.contains(misleads), "{shown:?}");
    shown
}

#[test]
fn text_of_others_never_misleads_a_terminal() {
    let (broker, folder) = (broker(1), folder());
    let path = folder.path().join("activity.db");
    let mut commands = [GOOD, BAD].map(|value| record(0, 0, Some(value.as_bytes()), None));
    commands[1].coordinates.offset = 1;
    for command in &mut commands {
        command.key = Some(KEY.into());
    }
    let decider = Decider::new(TOPIC, Limits::default());
    let verdicts = commands.iter().map(|command| decider.read(command)).collect();
    let mut log = open_log(path.clone());
    log.append(vec![Chunk { partition: 0, next_offset: 2, verdicts }], &[]).expect("appended");
    drop(log);
    publish(&broker, &commands);

    let address = broker.bootstrap_servers();
    let log_file = path.to_str().expect("a path");
    let [good, bad] = [0, 1].map(|offset| {
        let timestamp = commands[offset as usize].coordinates.timestamp;
        ActivityId::new(topic_bits(TOPIC), Coordinates { partition: 0, offset, timestamp }).to_string()
    });
    let tail = |topic| vec!["tail", topic, "-b", &address, "--from", "beginning", "--limit", "1"];
    let rejections = |what| vec!["rejections", what, "-b", &address];
    // Each shows something of the good one or of the bad one.
    for (arguments, shown) in [
        (
            vec!["log", "list", "--log-file", log_file],
            "ca\\u202ese/7\\u200b sh\\u200dare \"a\\u007fb\\u009b31m\\u202ec\"",
        ),
        (vec!["log", "show", "--log-file", log_file, &good], "\"content\": \"a\\u007fb\\u009b31m\\u202ec\""),
        (vec!["log", "show", "--log-file", log_file, &bad], "\\u202enow"),
        (tail("notifications"), "bo\\u061c"),
        (tail("rejections"), "\\u200f"),
        ([rejections("list"), vec!["--code", "control_character"]].concat(), "k\\u202eey\\u007f\\u001b[31m"),
        (rejections("list"), "\\u007f"),
        ([rejections("show"), vec!["0:1"]].concat(), "k\\u202eey\\u007f\\u001b[31m"),
    ] {
        let found = text(program(&arguments), b"");
        assert!(found.contains(shown), "{arguments:?}: {found}");
    }
    let lines = [GOOD, BAD].join("\n");
    for arguments in [&["demo", "-"][..], &["post", "--check", "-b", &address, "-"]] {
        let found = text(program(arguments), lines.as_bytes());
        assert!(found.contains("not\\u200ffy"), "{found}");
    }

    // For programs, byte for byte.
    let of_good =
        &GOOD[GOOD.find("\"content\"").expect("content")..GOOD.find(",\"targets\"").expect("targets")];
    for (arguments, kept) in [
        (vec!["log", "list", "--log-file", log_file], of_good),
        (vec!["log", "show", "--log-file", log_file, &good], of_good),
        (vec!["log", "show", "--log-file", log_file, &bad], "\u{202e}now"),
        (tail("notifications"), of_good),
        (tail("rejections"), BAD),
        ([rejections("list"), vec!["--code", "control_character"]].concat(), "case\u{7f}"),
        ([rejections("show"), vec!["0:1"]].concat(), BAD),
        (vec!["demo", "-"], of_good),
    ] {
        let mut command = program(&arguments);
        command.arg("--json");
        let found = run(command, lines.as_bytes()).transcript();
        assert!(found.contains(kept), "{arguments:?}: {found:?}");
    }
}

//! Examples are decided as the pages say, and command lines are the program's.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use activity_stream::{cli::args::Args, config::Config};
use clap::Parser;
use contract::{Event, Problems, Reply};
use testing::contract::{read, record};

use super::{Block, blocks, code_spans, pages, text_of};

/// JSON without the whitespace between its tokens, names in the order in which they stand.
fn compact(json: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    for c in json.chars() {
        if in_string || !c.is_ascii_whitespace() {
            out.push(c);
        }
        in_string ^= c == '"' && !escaped;
        escaped = in_string && c == '\\' && !escaped;
    }
    out
}

fn as_shown(problems: &Problems) -> String {
    let mut out = String::new();
    for problem in &problems.0 {
        let _ = writeln!(
            out,
            "{}",
            format!("{} {}: {}", problem.pointer, problem.code, problem.message).trim_start()
        );
    }
    out
}

#[test]
fn examples_are_decided_as_the_pages_say() {
    let (mut event, mut problems): (Option<Event>, Option<Problems>) = (None, None);
    let mut seen = BTreeSet::new();
    let mut pages = pages();
    // What is shown elsewhere comes of the commands there.
    pages.sort_by_key(|page| page != "docs/producing.md");
    for Block { info, text } in pages.iter().flat_map(|page| blocks(&text_of(page))) {
        match info.as_str() {
            "json accepted" => {
                let accepted = read(&record(&*text)).unwrap_or_else(|problems| panic!("{text}: {problems}"));
                event = Some(accepted.0);
            }
            "json rejected" => {
                problems = Some(read(&record(&*text)).expect_err(&text));
            }
            "json normal-form" => {
                let event = event.as_ref().expect("a command before its normal form");
                assert_eq!(compact(&text), event.json());
            }
            "json notification" => {
                let event = event.as_ref().expect("a command before its notification");
                let notification =
                    event.notifications("activity-stream", &[]).next().expect("a notification");
                let value = notification.record.value.expect("a value");
                assert_eq!(compact(&text), String::from_utf8(value.into()).expect("UTF-8"));
            }
            "json replies" => {
                for line in text.lines() {
                    let reply: Reply = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
                    assert_eq!(compact(line), reply.to_json());
                }
            }
            "text problems" => {
                assert_eq!(text, as_shown(problems.as_ref().expect("a command before its problems")));
            }
            "json" => panic!("is this a command, or what is it? {text}"),
            _ => continue,
        }
        seen.insert(info);
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

/// A shell block's command lines, those that go on in the next line joined.
fn command_lines(block: &Block) -> Vec<String> {
    if block.info != "sh" {
        return Vec::new();
    }
    block.text.replace("\\\n", " ").lines().map(str::to_owned).collect()
}

/// What follows the program's name on a line, in words; quotes are taken off.
fn invocations(line: &str) -> Vec<Vec<String>> {
    let mut words: Vec<String> = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        let word = words.last_mut().expect("one at least");
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.push(c),
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => words.push(String::new()),
            None => word.push(c),
        }
    }
    let mut found = Vec::new();
    let mut rest = words.into_iter().filter(|word| !word.is_empty()).peekable();
    while let Some(word) = rest.next() {
        if word == "activity-stream" {
            let mut invocation = vec![word];
            while let Some(word) =
                rest.next_if(|word| !["|", ">", "<", "&&", "&", "activity-stream"].contains(&word.as_str()))
            {
                invocation.push(word);
            }
            found.push(invocation);
        }
    }
    found
}

/// Command lines in blocks, and those that stand in the text.
fn all_invocations(page: &str) -> Vec<Vec<String>> {
    let markdown = text_of(page);
    let in_blocks = blocks(&markdown).iter().flat_map(command_lines).collect::<Vec<_>>();
    let in_text = code_spans(&markdown).into_iter().filter(|code| code.starts_with("activity-stream "));
    in_blocks.into_iter().chain(in_text).flat_map(|line| invocations(&line)).collect()
}

#[test]
fn commands_parse() {
    let mut count = 0;
    for page in pages() {
        for invocation in all_invocations(&page) {
            Args::try_parse_from(&invocation)
                .unwrap_or_else(|error| panic!("{page}: {invocation:?}: {error}"));
            count += 1;
        }
    }
    assert!(count > 30, "only {count} found");
}

/// `--set` takes any key, and says only at the start that there is no such key.
#[test]
fn keys_that_are_set_exist() {
    let keys: BTreeSet<String> =
        Config::default().settings().into_iter().map(|setting| setting.key).collect();
    let mut count = 0;
    for page in pages() {
        for invocation in all_invocations(&page) {
            for set in invocation.windows(2).filter(|pair| pair[0] == "--set") {
                let (key, _) = set[1].split_once('=').expect("KEY=VALUE");
                assert!(keys.contains(key), "{page}: {}", set[1]);
                count += 1;
            }
        }
    }
    assert!(count > 3, "only {count} found");
}

/// What is piped into the program is a command that it accepts.
#[test]
fn echoed_commands_are_accepted() {
    let mut count = 0;
    for page in pages() {
        for line in blocks(&text_of(&page)).iter().flat_map(command_lines) {
            let Some((value, rest)) = line.strip_prefix("echo '").and_then(|rest| rest.split_once('\''))
            else {
                continue;
            };
            assert!(rest.contains("activity-stream"), "{page}: {line}");
            read(&record(value)).unwrap_or_else(|problems| panic!("{page}: {value}: {problems}"));
            count += 1;
        }
    }
    assert!(count > 2, "only {count} found");
}

/// A reader sees the two commands on the first screen, and their result on the second at the latest.
#[test]
fn the_readme_begins_with_the_two_commands() {
    let readme = text_of("README.md");
    let first: Vec<_> = blocks(&readme).into_iter().filter(|block| block.info == "sh").collect();
    assert_eq!(first[0].text, "cargo run --release -- demo\ncargo test\n");
    let line_of = |wanted: &str| readme.lines().position(|line| line == wanted).expect("there");
    assert!(line_of("cargo run --release -- demo") < 30, "the first screen ends before");
    assert!(line_of("<!-- /demo -->") < 60, "the second screen ends before");
    let minimum = env!("CARGO_PKG_RUST_VERSION");
    assert!(readme.contains(&format!("Rust ({minimum} or newer)")));
}

#[test]
fn pages_are_short() {
    for (page, most) in [("README.md", 1500), ("ARCHITECTURE.md", 2500)] {
        let words = text_of(page).split_whitespace().count();
        assert!(words <= most, "{page} has {words} words, of {most} at most");
    }
}

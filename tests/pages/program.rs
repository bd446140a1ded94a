//! Headers, messages, metrics, flags and keys that the pages name are those of the program.

use std::collections::BTreeSet;

use activity_stream::{cli::args::Args, config::Config};
use clap::CommandFactory as _;
use testing::contract::{event, read, record};

use super::{code_spans, pages, program_sources, section, text_of};

/// Header names in the tables are those on the wire.
#[test]
fn headers_are_those_on_the_wire() {
    let page = text_of("docs/consuming.md");
    let named = |prefix: &str| -> BTreeSet<String> {
        code_spans(&page).into_iter().filter(|code| code.starts_with(prefix)).collect()
    };
    let names = |record: &contract::OutputRecord| -> BTreeSet<String> {
        record.headers.iter().map(|header| String::from_utf8(header.name.to_vec()).expect("UTF-8")).collect()
    };
    let value = r#"{"objectType":"a","objectId":"b","targets":[{"targetId":"c","notify":true}]}"#;
    let event = event(value);
    let notification = event.notifications("s", &[]).next().expect("one").record;
    let mut wanted = named("ce_");
    wanted.insert("content-type".to_owned());
    assert_eq!(wanted, names(&notification));

    let command = record("x");
    let problems = read(&command).expect_err("rejected");
    let rejection = contract::rejection_record(&command, "commands", &problems, 1 << 20);
    assert_eq!(named("__connect"), names(&rejection));
}

/// What an operator looks up is what the program says.
#[test]
fn messages_are_those_of_the_program() {
    let sources = program_sources().into_iter().map(|path| std::fs::read_to_string(path).expect("UTF-8"));
    // A string that continues on the next line becomes one line.
    let source: Vec<String> = sources
        .map(|source| source.split("\\\n").map(str::trim_start).collect::<Vec<_>>().concat())
        .collect();
    let page = text_of("docs/troubleshooting.md");
    let mut count = 0;
    // The messages of an entry are in its heading, and in the sentence that begins with "Also" or "Or".
    for entry in page.split("\n### ").skip(1) {
        let (heading, text) = entry.split_once("\n\n").expect("a text");
        let first = text.split(['.', ':']).next().expect("a sentence");
        let more = if ["Also ", "Or "].iter().any(|word| first.starts_with(word)) { first } else { "" };
        if !heading.starts_with('`') {
            continue;
        }
        for message in code_spans(heading).into_iter().chain(code_spans(more)) {
            assert!(source.iter().any(|source| source.contains(&message)), "nothing says {message:?}");
            count += 1;
        }
    }
    assert!(count > 25, "only {count} found");
}

#[test]
fn metrics_are_those_of_the_program() {
    let snapshot = text_of("src/snapshots/metrics.snap");
    let wanted: BTreeSet<String> = snapshot
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let part = section("docs/operations.md", "Health and metrics");
    let found: BTreeSet<String> = code_spans(&part)
        .iter()
        .filter(|code| code.starts_with("activity_stream_"))
        .map(|code| code.split('{').next().unwrap_or(code).trim_end_matches("_total").to_owned())
        .collect();
    assert_eq!(found, wanted);
}

/// Flags of other programs that stand alone in the text.
const FOREIGN_FLAGS: &[&str] = &["--features", "--max-transaction-timeout"];

fn flags_of(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_long).map(|long| format!("--{long}"));
    own.chain(command.get_subcommands().flat_map(flags_of)).chain(["--help".to_owned()]).collect()
}

/// A flag that the program does not have, or has lost, is on no page; one of another program stands behind its name.
#[test]
fn flags_are_those_of_the_program() {
    let flags = flags_of(&Args::command());
    let mut count = 0;
    for page in pages() {
        for code in code_spans(&text_of(&page)) {
            let own =
                (code.starts_with("--") && !code.starts_with("-- ")) || code.starts_with("activity-stream ");
            let named =
                code.split([' ', '=', '[']).filter(|word| own && word.starts_with("--") && *word != "--");
            for flag in named.filter(|flag| !FOREIGN_FLAGS.contains(flag)) {
                assert!(flags.contains(flag), "{page}: {code}");
                count += 1;
            }
        }
    }
    assert!(count > 20, "only {count} found");
}

/// `section.key`, alone or with a value.
#[test]
fn keys_are_those_of_the_program() {
    let keys: BTreeSet<String> =
        Config::default().settings().into_iter().map(|setting| setting.key).collect();
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let mut count = 0;
    for page in pages() {
        for code in code_spans(&text_of(&page)) {
            let name = code.split('=').next().expect("one at least");
            let Some((section, key)) = name.split_once('.') else { continue };
            let is_key = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if sections.contains(section) && is_key {
                assert!(keys.contains(name), "{page}: {code}");
                count += 1;
            }
        }
    }
    assert!(count > 15, "only {count} found");
}

/// Whoever looks for a command finds it on a page of the book.
#[test]
fn every_command_is_on_a_page() {
    let text: String = super::book().iter().map(|page| text_of(page)).collect();
    for command in Args::command().get_subcommands().map(clap::Command::get_name) {
        let shown = [format!("`{command}`"), format!("`{command} "), format!("activity-stream {command}")];
        assert!(shown.iter().any(|shown| text.contains(shown)), "'{command}' is on no page");
    }
}

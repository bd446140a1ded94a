//! README.md and ARCHITECTURE.md say what the program does: their examples, tables, commands and names are held
//! against it.
//!
//! Three parts of the README are made by this test, between comments: the demonstration's output, the table of
//! codes and the tables of configuration keys. `README_UPDATE=1 cargo test --test readme` writes them anew.

mod activity_support;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use activity_stream::{
    activity::{Code, Event, Problems, Reply},
    cli::args::Args,
    config::Config,
};
use activity_support::{read, record};
use clap::Parser;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A fenced block: what stands behind the backticks, and what is inside.
struct Block {
    info: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in markdown.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some(Block { info: info.to_owned(), text: String::new() }),
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The markdown outside of fenced blocks.
fn prose(markdown: &str) -> String {
    let mut inside = false;
    let lines = markdown.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

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
fn examples_are_decided_as_it_says() {
    let (mut event, mut problems): (Option<Event>, Option<Problems>) = (None, None);
    let mut seen = BTreeSet::new();
    for Block { info, text } in blocks(&text_of("README.md")) {
        match info.as_str() {
            "json accepted" => {
                let read = read(&record(text.clone()));
                event = Some(read.unwrap_or_else(|problems| panic!("{text}: {problems}")).0);
            }
            "json rejected" => {
                problems = Some(read(&record(text.clone())).expect_err(&text));
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
                assert_eq!(compact(&text), String::from_utf8(value).expect("UTF-8"));
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

#[test]
fn commands_parse() {
    let mut count = 0;
    for file in
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/performance.md", "docs/configuration.md"]
    {
        let markdown = text_of(file);
        let in_prose: Vec<String> = prose(&markdown)
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.starts_with("activity-stream "))
            .map(str::to_owned)
            .collect();
        let in_blocks = blocks(&markdown).iter().flat_map(command_lines).collect::<Vec<_>>();
        for invocation in in_blocks.iter().chain(&in_prose).flat_map(|line| invocations(line)) {
            Args::try_parse_from(&invocation)
                .unwrap_or_else(|error| panic!("{file}: {invocation:?}: {error}"));
            count += 1;
        }
    }
    assert!(count > 10, "only {count} found");
}

/// What is piped into the program is a command that it accepts.
#[test]
fn echoed_commands_are_accepted() {
    let readme = text_of("README.md");
    let mut count = 0;
    for line in blocks(&readme).iter().flat_map(command_lines) {
        let Some((value, rest)) = line.strip_prefix("echo '").and_then(|rest| rest.split_once('\'')) else {
            continue;
        };
        assert!(rest.contains("activity-stream"), "{line}");
        read(&record(value)).unwrap_or_else(|problems| panic!("{value}: {problems}"));
        count += 1;
    }
    assert!(count > 1, "only {count} found");
}

#[test]
fn it_begins_with_the_two_commands() {
    let readme = text_of("README.md");
    let first: Vec<_> = blocks(&readme).into_iter().filter(|block| block.info == "sh").collect();
    assert_eq!(first[0].text, "cargo run --release -- demo\ncargo test\n");
    let line = readme.lines().position(|line| line == "cargo run --release -- demo").expect("there");
    assert!(line < 30, "the first screen ends before line {line}");
    let minimum = env!("CARGO_PKG_RUST_VERSION");
    assert!(readme.contains(&format!("Rust ({minimum} or newer)")));
}

#[test]
fn links_lead_somewhere() {
    for file in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/performance.md",
        "docs/configuration.md",
    ] {
        let markdown = prose(&text_of(file));
        let headings: BTreeSet<String> = markdown
            .lines()
            .filter(|line| line.starts_with('#'))
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect();
        for link in markdown.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            match link.strip_prefix('#') {
                Some(heading) => assert!(headings.contains(heading), "{file}: no heading {heading}"),
                None => assert!(
                    root().join(file).with_file_name("").join(link).exists(),
                    "{file}: no file {link}"
                ),
            }
        }
    }
}

/// As GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>();
    kept.replace(' ', "-")
}

/// Files and modules that stand in backticks: `src/…`, `tests/…`, or `path::to::item` of the crate.
#[test]
fn names_of_files_and_modules_are_right() {
    let (mut count, mut wrong) = (0, Vec::new());
    for file in
        ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "docs/performance.md", "docs/configuration.md"]
    {
        for code in prose(&text_of(file)).split('`').skip(1).step_by(2) {
            if ["src/", "tests/", "config/", ".ci/"].iter().any(|folder| code.starts_with(folder)) {
                count += 1;
                if !root().join(code).exists() {
                    wrong.push(format!("{file}: {code}"));
                }
            } else if let Some((module, item)) = code.trim_end_matches("()").rsplit_once("::") {
                count += 1;
                if !names(module, item) {
                    wrong.push(format!("{file}: {code}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not there: {wrong:#?}");
    assert!(count > 40, "only {count} found");
}

/// Each fault of the architecture's tables is shown, and by tests that there are.
#[test]
fn tests_of_the_faults_are_there() {
    let architecture = text_of("ARCHITECTURE.md");
    let near = ["src", "tests"].as_slice();
    let mut count = 0;
    for (table, columns) in [("faults", [near, &["tests/kafka"]].as_slice()), ("process faults", &[near])] {
        let (_, rows) = architecture.split_once(&format!("<!-- {table} -->\n")).expect("a table of faults");
        let (rows, _) = rows.split_once(&format!("<!-- /{table} -->")).expect("its end");
        for row in rows.lines().skip(2) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
            let [fault, shown @ ..] = &cells[..] else { panic!("no columns: {row}") };
            assert_eq!(shown.len(), columns.len(), "{row}");
            for (cell, folders) in shown.iter().zip(columns) {
                let tests: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
                assert!(!tests.is_empty(), "no test shows this: {fault}");
                for test in tests {
                    assert!(
                        folders.iter().any(|folder| is_test(folder, test)),
                        "there is no test {test} in {folders:?}"
                    );
                    count += 1;
                }
            }
        }
    }
    assert!(count > 40, "only {count} found");
}

/// Whether `module::name` is a test in a file of that module, anywhere in the folder.
fn is_test(folder: &str, test: &str) -> bool {
    let (module, name) = test.split_once("::").expect("module::name");
    let attribute = |line: &str| line.starts_with("#[") || line.starts_with("///");
    sources(&root().join(folder)).iter().any(|path| {
        let of_module = path.ends_with(format!("{module}.rs")) || path.ends_with(format!("{module}/mod.rs"));
        let source = std::fs::read_to_string(path).expect("UTF-8");
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        of_module
            && lines.iter().enumerate().any(|(index, line)| {
                let before = lines[..index].iter().rev().take_while(|line| attribute(line));
                line.trim_start_matches("async ").starts_with(&format!("fn {name}("))
                    && before.into_iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"))
            })
    })
}

/// Whether a module of the crate (`intake`, `processor::intake`), or a type in one, mentions the item.
fn names(module: &str, item: &str) -> bool {
    let (last, folders) = module.rsplit_once("::").map_or((module, None), |(rest, last)| (last, Some(rest)));
    let is_type = last.starts_with(|c: char| c.is_uppercase());
    let declares = |source: &str, keyword: &str, name: &str| {
        let after = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        source
            .match_indices(&format!("{keyword} {name}"))
            .any(|(at, found)| after(&source[at + found.len()..]))
    };
    let declared = |source: &str| {
        ["fn", "struct", "enum", "trait", "const", "mod"]
            .iter()
            .any(|keyword| declares(source, keyword, item))
            || (is_type && source.contains(&format!("    {item}")))
    };
    let crate_and_tests = [sources(&root().join("src")), sources(&root().join("tests"))].concat();
    crate_and_tests.iter().any(|path| {
        let Ok(source) = std::fs::read_to_string(path) else { return false };
        let inside = match folders {
            Some(folders) if !is_type => path.to_string_lossy().contains(&folders.replace("::", "/")),
            _ => true,
        };
        let here = if is_type {
            ["struct", "enum", "trait", "impl", "for"].iter().any(|keyword| declares(&source, keyword, last))
        } else {
            path.ends_with(format!("{last}.rs")) || path.ends_with(format!("{last}/mod.rs"))
        };
        inside && here && declared(&source)
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// One test may write a page at a time.
static WRITING: Mutex<()> = Mutex::new(());

/// Compares what stands in a page between `<!-- name -->` and `<!-- /name -->`, or writes it.
#[track_caller]
fn assert_part(page: &str, name: &str, wanted: &str, alike: impl Fn(&str) -> String) {
    let _writing = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let readme = text_of(page);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = readme.split_once(&begin).expect("the part begins");
    let (found, after) = rest.split_once(&end).expect("the part ends");
    if alike(found) == alike(wanted) {
        return;
    }
    if std::env::var_os("README_UPDATE").is_some() {
        // Whole at every moment: the other tests read it meanwhile.
        let new = root().join(format!("{page}.new"));
        std::fs::write(&new, [before, &begin, wanted, &end, after].concat()).expect("written");
        std::fs::rename(new, root().join(page)).expect("put in its place");
        return;
    }
    panic!("{page} is to have, between the comments '{name}' (README_UPDATE=1 writes it):\n{wanted}");
}

fn exactly(text: &str) -> String {
    text.to_owned()
}

#[test]
fn the_demonstration_prints_what_it_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_activity-stream")).arg("demo").output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = String::from_utf8(output.stdout).expect("UTF-8");
    // Ids hold the time.
    assert_part("README.md", "demo", &format!("```text\n{output}```\n"), |text| {
        let mut out = String::new();
        for word in text.split_inclusive([' ', '\n']) {
            let is_id = word.len() > 36 && word.is_char_boundary(14) && &word[14..18] == "89d1";
            out.push_str(if is_id { &word[14..] } else { word });
        }
        out
    });
}

#[test]
fn every_code_is_explained() {
    let mut table = "| code | meaning |\n| --- | --- |\n".to_owned();
    for code in Code::ALL {
        let _ = writeln!(table, "| `{code}` | {} |", code.meaning());
    }
    assert_part("README.md", "codes", &table, exactly);
}

/// A key of `config/default.toml` with the comment above it.
struct Key {
    section: String,
    name: String,
    /// `None` where the file has it as a comment: not set.
    default: Option<String>,
    comment: String,
}

/// Keys, and what is said of sections.
fn keys(file: &str) -> (Vec<(String, String)>, Vec<Key>) {
    let (mut sections, mut keys) = (Vec::<(String, String)>::new(), Vec::new());
    let mut comment: Vec<&str> = Vec::new();
    for line in file.lines() {
        let uncommented = line.strip_prefix("# ").unwrap_or(line);
        let assignment = uncommented.split_once(" = ").filter(|(name, _)| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !name.is_empty()
        });
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.push((section.to_owned(), comment.join(" ")));
            comment.clear();
        } else if let Some((name, value)) = assignment {
            keys.push(Key {
                section: sections.last().expect("a section").0.clone(),
                name: name.to_owned(),
                default: (!line.starts_with('#')).then(|| value.to_owned()),
                comment: comment.join(" "),
            });
            comment.clear();
        } else if line.starts_with('#') {
            comment.push(uncommented.trim_start_matches('#'));
        } else {
            comment.clear();
        }
    }
    (sections, keys)
}

/// Takes `Label: ….` out of a comment, and gives what was in it.
fn take(comment: &mut String, label: &str) -> Option<String> {
    let at = comment.find(label)?;
    let rest = &comment[at + label.len()..];
    // The end of the sentence, not the dot in a name.
    let end = rest.find(". ").unwrap_or(rest.trim_end_matches('.').len());
    let taken = rest[..end].trim().to_owned();
    let behind = rest[end..].trim_start_matches('.').trim_start().to_owned();
    *comment = format!("{} {behind}", comment[..at].trim_end()).trim().to_owned();
    Some(taken)
}

fn row(key: &Key) -> String {
    let mut meaning = key.comment.clone();
    let variable = take(&mut meaning, "Environment: ").expect("a variable");
    assert_eq!(variable, format!("ACTIVITY_STREAM_{}_{}", key.section, key.name).to_uppercase());
    let flag = take(&mut meaning, "Flag: ").map(|flag| format!(", `{}`", flag.replace(", ", "`, `")));
    let flag = flag.unwrap_or_default();
    let default = key.default.as_ref().map_or("not set".to_owned(), |default| format!("`{default}`"));
    format!("| `{}` | {default} | {meaning} | `{variable}`{flag} |\n", key.name)
}

fn variables_as_code(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let name = word.trim_end_matches(['.', ',']);
        let is_variable = name.starts_with("ACTIVITY_STREAM_");
        if is_variable { format!("`{name}`{}", &word[name.len()..]) } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_configuration_key_is_explained() {
    let (sections, keys) = keys(&text_of("config/default.toml"));
    let mut text = String::new();
    for (section, about) in &sections {
        let _ = writeln!(text, "## `[{section}]`\n");
        if !about.is_empty() {
            let _ = writeln!(text, "{}\n", variables_as_code(about));
        }
        let rows: String = keys.iter().filter(|key| &key.section == section).map(row).collect();
        if !rows.is_empty() {
            let _ = writeln!(
                text,
                "| key | default | meaning | variable, flag |\n| --- | --- | --- | --- |\n{rows}"
            );
        }
    }
    assert_part("docs/configuration.md", "keys", &format!("{}\n", text.trim_end()), exactly);

    // Those of the file are those of the program, and so are the defaults.
    let of_file: Vec<_> = keys
        .iter()
        .map(|key| (format!("{}.{}", key.section, key.name), key.default.clone().unwrap_or("\"\"".into())))
        .collect();
    let of_program: Vec<_> =
        Config::default().settings().into_iter().map(|setting| (setting.key, setting.value)).collect();
    assert_eq!(of_file, of_program);
}

/// Header names in the README's tables are those on the wire.
#[test]
fn headers_are_those_on_the_wire() {
    let readme = text_of("README.md");
    let named = |prefix: &str| -> BTreeSet<String> {
        let codes = readme
            .split("\n## Consuming")
            .nth(1)
            .expect("a section")
            .split("\n## ")
            .next()
            .expect("its text");
        codes
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|code| code.starts_with(prefix))
            .map(str::to_owned)
            .collect()
    };
    let names = |record: &activity_stream::activity::OutputRecord| -> BTreeSet<String> {
        record.headers.iter().map(|header| String::from_utf8(header.name.to_vec()).expect("UTF-8")).collect()
    };
    let value = r#"{"objectType":"a","objectId":"b","targets":[{"targetId":"c","notify":true}]}"#;
    let event = read(&record(value)).expect("accepted").0;
    let notification = event.notifications("s", &[]).next().expect("one").record;
    let mut wanted = named("ce_");
    wanted.insert("content-type".to_owned());
    assert_eq!(wanted, names(&notification));

    let command = record("x");
    let problems = read(&command).expect_err("rejected");
    let rejection = activity_stream::activity::rejection_record(&command, "commands", &problems, 1 << 20);
    assert_eq!(named("__connect"), names(&rejection));
}

/// The README's text between a heading and the next one.
fn part_of_readme(heading: &str) -> String {
    let readme = text_of("README.md");
    let part = readme.split(&format!("\n### {heading}\n")).nth(1).expect("the heading");
    part.split("\n##").next().expect("its text").to_owned()
}

/// What an operator looks up is what the program says.
#[test]
fn messages_are_those_of_the_program() {
    let sources =
        sources(&root().join("src")).into_iter().map(|path| std::fs::read_to_string(path).expect("UTF-8"));
    // A string that goes on in the next line is one line.
    let source: Vec<String> = sources
        .map(|source| source.split("\\\n").map(str::trim_start).collect::<Vec<_>>().concat())
        .collect();
    let mut count = 0;
    for row in part_of_readme("When it stops by itself").lines().filter(|line| line.starts_with("| `")) {
        let messages = row.split('|').nth(1).expect("a first column");
        for message in messages.split('`').skip(1).step_by(2) {
            assert!(source.iter().any(|source| source.contains(message)), "nothing says {message:?}");
            count += 1;
        }
    }
    assert!(count > 12, "only {count} found");
}

#[test]
fn metrics_are_those_of_the_program() {
    let snapshot = text_of("src/snapshots/metrics.snap");
    let wanted: BTreeSet<&str> =
        snapshot.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let part = part_of_readme("Health and metrics");
    let found: BTreeSet<&str> = part
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with("activity_stream_"))
        .map(|code| code.split('{').next().unwrap_or(code).trim_end_matches("_total"))
        .collect();
    assert_eq!(found, wanted);
}

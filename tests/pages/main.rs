//! Compares the pages with the program: their examples, commands, names, numbers and links.
//!
//! Some parts of them are generated: the demonstration's output, the table of codes, the tables of configuration keys, and
//! the figures of performance with their picture. `PAGES_UPDATE=1 cargo test --test pages` writes them again.

mod configuration;
mod examples;
mod links;
mod names;
mod parts;

mod peers;
mod performance;
mod program;
mod rust;

// What the two benchmarks make figures, tables and pictures with.
#[allow(dead_code, reason = "the benchmarks use more of it")]
#[path = "../../benches/support/picture.rs"]
mod picture;
#[allow(dead_code, reason = "the benchmarks use more of it")]
#[path = "../../benches/support/spread.rs"]
mod spread;
#[path = "../../benches/support/table.rs"]
mod table;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The book's pages, its table of contents among them.
fn book() -> Vec<String> {
    let entries = std::fs::read_dir(root().join("docs")).expect("docs").flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    names.sort();
    assert!(names.len() > 9, "{names:?}");
    names
}

/// Every page that says what the program does now.
fn pages() -> Vec<String> {
    let others = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "examples/README.md"];
    [others.map(str::to_owned).to_vec(), book()].concat()
}

/// A fenced block: the text after the opening backticks, and the content.
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

/// The text between single backticks, outside of fenced blocks. A span that continues on the next line becomes one line.
fn code_spans(markdown: &str) -> Vec<String> {
    prose(markdown).split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")).collect()
}

/// The text between a heading of the second level and the next one.
fn section(page: &str, heading: &str) -> String {
    let text = text_of(page);
    let part = text.split(&format!("\n## {heading}\n")).nth(1).expect("the heading");
    part.split("\n## ").next().expect("its text").to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The Rust files of the program and of its crates.
fn program_sources() -> Vec<PathBuf> {
    ["src", "crates"].iter().flat_map(|folder| sources(&root().join(folder))).collect()
}

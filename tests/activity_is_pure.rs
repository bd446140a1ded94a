//! The core reads no clock, draws no random number, does no I/O and knows nothing of Kafka or SQLite.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What would let the world in. Test modules at the end of a file may use what they like.
const FORBIDDEN: [&str; 28] = [
    "tokio",
    "rdkafka",
    "rusqlite",
    "crossbeam",
    "futures::",
    "tracing",
    "axum",
    "tempfile",
    "Instant",
    "SystemTime",
    "Timestamp::now",
    "Zoned::now",
    "new_v4",
    "now_v7",
    "rand::",
    "random(",
    "RandomState",
    "HashMap",
    "HashSet",
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "static mut",
    "thread_local",
    "println!",
];

/// The files of a folder and of those in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("src/activity").map(|entry| entry.expect("a file").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn the_core_imports_nothing_impure() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/activity");
    let (mut files, mut found) = (0, Vec::new());
    for file in sources(&folder) {
        let source = fs::read_to_string(&file).expect("a source file");
        files += 1;
        found.extend(impure_lines(&source).map(|(line, word)| {
            format!(
                "{}:{line}: {word}",
                file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap_or(&file).display()
            )
        }));
    }
    assert!(files > 10, "src/activity has moved: only {files} files there");
    assert!(found.is_empty(), "the pure core reaches outside:\n{}", found.join("\n"));
}

#[test]
fn the_core_imports_nothing_from_the_rows_above_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/activity");
    for file in sources(&folder) {
        let source = fs::read_to_string(&file).expect("a source file");
        for (index, line) in source.lines().enumerate() {
            let outside = line.contains("crate::") && !line.contains("crate::activity");
            assert!(!outside, "{}:{}: {line}", file.display(), index + 1);
        }
    }
}

#[test]
fn impurity_is_found_in_code_and_not_in_comments_or_tests() {
    let source = "use std::time::Instant;\n// no Instant\n#[cfg(test)]\nmod tests { use tokio; }\n";
    assert_eq!(impure_lines(source).collect::<Vec<_>>(), [(1, "Instant")]);
}

/// Line numbers, from 1, and what was found there.
fn impure_lines(source: &str) -> impl Iterator<Item = (usize, &'static str)> {
    let code = source.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    code.filter(|(_, line)| !line.trim_start().starts_with("//")).flat_map(|(index, line)| {
        FORBIDDEN.iter().filter(move |word| line.contains(**word)).map(move |word| (index + 1, *word))
    })
}

//! A part of the program imports only from the parts below it, so that each can be read without those above.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each part with those that it may import from.
const PARTS: [(&str, &[&str]); 12] = [
    ("activity", &[]),
    ("telemetry", &[]),
    ("metrics", &[]),
    ("admin", &["metrics"]),
    ("config", &["activity", "telemetry"]),
    // For other programs, and for `post --wait`.
    ("client", &["activity", "config", "kafka"]),
    // These two do not know each other: only the processor and what proves it know both.
    ("kafka", &["activity"]),
    ("event_log", &["activity"]),
    ("read_model", &["activity", "event_log"]),
    ("processor", &["activity", "event_log", "kafka"]),
    // It proves what the processor does, so it must not lean on it.
    ("verify", &["activity", "event_log", "kafka"]),
    (
        "cli",
        &[
            "activity",
            "admin",
            "client",
            "config",
            "event_log",
            "kafka",
            "metrics",
            "processor",
            "read_model",
            "telemetry",
            "verify",
        ],
    ),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// `crate::x` in one line, and `crate::{ x…, y… }` over several: the first names behind it.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(name(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for character in group.chars() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.insert(name(item.trim()));
                    item.clear();
                    continue;
                }
                _ => {}
            }
            item.push(character);
        }
        found.insert(name(item.trim()));
    }
    found
}

fn name(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[test]
fn imports_point_downwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let parts: BTreeSet<&str> = PARTS.iter().map(|(part, _)| *part).collect();
    let mut seen = BTreeSet::new();
    for (part, allowed) in PARTS {
        let mut files = vec![root.join(format!("{part}.rs"))];
        files.retain(|file| file.exists());
        if root.join(part).is_dir() {
            sources(&root.join(part), &mut files);
        }
        assert!(!files.is_empty(), "there is no part '{part}'");
        for file in files {
            for import in imports(&fs::read_to_string(&file).unwrap()) {
                if !parts.contains(import.as_str()) {
                    continue;
                }
                seen.insert((part, import.clone()));
                let below = import == part || allowed.contains(&import.as_str());
                assert!(below, "{} imports {import}, which is not below {part}", file.display());
            }
        }
    }
    // The search itself works: these are known to be there.
    for (part, import) in [("processor", "kafka"), ("cli", "config"), ("event_log", "activity")] {
        assert!(seen.contains(&(part, import.to_owned())), "no import of {import} found in {part}");
    }
}

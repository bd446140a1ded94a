//! Files, modules, items and tests that the pages name exist.

use std::path::Path;

use super::{code_spans, pages, program_sources, root, sources, text_of};

const FOLDERS: &[&str] = &[".ci/", "benches/", "config/", "crates/", "docs/", "examples/", "src/", "tests/"];

/// Paths in the repository, and `path::to::item` of a crate.
#[test]
fn names_of_files_and_modules_are_right() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in pages() {
        for code in code_spans(&text_of(&page)) {
            if FOLDERS.iter().any(|folder| code.starts_with(folder)) {
                count += 1;
                if !root().join(&code).exists() {
                    wrong.push(format!("{page}: {code}"));
                }
            } else if let Some((module, item)) = code.trim_end_matches("()").rsplit_once("::") {
                count += 1;
                if !names(module, item) {
                    wrong.push(format!("{page}: {code}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not there: {wrong:#?}");
    assert!(count > 40, "only {count} found");
}

/// Each row of the tables of faults names tests, and they exist.
#[test]
fn tests_of_the_faults_are_there() {
    let page = text_of("docs/faults.md");
    let near = ["src", "crates", "tests"].as_slice();
    let mut count = 0;
    for (table, columns) in [("faults", [near, &["tests/kafka"]].as_slice()), ("process faults", &[near])] {
        let (_, rows) = page.split_once(&format!("<!-- {table} -->\n")).expect("a table of faults");
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

/// Whether `module::name` is a test in a file of that module, anywhere in the folder. Of several modules of one name, the
/// folder tells which: `folder::module::name`.
fn is_test(folder: &str, test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").expect("module::name");
    let attribute = |line: &str| line.starts_with("#[") || line.starts_with("///");
    sources(&root().join(folder)).iter().any(|path| {
        let of_module = is_module(path, module);
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

/// Whether a file is that of a module: `start.rs`, `start/mod.rs`, or a crate's `lib.rs`.
fn is_module(path: &Path, name: &str) -> bool {
    let name = name.replace("::", "/");
    let of_crate = Path::new(&name.replace('_', "-")).join("src/lib.rs");
    path.ends_with(format!("{name}.rs"))
        || path.ends_with(format!("{name}/mod.rs"))
        || path.ends_with(of_crate)
}

/// Whether a module (`intake`, `processor::intake`), or a type in one, mentions the item. A crate counts as a module, so
/// that a name outlives a move of its module into a crate.
fn names(module: &str, item: &str) -> bool {
    let path_of_module: Vec<&str> = module.split("::").collect();
    let (last, folders) = path_of_module.split_last().expect("a name");
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
    [program_sources(), sources(&root().join("tests"))].concat().iter().any(|path| {
        let Ok(source) = std::fs::read_to_string(path) else { return false };
        let relative = path.strip_prefix(root()).expect("inside").to_string_lossy().replace('-', "_");
        let mut rest = relative.as_str();
        let inside = folders.iter().all(|folder| match rest.split_once(folder) {
            Some((_, behind)) => {
                rest = behind;
                true
            }
            None => false,
        });
        let here = if is_type {
            let mut generic = source.lines().filter(|line| line.starts_with("impl<"));
            ["struct", "enum", "trait", "impl", "for"].iter().any(|keyword| declares(&source, keyword, last))
                || generic.any(|line| declares(line, ">", last))
        } else {
            is_module(path, last)
        };
        inside && here && declared(&source)
    })
}

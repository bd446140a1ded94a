//! Generated parts of the pages.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Mutex;

use contract::Code;

use super::{root, text_of};

/// One test may write a page at a time.
static WRITING: Mutex<()> = Mutex::new(());

/// Compares what stands in a page between `<!-- name -->` and `<!-- /name -->`, or writes it.
#[track_caller]
pub(super) fn assert_part(page: &str, name: &str, wanted: &str, alike: impl Fn(&str) -> String) {
    let _writing = WRITING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = text_of(page);
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = text.split_once(&begin).expect("the part begins");
    let (found, after) = rest.split_once(&end).expect("the part ends");
    if alike(found) == alike(wanted) {
        return;
    }
    if is_updating() {
        replace(page, &[before, &begin, wanted, &end, after].concat());
        return;
    }
    panic!("{page} is to have, between the comments '{name}' (PAGES_UPDATE=1 writes it):\n{wanted}");
}

/// The same for a file that is generated as a whole.
#[track_caller]
pub(super) fn assert_file(file: &str, wanted: &str) {
    let found = std::fs::read_to_string(root().join(file)).unwrap_or_default();
    if found == wanted {
        return;
    }
    assert!(is_updating(), "{file} is outdated; PAGES_UPDATE=1 writes it");
    replace(file, wanted);
}

fn is_updating() -> bool {
    std::env::var_os("PAGES_UPDATE").is_some()
}

/// Whole at every moment: the other tests read it meanwhile.
fn replace(file: &str, text: &str) {
    let new = root().join(format!("{file}.new"));
    std::fs::write(&new, text).expect("written");
    std::fs::rename(new, root().join(file)).expect("put in its place");
}

pub(super) fn exactly(text: &str) -> String {
    text.to_owned()
}

#[test]
fn the_demonstration_prints_what_the_readme_shows() {
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
    assert_part("docs/producing.md", "codes", &table, exactly);
}

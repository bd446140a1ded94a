//! The figures of the peers on the page, and their picture, are those of the last run that was kept.

// The same code writes them where they are measured.
#[allow(dead_code, reason = "the benchmark uses more of it")]
#[path = "../../benches/peers/page.rs"]
mod page;
#[path = "../../benches/peers/plot.rs"]
mod plot;
#[path = "../../benches/peers/results.rs"]
mod results;
#[allow(dead_code, reason = "the benchmark uses more of it")]
#[path = "../../benches/peers/subject.rs"]
mod subject;

use self::{results::Results, subject::Subject};
use super::{
    parts::{assert_file, assert_part, exactly},
    picture, root, spread, table, text_of,
};

/// `None` before the first run that is kept.
fn measured() -> Option<Results> {
    let file = "benches/peers/results.json";
    root().join(file).exists().then(|| serde_json::from_str(&text_of(file)).expect("figures"))
}

#[test]
fn the_tables_of_the_peers_are_those_of_the_last_run() {
    let results = measured();
    assert_part("docs/performance.md", "peers", &page::markdown(results.as_ref()), exactly);
}

#[test]
fn the_picture_of_the_peers_is_of_the_last_run() {
    match measured() {
        Some(results) => assert_file("docs/peers.svg", &plot::svg(&results.measured)),
        None => assert!(!root().join("docs/peers.svg").exists(), "a picture of nothing"),
    }
}

/// A run that left one out is no comparison with all of them.
#[test]
fn the_kept_run_has_all_peers() {
    let Some(results) = measured() else { return };
    let names: Vec<_> = results.measured.subjects.iter().map(|subject| subject.name.as_str()).collect();
    assert_eq!(names, Subject::ALL.map(Subject::name));
}

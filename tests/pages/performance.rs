//! The figures on the page, and its picture, are those of the last full run.

// The same code writes them where they are measured.
#[allow(dead_code, reason = "the benchmark uses more of it")]
#[path = "../../benches/pipeline/page.rs"]
mod page;
#[path = "../../benches/pipeline/plot.rs"]
mod plot;
#[allow(dead_code, reason = "the benchmark uses more of it")]
#[path = "../../benches/pipeline/results.rs"]
mod results;

use self::results::Results;
use super::{
    parts::{assert_file, assert_part, exactly},
    picture, spread, table, text_of,
};

fn measured() -> Results {
    serde_json::from_str(&text_of("benches/pipeline/results.json")).expect("figures")
}

#[test]
fn the_tables_of_performance_are_those_of_the_last_run() {
    let results = measured();
    assert!(!results.quick);
    assert_part("docs/performance.md", "performance", &page::markdown(&results), exactly);
}

#[test]
fn the_picture_of_performance_is_of_the_last_run() {
    assert_file("docs/performance.svg", &plot::svg(&measured()));
}

/// Figures that the README repeats.
#[test]
fn the_readme_has_the_figures_of_the_last_run() {
    let results = measured();
    let (throughput, latency) = (results.throughput.expect("measured"), results.latency.expect("measured"));
    let full = &throughput.subjects[1];
    let readme = text_of("README.md").replace('\n', " ");
    let mut wanted = vec![format!("{} commands/s", table::grouped(full.rate.median))];
    for run in latency.runs.iter().filter(|run| run.subject == full.name && run.rate <= 1_000.0) {
        wanted.push(format!("{:.1} ms", run.p50.expect("enough")));
        wanted.push(format!("{:.1} ms", run.p99.expect("enough")));
    }
    wanted.push(format!("{:.0} MB", results.memory.expect("measured").peak.median));
    for figure in wanted {
        assert!(readme.contains(&figure), "README.md does not say {figure:?}");
    }
}

//! The results as Markdown, in a folder and in docs/performance.md.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use super::{machine, plot, say};

const BEGIN: &str = "<!-- performance -->";
const END: &str = "<!-- /performance -->";
const PLOT: &str = "performance.svg";

/// Everything that was measured.
pub struct Report {
    pub kafka: String,
    pub plot: Plot,
    quick: bool,
    tables: Vec<Table>,
    notes: Vec<String>,
}

/// What is shown as a picture.
#[derive(Debug, Default)]
pub struct Plot {
    pub rates: Vec<Bar>,
    pub cpu: Vec<Stack>,
    pub latency: Vec<Latency>,
    /// Events in the log, and µs of CPU a command.
    pub growth: Vec<(f64, f64)>,
}

/// A percentile at a rate, in ms.
#[derive(Debug)]
pub struct Latency {
    pub name: String,
    pub copy_loop: f64,
    pub processor: f64,
}

#[derive(Debug)]
pub struct Bar {
    pub name: String,
    pub spread: Spread,
}

/// Parts that lie on one another.
#[derive(Debug)]
pub struct Stack {
    pub name: String,
    pub parts: Vec<(&'static str, f64)>,
}

pub fn stacked(name: &str, parts: Vec<(&'static str, f64)>) -> Stack {
    Stack { name: name.to_owned(), parts }
}

/// What several runs gave.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    pub lowest: f64,
    pub median: f64,
    pub highest: f64,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
        };
        Self { lowest: at(0), median, highest: at(values.len().wrapping_sub(1)) }
    }
}

/// A table under a heading.
pub struct Table {
    heading: String,
    note: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(heading: &str, header: &[&str]) -> Self {
        let header = header.iter().map(|&cell| cell.to_owned()).collect();
        Self { heading: heading.to_owned(), note: String::new(), rows: vec![header] }
    }

    pub fn note(&mut self, note: String) {
        self.note = note;
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn markdown(&self) -> String {
        let mut text = format!("**{}.** {}\n\n", self.heading, self.note);
        for (index, row) in self.rows.iter().enumerate() {
            let _ = writeln!(text, "| {} |", row.join(" | "));
            if index == 0 {
                let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
            }
        }
        text
    }
}

impl Report {
    pub fn new(quick: bool) -> Self {
        Self { kafka: String::new(), plot: Plot::default(), quick, tables: Vec::new(), notes: Vec::new() }
    }

    pub fn table(&mut self, table: Table) {
        say!("\n{}", table.markdown());
        self.tables.push(table);
    }

    pub fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for line in machine::describe(&self.kafka) {
            let _ = writeln!(text, "- {line}");
        }
        if self.quick {
            let _ = writeln!(text, "- with `--quick`, so the figures are rough");
        }
        for table in &self.tables {
            let _ = write!(text, "\n{}", table.markdown());
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }

    /// Table and plot, into a folder.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("the folder of the results");
        let table = folder.join("performance.md");
        fs::write(&table, format!("# Performance\n\n{}\n![Plots of the tables]({PLOT})\n", self.markdown()))
            .expect("the table");
        plot::draw(&self.plot, &folder.join(PLOT));
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        say!("written: performance.md and {PLOT} in {}", folder.display());
    }

    /// The same between the marks in docs/performance.md, with the plot beside it.
    pub fn write_into_readme(&self) {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let readme = root.join("docs/performance.md");
        let text = fs::read_to_string(&readme).expect("docs/performance.md");
        let (before, rest) = text.split_once(BEGIN).expect("the mark in docs/performance.md");
        let (_, after) = rest.split_once(END).expect("the second mark in docs/performance.md");
        plot::draw(&self.plot, &root.join("docs").join(PLOT));
        let results = self.markdown();
        let text = format!("{before}{BEGIN}\n{results}\n![Plots of the tables]({PLOT})\n{END}{after}");
        fs::write(readme, text).expect("docs/performance.md");
        say!("docs/performance.md and docs/{PLOT} have the results");
    }
}

//! Tables of Markdown, and the figures in them.

use std::fmt::Write as _;

use super::spread::Spread;

/// A table under a heading.
pub struct Table(pub String);

impl Table {
    pub fn new(heading: &str, note: &str, header: &[&str]) -> Self {
        let mut table = Self(format!("**{heading}.** {note}\n\n"));
        table.row(header);
        let _ = writeln!(table.0, "|{}", " --- |".repeat(header.len()));
        table
    }

    pub fn row(&mut self, cells: &[impl AsRef<str>]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }
}

pub fn range(spread: Spread, decimals: usize) -> String {
    format!("{:.decimals$} to {:.decimals$}", spread.lowest, spread.highest)
}

/// 1234567 as 1,234,567.
pub fn grouped(number: impl Into<f64>) -> String {
    let digits = format!("{:.0}", number.into());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn count(number: u64) -> String {
    grouped(number as f64)
}

/// Microseconds of a broker's CPU.
pub fn of_broker(time: Option<f64>) -> String {
    time.map_or_else(|| "unknown".to_owned(), |time| format!("{time:.2}"))
}

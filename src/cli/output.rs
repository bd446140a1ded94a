//! Standard output, the progress bar, and how times, numbers and texts read.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

pub const GOOD: Style = AnsiColor::Green.on_default().bold();
pub const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const FAINT: Style = Style::new().dimmed();

/// Input from which on a progress bar helps, in bytes.
const LONG: u64 = 256 * 1024;
/// Characters of an activity's text that one line shows.
const EXCERPT: usize = 60;

const BYTES: &str = "{bar:40} {bytes} of {total_bytes}, {eta} left";
const EVENTS: &str = "{bar:40} {human_pos} of {human_len} events, {eta} left";
const RECORDS: &str = "{bar:40} {human_pos} of {human_len} records, {eta} left";

/// Where a command prints; with colours on a terminal only.
pub type Output = AutoStream<Box<dyn Write>>;

/// Standard output, which has to be flushed.
#[must_use]
pub fn stdout() -> Output {
    let stdout = io::stdout();
    let choice = AutoStream::choice(&stdout);
    AutoStream::new(Box::new(io::BufWriter::with_capacity(64 * 1024, stdout)), choice)
}

/// A bar over events on standard error, where somebody sees it.
#[must_use]
pub fn event_progress(events: u64) -> ProgressBar {
    ProgressBar::with_draw_target(Some(events), ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::with_template(EVENTS).expect("a template that a test has tried"))
}

/// A bar over bytes on standard error, where the input is long and somebody sees it.
#[must_use]
pub fn progress(total_bytes: Option<u64>) -> ProgressBar {
    match total_bytes.filter(|&bytes| bytes >= LONG && io::stderr().is_terminal()) {
        None => ProgressBar::hidden(),
        Some(bytes) => ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
            .with_style(ProgressStyle::with_template(BYTES).expect("a template that a test has tried")),
    }
}

/// A bar on standard error where somebody sees it; how long it is is said as it becomes known.
#[must_use]
pub fn records() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
        .with_style(ProgressStyle::with_template(RECORDS).expect("a template that a test has tried"))
}

/// `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Milliseconds since 1970 as a date-time in UTC.
#[must_use]
pub fn time(millis: i64) -> String {
    match Timestamp::from_millisecond(millis) {
        Ok(timestamp) if millis >= 0 => format!("{timestamp:.3}"),
        _ => format!("{millis} ms"),
    }
}

/// Text of somebody else's without what a terminal would take for a command.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The beginning of a text, as one line shows it after other things; nothing of none.
#[must_use]
pub fn excerpt(text: Option<&str>) -> String {
    let Some(text) = text else { return String::new() };
    let mut shown = " \"".to_owned();
    let mut characters = text.chars();
    shown.extend(characters.by_ref().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }));
    let _ = write!(shown, "{}\"", if characters.next().is_some() { "…" } else { "" });
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_thing_has_no_plural() {
        assert_eq!(count(1, "event"), "1 event");
        assert_eq!(count(0, "event"), "0 events");
    }

    #[test]
    fn the_bars_have_templates_that_parse() {
        assert!(ProgressStyle::with_template(BYTES).is_ok());
        assert!(ProgressStyle::with_template(EVENTS).is_ok());
        assert!(ProgressStyle::with_template(RECORDS).is_ok());
    }

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(time(1_795_478_400_120), "2026-11-24T00:00:00.120Z");
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(-1), "-1 ms");
        assert_eq!(time(i64::MAX), "9223372036854775807 ms");
    }

    #[test]
    fn an_excerpt_is_one_line_and_short() {
        assert_eq!(excerpt(None), "");
        assert_eq!(excerpt(Some("a\nb\u{1b}[31m")), " \"a b [31m\"");
        assert_eq!(excerpt(Some(&"ø".repeat(60))).chars().count(), 63);
        assert!(excerpt(Some(&"ø".repeat(61))).ends_with("ø…\""));
    }
}

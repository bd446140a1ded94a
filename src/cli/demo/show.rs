//! What the demonstration prints.

use std::io::{self, IsTerminal, Write};

use anstream::AutoStream;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{
    activity::Decision,
    cli::{
        input::Place,
        outcome::{Decided, write_json},
    },
};

/// Input from which on a progress bar helps, in bytes.
const LONG: u64 = 256 * 1024;

/// Prints outcomes, and counts them.
pub(super) struct Show {
    json: bool,
    out: AutoStream<Box<dyn Write>>,
    terminal: bool,
    bar: ProgressBar,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Counts {
    commands: u64,
    events: u64,
    duplicates: u64,
    rejections: u64,
    notifications: u64,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Summary {
    summary: Counts,
}

impl Show {
    pub(super) fn new(json: bool, total_bytes: Option<u64>) -> Self {
        let long = total_bytes.filter(|&bytes| bytes >= LONG && io::stderr().is_terminal());
        let bar = match long {
            None => ProgressBar::hidden(),
            Some(bytes) => ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
                .with_style(
                    ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left")
                        .expect("a template that a test has tried"),
                ),
        };
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let choice = AutoStream::choice(&stdout);
        let buffered: Box<dyn Write> = Box::new(io::BufWriter::with_capacity(64 * 1024, stdout));
        let out = AutoStream::new(buffered, choice);
        Self { json, out, terminal, bar, counts: Counts::default() }
    }

    pub(super) fn command(&mut self, place: &Place, bytes: usize, decided: &Decided) -> anyhow::Result<()> {
        self.counts.commands += 1;
        match decided.decision {
            Decision::Accepted(_) => self.counts.events += 1,
            Decision::Duplicate { .. } => self.counts.duplicates += 1,
            Decision::Rejected(_) => self.counts.rejections += 1,
        }
        self.counts.notifications += decided.notifications.len() as u64;
        self.bar.inc(bytes as u64 + u64::from(place.line.is_some()));
        if self.json {
            decided.print_json(place, &mut self.out)?;
        } else {
            decided.print(place, &mut self.out)?;
        }
        Ok(())
    }

    /// Lets a person see what there is. A pipe gets it in larger pieces.
    pub(super) fn refresh(&mut self) -> anyhow::Result<()> {
        if self.terminal {
            // Lines and bar share the terminal, so one makes way for the other.
            let out = &mut self.out;
            self.bar.suspend(|| out.flush())?;
        }
        Ok(())
    }

    pub(super) fn summary(mut self) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        let Counts { commands, events, duplicates, rejections, notifications } = self.counts;
        if self.json {
            write_json(&Summary { summary: self.counts }, &mut self.out)?;
        } else {
            writeln!(
                self.out,
                "{}: {}, {}, {}; {}",
                count(commands, "command"),
                count(events, "event"),
                count(duplicates, "duplicate"),
                count(rejections, "rejection"),
                count(notifications, "notification"),
            )?;
        }
        Ok(self.out.flush()?)
    }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
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
    fn the_bar_has_a_template_that_parses() {
        assert!(ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left").is_ok());
    }
}

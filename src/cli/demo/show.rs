//! What the demonstration prints.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use contract::Decision;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::{
    input::Place,
    json::write_json,
    outcome::Decided,
    output::{self, BAD, Output, Unread, count},
};

/// Prints outcomes, and counts them.
pub(super) struct Show {
    json: bool,
    out: Output,
    terminal: bool,
    bar: ProgressBar,
    counts: Counts,
    unposted: bool,
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
        Self {
            json,
            out: output::stdout(Unread::Stop),
            terminal: io::stdout().is_terminal(),
            bar: output::progress(total_bytes),
            counts: Counts::default(),
            unposted: false,
        }
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

    /// A command that the embedded broker can't take.
    pub(super) fn unposted(&mut self, place: &Place, reason: &str) -> anyhow::Result<()> {
        self.unposted = true;
        if self.json {
            let Place { file, line } = place;
            write_json(&serde_json::json!({"file": file, "line": line, "error": reason}), &mut self.out)?;
        } else {
            writeln!(self.out, "{BAD}not posted{BAD:#} {place}: {reason}")?;
        }
        Ok(())
    }

    /// Shows the output so far. A terminal gets it at once; a pipe in larger pieces, but without waiting if nothing is under
    /// way.
    pub(super) fn refresh(&mut self, idle: bool) -> anyhow::Result<()> {
        if self.terminal || idle {
            // Lines and bar share the terminal, so one makes way for the other.
            let out = &mut self.out;
            self.bar.suspend(|| out.flush())?;
        }
        Ok(())
    }

    pub(super) fn summary(mut self) -> anyhow::Result<ExitCode> {
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
        self.out.flush()?;
        Ok(if self.unposted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

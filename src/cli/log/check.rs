//! `log check`: whether the log is damaged.

use std::{io, io::Write, path::Path, process::ExitCode};

use event_log::{CheckReport, Checked, LogFinding, LogReader, read_model::ReadModel};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::{
    json::write_json,
    output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count, plain},
};

/// Reads the whole log, and reports what is damaged
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  activity-stream log check --log-file /var/lib/activity-stream/activity.db

Exit code 1: it found something. A processor may be running.")]
pub(super) struct Args {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A finding's line of `--json`.
#[derive(Debug, Serialize)]
struct FindingLine<'a> {
    finding: FindingObject<'a>,
}

#[derive(Debug, Serialize)]
struct FindingObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<&'a str>,
    found: &'a str,
}

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct SummaryLine<'a> {
    summary: SummaryObject<'a>,
}

#[derive(Debug, Serialize)]
struct SummaryObject<'a> {
    path: &'a Path,
    rows: u64,
    findings: u64,
    /// False for schema version 1, whose rows have none.
    checksums: bool,
    /// False if a processor was writing the -wal file.
    wal_checked: bool,
}

/// Prints a line for each finding, and fails if there is any.
pub(super) fn check(args: &Args, log: &LogReader, path: &Path) -> anyhow::Result<ExitCode> {
    let mut printer = Printer { out: output::stdout(Unread::GoOn), json: args.json, bar: output::rows() };
    let mut checked = log.check(&mut printer)?;
    if let Some(model) = ReadModel::open(path)
        && let Err(error) = model.check()
    {
        checked.findings += 1;
        printer.finding(&LogFinding { table: None, row: None, found: error.to_string() })?;
    }
    printer.summary(&checked, path)?;
    Ok(if checked.findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Printer {
    out: Output,
    json: bool,
    bar: ProgressBar,
}

impl CheckReport for Printer {
    fn expect_rows(&mut self, rows: u64) {
        self.bar.inc_length(rows);
    }

    fn row_read(&mut self) {
        self.bar.inc(1);
    }

    fn finding(&mut self, finding: &LogFinding) -> io::Result<()> {
        let Self { out, json, bar } = self;
        let LogFinding { table, row, found } = finding;
        let finding_object = FindingObject { table: *table, row: row.as_deref(), found };
        bar.suspend(|| {
            match json {
                true => write_json(&FindingLine { finding: finding_object }, out),
                // Damaged text may contain anything.
                false => writeln!(out, "{BAD}damaged{BAD:#}  {}", plain(&finding.to_string())),
            }?;
            out.flush()
        })
    }
}

impl Printer {
    fn summary(&mut self, checked: &Checked, path: &Path) -> io::Result<()> {
        self.bar.finish_and_clear();
        let Checked { rows, findings, has_checksums, is_wal_checked } = *checked;
        if self.json {
            let (checksums, wal_checked) = (has_checksums, is_wal_checked);
            let summary = SummaryObject { path, rows, findings, checksums, wal_checked };
            write_json(&SummaryLine { summary }, &mut self.out)?;
            return self.out.flush();
        }
        if !has_checksums {
            writeln!(
                self.out,
                "{DOUBTFUL}no checksums{DOUBTFUL:#}  schema version 1 has none, so changed values go unnoticed; the next \
                 'activity-stream run' adds them"
            )?;
        }
        if !is_wal_checked {
            writeln!(
                self.out,
                "{DOUBTFUL}not checked{DOUBTFUL:#}  the -wal file, which a processor is writing"
            )?;
        }
        let (style, rows) = (if findings == 0 { GOOD } else { BAD }, count(rows, "row"));
        writeln!(self.out, "{}: {rows}, {style}{}{style:#}", path.display(), count(findings, "finding"))?;
        if findings > 0 {
            writeln!(
                self.out,
                "restore the log from a backup, or move it away with its -wal and -shm files: it fills up again from \
                 what the topic retains"
            )?;
        }
        self.out.flush()
    }
}

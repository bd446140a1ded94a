//! `log backup`: copies the log, also under load.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::bail;
use event_log::{Backup, CheckReport, LogFinding, LogReader};
use indicatif::ProgressBar;
use serde::Serialize;

use super::damage::Damage;
use crate::cli::{
    json::write_json,
    output::{self, Unread, count, plain},
};

/// Copies the event log to a new file, also while a processor writes it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  activity-stream log backup --log-file /var/lib/activity-stream/activity.db /backup/activity.db")]
pub(super) struct Args {
    /// The copy, which must not exist yet
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    path: &'a Path,
    events: u64,
}

/// Copies the log, and prints what the copy holds, or fails if there is none.
pub(super) fn back_up(args: &Args, log: &LogReader, path: &Path) -> anyhow::Result<()> {
    let mut findings = Findings { damage: Damage::new(path), bar: output::rows() };
    let backup = log.back_up(&args.file, &mut findings)?;
    findings.bar.finish_and_clear();
    let events = match backup {
        Backup::Made { events } => events,
        Backup::Damaged { findings } => bail!(
            "{}: the event log is damaged: {}; {} was not made: a backup is a sound log; restore the log from the last \
             one, or move it away with its -wal and -shm files: it fills up again from what the topic retains",
            path.display(),
            count(findings, "finding"),
            args.file.display()
        ),
    };
    let mut out = output::stdout(Unread::GoOn);
    if args.json {
        write_json(&Line { path: &args.file, events }, &mut out)?;
    } else {
        writeln!(out, "{} holds {}", args.file.display(), count(events, "event"))?;
    }
    Ok(out.flush()?)
}

/// Names them on standard error, as the other commands name damaged rows.
struct Findings<'a> {
    damage: Damage<'a>,
    bar: ProgressBar,
}

impl CheckReport for Findings<'_> {
    fn expect_rows(&mut self, rows: u64) {
        self.bar.inc_length(rows);
    }

    fn row_read(&mut self) {
        self.bar.inc(1);
    }

    fn finding(&mut self, finding: &LogFinding) -> io::Result<()> {
        let Self { damage, bar } = self;
        bar.suspend(|| damage.name(&plain(&finding.to_string())));
        Ok(())
    }
}

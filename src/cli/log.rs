//! `log`: what the event log holds, read while a processor may be writing it.

mod backup;
mod check;
mod list;
mod rebuild;
mod show;
mod stats;

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::bail;
use event_log::{LogReader, WalState};

use super::{
    args::{self, LogCommand},
    output::{StdoutError, count},
};
use crate::config::Config;

/// Lists events, shows one command's end, counts, or checks.
pub fn log(args: &args::Log, config: &Config) -> anyhow::Result<ExitCode> {
    let path = &config.log.path;
    // What a damaged log still holds can be shown.
    let log = LogReader::open_damaged(path)?;
    let mut is_damaged = false;
    if !matches!(args.command, LogCommand::Check(_))
        && let WalState::Damaged(finding) = log.examine_wal()?
    {
        // What can be read is shown all the same.
        Damage::new(path).name(&finding);
        if let LogCommand::Backup(args) = &args.command {
            bail!("{} was not made: a backup is a sound log", args.file.display());
        }
        is_damaged = true;
    }
    let shown = match &args.command {
        LogCommand::List(args) => list::list(args, &log, path),
        LogCommand::Show(args) => show::show(args, &log, path),
        LogCommand::Stats(args) => stats::stats(args, &log, path),
        LogCommand::Check(args) => return check::check(args, &log, path),
        LogCommand::Backup(args) => backup::back_up(args, &log, path),
        LogCommand::Rebuild(args) => rebuild::rebuild(args, log, path),
    };
    match shown {
        Err(error) if !(is_damaged && StdoutError::is_unread(&error)) => Err(error),
        _ if is_damaged => Ok(ExitCode::FAILURE),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Rows that can't be shown because they are not as they were written: each is named, the others are shown.
struct Damage<'a> {
    path: &'a Path,
    rows: u64,
}

impl<'a> Damage<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, rows: 0 }
    }

    fn name(&mut self, row: &impl Display) {
        self.rows += 1;
        let _ = writeln!(io::stderr(), "activity-stream: {}: {row}", self.path.display());
    }

    /// Fails where there was one, also if nobody reads the output on, or where the log has lost its end.
    fn end(self, log: &LogReader, printed: anyhow::Result<()>) -> anyhow::Result<()> {
        if self.rows == 0 {
            printed?;
            return Ok(log.check_counts()?);
        }
        if let Err(error) = printed
            && !StdoutError::is_unread(&error)
        {
            return Err(error);
        }
        let rows = count(self.rows, "damaged row");
        bail!(
            "{}: left out {rows}; find all damage with 'activity-stream log check', then restore the log from a \
             backup, or move it away with its -wal and -shm files: it fills up again from what the topic retains",
            self.path.display()
        )
    }
}

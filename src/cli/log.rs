//! `log`: reads the event log, which a processor may be writing.

mod backup;
mod check;
mod damage;
mod list;
mod rebuild;
mod show;
mod stats;

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use event_log::{LogReader, WalState};

use super::output::StdoutError;
use crate::config::Config;
use damage::Damage;

/// Reads the event log, also while a processor writes it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream log list --object customer/42
  activity-stream log show 01a20ada-2c7b-89d1-8003-000000003039
  activity-stream log stats")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    List(list::Args),
    Show(show::Args),
    Stats(stats::Args),
    Backup(backup::Args),
    Check(check::Args),
    Rebuild(rebuild::Args),
}

/// Reads the log for one of its subcommands.
pub(super) fn log(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let path = &config.log.path;
    // A damaged log can still show its other rows.
    let log = LogReader::open_damaged(path)?;
    let mut is_damaged = false;
    if !matches!(args.command, Command::Check(_))
        && let WalState::Damaged(finding) = log.examine_wal()?
    {
        // The readable rows are shown all the same.
        Damage::new(path).name(&finding);
        if let Command::Backup(args) = &args.command {
            bail!("{} was not made: a backup is a sound log", args.file.display());
        }
        is_damaged = true;
    }
    let shown = match &args.command {
        Command::List(args) => list::list(args, &log, path),
        Command::Show(args) => show::show(args, &log, path),
        Command::Stats(args) => stats::stats(args, &log, path),
        Command::Check(args) => return check::check(args, &log, path),
        Command::Backup(args) => backup::back_up(args, &log, path),
        Command::Rebuild(args) => rebuild::rebuild(args, log, path),
    };
    match shown {
        Err(error) if !(is_damaged && StdoutError::is_unread(&error)) => Err(error),
        _ if is_damaged => Ok(ExitCode::FAILURE),
        _ => Ok(ExitCode::SUCCESS),
    }
}

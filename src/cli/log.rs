//! `log`: what the event log holds, read while a processor may be writing it.

mod backup;
mod list;
mod rebuild;
mod show;
mod stats;

use super::args::{self, LogCommand};
use crate::{config::Config, event_log::LogReader};

/// Lists events, shows one command's end, or counts.
pub fn log(args: &args::Log, config: &Config) -> anyhow::Result<()> {
    let path = &config.log.path;
    let log = LogReader::open(path)?;
    match &args.command {
        LogCommand::List(args) => list::list(args, &log, path),
        LogCommand::Show(args) => show::show(args, &log, path),
        LogCommand::Stats(args) => stats::stats(args, &log, path),
        LogCommand::Backup(args) => backup::back_up(args, &log),
        LogCommand::Rebuild(args) => rebuild::rebuild(args, log, path),
    }
}

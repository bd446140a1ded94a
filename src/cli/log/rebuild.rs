//! `log rebuild`: rebuilds the read model.

use std::{io::Write, path::Path};

use event_log::{
    LogReader,
    read_model::{Follower, ReadModel},
};
use serde::Serialize;

use crate::cli::{
    json::write_json,
    output::{self, Unread, count},
};

/// Rebuilds the read model, which finds events by object and time
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  activity-stream log rebuild --log-file /var/lib/activity-stream/activity.db")]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    path: &'a Path,
    events: i64,
}

/// Rebuilds the read model up to the log's end.
pub(super) fn rebuild(args: &Args, log: LogReader, path: &Path) -> anyhow::Result<()> {
    let bar = output::event_progress(log.last_position()?.try_into()?);
    let mut follower = Follower::rebuild(log, path)?;
    let events = loop {
        let progress = follower.advance(true)?;
        bar.set_length(progress.last.try_into()?);
        bar.set_position(progress.covered.try_into()?);
        if progress.lag() == 0 {
            break progress.covered;
        }
    };
    bar.finish_and_clear();
    let mut out = output::stdout(Unread::GoOn);
    let model = ReadModel::path_of(path);
    if args.json {
        write_json(&Line { path: &model, events }, &mut out)?;
    } else {
        writeln!(out, "{} covers {}", model.display(), count(events.try_into()?, "event"))?;
    }
    Ok(out.flush()?)
}

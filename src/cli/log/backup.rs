//! `log backup`: a copy of the log, also under load.

use std::{io::Write, path::Path};

use serde::Serialize;

use crate::{
    cli::{
        args,
        json::write_json,
        output::{self, Unread, count},
    },
    event_log::LogReader,
};

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    path: &'a Path,
    events: u64,
}

/// Copies the log, and says what the copy holds.
pub(super) fn back_up(args: &args::LogBackup, log: &LogReader) -> anyhow::Result<()> {
    log.back_up(&args.file)?;
    let events = LogReader::open(&args.file)?.stats()?.counts.events;
    let mut out = output::stdout(Unread::GoOn);
    if args.json {
        write_json(&Line { path: &args.file, events }, &mut out)?;
    } else {
        writeln!(out, "{} holds {}", args.file.display(), count(events, "event"))?;
    }
    Ok(out.flush()?)
}

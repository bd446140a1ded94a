//! `log list`: events in order of position.

use std::{
    borrow::Cow,
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
};

use contract::ActivityId;
use event_log::{DamagedRow, ListQuery, Listed, LogReader, Order, read_model::ReadModel};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::damage::Damage;
use crate::cli::{
    json::write_json,
    output::{self, FAINT, GOOD, Output, Unread, excerpt, time},
    parsers::one_of,
    time::JsonTime,
    when::When,
};

/// Lists events
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream log list --object customer/42 --since 7d
  activity-stream log list --since 2026-01-01 --until 2026-02-01 --json
  activity-stream log list --order descending --limit 10")]
pub(super) struct Args {
    /// Only those about this object
    #[arg(long, value_name = "TYPE/ID", value_parser = object)]
    object: Option<String>,
    /// Only those whose command arrived then or later: a date-time, a date (its start in UTC), or a time ago (2h, 7d)
    #[arg(long, value_name = "WHEN")]
    since: Option<When>,
    /// Only those whose command arrived before then
    #[arg(long, value_name = "WHEN")]
    until: Option<When>,
    /// By position in the log
    #[arg(
        long,
        value_parser = one_of([("ascending", Order::OldestFirst), ("descending", Order::NewestFirst)]),
        default_value = "ascending"
    )]
    order: Order,
    /// List at most this many
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Types and ids may contain slashes themselves, so the text is not split.
fn object(text: &str) -> Result<String, &'static str> {
    match text.split_once('/') {
        Some((object_type, object_id)) if !object_type.is_empty() && !object_id.is_empty() => {
            Ok(text.to_owned())
        }
        _ => Err("expected the object's type, / and its id, such as customer/42"),
    }
}

/// An event's line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    position: i64,
    id: ActivityId,
    partition: i32,
    offset: i64,
    timestamp: JsonTime,
    activity: &'a RawValue,
}

/// The part of an entry that a line shows.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "@type", borrow)]
    verb: Cow<'a, str>,
    content: Option<String>,
}

/// Prints events as they are read.
pub(super) fn list(args: &Args, log: &LogReader, path: &Path) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let query = ListQuery {
        object: args.object.clone(),
        since: args.since.map(|when| first_millisecond(when, now)),
        until: args.until.map(|when| first_millisecond(when, now)),
        order: args.order,
        limit: args.limit,
    };
    let mut out = output::stdout(Unread::Stop);
    let mut damage = Damage::new(path);
    let each = |listed: Result<Listed, DamagedRow>| {
        let printed = listed.and_then(|listed| print(&listed, args.json, &mut out));
        printed.unwrap_or_else(|damaged| {
            // On a terminal, the message appears in its place between the events.
            let flushed = out.flush();
            damage.name(&damaged);
            flushed
        })?;
        anyhow::Ok(ControlFlow::Continue(()))
    };
    let listed = match ReadModel::open(path) {
        Some(model) => model.list(log, &query, each),
        None => log.list(&query, each),
    };
    damage.end(log, listed.and_then(|()| Ok(out.flush()?)))
}

/// The first whole millisecond at or after that time: a record's timestamp is before the one exactly if it is before
/// the other.
fn first_millisecond(when: When, now: Timestamp) -> i64 {
    let nanoseconds = when.resolve(now).as_nanos();
    let milliseconds = nanoseconds.div_euclid(1_000_000) + i128::from(nanoseconds.rem_euclid(1_000_000) != 0);
    i64::try_from(milliseconds).expect("a timestamp is within the years -9999 to 9999")
}

/// A row of a log without checksums may contain text that is not JSON.
fn print(listed: &Listed, json: bool, out: &mut Output) -> Result<io::Result<()>, DamagedRow> {
    let printed = if json {
        serde_json::from_str(&listed.json).map(|activity| print_json(listed, activity, out))
    } else {
        serde_json::from_str(&listed.json).map(|entry| print_line(listed, &entry, out))
    };
    printed.map_err(|error| listed.unreadable(&error))
}

fn print_json(listed: &Listed, activity: &RawValue, out: &mut Output) -> io::Result<()> {
    let Listed { position, id, coordinates, .. } = listed;
    let line = Line {
        position: *position,
        id: *id,
        partition: coordinates.partition,
        offset: coordinates.offset,
        timestamp: JsonTime(coordinates.timestamp),
        activity,
    };
    write_json(&line, out)
}

fn print_line(listed: &Listed, entry: &Entry<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Listed { id, coordinates, object_type, object_id, .. } = listed;
    let Entry { verb, content } = entry;
    writeln!(
        out,
        "{id}  {FAINT}{}{FAINT:#}  {GOOD}{object_type}/{object_id}{GOOD:#} {verb}{}",
        time(coordinates.timestamp),
        excerpt(content.as_deref()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_ids_may_contain_slashes() {
        assert_eq!(object("case/2026/7"), Ok("case/2026/7".to_owned()));
        for wrong in ["case", "case/", "/7", ""] {
            assert!(object(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_of_a_millisecond_counts_as_a_whole_one() {
        let millisecond = |text: &str| first_millisecond(text.parse().unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(millisecond("1970-01-01T00:00:00.001Z"), 1);
        assert_eq!(millisecond("1970-01-01T00:00:00.0010001Z"), 2);
        assert_eq!(millisecond("1969-12-31T23:59:59.9989999Z"), -1);
        assert_eq!(millisecond("9999-12-30T22:00:00.999Z"), 253_402_207_200_999);
        assert_eq!(millisecond("9999-12-31T23:59:59.999Z"), 253_402_300_799_999);
    }
}

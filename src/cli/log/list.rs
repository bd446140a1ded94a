//! `log list`: events in order of position.

use std::{
    borrow::Cow,
    io::{self, Write},
    ops::ControlFlow,
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    activity::ActivityId,
    cli::{
        args,
        json::write_json,
        output::{self, FAINT, GOOD, Output, excerpt, time},
        time::JsonTime,
        when::When,
    },
    event_log::{ListQuery, Listed, LogReader, Order},
    read_model::ReadModel,
};

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

/// What one line shows of an entry.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "@type", borrow)]
    verb: Cow<'a, str>,
    content: Option<String>,
}

/// Prints events as they are read.
pub(super) fn list(args: &args::LogList, log: &LogReader, path: &Path) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let query = ListQuery {
        object: args.object.clone(),
        since: args.since.map(|when| first_millisecond(when, now)),
        until: args.until.map(|when| first_millisecond(when, now)),
        order: match args.order {
            args::Order::Ascending => Order::OldestFirst,
            args::Order::Descending => Order::NewestFirst,
        },
        limit: args.limit,
    };
    let mut out = output::stdout();
    let each = |listed| {
        if args.json {
            print_json(&listed, &mut out)?;
        } else {
            print(&listed, &mut out)?;
        }
        anyhow::Ok(ControlFlow::Continue(()))
    };
    match ReadModel::open(path) {
        Some(model) => model.list(log, &query, each)?,
        None => log.list(&query, each)?,
    }
    Ok(out.flush()?)
}

/// The first whole millisecond at or after that time: a record's timestamp is before the one exactly if it is before
/// the other.
fn first_millisecond(when: When, now: Timestamp) -> i64 {
    let nanoseconds = when.resolve(now).as_nanos();
    let milliseconds = nanoseconds.div_euclid(1_000_000) + i128::from(nanoseconds.rem_euclid(1_000_000) != 0);
    i64::try_from(milliseconds).expect("a timestamp is within the years -9999 to 9999")
}

fn print_json(listed: &Listed, out: &mut Output) -> anyhow::Result<()> {
    let Listed { position, id, coordinates, json, .. } = listed;
    let line = Line {
        position: *position,
        id: *id,
        partition: coordinates.partition,
        offset: coordinates.offset,
        timestamp: JsonTime(coordinates.timestamp),
        activity: serde_json::from_str(json)?,
    };
    Ok(write_json(&line, out)?)
}

fn print(listed: &Listed, out: &mut dyn Write) -> io::Result<()> {
    let Listed { id, coordinates, object_type, object_id, json, .. } = listed;
    let Entry { verb, content } = serde_json::from_str(json)?;
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
    fn a_part_of_a_millisecond_counts_as_a_whole_one() {
        let millisecond = |text: &str| first_millisecond(text.parse().unwrap(), Timestamp::UNIX_EPOCH);
        assert_eq!(millisecond("1970-01-01T00:00:00.001Z"), 1);
        assert_eq!(millisecond("1970-01-01T00:00:00.0010001Z"), 2);
        assert_eq!(millisecond("1969-12-31T23:59:59.9989999Z"), -1);
        assert_eq!(millisecond("9999-12-30T22:00:00.999Z"), 253_402_207_200_999);
        assert_eq!(millisecond("9999-12-31T23:59:59.999Z"), 253_402_300_799_999);
    }
}

//! `log show`: what became of one command.

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::anyhow;
use contract::{ActivityId, CommandRef, Coordinates, PartitionOffset, Problem, topic_bits};
use event_log::{Absence, Listed, LogReader, Shown};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::{
    json::{pretty, write_json},
    outcome::print_problem,
    output::{self, BAD, DOUBTFUL, FAINT, GOOD, Output, Unread, time},
    time::JsonTime,
};

/// Shows what became of one command
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream log show 3:12345
  activity-stream log show 01a20ada-2c7b-89d1-8003-000000003039 --json")]
pub(super) struct Args {
    /// Where the command is
    #[arg(value_name = "PARTITION:OFFSET|ID")]
    at: CommandRef,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What became of the command: the object of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    outcome: &'static str,
    id: ActivityId,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: JsonTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<ActivityId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<&'a [Problem]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<&'a RawValue>,
}

/// Prints it, and fails if the log does not know the command.
pub(super) fn show(args: &Args, log: &LogReader, path: &Path) -> anyhow::Result<()> {
    let shown = match args.at {
        CommandRef::Id(id) => log.show(id)?,
        CommandRef::At(place) => log.show_at(place)?,
    };
    let line = |outcome, Coordinates { partition, offset, timestamp }| Line {
        outcome,
        id: ActivityId::new(topic_bits(log.topic()), Coordinates { partition, offset, timestamp }),
        position: None,
        topic: log.topic(),
        partition,
        offset,
        timestamp: JsonTime(timestamp),
        of: None,
        problems: None,
        activity: None,
    };
    let line = match &shown {
        Shown::Event(listed) => Line {
            position: Some(listed.position),
            activity: Some(readable(listed, path)?),
            ..line("event", listed.coordinates)
        },
        Shown::Duplicate { of, coordinates } => Line { of: Some(*of), ..line("duplicate", *coordinates) },
        Shown::Rejected { problems, coordinates } => {
            Line { problems: Some(&problems.0), ..line("rejection", *coordinates) }
        }
        Shown::Absent(absence) => return Err(anyhow!("{}", absent(args.at, absence, log, path))),
    };
    let mut out = output::stdout(Unread::GoOn);
    if args.json {
        write_json(&line, &mut out)?;
    } else {
        print(&line, &mut out)?;
    }
    Ok(out.flush()?)
}

fn print(line: &Line<'_>, out: &mut Output) -> io::Result<()> {
    let Line { outcome, id, topic, partition, offset, .. } = line;
    let style = match (line.of, line.problems) {
        (Some(_), _) => DOUBTFUL,
        (None, Some(_)) => BAD,
        (None, None) => GOOD,
    };
    writeln!(out, "{style}{outcome}{style:#}{:1$}{id}", "", 11 - outcome.len())?;
    if let Some(of) = line.of {
        writeln!(out, "{FAINT}of{FAINT:#}         {of}")?;
    }
    writeln!(out, "{FAINT}command{FAINT:#}    {topic}, partition {partition}, offset {offset}")?;
    writeln!(out, "{FAINT}time{FAINT:#}       {}", time(line.timestamp.0))?;
    if let Some(position) = line.position {
        writeln!(out, "{FAINT}position{FAINT:#}   {position}")?;
    }
    if let Some(activity) = line.activity {
        writeln!(out, "{}", pretty(activity.get()))?;
    }
    line.problems.iter().copied().flatten().try_for_each(|problem| print_problem(problem, out))
}

/// A log without checksums may have a row that is not JSON.
fn readable<'a>(listed: &'a Listed, path: &Path) -> anyhow::Result<&'a RawValue> {
    serde_json::from_str(&listed.json)
        .map_err(|error| anyhow!("{}: {}", path.display(), listed.unreadable(&error)))
}

/// The message: what was looked for, where, and why it is absent.
fn absent(named: CommandRef, absence: &Absence, log: &LogReader, path: &Path) -> String {
    let (topic, path) = (log.topic(), path.display());
    let (asked, PartitionOffset { partition, offset }) = match named {
        CommandRef::Id(id) => {
            (id.to_string(), PartitionOffset { partition: id.partition(), offset: id.offset() })
        }
        CommandRef::At(place) => (place.to_string(), place),
    };
    let place = format!("partition {partition}, offset {offset} of '{topic}'");
    let command = match named {
        CommandRef::Id(id) => format!("{id} is the id of the command at {place}"),
        CommandRef::At(_) => format!("you asked for the command at {place}"),
    };
    match absence {
        Absence::OtherTopic => format!(
            "{asked} is not an id of the topic '{topic}', whose commands '{path}' holds: it was made for a topic of \
             another name. Name that topic's log with --log-file"
        ),
        Absence::UnknownPartition { .. } => format!(
            "{command}, but '{path}' has never seen that partition. Look in the log of the instance that has it"
        ),
        Absence::NotYet { logged, .. } => format!(
            "{command}, but '{path}' is only at offset {logged} there. Ask again when the processor has come to it, or \
             look in the log of the instance that has the partition"
        ),
        Absence::InGap { gap, .. } => format!(
            "{command}, which '{path}' never saw: it lacks the offsets {} to {} ({})",
            gap.first_offset,
            gap.next_offset.saturating_sub(1),
            gap.reason
        ),
        Absence::OtherCommand { coordinates, id: found } => format!(
            "{asked} is not in '{path}': the command at {place} has the timestamp {} and the id {found}, while the id \
             looked for has {}. To see that one: 'activity-stream log show {partition}:{offset}'",
            time(coordinates.timestamp),
            match named {
                CommandRef::Id(id) => time(id.timestamp()),
                CommandRef::At(_) => "none".to_owned(),
            },
        ),
        Absence::NoCommand { .. } => {
            format!("{asked} is not in '{path}': there is no command at {place}")
        }
    }
}

//! `log stats`: the log in numbers.

mod alike;

use std::{io::Write, path::Path};

use bytesize::ByteSize;
use event_log::{Counts, Gap, Intervention, LogReader, PartitionStats, Stats, read_model::ReadModel};
use serde::Serialize;

use super::damage::Damage;
use crate::cli::{
    json::write_json,
    output::{self, DOUBTFUL, FAINT, Output, Unread, count, time},
    time::JsonTime,
};

/// Counts what the log holds, and shows cursors and gaps
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  activity-stream log stats --log-file /var/lib/activity-stream/activity.db")]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    path: &'a Path,
    topic: &'a str,
    schema_version: i64,
    file_bytes: u64,
    #[serde(flatten)]
    counts: CountsLine,
    /// Absent if there is no usable read model.
    #[serde(skip_serializing_if = "Option::is_none")]
    read_model: Option<ReadModelLine>,
    partitions: Vec<PartitionLine>,
    gaps: Vec<GapLine<'a>>,
    interventions: Vec<InterventionLine<'a>>,
}

/// The number of events.
#[derive(Debug, Clone, Copy, Serialize)]
struct ReadModelLine {
    covered: i64,
    behind: i64,
}

/// `earliest` and `latest` are timestamps of events.
#[derive(Debug, Serialize)]
struct CountsLine {
    commands: u64,
    events: u64,
    duplicates: u64,
    rejections: u64,
    earliest: Option<JsonTime>,
    latest: Option<JsonTime>,
}

#[derive(Debug, Serialize)]
struct PartitionLine {
    partition: i32,
    logged: i64,
    published_seen: Option<i64>,
    clean: bool,
    /// Null if no record of the partition was seen yet.
    clock: Option<JsonTime>,
    #[serde(flatten)]
    counts: CountsLine,
}

#[derive(Debug, Serialize)]
struct GapLine<'a> {
    partition: i32,
    first_offset: i64,
    next_offset: i64,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct InterventionLine<'a> {
    partition: i32,
    at: JsonTime,
    flag: &'a str,
    details: &'a str,
}

/// Prints them.
pub(super) fn stats(args: &Args, log: &LogReader, path: &Path) -> anyhow::Result<()> {
    let stats = log.stats()?;
    let read_model = match ReadModel::open(path) {
        Some(model) => match model.covered(log) {
            Ok(covered) => {
                Some(ReadModelLine { covered, behind: log.last_position()?.saturating_sub(covered) })
            }
            Err(_) => None,
        },
        None => None,
    };
    let mut out = output::stdout(Unread::GoOn);
    if args.json {
        write_json(&line(&stats, read_model, path), &mut out)?;
    } else {
        print(&stats, read_model, path, &mut out)?;
    }
    out.flush()?;
    let mut damage = Damage::new(path);
    stats.damaged.iter().for_each(|row| damage.name(row));
    damage.end(log, Ok(()))
}

fn commands(counts: &Counts) -> u64 {
    counts.events.saturating_add(counts.duplicates).saturating_add(counts.rejections)
}

fn counts_line(counts: &Counts) -> CountsLine {
    let Counts { events, duplicates, rejections, earliest, latest } = *counts;
    let (earliest, latest) = (earliest.map(JsonTime), latest.map(JsonTime));
    CountsLine { commands: commands(counts), events, duplicates, rejections, earliest, latest }
}

fn line<'a>(stats: &'a Stats, read_model: Option<ReadModelLine>, path: &'a Path) -> Line<'a> {
    let partition = |PartitionStats { cursor, counts }: &PartitionStats| PartitionLine {
        partition: cursor.partition,
        logged: cursor.logged,
        published_seen: cursor.published_seen,
        clean: cursor.clean,
        clock: (cursor.clock > 0).then_some(JsonTime(cursor.clock)),
        counts: counts_line(counts),
    };
    let gap = |(partition, Gap { first_offset, next_offset, reason }): &'a (i32, Gap)| GapLine {
        partition: *partition,
        first_offset: *first_offset,
        next_offset: *next_offset,
        reason,
    };
    let intervention = |(partition, Intervention { at, flag, details }): &'a (i32, Intervention)| {
        InterventionLine { partition: *partition, at: JsonTime(*at), flag, details }
    };
    Line {
        path,
        topic: &stats.topic,
        schema_version: stats.schema_version,
        file_bytes: stats.file_bytes,
        counts: counts_line(&stats.counts),
        read_model,
        partitions: stats.partitions.iter().map(partition).collect(),
        gaps: stats.gaps.iter().map(gap).collect(),
        interventions: stats.interventions.iter().map(intervention).collect(),
    }
}

fn print(
    stats: &Stats,
    read_model: Option<ReadModelLine>,
    path: &Path,
    out: &mut Output,
) -> anyhow::Result<()> {
    let Stats { topic, schema_version, file_bytes, counts, partitions, gaps, interventions, damaged: _ } =
        stats;
    let mut fact = |name: &str, value: &str| writeln!(out, "{FAINT}{name:<9}{FAINT:#} {value}");
    let size = ByteSize::b(*file_bytes).display().iec();
    fact("log", &format!("{}, {size}, schema version {schema_version}", path.display()))?;
    fact("topic", topic)?;
    let kinds = [
        count(counts.events, "event"),
        count(counts.duplicates, "duplicate"),
        count(counts.rejections, "rejection"),
    ];
    fact("commands", &format!("{}: {}", commands(counts), kinds.join(", ")))?;
    if let (Some(earliest), Some(latest)) = (counts.earliest, counts.latest) {
        fact("events", &format!("from {} to {}", time(earliest), time(latest)))?;
    }
    if let Some(ReadModelLine { covered, behind }) = read_model {
        let covered = count(covered.try_into()?, "event");
        let rest = if behind == 0 { "" } else { "; queries read the rest from the log" };
        fact("index", &format!("covers {covered}, {behind} behind{rest}"))?;
    }
    if partitions.is_empty() {
        writeln!(out, "no partition has been started yet")?;
    } else {
        writeln!(out)?;
        print_partitions(partitions, out)?;
    }
    for gap in alike::gaps(gaps) {
        writeln!(out, "{DOUBTFUL}gap{DOUBTFUL:#}: {gap}")?;
    }
    for alike::Interventions { flag, at, partitions, details } in alike::interventions(interventions) {
        writeln!(out, "{DOUBTFUL}{flag}{DOUBTFUL:#} for {partitions} at {}: {details}", time(at))?;
    }
    Ok(())
}

/// A table whose columns are as wide as their widest cell.
fn print_partitions(partitions: &[PartitionStats], out: &mut Output) -> std::io::Result<()> {
    const HEADINGS: [&str; 7] =
        ["partition", "logged", "published", "clean stop", "events", "duplicates", "rejections"];
    let rows: Vec<[String; 7]> = partitions
        .iter()
        .map(|PartitionStats { cursor, counts }| {
            [
                cursor.partition.to_string(),
                cursor.logged.to_string(),
                // A lower bound until the partition was stopped cleanly.
                match (cursor.published_seen, cursor.clean) {
                    (None, _) => "unknown".to_owned(),
                    (Some(seen), true) => seen.to_string(),
                    (Some(seen), false) => format!(">={seen}"),
                },
                if cursor.clean { "yes" } else { "no" }.to_owned(),
                counts.events.to_string(),
                counts.duplicates.to_string(),
                counts.rejections.to_string(),
            ]
        })
        .collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(HEADINGS[column].len())
    };
    let row = |cells: [&str; 7]| {
        let cells: Vec<_> =
            cells.iter().enumerate().map(|(column, cell)| format!("{cell:>0$}", width(column))).collect();
        cells.join("  ")
    };
    writeln!(out, "{FAINT}{}{FAINT:#}", row(HEADINGS))?;
    rows.iter().try_for_each(|cells| writeln!(out, "{}", row(cells.each_ref().map(String::as_str))))
}

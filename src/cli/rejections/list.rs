//! `rejections list`: by code, or one by one.

use std::{collections::BTreeMap, io::Write, ops::ControlFlow, process::ExitCode};

use contract::{DeadLetter, PartitionOffset, Problem, Record};
use kafka::Settings;
use serde::Serialize;

use super::Selection;
use crate::cli::{
    json::write_json,
    outcome::print_problem,
    output::{self, BAD, FAINT, Output, Unread, count, plain, time},
    time::JsonTime,
};

/// Counts rejections by the code of their first problem; with a choice, lists the chosen ones one by one
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream rejections list
  activity-stream rejections list --code bad_date_time --json")]
pub(super) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A rejection's line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    partition: i32,
    offset: i64,
    /// When it was rejected.
    rejected: JsonTime,
    problems: &'a [Problem],
}

/// A code's line of `--json`.
#[derive(Debug, Clone, Serialize)]
struct Group {
    rejections: u64,
    first: JsonTime,
    last: JsonTime,
    /// The first one read.
    example: PartitionOffset,
    message: String,
}

#[derive(Debug, Serialize)]
struct GroupLine<'a> {
    code: &'a str,
    #[serde(flatten)]
    group: &'a Group,
}

/// Prints the number of rejections of each code or, with a selection, each selected rejection.
pub(super) fn list(args: &Args, kafka: &Settings) -> anyhow::Result<ExitCode> {
    let mut out = output::stdout(Unread::Stop);
    let chosen = super::Chosen::of(&args.selection, kafka)?;
    let one_by_one = !chosen.codes.is_empty() || !chosen.places.is_empty();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    let mut found = 0;
    let passed = super::read(kafka, |record, letter| {
        if chosen.takes(letter) {
            found += 1;
            if one_by_one {
                print(record, letter, args.json, &mut out)?;
            } else {
                add(&mut groups, record, letter);
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if !one_by_one {
        print_groups(&groups, args.json, &mut out)?;
    }
    if !args.json {
        write!(out, "{}", count(found, "rejection"))?;
        if passed.foreign > 0 {
            write!(out, "; {} of something else", count(passed.foreign, "record"))?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    passed.whole(kafka, "list again then")?;
    Ok(ExitCode::SUCCESS)
}

fn add(groups: &mut BTreeMap<String, Group>, record: &Record, letter: &DeadLetter<'_>) {
    let rejected = JsonTime(record.coordinates.timestamp);
    let message = || letter.problems.0.first().map(|problem| problem.message.clone()).unwrap_or_default();
    let group = groups.entry(letter.problems.first_code().to_owned()).or_insert_with(|| Group {
        rejections: 0,
        first: rejected,
        last: rejected,
        example: letter.at,
        message: message(),
    });
    group.rejections += 1;
    group.first = group.first.min(rejected);
    group.last = group.last.max(rejected);
}

/// The most frequent first.
fn print_groups(groups: &BTreeMap<String, Group>, json: bool, out: &mut Output) -> anyhow::Result<()> {
    let mut groups: Vec<_> = groups.iter().collect();
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.rejections));
    let width = groups.iter().map(|(code, _)| code.len()).max().unwrap_or(0);
    for (code, group) in groups {
        if json {
            write_json(&GroupLine { code, group }, out)?;
            continue;
        }
        let Group { rejections, first, last, example, message } = group;
        let (code, first, last) = (plain(code), time(first.0), time(last.0));
        writeln!(out, "{BAD}{code:<width$}{BAD:#}  {rejections:>8}  {FAINT}{first} to {last}{FAINT:#}")?;
        writeln!(out, "           {example} {}", plain(message))?;
    }
    Ok(())
}

/// PartitionOffset and time, and a line for each problem.
pub(super) fn print(
    record: &Record,
    letter: &DeadLetter<'_>,
    json: bool,
    out: &mut Output,
) -> anyhow::Result<()> {
    let DeadLetter { at: place, problems, .. } = letter;
    let rejected = record.coordinates.timestamp;
    if json {
        let PartitionOffset { partition, offset } = *place;
        return Ok(write_json(
            &Line { partition, offset, rejected: JsonTime(rejected), problems: &problems.0 },
            out,
        )?);
    }
    let key = record.key.as_deref().map(|key| format!("  {}", plain(&String::from_utf8_lossy(key))));
    writeln!(out, "{BAD}{place}{BAD:#}  {FAINT}{}{FAINT:#}{}", time(rejected), key.unwrap_or_default())?;
    Ok(problems.0.iter().try_for_each(|problem| print_problem(problem, out))?)
}

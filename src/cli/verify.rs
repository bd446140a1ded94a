//! `verify`: decides every command again, and compares the result with topics and logs.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use event_log::{LogError, LogReader};
use indicatif::ProgressBar;
use kafka::{
    access::Operation,
    scan::Scanner,
    topics::{self, DEFAULT_RECORD_BYTES, TopicsError},
};
use serde::Serialize;
use verify::{
    self, At, Deviation, Kind, OnBrokers, Place, Report, Rules, Sizes, Summary, Unchecked, VerifyError, What,
};

use super::{
    json::write_json,
    output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count, plain},
    settings,
};
use crate::config::Config;

/// Proves that logs and topics are what deciding every command again gives, as far as output is published
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream verify --config production.toml
  activity-stream verify -b kafka:9092 --log one/activity.db --log two/activity.db --json

Needs the processors' limits, window, topics.replies, processor.source and group. They may run.
Exit code 1: something deviates.")]
pub struct Args {
    /// The log of one of the group's processors (repeatable); together they must know every command [default: the configured
    /// one]
    #[arg(long = "log", value_name = "FILE")]
    logs: Vec<PathBuf>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Checks everything whose output is published, and fails if anything deviates.
pub(super) fn verify(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let kafka = settings::kafka(config);
    let given = if args.logs.is_empty() { std::slice::from_ref(&config.log.path) } else { &args.logs };
    let logs =
        distinct(given).map(|path| open(path, &kafka.topics.commands)).collect::<Result<Vec<_>, _>>()?;

    let names = [&kafka.topics.commands, &kafka.topics.notifications, &kafka.topics.rejections];
    let found = topics::find(&kafka, &names.map(String::as_str), Operation::Read)?;
    let mut partitions = [0; 3];
    for ((name, found), partitions) in names.into_iter().zip(found.partitions).zip(&mut partitions) {
        *partitions = found.ok_or_else(|| TopicsError::Missing { topic: name.clone() })?;
    }
    let rules = Rules {
        decider: settings::decider(config),
        window_ms: settings::window_ms(config),
        source: config.processor.source.clone(),
        rejection_bytes: topics::rejection_bytes(&kafka)?.unwrap_or(DEFAULT_RECORD_BYTES),
        group: kafka.group.clone(),
        notifications_topic: kafka.topics.notifications.clone(),
        rejections_topic: kafka.topics.rejections.clone(),
    };
    let mut topics = OnBrokers::new(Scanner::new(&kafka)?, kafka.topics.clone(), partitions);
    let mut printer = Printer { out: output::stdout(Unread::GoOn), json: args.json, bar: output::records() };
    let summary = verify::verify(&mut topics, &logs, &rules, Sizes::default(), &mut printer)?;
    printer.summary(&summary)?;
    Ok(if summary.deviations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each file once, whatever its names: a log given twice would have each of its deviations twice.
fn distinct(paths: &[PathBuf]) -> impl Iterator<Item = &Path> {
    let mut seen = BTreeSet::new();
    // A missing file is reported when it is opened.
    let is_new =
        move |path: &&PathBuf| fs::metadata(path).map_or(true, |file| seen.insert((file.dev(), file.ino())));
    paths.iter().filter(is_new).map(PathBuf::as_path)
}

fn open(path: &Path, topic: &str) -> Result<LogReader, LogError> {
    let log = LogReader::open(path)?;
    if log.topic() == topic {
        return Ok(log);
    }
    let (found, wanted) = (log.topic().to_owned(), topic.to_owned());
    Err(LogError::OtherTopic { path: path.to_owned(), found, wanted })
}

struct Printer {
    out: Output,
    json: bool,
    bar: ProgressBar,
}

impl Report for Printer {
    fn deviation(&mut self, deviation: &Deviation) -> Result<(), VerifyError> {
        self.print(|out, json| match json {
            true => write_json(&DeviationLine { deviation: deviation.into() }, out),
            false => print_deviation(deviation, out),
        })
    }

    fn unchecked(&mut self, unchecked: &Unchecked) -> Result<(), VerifyError> {
        self.print(|out, json| match json {
            true => write_json(&UncheckedLine { unchecked: unchecked.into() }, out),
            false => print_unchecked(unchecked, out),
        })
    }

    fn ahead(&mut self, records: u64) {
        self.bar.inc_length(records);
    }

    fn advanced(&mut self, records: u64) {
        self.bar.inc(records);
    }
}

impl Printer {
    /// At once, and not in the middle of the bar.
    fn print(&mut self, line: impl FnOnce(&mut Output, bool) -> io::Result<()>) -> Result<(), VerifyError> {
        let Self { out, json, bar } = self;
        bar.suspend(|| line(out, *json).and_then(|()| out.flush()))?;
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> Result<(), VerifyError> {
        self.bar.finish_and_clear();
        self.print(|out, json| match json {
            true => write_json(&SummaryLine { summary: summary.into() }, out),
            false => print_summary(summary, out),
        })
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Lost => "lost",
        Kind::Doubled => "doubled",
        Kind::Altered => "altered",
        Kind::Foreign => "foreign",
        Kind::Misplaced => "misplaced",
        Kind::Miscounted => "miscounted",
    }
}

fn noun(what: What) -> &'static str {
    match what {
        What::Event => "event",
        What::Duplicate => "duplicate",
        What::Rejection => "rejection",
        What::Notification => "notification",
        What::Commands => "commands",
    }
}

fn print_deviation(deviation: &Deviation, out: &mut Output) -> io::Result<()> {
    let Deviation { kind, what, place, command, id, details } = deviation;
    write!(out, "{BAD}{:<10}{BAD:#}  {}", word(*kind), noun(*what))?;
    if let Some(id) = id {
        write!(out, " {}", plain(id))?;
    }
    if let Some(At { partition, offset }) = command {
        write!(out, " of command {partition}@{offset}")?;
    }
    match place {
        Place::Logs => {}
        Place::Log { path, position: None } => write!(out, " in {}", path.display())?,
        Place::Log { path, position: Some(position) } => {
            write!(out, " in {} at position {position}", path.display())?;
        }
        Place::Topic { topic, at: None } => write!(out, " on {}", plain(topic))?,
        Place::Topic { topic, at: Some(At { partition, offset }) } => {
            write!(out, " on {} at {partition}@{offset}", plain(topic))?;
        }
    }
    writeln!(out, ": {}", plain(details))
}

fn print_unchecked(unchecked: &Unchecked, out: &mut Output) -> io::Result<()> {
    let Unchecked { topic, partition, first_offset, next_offset, count, reason } = unchecked;
    write!(out, "{DOUBTFUL}{:<10}{DOUBTFUL:#}  {} partition {partition}, ", "unchecked", plain(topic))?;
    if let Some(count) = count {
        write!(out, "{count} between ")?;
    }
    writeln!(out, "offsets {first_offset} and {}: {reason}", next_offset - 1)
}

fn print_summary(summary: &Summary, out: &mut Output) -> io::Result<()> {
    let Summary { commands, events, duplicates, rejections, notifications, deviations, unchecked } = *summary;
    let style = match (deviations, unchecked) {
        (0, 0) => GOOD,
        (0, _) => DOUBTFUL,
        _ => BAD,
    };
    writeln!(
        out,
        "{}: {}, {}, {}; {}; {style}{}{style:#}, {unchecked} unchecked",
        count(commands, "command"),
        count(events, "event"),
        count(duplicates, "duplicate"),
        count(rejections, "rejection"),
        count(notifications, "notification"),
        count(deviations, "deviation"),
    )
}

/// A line of `--json`. Members that do not apply are left out.
#[derive(Debug, Serialize)]
struct DeviationLine<'a> {
    deviation: DeviationObject<'a>,
}

#[derive(Debug, Serialize)]
struct DeviationObject<'a> {
    kind: &'static str,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<AtObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'a PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    details: &'a str,
}

#[derive(Debug, Serialize)]
struct AtObject {
    partition: i32,
    offset: i64,
}

#[derive(Debug, Serialize)]
struct UncheckedLine<'a> {
    unchecked: UncheckedObject<'a>,
}

#[derive(Debug, Serialize)]
struct UncheckedObject<'a> {
    topic: &'a str,
    partition: i32,
    first_offset: i64,
    next_offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct SummaryLine {
    summary: SummaryObject,
}

#[derive(Debug, Serialize)]
struct SummaryObject {
    commands: u64,
    events: u64,
    duplicates: u64,
    rejections: u64,
    notifications: u64,
    deviations: u64,
    unchecked: u64,
}

impl<'a> From<&'a Deviation> for DeviationObject<'a> {
    fn from(deviation: &'a Deviation) -> Self {
        let Deviation { kind, what, place, command, id, details } = deviation;
        let (log, position) = match place {
            Place::Log { path, position } => (Some(path), *position),
            _ => (None, None),
        };
        let (topic, at) = match place {
            Place::Topic { topic, at } => (Some(topic.as_str()), *at),
            _ => (None, None),
        };
        Self {
            kind: word(*kind),
            what: noun(*what),
            id: id.as_deref(),
            command: command.map(|At { partition, offset }| AtObject { partition, offset }),
            log,
            position,
            topic,
            partition: at.map(|at| at.partition),
            offset: at.map(|at| at.offset),
            details,
        }
    }
}

impl<'a> From<&'a Unchecked> for UncheckedObject<'a> {
    fn from(unchecked: &'a Unchecked) -> Self {
        let Unchecked { topic, partition, first_offset, next_offset, count, reason } = unchecked;
        Self {
            topic,
            partition: *partition,
            first_offset: *first_offset,
            next_offset: *next_offset,
            count: *count,
            reason: reason.to_string(),
        }
    }
}

impl From<&Summary> for SummaryObject {
    fn from(summary: &Summary) -> Self {
        let Summary { commands, events, duplicates, rejections, notifications, deviations, unchecked } =
            *summary;
        Self { commands, events, duplicates, rejections, notifications, deviations, unchecked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_under_several_names_is_one_log() {
        let folder = tempfile::tempdir().unwrap();
        let [log, other, link, missing] =
            ["log", "other", "link", "missing"].map(|name| folder.path().join(name));
        fs::write(&log, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&log, &link).unwrap();
        let given = [link.clone(), log.clone(), other.clone(), missing.clone(), link.clone()];
        assert_eq!(distinct(&given).collect::<Vec<_>>(), [&link, &other, &missing]);
    }
}

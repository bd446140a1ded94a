//! `check`: shows the effective configuration, and tests whether `run` could work with brokers, topics and log file.

mod finding;
mod plans;
mod rights;

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow};
use event_log::{Cursor, LogError, LogReader, check_writable, examine_files, has_instance_id, is_in_use};
use kafka::{
    access::{Operation, Resource},
    client,
    topics::{self, Missing, Presence, TopicsError},
};
use serde::Serialize;

use super::{
    json::write_json,
    output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count},
    settings,
};
use crate::{
    admin,
    config::{Config, Setting},
};
use finding::{Finding, Status};
use plans::Cursors;
use rights::Purpose;

/// Shows the effective configuration, and tests brokers, topics and log file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  activity-stream check --config production.toml
  activity-stream check --ready --set admin.listen=127.0.0.1:9464")]
pub struct Args {
    /// Only ask the processor that runs at admin.listen whether it is ready; exit with 1 if it is not
    #[arg(long)]
    pub ready: bool,
    /// Fail also if an access right is missing that this command needs (repeatable); those of 'run' are always needed
    #[arg(long = "for", value_name = "COMMAND", conflicts_with = "ready")]
    commands: Vec<Purpose>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whose rights must be there.
    fn purposes(&self) -> Vec<Purpose> {
        [&[Purpose::Run], &self.commands[..]].concat()
    }
}

/// For the answer of a processor on this machine.
const READY: Duration = Duration::from_secs(2);

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    settings: Vec<Setting>,
    findings: Vec<Finding>,
}

/// Tests everything, and fails if anything would keep the processor from working.
pub(super) fn check(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    if args.ready {
        return ready(args, config);
    }
    let mut out = output::stdout(Unread::GoOn);
    if !args.json {
        writeln!(out, "{}", config.describe())?;
        // The brokers may be slow to answer.
        out.flush()?;
    }
    let mut findings = Vec::new();
    // Before the brokers: a running processor can only advance the group's offsets in the meantime.
    let (log, cursors) = check_log(config);
    check_brokers(args, config, cursors.as_ref(), &mut findings);
    findings.push(log);
    let ok = findings.iter().all(|finding| finding.status != Status::Problem);
    if args.json {
        write_json(&Report { ok, settings: config.settings(), findings }, &mut out)?;
    } else {
        findings.iter().try_for_each(|finding| print(finding, &mut out))?;
    }
    out.flush()?;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(Finding { status, about, message }: &Finding, out: &mut Output) -> io::Result<()> {
    let (word, style) = match status {
        Status::Ok => ("ok", GOOD),
        Status::Warning => ("warning", DOUBTFUL),
        Status::Problem => ("problem", BAD),
    };
    writeln!(out, "{style}{word:<7}{style:#}  {about:<7}  {message}")
}

fn ready(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let address = config.admin.listen.context(
        "admin.listen is not set, so there is no processor to ask. Set it to the processor's own value",
    )?;
    let answer = admin::probe_ready(address, READY);
    let mut out = output::stdout(Unread::GoOn);
    match (args.json, &answer) {
        (true, _) => {
            let reason = answer.as_ref().err().map(ToString::to_string);
            write_json(&Readiness { ready: answer.is_ok(), reason }, &mut out)?;
        }
        (false, Ok(())) => writeln!(out, "ready")?,
        (false, Err(error)) => return Err(anyhow!("{error}")),
    }
    out.flush()?;
    Ok(if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The object of `--ready --json`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn check_brokers(args: &Args, config: &Config, cursors: Option<&Cursors>, findings: &mut Vec<Finding>) {
    let kafka = settings::kafka(config);
    if let Err(reason) = client::check_properties(&kafka) {
        return findings.push(Finding::problem("kafka", reason));
    }
    let (read, write) = (Operation::Read, Operation::Write);
    let own = [
        (&kafka.topics.commands, read),
        (&kafka.topics.notifications, write),
        (&kafka.topics.rejections, write),
    ];
    let mut asked: Vec<_> = own.map(|(name, needed)| (name.as_str(), needed)).into();
    asked.extend(kafka.topics.replies.names().map(|name| (name, write)));
    let (brokers, found) = match topics::look(&kafka, &asked) {
        Ok(found) => found,
        Err(error) => {
            return findings.push(Finding::problem("brokers", error.to_string()));
        }
    };
    let verb = if brokers == 1 { "answers" } else { "answer" };
    let brokers = count(brokers as u64, "broker");
    findings.push(Finding::ok("brokers", format!("{brokers} {verb} at '{}'", kafka.bootstrap_servers)));
    let present = asked.iter().zip(&found).filter(|(_, found)| !matches!(found, Ok(None)));
    let present: BTreeSet<&str> = present.map(|((name, _), _)| *name).collect();
    findings.extend(rights::check(config, &kafka, &present, &args.purposes()));
    for (place, ((name, _), found)) in asked.iter().zip(&found).enumerate() {
        let finding = if place < own.len() {
            own_topic(name, found, config.topics.create)
        } else {
            reply_topic(name, found)
        };
        add(findings, finding);
    }
    let missing = if config.topics.create { Missing::Validate } else { Missing::Refuse };
    match topics::examine(&kafka, missing) {
        Ok((report, problems)) => {
            for problem in &problems {
                add(findings, Finding::problem("topics", problem.to_string()));
            }
            for warning in report.warnings {
                add(findings, Finding::warning("topics", warning));
            }
        }
        Err(error) => add(findings, Finding::problem("topics", error.to_string())),
    }
    // There is no plan without the right to describe topic and group, or without a readable log.
    let group = Resource::Group(&kafka.group).to_string();
    let is_denied = |found: &Finding| found.status == Status::Problem && found.message.contains(&group);
    if let Some(cursors) = cursors
        && !findings.iter().any(is_denied)
    {
        match &found[0] {
            Ok(Some(partitions)) => plans::check(&kafka, *partitions, cursors, findings),
            Ok(None) if config.topics.create => plans::check_new(&kafka, cursors, findings),
            _ => {}
        }
    }
}

/// Adds a finding, unless another contains its message.
fn add(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.iter().any(|other| other.message.contains(&finding.message)) {
        findings.push(finding);
    }
}

fn own_topic(name: &str, found: &Presence, create: bool) -> Finding {
    const ABOUT: &str = "topic";
    match found {
        Ok(Some(partitions)) => {
            Finding::ok(ABOUT, format!("'{name}' has {}", count(*partitions as u64, "partition")))
        }
        Ok(None) if create => {
            Finding::warning(ABOUT, format!("'{name}' does not exist; 'run' will create it"))
        }
        Ok(None) => Finding::problem(ABOUT, TopicsError::Missing { topic: name.to_owned() }.to_string()),
        Err(error) => Finding::problem(ABOUT, error.to_string()),
    }
}

/// A topic that others own: nothing about it keeps the processor from working.
fn reply_topic(name: &str, found: &Presence) -> Finding {
    const ABOUT: &str = "topic";
    match found {
        Ok(Some(partitions)) => {
            let partitions = count(*partitions as u64, "partition");
            Finding::ok(ABOUT, format!("'{name}', for replies, has {partitions}"))
        }
        Ok(None) => {
            let message = "for replies, does not exist; replies are left out until somebody makes it";
            Finding::warning(ABOUT, format!("'{name}', {message}"))
        }
        Err(error) => Finding::warning(ABOUT, error.to_string()),
    }
}

/// The finding about the log, and its cursors if it can be read: an empty map if there is no log yet.
fn check_log(config: &Config) -> (Finding, Option<Cursors>) {
    let path = &config.log.path;
    let (result, cursors) = match examine(path, &config.topics.commands) {
        Ok((message, cursors)) => (check_writable(path).map(|()| message), Some(cursors)),
        Err(error) => (Err(error), None),
    };
    let finding = match result {
        Ok(message) => Finding::ok("log", message),
        Err(error) => Finding::problem("log", error.to_string()),
    };
    (finding, cursors)
}

fn examine(path: &Path, topic: &str) -> Result<(String, Cursors), LogError> {
    if !examine_files(path)? {
        return Ok((format!("there is none at '{}' yet; 'run' makes it", path.display()), Cursors::new()));
    }
    let log = LogReader::open(path)?;
    if log.topic() != topic {
        let found = log.topic().to_owned();
        return Err(LogError::OtherTopic { path: path.to_owned(), found, wanted: topic.to_owned() });
    }
    let stats = log.stats()?;
    if let Some(damaged) = stats.damaged.first() {
        return Err(LogError::Damaged { path: path.to_owned(), found: damaged.to_string() });
    }
    let used = if is_in_use(path) { "in use by a running processor" } else { "not in use" };
    let (events, version) = (count(stats.counts.events, "event"), stats.schema_version);
    let message = format!("'{}' holds {events}, has schema version {version}, and is {used}", path.display());
    let keeps_clean = has_instance_id(path)?;
    let cursors = stats.partitions.into_iter().map(|found| {
        // `run` clears it for a new instance.
        let cursor = Cursor { clean: found.cursor.clean && keeps_clean, ..found.cursor };
        (cursor.partition, cursor)
    });
    Ok((message, cursors.collect()))
}

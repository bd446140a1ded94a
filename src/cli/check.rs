//! `check`: what is in force, and whether brokers, topics and log file can be worked with.

mod plans;
mod rights;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, anyhow};
use event_log::{Cursor, LogError, LogReader, check_writable, examine_files, is_in_use};
use kafka::{
    access::{Operation, Resource},
    client,
    topics::{self, Missing, Presence, TopicsError},
};
use serde::Serialize;

use super::{
    args,
    json::write_json,
    output::{self, BAD, DOUBTFUL, GOOD, Output, Unread, count},
    settings,
};
use crate::{
    admin,
    config::{Config, Setting},
};

/// For the answer of a processor on this machine.
const READY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Problem,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Finding {
    status: Status,
    /// What it is about.
    about: &'static str,
    /// A sentence.
    message: String,
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    settings: Vec<Setting>,
    findings: Vec<Finding>,
}

/// Tries everything, and fails where anything keeps the processor from working.
pub fn check(args: &args::Check, config: &Config) -> anyhow::Result<ExitCode> {
    if args.ready {
        return ready(args, config);
    }
    let mut out = output::stdout(Unread::GoOn);
    if !args.json {
        writeln!(out, "{}", config.describe())?;
        // The brokers may take their time.
        out.flush()?;
    }
    let mut findings = Vec::new();
    // First: a processor that runs meanwhile only moves the group's offsets on.
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

fn ready(args: &args::Check, config: &Config) -> anyhow::Result<ExitCode> {
    let address = config.admin.listen.context(
        "admin.listen is not set, so there is nobody to ask. Set it to the address that the processor has it set to",
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

fn check_brokers(
    args: &args::Check,
    config: &Config,
    cursors: Option<&Cursors>,
    findings: &mut Vec<Finding>,
) {
    let kafka = settings::kafka(config);
    if let Err(reason) = client::check_properties(&kafka) {
        return findings.push(Finding { status: Status::Problem, about: "kafka", message: reason });
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
            let message = error.to_string();
            return findings.push(Finding { status: Status::Problem, about: "brokers", message });
        }
    };
    let verb = if brokers == 1 { "answers" } else { "answer" };
    let brokers = count(brokers as u64, "broker");
    let message = format!("{brokers} {verb} at '{}'", kafka.bootstrap_servers);
    findings.push(Finding { status: Status::Ok, about: "brokers", message });
    let present = asked.iter().zip(&found).filter(|(_, found)| !matches!(found, Ok(None)));
    let present: BTreeSet<&str> = present.map(|((name, _), _)| *name).collect();
    findings.extend(rights::check(config, &kafka, &present, &args.purposes()));
    for (place, ((name, _), found)) in asked.iter().zip(&found).enumerate() {
        let (status, message) = if place < own.len() {
            own_topic(name, found, config.topics.create)
        } else {
            reply_topic(name, found)
        };
        add(findings, Finding { status, about: "topic", message });
    }
    let missing = if config.topics.create { Missing::Validate } else { Missing::Refuse };
    let mut about_topics = |status, message| add(findings, Finding { status, about: "topics", message });
    match topics::examine(&kafka, missing) {
        Ok((report, problems)) => {
            problems.iter().for_each(|problem| about_topics(Status::Problem, problem.to_string()));
            report.warnings.into_iter().for_each(|warning| about_topics(Status::Warning, warning));
        }
        Err(error) => about_topics(Status::Problem, error.to_string()),
    }
    // Nothing is planned of a topic or a group that may not be looked at, or by a log that can't be read.
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

/// Adds what no other finding says already.
fn add(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.iter().any(|other| other.message.contains(&finding.message)) {
        findings.push(finding);
    }
}

fn own_topic(name: &str, found: &Presence, create: bool) -> (Status, String) {
    match found {
        Ok(Some(partitions)) => {
            (Status::Ok, format!("'{name}' has {}", count(*partitions as u64, "partition")))
        }
        Ok(None) if create => (Status::Warning, format!("'{name}' does not exist; 'run' will create it")),
        Ok(None) => (Status::Problem, TopicsError::Missing { topic: name.to_owned() }.to_string()),
        Err(error) => (Status::Problem, error.to_string()),
    }
}

/// A topic of somebody else's: nothing of it keeps the processor from working.
fn reply_topic(name: &str, found: &Presence) -> (Status, String) {
    match found {
        Ok(Some(partitions)) => {
            (Status::Ok, format!("'{name}', for replies, has {}", count(*partitions as u64, "partition")))
        }
        Ok(None) => {
            let message = "for replies, does not exist; replies are left out until somebody makes it";
            (Status::Warning, format!("'{name}', {message}"))
        }
        Err(error) => (Status::Warning, error.to_string()),
    }
}

/// Of each partition that the log has seen.
type Cursors = BTreeMap<i32, Cursor>;

/// What is to be said of the log, and its cursors where it can be read: none where there is no log yet.
fn check_log(config: &Config) -> (Finding, Option<Cursors>) {
    let path = &config.log.path;
    let (result, cursors) = match examine(path, &config.topics.commands) {
        Ok((message, cursors)) => (check_writable(path).map(|()| message), Some(cursors)),
        Err(error) => (Err(error), None),
    };
    let (status, message) = match result {
        Ok(message) => (Status::Ok, message),
        Err(error) => (Status::Problem, error.to_string()),
    };
    (Finding { status, about: "log", message }, cursors)
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
    let cursors = stats.partitions.into_iter().map(|found| (found.cursor.partition, found.cursor));
    Ok((message, cursors.collect()))
}

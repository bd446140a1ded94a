//! Prints the outcome of a command, for people and as JSON.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use contract::{Coordinates, Decision, Problem, Problems};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    input::Place,
    json::write_json,
    output::{BAD, DOUBTFUL, FAINT, GOOD, Output, excerpt, plain},
    time::JsonTime,
};

/// A command's outcome.
#[derive(Debug, Clone)]
pub struct Decided {
    pub coordinates: Coordinates,
    pub decision: Decision,
    /// Published for it.
    pub notifications: Vec<Published>,
}

/// A published notification.
#[derive(Debug, Clone)]
pub struct Published {
    pub id: String,
    pub key: String,
    pub value: String,
}

impl Decided {
    #[must_use]
    pub fn new(coordinates: Coordinates, decision: &Decision, notifications: Vec<Published>) -> Self {
        Self { coordinates, decision: decision.clone(), notifications }
    }

    /// A line a command, and one more for each notification or problem.
    pub fn print(&self, place: &Place, out: &mut dyn Write) -> io::Result<()> {
        match &self.decision {
            Decision::Accepted(event) => {
                let object = format!("{}/{}", event.object_type(), event.object_id());
                writeln!(
                    out,
                    "{GOOD}event{GOOD:#}      {place}: {} {object}{} {FAINT}{}{FAINT:#}",
                    event.verb(),
                    excerpt(event.content().as_deref()),
                    event.id(),
                )?;
                for notification in &self.notifications {
                    writeln!(
                        out,
                        "           notified {} {FAINT}{}{FAINT:#}",
                        notification.key, notification.id
                    )?;
                }
            }
            Decision::Duplicate { of } => {
                writeln!(out, "{DOUBTFUL}duplicate{DOUBTFUL:#}  {place}: of {of}")?;
            }
            Decision::Rejected(problems) => print_rejection(place, problems, out)?,
        }
        Ok(())
    }

    /// One JSON object with `outcome`, and one for each notification.
    pub fn print_json(&self, place: &Place, out: &mut Output) -> io::Result<()> {
        let Coordinates { partition, offset, timestamp } = self.coordinates;
        let (file, line) = (place.file.as_str(), place.line);
        let common = |outcome| Line {
            outcome,
            file,
            line,
            partition,
            offset,
            timestamp: JsonTime(timestamp),
            id: None,
            of: None,
            problems: None,
            notifications: None,
            activity: None,
        };
        let line = match &self.decision {
            Decision::Accepted(event) => Line {
                id: Some(event.id().to_string()),
                notifications: Some(self.notifications.iter().map(|n| n.id.as_str()).collect()),
                activity: serde_json::from_str(event.json()).ok(),
                ..common("event")
            },
            Decision::Duplicate { of } => Line { of: Some(of.to_string()), ..common("duplicate") },
            Decision::Rejected(problems) => Line { problems: Some(&problems.0), ..common("rejection") },
        };
        write_json(&line, out)?;
        for Published { key, value, .. } in &self.notifications {
            let notification = NotificationLine { key, value: serde_json::from_str(value)? };
            write_json(&HashMap::from([("notification", notification)]), out)?;
        }
        Ok(())
    }
}

/// A command's line of `--json`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    outcome: &'static str,
    file: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    partition: i32,
    offset: i64,
    timestamp: JsonTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<&'a [Problem]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notifications: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<&'a RawValue>,
}

/// A notification's line of `--json`.
#[derive(Debug, Serialize)]
struct NotificationLine<'a> {
    key: &'a str,
    value: &'a RawValue,
}

/// A line, and one more for each problem.
pub fn print_rejection(place: &Place, problems: &Problems, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{BAD}rejection{BAD:#}  {place}:")?;
    problems.0.iter().try_for_each(|problem| print_problem(problem, out))
}

/// Where, what and why, indented under its command.
pub fn print_problem(problem: &Problem, out: &mut dyn Write) -> io::Result<()> {
    let Problem { pointer, code, message } = problem;
    let space = if pointer.is_empty() { "" } else { " " };
    // A pointer repeats the names that the producer chose.
    writeln!(out, "           {}{space}{}: {}", plain(pointer), plain(code), plain(message))
}

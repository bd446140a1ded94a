//! Notifications and rejections for people to read.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use contract::{Header, Problem, Record};
use serde::Deserialize;

use crate::cli::{
    outcome::print_problem,
    output::{BAD, FAINT, GOOD, excerpt, plain, time},
};

/// The displayed fields of a notification.
#[derive(Deserialize)]
struct Notification<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    activity: Activity<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Activity<'a> {
    #[serde(rename = "@type", borrow)]
    verb: Cow<'a, str>,
    #[serde(borrow)]
    object_type: Cow<'a, str>,
    #[serde(borrow)]
    object_id: Cow<'a, str>,
    content: Option<String>,
}

/// Time, key, id and activity.
pub(super) fn notification(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let time = time(record.coordinates.timestamp);
    let key = plain(&text(record.key.as_deref()));
    let value = record.value.as_deref();
    write!(out, "{FAINT}{time}{FAINT:#}  {GOOD}{key}{GOOD:#}")?;
    match serde_json::from_slice(value.unwrap_or_default()) {
        Ok(Notification { id, activity: Activity { verb, object_type, object_id, content } }) => {
            let what = plain(&format!("{verb} {object_type}/{object_id}"));
            writeln!(out, "  {FAINT}{}{FAINT:#}  {what}{}", plain(&id), excerpt(content.as_deref()))
        }
        // Written by another program.
        Err(_) => writeln!(out, "  not a notification:{}", excerpt(Some(&text(value)))),
    }
}

/// Time, code and place of the command, and a line for each problem.
pub(super) fn rejection(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    let time = time(record.coordinates.timestamp);
    let said = |name: &str| {
        header(record, &format!("__connect.errors.{name}")).map(|value| plain(&text(Some(value))))
    };
    let Some(code) = said("exception.class.name") else {
        let value = text(record.value.as_deref());
        return writeln!(out, "{FAINT}{time}{FAINT:#}  not a rejection:{}", excerpt(Some(&value)));
    };
    let unknown = || "?".to_owned();
    writeln!(
        out,
        "{FAINT}{time}{FAINT:#}  {BAD}{code}{BAD:#}  {} partition {} offset {}{}",
        said("topic").unwrap_or_else(unknown),
        said("partition").unwrap_or_else(unknown),
        said("offset").unwrap_or_else(unknown),
        record.key.as_deref().map(|key| format!("  {}", plain(&text(Some(key))))).unwrap_or_default(),
    )?;
    let problems = header(record, "__connect.errors.exception.message").unwrap_or_default();
    match serde_json::from_slice::<Vec<Problem>>(problems) {
        Ok(problems) => problems.iter().try_for_each(|problem| print_problem(problem, out)),
        Err(_) => writeln!(out, "           {}", plain(&text(Some(problems)))),
    }
}

/// The last header of that name: a command that is a rejection itself has earlier ones.
fn header<'r>(record: &'r Record, name: &str) -> Option<&'r [u8]> {
    let named = |header: &&Header| header.name == name.as_bytes();
    record.headers.iter().rev().find(named)?.value.as_deref()
}

fn text(bytes: Option<&[u8]>) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.unwrap_or_default())
}

//! What exists: rows of a log and records of a topic, each with its command. Those without a command are reported at once,
//! the others are staged.

use std::{collections::BTreeMap, ops::ControlFlow};

use contract::Record;
use event_log::{Content, DamagedRow, Row};

use super::{
    Context, VerifyError,
    content::{self, Id, NotOurs},
    facts::Partition,
    findings::Findings,
    outputs::Seen,
    report::{At, Deviation, Kind, Place, Reason, What},
    source::{Topic, Topics},
    staging::{Collection, Side, Spot, Staged, Staging},
};

impl Context<'_> {
    /// Where something of a collection was found, or is missing.
    pub(crate) fn place(&self, collection: Collection, spot: Option<Spot>) -> Place {
        let topic = |topic: &str| {
            let at = match spot {
                Some(Spot::Topic(at)) => Some(at),
                _ => None,
            };
            Place::Topic { topic: topic.to_owned(), at }
        };
        match collection {
            Collection::Notifications => topic(&self.rules.notifications_topic),
            Collection::Rejections => topic(&self.rules.rejections_topic),
            Collection::Log(log) => {
                let position = match spot {
                    Some(Spot::Log(position)) => position,
                    _ => None,
                };
                Place::Log { path: self.logs[log].path().to_owned(), position }
            }
        }
    }
}

/// The kind of a row, and an event's position.
pub(crate) fn kind_of_row(row: &Row) -> (What, Option<i64>) {
    match row.content {
        Content::Event { position, .. } => (What::Event, Some(position)),
        Content::Duplicate { .. } => (What::Duplicate, None),
        Content::Rejection { .. } => (What::Rejection, None),
    }
}

pub(crate) fn stage_log(
    context: &Context<'_>,
    log: usize,
    staging: &mut Staging<'_>,
    findings: &mut Findings<'_>,
) -> Result<(), VerifyError> {
    let collection = Collection::Log(log);
    let (reader, facts) = (&context.logs[log], &context.facts.logs[log]);
    let mut counted: BTreeMap<i32, [u64; 3]> = BTreeMap::new();
    reader.rows(|row| {
        findings.advanced(1);
        let row = match row {
            Ok(row) => row,
            Err(damaged) => {
                findings.deviation(&of_damaged(context.place(collection, None), &damaged))?;
                return Ok(ControlFlow::Continue(()));
            }
        };
        let (what, position) = kind_of_row(&row);
        let command = At::from(row.coordinates);
        let spot = Spot::Log(position);
        let mut report = |kind, details: &str| {
            let (place, details) = (context.place(collection, Some(spot)), details.to_owned());
            findings.deviation(&Deviation { kind, what, place, command: Some(command), id: None, details })
        };
        let coverage = facts.coverage.get(&command.partition);
        if coverage.is_none_or(|coverage| command.offset >= coverage.logged) {
            // Unless it was appended after the facts of the log were read.
            let logged = reader.logged(command.partition)?.unwrap_or(0);
            if command.offset >= logged {
                let details = format!("the log itself says that it goes up to offset {logged} only");
                report(Kind::Foreign, &details)?;
            }
            return Ok(ControlFlow::Continue(()));
        }
        counted.entry(command.partition).or_default()[what as usize] += 1;
        if matches!(row.content, Content::Event { is_found: false, .. }) {
            let details = "the log does not find it by its offset: its batch does not lead there";
            report(Kind::Misplaced, details)?;
        }
        let partition = context.facts.partition(command.partition);
        // A row whose output is not published yet is not judged.
        let segment = partition.and_then(|partition| partition.segment(command.offset));
        if segment.is_some_and(|segment| segment.retained || segment.logs.first() != Some(&log)) {
            let content::Item { id, what, digest } = context.digester.found_row(&row);
            staging.push(&Staged { collection, id, side: Side::Found, what, digest, spot })?;
        }
        Ok::<_, VerifyError>(ControlFlow::Continue(()))
    })?;
    for (partition, counts) in &facts.counts {
        let stated = [counts.events, counts.duplicates, counts.rejections];
        let counted = counted.get(partition).copied().unwrap_or_default();
        for what in [What::Event, What::Duplicate, What::Rejection] {
            let (stated, counted) = (stated[what as usize], counted[what as usize]);
            if stated != counted {
                let (kind, place) = (Kind::Miscounted, context.place(collection, None));
                let details = format!("the log counts {stated} in partition {partition}, and has {counted}");
                findings.deviation(&Deviation { kind, what, place, command: None, id: None, details })?;
            }
        }
    }
    Ok(())
}

/// The row does not show its command, so the command's row is also reported as lost.
fn of_damaged(place: Place, damaged: &DamagedRow) -> Deviation {
    let what = match damaged.table {
        "duplicates" => What::Duplicate,
        "rejections" => What::Rejection,
        _ => What::Event,
    };
    Deviation { kind: Kind::Altered, what, place, command: None, id: None, details: damaged.to_string() }
}

pub(crate) fn stage_topic(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    collection: Collection,
    staging: &mut Staging<'_>,
    findings: &mut Findings<'_>,
) -> Result<Seen, VerifyError> {
    let (topic, what, name) = match collection {
        Collection::Notifications => {
            (Topic::Notifications, What::Notification, &context.rules.notifications_topic)
        }
        _ => (Topic::Rejections, What::Rejection, &context.rules.rejections_topic),
    };
    let mut seen = Seen::new(context.facts.bounds(topic), &topics.bounds(topic)?);
    let unread = topics.read(topic, &seen.wanted(), &mut |record| {
        let at = At::from(record.coordinates);
        findings.advanced(1);
        match command_of(context, what, &record) {
            Ok((id, partition)) => {
                seen.see((id.partition, id.offset), at.partition);
                if let Some(segment) = partition.segment(id.offset)
                    && (segment.retained || !segment.logs.is_empty())
                {
                    let (side, digest) = match what {
                        What::Notification => {
                            (Side::Found, context.digester.found_notification(&record, segment.retained))
                        }
                        _ => context.digester.found_rejection(&record, segment.retained),
                    };
                    staging.push(&Staged { collection, id, side, what, digest, spot: Spot::Topic(at) })?;
                }
            }
            Err(NotOurs(details)) => {
                let (kind, place) = (Kind::Foreign, context.place(collection, Some(Spot::Topic(at))));
                findings.deviation(&Deviation { kind, what, place, command: None, id: None, details })?;
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for unread in &unread {
        findings.stretch(name, unread.partition, unread.offsets.clone(), None, Reason::HeldBack);
    }
    seen.unread = unread;
    Ok(seen)
}

/// The command that the record names, if there can be such a command.
fn command_of<'f>(
    context: &'f Context<'_>,
    what: What,
    record: &Record,
) -> Result<(Id, &'f Partition), NotOurs> {
    let id = match what {
        What::Notification => content::id_of_notification(record, context.rules.decider.topic_bits())?,
        _ => content::id_of_rejection(record, context.commands_topic())?,
    };
    let Id { partition, offset, .. } = id;
    let Some(found) = context.facts.partition(partition) else {
        return Err(NotOurs(format!(
            "it names partition {partition}, which the commands topic does not have"
        )));
    };
    if !(0..found.bounds.end).contains(&offset) {
        let end = found.bounds.end;
        return Err(NotOurs(format!(
            "it names partition {partition} offset {offset}, where the commands topic ends at {end}"
        )));
    }
    Ok((id, found))
}

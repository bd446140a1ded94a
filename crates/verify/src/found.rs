//! What exists: rows of a log, records of a topic, each with the command that it belongs to.

use std::{collections::BTreeMap, ops::ControlFlow};

use contract::Record;
use event_log::{Content, DamagedRow, Row};

use super::{
    Context, VerifyError,
    content::{self, Digest, Id, NotOurs},
    expected::Collection,
    facts::Partition,
    findings::Findings,
    ledger::Ledger,
    outputs::Seen,
    report::{At, Deviation, Kind, Place, Reason, What},
    source::{Topic, Topics},
};

/// Something that exists, of a command whose output is out.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    pub id: Id,
    pub what: What,
    pub spot: Spot,
    raw: Raw<'a>,
    /// Whether the topic still holds its command.
    retained: bool,
}

/// Where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spot {
    /// In the collection's topic.
    Topic(At),
    /// In the collection's log; the position of an event.
    Log(Option<i64>),
}

#[derive(Debug, Clone, Copy)]
enum Raw<'a> {
    Row(&'a Row),
    Record(&'a Record),
}

impl Found<'_> {
    pub(super) fn digest(&self, context: &Context<'_>) -> Digest {
        match self.raw {
            Raw::Row(row) => context.digester.found_row(row).digest,
            Raw::Record(record) if self.what == What::Notification => {
                context.digester.found_notification(record, self.retained)
            }
            Raw::Record(record) => context.digester.found_rejection(record, self.retained),
        }
    }

    /// Whether it is what should exist, as the rejections topic may have taken it under another limit.
    pub(super) fn is_other_form(&self, context: &Context<'_>, expected: &Digest, forms: &[u128]) -> bool {
        let Raw::Record(record) = self.raw else { return false };
        if self.what != What::Rejection {
            return false;
        }
        if self.retained {
            return forms.contains(&context.digester.found_rejection(record, true).all);
        }
        context.digester.found_rejection_in_part(record) == Some(expected.parts[2])
    }
}

impl Context<'_> {
    /// Where something of a collection was found.
    pub(super) fn place(&self, collection: Collection, spot: Option<Spot>) -> Place {
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

/// Takes everything that exists in a collection from its sums. What belongs to no command at all is told at once.
pub fn sum_up(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    collection: Collection,
    ledger: &mut Ledger,
    findings: &mut Findings<'_>,
) -> Result<Seen, VerifyError> {
    let mut each = |found: Found<'_>| {
        ledger.find(found.id.partition, found.id.offset, found.digest(context).all);
        Ok(())
    };
    let topic = match collection {
        Collection::Log(log) => {
            rows(context, log, Some(findings), &mut each)?;
            // Nobody deletes from a log.
            return Ok(Seen::new(Topic::Commands, Vec::new()));
        }
        Collection::Notifications => Topic::Notifications,
        Collection::Rejections => Topic::Rejections,
    };
    let mut seen = Seen::new(topic, context.facts.bounds(topic));
    records(context, topics, &mut seen, Some(findings), &mut each)?;
    Ok(seen)
}

/// Gives everything that exists in a collection once more, and says what is seen of it now.
pub fn once_more(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    (collection, seen): (Collection, &Seen),
    each: &mut dyn FnMut(Found<'_>) -> Result<(), VerifyError>,
) -> Result<Seen, VerifyError> {
    let mut again = Seen::new(seen.topic, seen.bounds.clone());
    again.unread.clone_from(&seen.unread);
    match collection {
        Collection::Log(log) => rows(context, log, None, each)?,
        Collection::Notifications | Collection::Rejections => {
            records(context, topics, &mut again, None, each)?;
        }
    }
    Ok(again)
}

type EachFound<'a> = dyn FnMut(Found<'_>) -> Result<(), VerifyError> + 'a;

fn rows(
    context: &Context<'_>,
    log: usize,
    mut findings: Option<&mut Findings<'_>>,
    each: &mut EachFound<'_>,
) -> Result<(), VerifyError> {
    let (reader, facts) = (&context.logs[log], &context.facts.logs[log]);
    let mut counted: BTreeMap<i32, [u64; 3]> = BTreeMap::new();
    reader.rows(|row| {
        if let Some(findings) = &mut findings {
            findings.advanced(1);
        }
        let row = match row {
            Ok(row) => row,
            Err(damaged) => {
                if let Some(findings) = &mut findings {
                    findings.deviation(&of_damaged(context.place(Collection::Log(log), None), &damaged))?;
                }
                return Ok(ControlFlow::Continue(()));
            }
        };
        let (what, position) = match row.content {
            Content::Event { position, .. } => (What::Event, Some(position)),
            Content::Duplicate { .. } => (What::Duplicate, None),
            Content::Rejection { .. } => (What::Rejection, None),
        };
        let command = At { partition: row.coordinates.partition, offset: row.coordinates.offset };
        let spot = Spot::Log(position);
        let mut tell = |kind, details: String| match &mut findings {
            Some(findings) => findings.deviation(&Deviation {
                kind,
                what,
                place: context.place(Collection::Log(log), Some(spot)),
                command: Some(command),
                id: None,
                details,
            }),
            None => Ok(()),
        };
        let coverage = facts.coverage.get(&command.partition);
        if coverage.is_none_or(|coverage| command.offset >= coverage.logged) {
            // Unless it was appended meanwhile.
            let logged = reader.logged(command.partition)?.unwrap_or(0);
            if command.offset >= logged {
                tell(Kind::Foreign, format!("the log itself says that it goes up to offset {logged} only"))?;
            }
            return Ok(ControlFlow::Continue(()));
        }
        counted.entry(command.partition).or_default()[what as usize] += 1;
        if matches!(row.content, Content::Event { is_found: false, .. }) {
            tell(
                Kind::Misplaced,
                "the log does not find it by its offset: its batch does not lead there".into(),
            )?;
        }
        let partition = context.facts.partition(command.partition);
        let Some(segment) = partition.and_then(|partition| partition.segment(command.offset)) else {
            // Its output is not out, so it is not judged.
            return Ok(ControlFlow::Continue(()));
        };
        if segment.retained || segment.logs.first() != Some(&log) {
            let id = Id::of_command(command.partition, command.offset);
            each(Found { id, what, spot, raw: Raw::Row(&row), retained: segment.retained })?;
        }
        Ok::<_, VerifyError>(ControlFlow::Continue(()))
    })?;
    let Some(findings) = findings else { return Ok(()) };
    for (partition, counts) in &facts.counts {
        let said = [counts.events, counts.duplicates, counts.rejections];
        let counted = counted.get(partition).copied().unwrap_or_default();
        for (what, said, counted) in [What::Event, What::Duplicate, What::Rejection]
            .map(|what| (what, said[what as usize], counted[what as usize]))
        {
            if said != counted {
                let (kind, place) = (Kind::Miscounted, context.place(Collection::Log(log), None));
                let details = format!("the log counts {said} in partition {partition}, and has {counted}");
                findings.deviation(&Deviation { kind, what, place, command: None, id: None, details })?;
            }
        }
    }
    Ok(())
}

/// Whose command it is, or was, the row can't say: that one is told as lost besides.
fn of_damaged(place: Place, damaged: &DamagedRow) -> Deviation {
    let what = match damaged.table {
        "duplicates" => What::Duplicate,
        "rejections" => What::Rejection,
        _ => What::Event,
    };
    Deviation { kind: Kind::Altered, what, place, command: None, id: None, details: damaged.to_string() }
}

fn records(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    seen: &mut Seen,
    mut findings: Option<&mut Findings<'_>>,
    each: &mut EachFound<'_>,
) -> Result<(), VerifyError> {
    let topic = seen.topic;
    seen.forget(&topics.bounds(topic)?);
    let wanted = seen.readable();
    let (collection, what, name) = match topic {
        Topic::Notifications => {
            (Collection::Notifications, What::Notification, &context.rules.notifications_topic)
        }
        _ => (Collection::Rejections, What::Rejection, &context.rules.rejections_topic),
    };
    let unread = topics.read(topic, &wanted, &mut |record| {
        let at = At { partition: record.coordinates.partition, offset: record.coordinates.offset };
        if let Some(findings) = &mut findings {
            findings.advanced(1);
        }
        match belongs(context, what, &record) {
            Ok((id, partition)) => {
                seen.see((id.partition, id.offset), at.partition);
                if let Some(segment) = partition.segment(id.offset)
                    && (segment.retained || !segment.logs.is_empty())
                {
                    let (spot, raw) = (Spot::Topic(at), Raw::Record(&record));
                    each(Found { id, what, spot, raw, retained: segment.retained })?;
                }
            }
            Err(NotOurs(details)) => {
                if let Some(findings) = &mut findings {
                    let place = context.place(collection, Some(Spot::Topic(at)));
                    let kind = Kind::Foreign;
                    findings.deviation(&Deviation { kind, what, place, command: None, id: None, details })?;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(findings) = findings {
        for unread in &unread {
            findings.stretch(name, unread.partition, unread.offsets.clone(), None, Reason::HeldBack);
        }
        seen.unread = unread;
    }
    Ok(())
}

/// Which command the record says that it belongs to, if there can be such a one.
fn belongs<'f>(
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

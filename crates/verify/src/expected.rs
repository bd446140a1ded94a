//! What should exist because of a command, which was decided again or is only in a log.

use std::{collections::BTreeMap, ops::ControlFlow};

use contract::{ActivityId, Code, Coordinates, Decision, Event, Problems, Record};
use event_log::{Content, LogReader, Row};

use super::{
    Context, VerifyError,
    content::Item,
    findings::Findings,
    report::{Deviation, Kind, Place, Reason},
    scratch::{Doubt, Scratch},
    segments::Segment,
    staging::{Collection, Side, Spot, Staged, Staging},
};

/// A command, and where its decision comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Command<'a> {
    /// It was decided again.
    Decided(&'a Record),
    /// A log has the decision.
    Logged(&'a Row),
}

impl Context<'_> {
    pub(crate) fn stage_expected(
        &self,
        command: Command<'_>,
        decision: &Decision,
        segment: &Segment,
        staging: &mut Staging<'_>,
    ) -> Result<(), VerifyError> {
        let mut stage = |collection, side, Item { id, what, digest }| {
            staging.push(&Staged { collection, id, side, what, digest, spot: Spot::Log(None) })
        };
        let (at, checksum, trusted) = match command {
            Command::Decided(record) => (record.coordinates, record.checksum(), None),
            Command::Logged(row) => (row.coordinates, row.checksum, segment.logs.first()),
        };
        // A log proves nothing about itself.
        for &log in segment.logs.iter().filter(|log| Some(*log) != trusted) {
            stage(Collection::Log(log), Side::Expected, self.digester.row(at, checksum, decision))?;
        }
        let topic = self.commands_topic();
        match (decision, command) {
            (Decision::Accepted(event), _) => {
                let (headers, retained) = match command {
                    Command::Decided(record) => (record.headers.as_slice(), true),
                    Command::Logged(_) => (&[][..], false),
                };
                for notification in event.notifications(&self.rules.source, headers) {
                    let item = self.digester.notification(&notification, event.id(), retained);
                    stage(Collection::Notifications, Side::Expected, item)?;
                }
            }
            (Decision::Duplicate { .. }, _) => {}
            (Decision::Rejected(problems), Command::Decided(record)) => {
                let item = self.digester.rejection(record, topic, problems, self.rules.rejection_bytes);
                stage(Collection::Rejections, Side::Expected, item)?;
                for form in self.digester.forms_of_rejection(record, topic, problems) {
                    if form.digest != item.digest {
                        stage(Collection::Rejections, Side::ExpectedForm, form)?;
                    }
                }
            }
            (Decision::Rejected(problems), Command::Logged(row)) => {
                let item = self.digester.rejection_by_log(row, topic, problems);
                stage(Collection::Rejections, Side::Expected, item)?;
            }
        }
        Ok(())
    }
}

/// The highest valid record timestamp of each partition before the topic's start, if logs have all of these commands.
pub(crate) type Clocks = BTreeMap<i32, i64>;

/// Stages what should exist because of commands that the topic no longer retains, from the first log that has each.
pub(crate) fn stage_from_logs(
    context: &Context<'_>,
    scratch: &Scratch,
    staging: &mut Staging<'_>,
    findings: &mut Findings<'_>,
) -> Result<Clocks, VerifyError> {
    let mut clocks = Clocks::new();
    for (partition, number) in context.facts.partitions.iter().zip(0..) {
        let mut gone = partition.segments.iter().filter(|segment| !segment.retained);
        if partition.bounds.start <= partition.published && gone.all(|segment| !segment.logs.is_empty()) {
            clocks.insert(number, 0);
        }
    }
    for (number, log) in context.logs.iter().enumerate() {
        let is_trusted = |segment: &Segment| !segment.retained && segment.logs.first() == Some(&number);
        if !context.facts.partitions.iter().any(|partition| partition.segments.iter().any(is_trusted)) {
            continue;
        }
        log.rows(|row| {
            // A damaged row is not used here; `found` reports it.
            let Ok(row) = row else { return Ok(ControlFlow::Continue(())) };
            let Coordinates { partition, offset, .. } = row.coordinates;
            let segment = context.facts.partition(partition).and_then(|facts| facts.segment(offset));
            let Some(segment) = segment.filter(|segment| is_trusted(segment)) else {
                return Ok(ControlFlow::Continue(()));
            };
            let decision = match parse(context.rules.decider.topic_bits(), &row) {
                Ok(decision) => decision,
                Err(details) => {
                    findings.deviation(&unreadable(log, &row, details))?;
                    return Ok(ControlFlow::Continue(()));
                }
            };
            findings.count(&decision);
            if names_another(&decision) {
                let knew_all = context.is_whole(number, partition);
                scratch.put_doubt(row.coordinates, if knew_all { Doubt::Trusted } else { Doubt::Open })?;
            }
            findings.unchecked(context.commands_topic(), partition, offset, Reason::CommandsDeleted);
            if let Some(clock) = clocks.get_mut(&partition) {
                *clock = row.coordinates.advance(*clock);
            }
            context.stage_expected(Command::Logged(&row), &decision, segment, staging)?;
            Ok::<_, VerifyError>(ControlFlow::Continue(()))
        })?;
    }
    Ok(clocks)
}

/// Whether an earlier command led to this decision: a log with a gap may not have known that command.
fn names_another(decision: &Decision) -> bool {
    match decision {
        Decision::Accepted(_) => false,
        Decision::Duplicate { .. } => true,
        Decision::Rejected(problems) => problems.first_code() == Code::IdempotencyKeyReused.as_str(),
    }
}

fn parse(topic_bits: u16, row: &Row) -> Result<Decision, String> {
    let at = row.coordinates;
    match &row.content {
        Content::Event { json, .. } => {
            let event = Event::from_log(topic_bits, at, json.clone());
            event.map(Decision::Accepted).map_err(|error| error.to_string())
        }
        Content::Duplicate { of_offset, of_timestamp } => {
            let first = Coordinates { offset: *of_offset, timestamp: *of_timestamp, ..at };
            Ok(Decision::Duplicate { of: ActivityId::new(topic_bits, first) })
        }
        Content::Rejection { problems } => serde_json::from_str::<Problems>(problems)
            .map(Decision::Rejected)
            .map_err(|error| format!("its problems are unreadable: {error}")),
    }
}

fn unreadable(log: &LogReader, row: &Row, details: String) -> Deviation {
    let (what, position) = super::found::kind_of_row(row);
    let place = Place::Log { path: log.path().to_owned(), position };
    let command = Some(row.coordinates.into());
    Deviation { kind: Kind::Altered, what, place, command, id: None, details }
}

//! What should exist, command by command, for whoever wants to know: the sums first, then the second reading.

use std::{collections::BTreeMap, ops::ControlFlow};

use contract::{ActivityId, Code, Coordinates, Decision, Event, Problems, Record};
use event_log::{Content, Row};

use super::{
    Context, VerifyError,
    content::Item,
    findings::Findings,
    ledger::{Grid, Ledger},
    report::{At, Deviation, Kind, Place, Reason, What},
    scratch::{Doubt, Scratch},
    segments::Segment,
};

/// Records or rows that are compared as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// By its place among the logs.
    Log(usize),
    Notifications,
    Rejections,
}

/// Is told what should exist.
pub trait Expecting {
    /// Whether it wants to be told what this command should have there: telling costs time.
    fn wants(&self, collection: Collection, partition: i32, offset: i64) -> bool;
    fn expect(&mut self, collection: Collection, item: Item);
    /// Whether it holds each item against what there is, and so has to know every form that it may have.
    fn compares(&self) -> bool {
        false
    }
    fn collections(&self) -> Vec<Collection>;
}

/// Sums of all collections.
#[derive(Debug)]
pub struct Ledgers {
    logs: Vec<Ledger>,
    notifications: Ledger,
    rejections: Ledger,
}

impl Ledgers {
    #[must_use]
    pub fn new(grid: &Grid, logs: usize) -> Self {
        let ledger = Ledger::new(grid);
        Self { logs: vec![ledger.clone(); logs], notifications: ledger.clone(), rejections: ledger }
    }

    pub fn of(&mut self, collection: Collection) -> &mut Ledger {
        match collection {
            Collection::Log(log) => &mut self.logs[log],
            Collection::Notifications => &mut self.notifications,
            Collection::Rejections => &mut self.rejections,
        }
    }
}

impl Expecting for Ledgers {
    fn wants(&self, _: Collection, _: i32, _: i64) -> bool {
        true
    }

    fn expect(&mut self, collection: Collection, item: Item) {
        let id = item.id;
        self.of(collection).expect(id.partition, id.offset, item.digest.all);
    }

    fn collections(&self) -> Vec<Collection> {
        let logs = (0..self.logs.len()).map(Collection::Log);
        logs.chain([Collection::Notifications, Collection::Rejections]).collect()
    }
}

/// What a command became, and how that is known.
#[derive(Debug, Clone, Copy)]
pub enum Command<'a> {
    /// It was decided again.
    Decided(&'a Record),
    /// A log says so.
    Logged(&'a Row),
}

impl Context<'_> {
    /// Tells everything that should exist because of one command.
    pub(super) fn expect(
        &self,
        command: Command<'_>,
        decision: &Decision,
        segment: &Segment,
        into: &mut dyn Expecting,
    ) {
        let (at, checksum, witness) = match command {
            // Computed here, not where it was decided: the second reading decides anew as well.
            Command::Decided(record) => (record.coordinates, record.checksum(), None),
            Command::Logged(row) => (row.coordinates, row.checksum, segment.logs.first()),
        };
        let Coordinates { partition, offset, .. } = at;
        // The log that is believed proves nothing about itself.
        for &log in segment.logs.iter().filter(|log| Some(*log) != witness) {
            if into.wants(Collection::Log(log), partition, offset) {
                into.expect(Collection::Log(log), self.digester.row(at, checksum, decision));
            }
        }
        match decision {
            Decision::Accepted(event) => {
                if into.wants(Collection::Notifications, partition, offset) {
                    let (headers, retained) = match command {
                        Command::Decided(record) => (record.headers.as_slice(), true),
                        Command::Logged(_) => (&[][..], false),
                    };
                    for notification in event.notifications(&self.rules.source, headers) {
                        let item = self.digester.notification(&notification, event.id(), retained);
                        into.expect(Collection::Notifications, item);
                    }
                }
            }
            Decision::Duplicate { .. } => {}
            Decision::Rejected(problems) => {
                if into.wants(Collection::Rejections, partition, offset) {
                    into.expect(Collection::Rejections, self.rejection(command, problems, into.compares()));
                }
            }
        }
    }

    fn rejection(&self, command: Command<'_>, problems: &Problems, with_forms: bool) -> Item {
        let topic = self.commands_topic();
        match command {
            Command::Decided(record) => {
                let mut item = self.digester.rejection(record, topic, problems, self.rules.rejection_bytes);
                if with_forms {
                    item.forms = self.digester.forms_of_rejection(record, topic, problems);
                }
                item
            }
            Command::Logged(row) => self.digester.rejection_by_log(row, topic, problems),
        }
    }
}

/// The highest valid record timestamp of each partition below where the topic begins, where a log knows them all.
pub type Clocks = BTreeMap<i32, i64>;

/// Tells what should exist because of commands that the topic no longer holds, as the first log that knows of each
/// says. With `findings`, counts and tells as well.
pub fn by_logs(
    context: &Context<'_>,
    scratch: &Scratch,
    into: &mut dyn Expecting,
    mut findings: Option<&mut Findings<'_>>,
) -> Result<Clocks, VerifyError> {
    let mut clocks = Clocks::new();
    for (partition, number) in context.facts.partitions.iter().zip(0..) {
        let mut gone = partition.segments.iter().filter(|segment| !segment.retained);
        if partition.bounds.start <= partition.published && gone.all(|segment| !segment.logs.is_empty()) {
            clocks.insert(number, 0);
        }
    }
    for (number, log) in context.logs.iter().enumerate() {
        let is_witness = |segment: &Segment| !segment.retained && segment.logs.first() == Some(&number);
        if !context.facts.partitions.iter().any(|partition| partition.segments.iter().any(is_witness)) {
            continue;
        }
        log.rows(|row| {
            // One that is not as it was written says nothing; it is told where the log's rows are.
            let Ok(row) = row else { return Ok(ControlFlow::Continue(())) };
            let Coordinates { partition, offset, .. } = row.coordinates;
            let segment = context.facts.partition(partition).and_then(|found| found.segment(offset));
            let Some(segment) = segment.filter(|segment| is_witness(segment)) else {
                return Ok(ControlFlow::Continue(()));
            };
            let decision = match parse(context.rules.decider.topic_bits(), &row) {
                Ok(decision) => decision,
                Err(found) => {
                    if let Some(findings) = &mut findings {
                        findings.deviation(&unreadable(log.path().to_owned(), &row, found))?;
                    }
                    return Ok(ControlFlow::Continue(()));
                }
            };
            if let Some(findings) = &mut findings {
                findings.count(&decision);
                if names_another(&decision) {
                    let knew_all = context.is_whole(number, partition);
                    scratch.doubt(row.coordinates, if knew_all { Doubt::Believed } else { Doubt::Open })?;
                }
                findings.unchecked(context.commands_topic(), partition, offset, Reason::CommandsDeleted);
            }
            if let Some(clock) = clocks.get_mut(&partition) {
                *clock = row.coordinates.advance(*clock);
            }
            context.expect(Command::Logged(&row), &decision, segment, into);
            Ok::<_, VerifyError>(ControlFlow::Continue(()))
        })?;
    }
    Ok(clocks)
}

/// Whether an earlier command decided it, of which a log that has a gap may not have known.
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
        Content::Rejection { problems } => serde_json::from_str(problems)
            .map(Decision::Rejected)
            .map_err(|error| format!("its problems are unreadable: {error}")),
    }
}

fn unreadable(path: std::path::PathBuf, row: &Row, found: String) -> Deviation {
    let (what, position) = match row.content {
        Content::Event { position, .. } => (What::Event, Some(position)),
        Content::Duplicate { .. } => (What::Duplicate, None),
        Content::Rejection { .. } => (What::Rejection, None),
    };
    let command = At { partition: row.coordinates.partition, offset: row.coordinates.offset };
    let place = Place::Log { path, position };
    Deviation { kind: Kind::Altered, what, place, command: Some(command), id: None, details: found }
}

//! Deciding every command again that the topic still holds.

use std::{ops::ControlFlow, ops::Range};

use contract::{Claim, Code, Coordinates, Decision, Event, IdempotencyKey, Reading, Record, settle};

use super::{
    Context, VerifyError,
    expected::{Clocks, Command, Expecting},
    findings::Findings,
    report::{Deviation, Kind, Place, Reason, Summary, What},
    scratch::{Doubt, Scratch},
    segments::Segment,
    source::{Topic, Topics},
};

impl Findings<'_> {
    /// Counts what a command became.
    pub fn count(&mut self, decision: &Decision) {
        let Summary { commands, events, duplicates, rejections, notifications, .. } = &mut self.summary;
        *commands += 1;
        match decision {
            Decision::Accepted(event) => {
                *events += 1;
                *notifications += event.notification_count() as u64;
            }
            Decision::Duplicate { .. } => *duplicates += 1,
            Decision::Rejected(_) => *rejections += 1,
        }
    }
}

/// Decides a partition's commands from the first one that is retained up to the last one whose output is out, and
/// tells what should exist because of them.
pub fn partition(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    scratch: &mut Scratch,
    (number, clocks): (usize, &Clocks),
    into: &mut dyn Expecting,
    findings: &mut Findings<'_>,
) -> Result<(), VerifyError> {
    let partition = &context.facts.partitions[number];
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    scratch.begin()?;
    let start = partition.bounds.start;
    let before = clocks.get(&number).copied();
    let clock = before.unwrap_or(0);
    let mut again = Again { context, scratch, start, before, first: None, clock };
    let mut unlogged: Vec<(Range<i64>, u64)> = Vec::new();
    read(context, topics, number, start..partition.published, &mut |record| {
        findings.advanced(1);
        let Some(segment) = partition.segment(record.coordinates.offset) else {
            return Ok(ControlFlow::Continue(()));
        };
        let decision = again.decide(&record, segment, findings)?;
        findings.count(&decision);
        if segment.logs.is_empty() {
            match unlogged.last_mut() {
                Some((offsets, commands)) if *offsets == segment.offsets => *commands += 1,
                _ => unlogged.push((segment.offsets.clone(), 1)),
            }
        }
        context.expect(Command::Decided(&record), &decision, segment, into);
        Ok(ControlFlow::Continue(()))
    })?;
    for (offsets, commands) in unlogged {
        let plural = if commands == 1 { "" } else { "s" };
        let details = format!(
            "no log that was given knows of partition {number}, offsets {} to {}, which hold {commands} command{plural}",
            offsets.start,
            offsets.end - 1
        );
        let (kind, what, place) = (Kind::Lost, What::Commands, Place::Logs);
        findings.deviation(&Deviation { kind, what, place, command: None, id: None, details })?;
    }
    Ok(())
}

/// Decides the commands of a part of the topic once more, from what was kept of the first time.
pub fn once_more(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    scratch: &Scratch,
    (number, offsets): (i32, Range<i64>),
    wanted: impl Fn(i64) -> bool,
    into: &mut dyn Expecting,
) -> Result<(), VerifyError> {
    let Some(partition) = context.facts.partition(number) else { return Ok(()) };
    let offsets = offsets.start.max(partition.bounds.start)..offsets.end;
    let now = topics.bounds(Topic::Commands)?.get(number as usize).map_or(0, |bounds| bounds.start);
    if offsets.start < now.min(offsets.end) {
        let topic = context.commands_topic().to_owned();
        return Err(VerifyError::CommandsDeleted { topic, partition: number, offsets, start: now });
    }
    read(context, topics, number, offsets, &mut |record| {
        let at = record.coordinates;
        let Some(segment) = partition.segment(at.offset).filter(|_| wanted(at.offset)) else {
            return Ok(ControlFlow::Continue(()));
        };
        let decision = match context.rules.decider.read(&record).reading {
            Reading::Rejected(problems) => Decision::Rejected(problems),
            Reading::Valid { event, key: None } => Decision::Accepted(event),
            Reading::Valid { event, key: Some(_) } => scratch.kept(at)?.unwrap_or(Decision::Accepted(event)),
        };
        context.expect(Command::Decided(&record), &decision, segment, into);
        Ok(ControlFlow::Continue(()))
    })
}

fn read(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    partition: i32,
    offsets: Range<i64>,
    each: &mut super::source::Each<'_>,
) -> Result<(), VerifyError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let unread = topics.read(Topic::Commands, &[(partition, offsets.clone())], each)?;
    match unread.first() {
        None => Ok(()),
        Some(unread) => Err(VerifyError::CommandsHeldBack {
            topic: context.commands_topic().to_owned(),
            partition,
            offset: unread.offsets.start,
            published: offsets.end,
        }),
    }
}

/// One partition's commands, decided in order.
struct Again<'c, 's> {
    context: &'c Context<'c>,
    scratch: &'s mut Scratch,
    /// The first offset that is retained.
    start: i64,
    /// The clock at `start`, where it is known.
    before: Option<i64>,
    /// The clock at the first command that is retained.
    first: Option<i64>,
    /// The highest valid record timestamp so far.
    clock: i64,
}

impl Again<'_, '_> {
    fn decide(
        &mut self,
        record: &Record,
        segment: &Segment,
        findings: &mut Findings<'_>,
    ) -> Result<Decision, VerifyError> {
        let at = record.coordinates;
        if at.has_valid_timestamp() {
            self.clock = at.advance(self.clock);
            self.first.get_or_insert(self.clock);
        }
        match self.context.rules.decider.read(record).reading {
            Reading::Rejected(problems) => Ok(Decision::Rejected(problems)),
            Reading::Valid { event, key: None } => Ok(Decision::Accepted(event)),
            Reading::Valid { event, key: Some(key) } => self.settle(event, &key, segment, findings),
        }
    }

    fn settle(
        &mut self,
        event: Event,
        key: &IdempotencyKey,
        segment: &Segment,
        findings: &mut Findings<'_>,
    ) -> Result<Decision, VerifyError> {
        let (at, id) = (event.coordinates(), event.id());
        let window_ms = self.context.rules.window_ms;
        let found = self.scratch.claim(at.partition, key)?;
        let is_alive = |claim: &Claim| self.clock.saturating_sub(claim.last_seen) < window_ms;
        let alive = found.filter(|(claim, _)| is_alive(claim));
        let claim = found.map(|(claim, _)| claim);
        let mut decision = settle(event, Some(*key), claim.as_ref(), self.clock, window_ms);
        let mut doubt = alive.map_or(Doubt::None, |(_, doubt)| doubt);
        if alive.is_none() && self.remembers_too_little(window_ms) {
            doubt = Doubt::Open;
            if let Some(&log) = segment.logs.first().filter(|&&log| self.context.is_whole(log, at.partition))
            {
                doubt = Doubt::Believed;
                decision = self.believe(log, at, decision)?;
            }
        }
        if doubt != Doubt::None {
            findings.unchecked(self.context.commands_topic(), at.partition, at.offset, Reason::KeyForgotten);
            self.scratch.doubt(at, doubt)?;
        }
        match &decision {
            Decision::Accepted(_) => self.scratch.note(key, id, self.clock, doubt)?,
            Decision::Duplicate { of } => self.scratch.note(key, *of, self.clock, doubt)?,
            // A rejected command claims nothing and refreshes nothing.
            Decision::Rejected(_) => {}
        }
        self.scratch.keep(at, &decision)?;
        Ok(decision)
    }

    /// Whether a command that is gone could have a claim on a key at this time.
    fn remembers_too_little(&self, window_ms: i64) -> bool {
        let since = |clock: i64| self.clock.saturating_sub(clock);
        self.start > 0
            && match (self.before, self.first) {
                (Some(before), _) => since(before) < window_ms,
                // Producers' clocks may have been ahead of the first one that is left, but hardly by a window.
                (None, Some(first)) => since(first) < window_ms.saturating_mul(2),
                (None, None) => true,
            }
    }

    /// What a log says that knew all keys, where it names a command that is gone.
    fn believe(&self, log: usize, at: Coordinates, decided: Decision) -> Result<Decision, VerifyError> {
        let refused = self.context.logs[log].refused(at.partition, at.offset)?;
        Ok(match refused.map(|recorded| recorded.decision) {
            Some(Decision::Duplicate { of }) if of.offset() < self.start => Decision::Duplicate { of },
            Some(Decision::Rejected(problems))
                if problems.first_code() == Code::IdempotencyKeyReused.as_str() =>
            {
                Decision::Rejected(problems)
            }
            _ => decided,
        })
    }
}

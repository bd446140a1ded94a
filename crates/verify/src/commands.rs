//! Decides again every command that the topic still retains.

use std::{ops::ControlFlow, ops::Range};

use contract::{Claim, Code, Coordinates, Decision, Event, IdempotencyKey, Reading, Record, settle};

use super::{
    Context, VerifyError,
    expected::{Clocks, Command},
    findings::Findings,
    report::{Deviation, Kind, Place, Reason, What},
    scratch::{Doubt, Scratch},
    segments::Segment,
    source::{Topic, Topics},
    staging::Staging,
};

/// Decides a partition's commands, from the first retained one to the last published one, and stages what should exist
/// because of them.
pub(crate) fn decide_partition(
    context: &Context<'_>,
    topics: &mut dyn Topics,
    scratch: &Scratch,
    (partition, clocks): (i32, &Clocks),
    staging: &mut Staging<'_>,
    findings: &mut Findings<'_>,
) -> Result<(), VerifyError> {
    let Some(facts) = context.facts.partition(partition) else { return Ok(()) };
    let (start, published) = (facts.bounds.start, facts.published);
    if start >= published {
        return Ok(());
    }
    scratch.forget_claims()?;
    let clock_before = clocks.get(&partition).copied();
    let clock = clock_before.unwrap_or(0);
    let mut decider =
        PartitionDecider { context, scratch, start, clock_before, first_clock: None, clock, swept_clock: 0 };
    let mut unlogged: Vec<(Range<i64>, u64)> = Vec::new();
    let unread = topics.read(Topic::Commands, &[(partition, start..published)], &mut |record| {
        findings.advanced(1);
        let Some(segment) = facts.segment(record.coordinates.offset) else {
            return Ok(ControlFlow::Continue(()));
        };
        let decision = decider.decide(&record, segment, findings)?;
        findings.count(&decision);
        if segment.logs.is_empty() {
            match unlogged.last_mut() {
                Some((offsets, commands)) if *offsets == segment.offsets => *commands += 1,
                _ => unlogged.push((segment.offsets.clone(), 1)),
            }
        }
        context.stage_expected(Command::Decided(&record), &decision, segment, staging)?;
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(unread) = unread.first() {
        let (topic, offset) = (context.commands_topic().to_owned(), unread.offsets.start);
        return Err(VerifyError::CommandsHeldBack { topic, partition, offset, published });
    }
    for (offsets, commands) in unlogged {
        let plural = if commands == 1 { "" } else { "s" };
        let details = format!(
            "no log that was given knows of partition {partition}, offsets {} to {}, which hold {commands} command{plural}",
            offsets.start,
            offsets.end - 1
        );
        let (kind, what, place) = (Kind::Lost, What::Commands, Place::Logs);
        findings.deviation(&Deviation { kind, what, place, command: None, id: None, details })?;
    }
    Ok(())
}

/// Decides one partition's commands in order.
struct PartitionDecider<'c> {
    context: &'c Context<'c>,
    scratch: &'c Scratch,
    /// The first retained offset.
    start: i64,
    /// The clock before `start`, if it is known.
    clock_before: Option<i64>,
    /// The clock at the first retained command.
    first_clock: Option<i64>,
    /// The highest valid record timestamp so far.
    clock: i64,
    /// The clock when old claims were last deleted.
    swept_clock: i64,
}

impl PartitionDecider<'_> {
    fn decide(
        &mut self,
        record: &Record,
        segment: &Segment,
        findings: &mut Findings<'_>,
    ) -> Result<Decision, VerifyError> {
        let at = record.coordinates;
        if at.has_valid_timestamp() {
            self.clock = at.advance(self.clock);
            self.first_clock.get_or_insert(self.clock);
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
        if alive.is_none() && self.may_lack_claims(window_ms) {
            doubt = Doubt::Open;
            if let Some(&log) = segment.logs.first().filter(|&&log| self.context.is_whole(log, at.partition))
            {
                doubt = Doubt::Trusted;
                decision = self.trust_log(log, at, decision)?;
            }
        }
        if doubt != Doubt::None {
            findings.unchecked(self.context.commands_topic(), at.partition, at.offset, Reason::KeyForgotten);
            self.scratch.put_doubt(at, doubt)?;
        }
        let first = match &decision {
            Decision::Accepted(_) => id,
            Decision::Duplicate { of } => *of,
            // A rejected command claims nothing and refreshes nothing.
            Decision::Rejected(_) => return Ok(decision),
        };
        self.scratch.put_claim(key, first, self.clock, doubt)?;
        // Once per window, so that the file has the claims of two windows at most.
        if self.clock.saturating_sub(self.swept_clock) >= window_ms {
            self.scratch.forget_claims_until(self.clock.saturating_sub(window_ms))?;
            self.swept_clock = self.clock;
        }
        Ok(decision)
    }

    /// Whether a command that the topic no longer has could still claim a key at this time.
    fn may_lack_claims(&self, window_ms: i64) -> bool {
        let since = |clock: i64| self.clock.saturating_sub(clock);
        self.start > 0
            && match (self.clock_before, self.first_clock) {
                (Some(before), _) => since(before) < window_ms,
                // Producers' clocks may have been ahead of the first retained one, but hardly by a window.
                (None, Some(first)) => since(first) < window_ms.saturating_mul(2),
                (None, None) => true,
            }
    }

    /// The decision of a log that knew all keys, if it refers to a command that the topic no longer has.
    fn trust_log(&self, log: usize, at: Coordinates, decided: Decision) -> Result<Decision, VerifyError> {
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

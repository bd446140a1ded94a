//! How a process starts the partition, in two steps as in `processor::intake::starting`: it learns the facts, plans and
//! commits the first offset; then the log records the start.

use kafka::{
    Bounds,
    mark::{Committed, Mark, RulesHash},
};
use processor::{Accept, AtAnchor, Facts, Loss, Start, retained_anchor};
use uuid::Uuid;

use super::{
    commands::Commands,
    rules::{Break, Rules},
    state::{Accepted, GroupOffset, Held, Limit, Planned, Process, State, Who},
};

impl GroupOffset {
    fn committed(self) -> Committed {
        let mark = |clock: u8| Mark { instance: Uuid::nil(), clock: clock.into(), rules: RulesHash(0) };
        Committed { offset: self.offset.into(), mark: self.clock.map(mark) }
    }
}

impl Accepted {
    fn accept(self) -> Accept {
        match self {
            Self::Nothing => Accept::default(),
            Self::Republish => Accept::from_iter([Loss::Republish]),
            Self::SkipUnpublished => Accept::from_iter([Loss::SkipUnpublished]),
            Self::GroupOffset => Accept::from_iter([Loss::GroupOffset]),
        }
    }
}

impl From<Start> for Planned {
    fn from(start: Start) -> Self {
        Self {
            offset: offset(start.offset),
            logged: offset(start.logged),
            published: offset(start.published),
            clock: start.clock as u8,
            gap: start.gap.map(|gap| offset(gap.next_offset)),
            had_to_accept: !start.accepted.is_empty(),
        }
    }
}

/// As a state has it.
pub fn offset(offset: i64) -> u8 {
    u8::try_from(offset).expect("an offset of the model's topic")
}

/// What a process finds out about the partition.
pub fn facts(state: &State, who: Who, commands: &Commands) -> Facts {
    let cursor = state.instances[who.index()].log.cursor(commands);
    let bounds = Bounds { start: state.kafka.start.into(), end: state.kafka.end.into() };
    let at_anchor = retained_anchor(cursor.as_ref(), bounds).map(|anchor| {
        let offset = offset(anchor.offset);
        AtAnchor::Record { timestamp: commands.timestamp(offset).into(), checksum: commands.checksum(offset) }
    });
    let committed = state.kafka.committed.map(GroupOffset::committed);
    Facts { partition: 0, cursor, committed, bounds, at_anchor }
}

/// Whether a start with this loss accepted publishes neither twice nor too little.
pub fn is_exact(state: &State, who: Who, commands: &Commands, rules: &Rules, accepted: Accepted) -> bool {
    (rules.plan)(&facts(state, who, commands), accepted.accept())
        .is_ok_and(|start| start.published == i64::from(state.kafka.published))
}

/// Why the promises end with this start, if they do.
fn limit(state: &State, who: Who, planned: &Planned) -> Option<Limit> {
    let (log, published) = (&state.instances[who.index()].log, state.kafka.published);
    if planned.published == published {
        return None;
    }
    if planned.had_to_accept && state.session(who).is_some_and(|session| session.accepts.is_some()) {
        return Some(Limit::AcceptedTooLate);
    }
    let is_old_stop = log.is_stopped && log.seen == Some(planned.published) && planned.published < published;
    match state.kafka.committed {
        None if !log.is_known || (log.seen.is_none() && planned.published < published) => {
            Some(Limit::NewLogWithoutOffset)
        }
        None if is_old_stop => Some(Limit::OldCleanStop),
        Some(GroupOffset { offset, clock: None }) if is_old_stop && offset == planned.published => {
            Some(Limit::ForeignOffsetOfOldCleanStop)
        }
        _ => None,
    }
}

impl State {
    /// The process learns the facts and plans. It stops if the rule refuses to start. Otherwise it commits the offset at
    /// which it starts, unless the group has just this offset with a mark.
    pub fn learn(&mut self, who: Who, commands: &Commands, rules: &Rules) {
        let accepts = self.running(who).accepts.unwrap_or(Accepted::Nothing);
        let Ok(start) = (rules.plan)(&facts(self, who, commands), accepts.accept()) else {
            self.instances[who.index()].process = Process::Refused;
            self.remove_member(who);
            return;
        };
        let planned = Planned::from(start);
        self.limit = limit(self, who, &planned);
        if planned.had_to_accept {
            self.write(who, |log| log.seen = log.seen.map(|seen| seen.min(planned.published)));
        }
        let is_known = self
            .kafka
            .committed
            .is_some_and(|found| found.clock.is_some() && found.offset == planned.published);
        if !is_known && rules.broken != Some(Break::FirstOffsetLeft) {
            let is_marked = self.kafka.committed.is_some_and(|found| found.clock.is_some());
            let is_ahead = self.instances[who.index()].log.logged > planned.published;
            self.is_clock_guessed |= self.is_disturbed && !is_marked && is_ahead;
            let clock = Some(planned.clock);
            self.kafka.committed = Some(GroupOffset { offset: planned.published, clock });
        }
        self.running(who).planned = Some(planned);
    }

    /// The log records the start, and the partition is held.
    pub fn hold(&mut self, who: Who, rules: &Rules) {
        let session = self.running(who);
        let planned = session.planned.take().expect("it has learned the facts");
        session.accepts = None;
        session.followed.take_if(|_| rules.broken == Some(Break::TakeLate));
        session.held = Some(Held {
            logged: planned.logged,
            published: planned.published,
            clock: planned.clock,
            sent: planned.offset,
            done: planned.offset,
        });
        self.write(who, |log| {
            let clean = log.clean;
            log.start_partition(planned.gap, Some(planned.published));
            log.clean = clean && rules.broken == Some(Break::CleanForEver);
        });
    }
}

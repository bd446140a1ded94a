//! How a process starts the partitions that are assigned to it, in two steps as in `processor::intake::starting`: it learns
//! the facts, plans and commits the first offsets; then the log records the starts.

use kafka::{
    Bounds,
    mark::{Committed, Mark, Marker, RulesHash},
};
use processor::{Accept, AtAnchor, Facts, HeldPartition, Loss, Start, retained_anchor};
use uuid::Uuid;

use super::{
    broker::{GroupMark, GroupOffset},
    limits::limit,
    rules::Break,
    state::{Assignment, CURRENT, Partition, Process, Running, State, Who},
    world::World,
};

/// What a person accepts. Not `processor::Loss::LostCommands`: that is never without a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accepted {
    Nothing,
    Republish,
    SkipUnpublished,
    GroupOffset,
}

/// The answer of the production rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Planned {
    pub offset: u8,
    pub logged: u8,
    pub published: u8,
    pub clock: u8,
    /// The end of the gap, which begins at `logged` of the log.
    pub gap: Option<u8>,
    pub had_to_accept: bool,
}

impl Who {
    pub fn uuid(self) -> Uuid {
        Uuid::from_u128(self.0.into())
    }

    pub fn of(uuid: Uuid) -> Self {
        Self(uuid.as_u128() as u8)
    }

    fn marker(self) -> Marker {
        Marker { instance: self.uuid(), rules: RulesHash(0) }
    }
}

impl GroupOffset {
    pub fn committed(self) -> Committed {
        let mark = |mark: GroupMark| mark.instance.marker().mark(mark.clock.into());
        Committed { offset: self.offset.into(), mark: self.mark.map(mark) }
    }
}

impl Accepted {
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Republish, Self::SkipUnpublished, Self::GroupOffset];

    fn accept(self) -> Accept {
        match self {
            Self::Nothing => Accept::default(),
            Self::Republish => Accept::from_iter([Loss::Republish]),
            Self::SkipUnpublished => Accept::from_iter([Loss::SkipUnpublished]),
            Self::GroupOffset => Accept::from_iter([Loss::GroupOffset]),
        }
    }
}

impl From<&Start> for Planned {
    fn from(start: &Start) -> Self {
        Self {
            offset: offset(start.offset),
            logged: offset(start.logged),
            published: offset(start.published),
            clock: start.clock as u8,
            gap: start.gap.as_ref().map(|gap| offset(gap.next_offset)),
            had_to_accept: !start.accepted.is_empty(),
        }
    }
}

/// As a state has it.
pub fn offset(offset: i64) -> u8 {
    u8::try_from(offset).expect("an offset of the model's topic")
}

impl Assignment {
    fn is_waiting(&self) -> bool {
        !self.is_revoking && self.planned.is_none() && self.running.is_none()
    }
}

impl World {
    /// What a process finds out about a partition.
    pub fn facts(&self, state: &State, who: Who, partition: Partition) -> Facts {
        let (topic, commands) = (state.kafka.partition(partition), &self.commands);
        let cursor = state.log(who, partition).cursor(partition, commands);
        let bounds = Bounds { start: topic.start.into(), end: topic.end.into() };
        let at_anchor = retained_anchor(cursor.as_ref(), bounds).map(|anchor| {
            let offset = offset(anchor.offset);
            AtAnchor::Record {
                timestamp: commands.timestamp(offset).into(),
                checksum: commands.checksum(offset),
            }
        });
        let committed = topic.committed.map(GroupOffset::committed);
        Facts { partition: partition.into(), cursor, committed, bounds, at_anchor }
    }

    /// Whether a start with this loss accepted publishes neither twice nor too little.
    pub fn is_exact(&self, state: &State, who: Who, accepted: Accepted) -> bool {
        state.partitions().all(|partition| {
            (self.rules.plan)(&self.facts(state, who, partition), accepted.accept())
                .is_ok_and(|start| start.published == i64::from(state.kafka.partition(partition).published))
        })
    }

    /// The assigned partitions that have not started.
    pub fn waiting(state: &State, who: Who) -> Vec<Partition> {
        let session = state.session(who).expect("it runs");
        session.assigned(Assignment::is_waiting).collect()
    }

    /// The plans of the waiting partitions; `None` if the rule refuses to start one of them.
    fn plans(&self, state: &State, who: Who) -> Option<Vec<(Partition, Facts, Start)>> {
        let plan = |partition| {
            let accepts = state.session(who)?.assignment(partition).accepts.unwrap_or(Accepted::Nothing);
            let facts = self.facts(state, who, partition);
            let start = (self.rules.plan)(&facts, accepts.accept()).ok()?;
            Some((partition, facts, start))
        };
        Self::waiting(state, who).into_iter().map(plan).collect()
    }

    fn has_to_commit(&self, who: Who, facts: &Facts, start: &Start) -> bool {
        let of = |mark: Mark| Marker { instance: mark.instance, rules: mark.rules };
        match self.rules.broken {
            Some(Break::FirstOffsetLeft) => false,
            // Whoever it is whose mark it has.
            Some(Break::MarkLeft) => {
                let found = facts.committed.and_then(|found| found.mark);
                start.has_to_commit(facts, found.map_or(who.marker(), of))
            }
            _ => start.has_to_commit(facts, who.marker()),
        }
    }

    /// Whether the coordinator returns the offsets of the waiting partitions, and accepts the first ones of a process that
    /// it may have removed.
    pub fn can_learn(&self, state: &State, who: Who) -> bool {
        let waiting = Self::waiting(state, who);
        let is_stable = |partition: &Partition| {
            !state.kafka.is_pending(*partition) || self.rules.broken == Some(Break::UnstableOffset)
        };
        let may_commit = || {
            let plans = self.plans(state, who).unwrap_or_default();
            plans.iter().all(|(_, facts, start)| !self.has_to_commit(who, facts, start))
        };
        !waiting.is_empty()
            && waiting.iter().all(is_stable)
            && (state.kafka.client(who).is_counted || may_commit())
    }

    /// The process learns the facts and plans. It stops if the rule refuses to start. Otherwise it commits the offsets at
    /// which it starts, unless the group has just these with its own mark.
    pub fn learn(&self, state: &mut State, who: Who) {
        let Some(plans) = self.plans(state, who) else {
            state.instance_mut(who).process = Process::Refused;
            state.remove_member(who);
            return;
        };
        for (partition, facts, start) in &plans {
            let planned = Planned::from(start);
            state.limit = state.limit.or(limit(state, who, *partition, &planned));
            let place = usize::from(*partition);
            if planned.had_to_accept {
                state.write(who, |logs| {
                    logs[place].seen = logs[place].seen.map(|seen| seen.min(planned.published));
                });
            }
            if self.has_to_commit(who, facts, start) {
                let is_marked = facts.committed.is_some_and(|found| found.mark.is_some());
                let is_ahead = state.log(who, *partition).logged > planned.published;
                state.is_clock_guessed |= state.is_disturbed && !is_marked && is_ahead;
                let mark = Some(GroupMark { instance: who, clock: planned.clock });
                let first = GroupOffset { offset: planned.published, mark };
                state.kafka.partition_mut(*partition).committed = Some(first);
            }
            state.running(who).assignment_mut(*partition).planned = Some(planned);
        }
    }

    /// The log records the starts, and the partitions are held.
    pub fn hold(&self, state: &mut State, who: Who) {
        let broken = self.rules.broken;
        for partition in state.partitions() {
            let session = state.running(who);
            let assignment = session.assignment_mut(partition);
            let Some(planned) = assignment.planned.take() else { continue };
            assignment.accepts = None;
            assignment.running = Some(Running { logged: planned.logged, sent: planned.offset });
            let (published, done, clock) =
                (planned.published.into(), planned.offset.into(), planned.clock.into());
            session.held.start(partition.into(), HeldPartition { epoch: CURRENT, published, done, clock });
            if broken == Some(Break::TakeLate)
                && let Some(follower) = &mut session.follower
            {
                follower.shares.take(&[partition.into()]);
            }
            state.write(who, |logs| {
                let log = &mut logs[usize::from(partition)];
                let clean = log.clean;
                log.start_partition(planned.gap, Some(planned.published));
                log.clean = clean && broken == Some(Break::CleanForEver);
            });
        }
    }

    /// The instance to fence: the one that committed last, if what it has open keeps the offset of a partition pending that
    /// waits to be started. Where brokers time transactions out, this has no other effect than that, or than `Fault::Fence` on
    /// one that runs, so it is left to these.
    pub fn former_owner(&self, state: &State, who: Who, partition: Partition) -> Option<Who> {
        let topic = state.kafka.partition(partition);
        let former = Who::of(topic.committed?.committed().former_owner(who.uuid())?);
        let is_open = state.kafka.client(former).transaction.is_some();
        // It is fenced in the group's present generation only.
        let is_owner = topic.owner == Some(who) && state.kafka.client(who).is_counted;
        let waits = is_owner && Self::waiting(state, who).contains(&partition);
        (!self.times_out && waits && state.kafka.is_pending(partition) && is_open).then_some(former)
    }
}

//! The model: which steps a state has, and what each of them does.

use processor::LogPartitions;

use super::{
    checker::Model,
    commands::Commands,
    log::Log,
    properties,
    rules::{Break, Rules},
    starting::is_exact,
    state::{Accepted, BOTH, Instance, Limit, Membership, NOT_SYNCED, Process, Session, State, Who},
    steps::{Fault, Step},
};

/// Kinds of states that an exploration must include, beside the limits.
pub const REFUSED: &str = "refused";
pub const GAP: &str = "a gap in a log";
pub const BEHIND: &str = "a log behind what is published";
pub const AHEAD: &str = "a follower ahead of what is published";
pub const UNSYNCED: &str = "what was followed is not on the disk";
pub const WARMING: &str = "a process that is not warm";

pub struct World {
    pub commands: Commands,
    /// How many faults may happen in all.
    pub faults: u8,
    /// Which of them.
    pub may_happen: fn(Fault) -> bool,
    pub rules: Rules,
    /// Whether the instances follow.
    pub partitions: LogPartitions,
}

impl Model for World {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State::new(self.faults)
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if state.limit.is_some() {
            return steps;
        }
        if state.kafka.end < self.commands.count() {
            steps.push(Step::Post);
        }
        for who in BOTH {
            match &state.instances[who.index()].process {
                Process::Up(session) => self.session_steps(state, who, session, &mut steps),
                Process::Warming(_) => {}
                Process::Refused => self.resolving_steps(state, who, &mut steps),
                Process::Down if state.kafka.counted[who.index()] => steps.push(Step::Expire(who)),
                Process::Down if self.has_to_warm(state, who) => steps.push(Step::Warm(who)),
                Process::Down => steps.push(Step::Start(who)),
            }
            self.following_steps(state, who, &mut steps);
            let open = state.kafka.transactions[who.index()];
            if open.is_some() && state.session(who).is_none() {
                steps.push(Step::TimeOut(who));
            }
            if open.is_some_and(|open| open.is_late) {
                steps.push(Step::Arrive(who));
            }
        }
        if state.faults > 0 {
            self.fault_steps(state, &mut steps);
        }
        steps
    }

    fn next(&self, state: &State, step: Step) -> State {
        let (mut next, commands, rules) = (*state, &self.commands, &self.rules);
        match step {
            Step::Post => next.kafka.end += 1,
            Step::Start(who) => next.begin(who, None),
            Step::Resolve(who, accepted) if self.has_to_warm(state, who) => next.warm(who, Some(accepted)),
            Step::Resolve(who, accepted) => next.begin(who, Some(accepted)),
            Step::Warm(who) => next.warm(who, None),
            Step::Join(who) => next.join_warm(who),
            Step::Follow(who) => self.follow(&mut next, who),
            Step::ReadFollowed(who, to) => {
                next.followed_mut(who).as_mut().expect("it follows").read = to;
            }
            Step::AppendFollowed(who) => next.append_followed(who, commands, rules),
            Step::Note(who) => next.note(who),
            Step::StopFollowing(who) => *next.followed_mut(who) = None,
            Step::Assign(who) => {
                // From now on the follower appends nothing.
                let is_late = matches!(rules.broken, Some(Break::AppendTaken | Break::TakeLate));
                next.running(who).followed.take_if(|_| !is_late);
                next.kafka.owner = Some(who);
                next.running(who).is_assigned = true;
                next.next_generation(Some(who));
            }
            Step::Expire(who) => next.remove_member(who),
            Step::TimeOut(who) => next.kafka.transactions[who.index()] = None,
            Step::Learn(who) => next.learn(who, commands, rules),
            Step::Hold(who) => next.hold(who, rules),
            Step::Decide(who, to) => next.decide(who, to),
            Step::Append(who) => next.append(who, commands, rules),
            Step::DropDecided(who) => next.running(who).decided = None,
            Step::DropAppended(who) => next.pass(who, commands),
            Step::Send(who) => next.send(who, commands, rules),
            Step::AddOffset(who) => next.add_offset(who, commands, rules),
            Step::Commit(who) => next.commit(who, commands, rules),
            Step::Recover(who) => next.recover(who),
            Step::Refresh(who) if next.kafka.counted[who.index()] => {
                next.running(who).membership = Membership::Current;
            }
            Step::Refresh(who) => next.join(who),
            Step::Release(who) => next.release(who),
            Step::Lose(who) => {
                next.release(who);
                next.join(who);
            }
            Step::Halt(who) => next.running(who).end_epoch(),
            Step::Arrive(who) => next.kafka.commit(who),
            Step::Copy(who) => next.instances[who.index()].copy = next.instances[who.index()].log,
            Step::Fault(fault) => self.strike(&mut next, fault),
        }
        if next.faults == 0 {
            // They make no difference any more.
            next.instances.iter_mut().for_each(|instance| {
                (instance.synced, instance.copy) = (None, Log::default());
            });
        }
        next
    }

    fn is_progress(&self, step: Step) -> bool {
        step.is_progress()
    }

    fn check(&self, state: &State, is_at_rest: bool) -> Result<(), String> {
        properties::check(state, is_at_rest, self)
    }

    fn sentence(&self, before: &State, step: Step) -> String {
        step.sentence(before)
    }

    fn kind(&self, state: &State) -> Option<&'static str> {
        let refused = |instance: &Instance| instance.process == Process::Refused;
        let has_gap = |instance: &Instance| instance.log.gaps != 0;
        let is_behind = |instance: &Instance| instance.log.logged < state.kafka.published;
        let is_ahead = |who: &Who| {
            state.followed(*who).is_some() && state.instances[who.index()].log.logged > state.kafka.published
        };
        let is_unsynced = |who: &Who| *who != NOT_SYNCED && state.instances[who.index()].synced.is_some();
        let is_warming = |instance: &Instance| matches!(instance.process, Process::Warming(_));
        state
            .limit
            .map(Limit::name)
            .or(state.instances.iter().any(refused).then_some(REFUSED))
            .or(state.instances.iter().any(has_gap).then_some(GAP))
            .or(state.instances.iter().any(is_behind).then_some(BEHIND))
            .or(BOTH.iter().any(is_unsynced).then_some(UNSYNCED))
            .or(BOTH.iter().any(is_ahead).then_some(AHEAD))
            .or(state.instances.iter().any(is_warming).then_some(WARMING))
    }
}

impl World {
    fn session_steps(&self, state: &State, who: Who, session: &Session, steps: &mut Vec<Step>) {
        let is_broken = |broken| self.rules.broken == Some(broken);
        let (kafka, is_counted) = (&state.kafka, state.kafka.counted[who.index()]);
        if kafka.owner.is_none() && is_counted && !session.is_assigned {
            steps.push(Step::Assign(who));
        }
        if !is_counted || (session.is_assigned && kafka.owner != Some(who)) {
            steps.push(Step::Lose(who));
        }
        let can_refresh =
            (is_counted && !is_broken(Break::NeverRefresh)) || is_broken(Break::MembershipFirst);
        if session.membership == Membership::Old && can_refresh {
            steps.push(Step::Refresh(who));
        }
        if session.is_revoking && is_counted {
            steps.push(Step::Release(who));
        }
        if session.is_in_doubt {
            steps.push(Step::Recover(who));
            return;
        }
        match (session.held, session.planned) {
            (None, Some(_)) => steps.push(Step::Hold(who)),
            (None, None) => {
                // The first offset of a partition is committed as a member.
                let may_commit = is_counted || kafka.committed.is_some_and(|found| found.clock.is_some());
                let is_stable = !kafka.is_offset_unstable() || is_broken(Break::UnstableOffset);
                if session.is_assigned && !session.is_revoking && may_commit && is_stable {
                    steps.push(Step::Learn(who));
                }
            }
            (Some(held), _) if held.sent < kafka.start => steps.push(Step::Halt(who)),
            (Some(held), _) => {
                if session.decided.is_none() && !session.is_revoking && held.sent < kafka.end {
                    // One command, or all that are there; a batch ends at `logged`.
                    let logged = if held.sent < held.logged { held.logged } else { kafka.end };
                    let all = kafka.end.min(logged);
                    steps.push(Step::Decide(who, held.sent + 1));
                    steps.extend((all > held.sent + 1).then_some(Step::Decide(who, all)));
                }
            }
        }
        let has_place = session.queued.is_none() && (session.appended.is_some() || session.attempt.is_none());
        if session.decided.is_some() && !state.may_append(who, &self.rules) {
            steps.push(Step::DropDecided(who));
        } else if session.decided.is_some() && has_place {
            steps.push(Step::Append(who));
        }
        match (kafka.transactions[who.index()], session.attempt) {
            (Some(open), Some(_)) if open.has_offset => steps.push(Step::Commit(who)),
            (_, Some(_)) => steps.push(Step::AddOffset(who)),
            (_, None) => {
                let (commands, rules) = (&self.commands, &self.rules);
                if let Some(chunk) = state.publishable(who, commands, rules) {
                    let needs_none = state.transaction(who, &chunk, commands, rules).is_none();
                    let is_member = session.membership == Membership::Current
                        || is_broken(Break::AnyMembership)
                        || is_broken(Break::RetryAtOnce);
                    if needs_none {
                        steps.extend(session.appended.map(|_| Step::DropAppended(who)));
                    } else if is_member {
                        steps.push(Step::Send(who));
                    }
                }
            }
        }
    }

    /// A person who knows what is published starts the process again, if one of the ways out fits exactly.
    fn resolving_steps(&self, state: &State, who: Who, steps: &mut Vec<Step>) {
        if !state.kafka.is_offset_unstable() {
            let fits = |accepted: &Accepted| is_exact(state, who, &self.commands, &self.rules, *accepted);
            let ways = Accepted::ALL.into_iter().filter(fits);
            steps.extend(ways.map(|accepted| Step::Resolve(who, accepted)));
        }
    }
}

//! The model: which steps a state has, and what each of them does.

use super::{
    checker::Model,
    commands::Commands,
    log::Log,
    properties,
    rules::{Break, Rules},
    starting::is_exact,
    state::{Accepted, BOTH, GroupOffset, Instance, Limit, Membership, Process, Session, State, Who},
    steps::{Fault, Step},
};

/// Kinds of states that an exploration must include, beside the limits.
pub const REFUSED: &str = "refused";
pub const GAP: &str = "a gap in a log";
pub const BEHIND: &str = "a log behind what is published";

pub struct World {
    pub commands: Commands,
    /// How many faults may happen in all.
    pub faults: u8,
    /// Which of them.
    pub may_happen: fn(Fault) -> bool,
    pub rules: Rules,
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
                Process::Refused => self.resolving_steps(state, who, &mut steps),
                Process::Down if state.kafka.counted[who.index()] => steps.push(Step::Expire(who)),
                Process::Down => steps.push(Step::Start(who)),
            }
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
            Step::Start(who) => begin(&mut next, who, None),
            Step::Resolve(who, accepted) => begin(&mut next, who, Some(accepted)),
            Step::Assign(who) => {
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
        properties::check(state, is_at_rest, &self.commands)
    }

    fn sentence(&self, before: &State, step: Step) -> String {
        step.sentence(before)
    }

    fn kind(&self, state: &State) -> Option<&'static str> {
        let refused = |instance: &Instance| instance.process == Process::Refused;
        let has_gap = |instance: &Instance| instance.log.gaps != 0;
        let is_behind = |instance: &Instance| instance.log.logged < state.kafka.published;
        state
            .limit
            .map(Limit::name)
            .or(state.instances.iter().any(refused).then_some(REFUSED))
            .or(state.instances.iter().any(has_gap).then_some(GAP))
            .or(state.instances.iter().any(is_behind).then_some(BEHIND))
    }
}

/// The process starts, and its new producer fences the one before.
fn begin(state: &mut State, who: Who, accepts: Option<Accepted>) {
    state.kafka.transactions[who.index()] = None;
    state.instances[who.index()].process = Process::Up(Session::new(accepts));
    state.join(who);
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

    fn fault_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let kafka = &state.kafka;
        let mut faults = Vec::new();
        for who in BOTH {
            let instance = &state.instances[who.index()];
            let Process::Up(session) = &instance.process else {
                if instance.process == Process::Down && instance.copy != instance.log {
                    faults.push(Fault::Restore(who));
                }
                continue;
            };
            faults.extend([Fault::Crash(who), Fault::Stop(who)]);
            faults.extend(instance.synced.map(|_| Fault::PowerLoss(who)));
            if kafka.owner == Some(who) {
                faults.push(Fault::Evict(who));
                if !session.is_revoking && state.session(who.other()).is_some() {
                    faults.push(Fault::HandOver(who));
                }
            }
            if let Some(open) = kafka.transactions[who.index()].filter(|_| !session.is_in_doubt) {
                faults.extend([Fault::Abort(who), Fault::TimeOutEarly(who)]);
                if open.has_offset {
                    faults.extend([Fault::CommitUnnoticed(who), Fault::CommitLate(who)]);
                }
            }
        }
        for offset in 0..=kafka.end {
            if kafka.committed != Some(GroupOffset { offset, clock: None }) {
                faults.push(Fault::CommitAsOther(offset));
            }
        }
        faults.extend(kafka.committed.map(|_| Fault::ForgetOffset));
        let deletes = (kafka.start + 1..=kafka.end).filter(|start| self.may_delete(*start));
        faults.extend(deletes.map(Fault::Delete));
        faults.retain(|fault| (self.may_happen)(*fault));
        steps.extend(self.copying(state));
        steps.extend(faults.into_iter().map(Step::Fault));
    }

    /// Somebody may copy the log of the first instance; one that was never copied can be replaced by an empty one.
    fn copying(&self, state: &State) -> Option<Step> {
        let (who, instance) = (BOTH[0], &state.instances[0]);
        let differs = instance.log.is_known && instance.copy != instance.log;
        ((self.may_happen)(Fault::Restore(who)) && differs).then_some(Step::Copy(who))
    }

    /// Repetitions are recognized among the commands that the topic retains.
    fn may_delete(&self, start: u8) -> bool {
        let is_repeated = |old: u8| (start..self.commands.count()).any(|new| self.commands.repeats(old, new));
        !(0..start).any(is_repeated)
    }

    fn strike(&self, state: &mut State, fault: Fault) {
        state.faults -= 1;
        match fault {
            Fault::HandOver(who) => {
                state.running(who).is_revoking = true;
                state.next_generation(Some(who));
            }
            Fault::Evict(who) => state.remove_member(who),
            Fault::Crash(who) => state.crash(who, &self.rules),
            Fault::PowerLoss(who) => {
                state.crash(who, &self.rules);
                let instance = &mut state.instances[who.index()];
                instance.log = instance.synced.take().expect("a write that is not synced");
            }
            Fault::Stop(who) => state.stop(who, &self.rules),
            Fault::Restore(who) => {
                let instance = &mut state.instances[who.index()];
                (instance.log, instance.synced) = (instance.copy, None);
            }
            Fault::CommitUnnoticed(who) => {
                state.kafka.commit(who);
                state.doubt(who, &self.rules);
            }
            Fault::CommitLate(who) => {
                state.kafka.transactions[who.index()].as_mut().expect("an open transaction").is_late = true;
                state.doubt(who, &self.rules);
            }
            Fault::Abort(who) => {
                state.kafka.transactions[who.index()] = None;
                state.running(who).attempt = None;
            }
            Fault::TimeOutEarly(who) => state.kafka.transactions[who.index()] = None,
            Fault::CommitAsOther(offset) => {
                state.kafka.committed = Some(GroupOffset { offset, clock: None });
                state.is_disturbed = true;
            }
            Fault::ForgetOffset => {
                state.kafka.committed = None;
                state.is_disturbed = true;
            }
            Fault::Delete(start) => {
                state.kafka.start = start;
                state.is_disturbed |= start > state.kafka.published;
            }
        }
    }
}

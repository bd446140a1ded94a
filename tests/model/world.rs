//! The model: which steps a state has, and what each of them does.

use processor::LogPartitions;

use super::{
    checker::Model,
    commands::Commands,
    kinds, properties,
    rules::{Break, Rules},
    starting::Accepted,
    state::{Membership, Process, Session, State, Who},
    steps::{Fault, Step},
};

pub struct World {
    /// Of each partition.
    pub commands: Commands,
    pub partitions: usize,
    pub instances: usize,
    /// The steps with which every schedule begins.
    pub first: &'static [Step],
    /// Whether the instances follow.
    pub log_partitions: LogPartitions,
    /// Whether the brokers abort what a process that has ended left open. If not, only whoever takes over can do it.
    pub times_out: bool,
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
        let start = State::new(self.partitions, self.instances, self.faults);
        self.first.iter().fold(start, |state, step| {
            assert!(self.steps(&state).contains(step), "impossible: {}", step.sentence(&state));
            self.next(&state, *step)
        })
    }

    fn steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        if state.limit.is_some() {
            return steps;
        }
        for partition in state.partitions() {
            if state.kafka.partition(partition).end < self.commands.count() {
                steps.push(Step::Post(partition));
            }
        }
        for who in state.everybody() {
            let client = state.kafka.client(who);
            match &state.instance(who).process {
                Process::Up(session) => self.session_steps(state, who, session, &mut steps),
                Process::Warming(_) => {}
                Process::Refused => self.resolving_steps(state, who, &mut steps),
                Process::Down | Process::Gone if client.is_counted => steps.push(Step::Expire(who)),
                Process::Gone => {}
                Process::Down if self.has_to_warm(state, who) => steps.push(Step::Warm(who)),
                Process::Down => steps.push(Step::Start(who)),
            }
            self.following_steps(state, who, &mut steps);
            if client.transaction.is_some() && self.times_out && state.session(who).is_none() {
                steps.push(Step::TimeOut(who));
            }
            if client.transaction.is_some_and(|open| open.is_late) {
                steps.push(Step::Arrive(who));
            }
        }
        if state.faults > 0 {
            self.fault_steps(state, &mut steps);
        }
        steps
    }

    fn next(&self, state: &State, step: Step) -> State {
        let mut next = state.clone();
        match step {
            Step::Post(partition) => next.kafka.partition_mut(partition).end += 1,
            Step::Start(who) => self.begin(&mut next, who, None),
            Step::Resolve(who, accepted) if self.has_to_warm(state, who) => {
                self.warm(&mut next, who, Some(accepted));
            }
            Step::Resolve(who, accepted) => self.begin(&mut next, who, Some(accepted)),
            Step::Warm(who) => self.warm(&mut next, who, None),
            Step::Join(who) => self.join_warm(&mut next, who),
            Step::Know(who) => next.know(who),
            Step::Change(who) => next.act_on_change(who),
            Step::Follow(who, partition) => self.follow(&mut next, who, partition),
            Step::ReadFollowed(who, partition, to) => next.read_followed(who, partition, to),
            Step::AppendFollowed(who, partition) => self.append_followed(&mut next, who, partition),
            Step::Note(who, partition) => next.note(who, partition),
            Step::StopFollowing(who) => next.restart_follower(who),
            Step::Assign(who, partition) => {
                // From now on the follower appends nothing of it.
                let is_late = self.rules.broken == Some(Break::TakeLate);
                next.take_from_follower(who, partition, is_late);
                next.kafka.partition_mut(partition).owner = Some(who);
                next.running(who).assignment_mut(partition).is_assigned = true;
                next.next_generation(Some(who));
            }
            Step::Expire(who) => next.remove_member(who),
            Step::TimeOut(who) => next.kafka.abort(who),
            Step::Fence(_, _, former) => next.kafka.abort(former),
            Step::Learn(who) => self.learn(&mut next, who),
            Step::Hold(who) => self.hold(&mut next, who),
            Step::Decide(who, ends) => next.decide(who, ends),
            Step::Append(who) => self.append(&mut next, who),
            Step::DropDecided(who) => next.running(who).decided.clear(),
            Step::DropAppended(who) => self.drop_appended(&mut next, who),
            Step::Send(who) => self.send(&mut next, who),
            Step::AddOffsets(who) => self.add_offsets(&mut next, who),
            Step::Commit(who) => self.commit(&mut next, who),
            Step::Recover(who) => next.recover(who),
            Step::Refresh(who) if next.kafka.client(who).is_counted => {
                next.running(who).membership = Membership::Current;
            }
            Step::Refresh(who) => next.join(who),
            Step::Release(who, partition) => next.release(who, &[partition]),
            Step::Lose(who) => {
                let assigned: Vec<_> = next.running(who).assigned(|_| true).collect();
                next.release(who, &assigned);
                next.join(who);
            }
            Step::Halt(who) => next.running(who).restart(),
            Step::Arrive(who) => next.kafka.commit(who),
            Step::Copy(who) => {
                let instance = next.instance_mut(who);
                instance.copy = instance.logs.clone();
            }
            Step::Fault(fault) => self.strike(&mut next, fault),
        }
        if next.faults == 0 {
            next.forget_what_faults_need();
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
        kinds::kind(state)
    }
}

impl World {
    fn session_steps(&self, state: &State, who: Who, session: &Session, steps: &mut Vec<Step>) {
        let is_broken = |broken| self.rules.broken == Some(broken);
        let (kafka, is_counted) = (&state.kafka, state.kafka.client(who).is_counted);
        let is_free = |partition: &u8| kafka.partition(*partition).owner.is_none();
        for partition in state.partitions().filter(is_free) {
            if is_counted && !session.assignment(partition).is_assigned {
                steps.push(Step::Assign(who, partition));
            }
        }
        let is_lost = |partition: u8| kafka.partition(partition).owner != Some(who);
        if !is_counted || session.assigned(|_| true).any(is_lost) {
            steps.push(Step::Lose(who));
        }
        let can_refresh =
            (is_counted && !is_broken(Break::NeverRefresh)) || is_broken(Break::MembershipFirst);
        if session.membership == Membership::Old && can_refresh {
            steps.push(Step::Refresh(who));
        }
        if is_counted {
            let revoked = session.assigned(|assignment| assignment.is_revoking);
            steps.extend(revoked.map(|partition| Step::Release(who, partition)));
        }
        for partition in state.partitions() {
            let former = self.former_owner(state, who, partition);
            steps.extend(former.map(|former| Step::Fence(who, partition, former)));
        }
        if session.is_in_doubt {
            steps.push(Step::Recover(who));
            return;
        }
        if session.assigned(|assignment| assignment.planned.is_some()).next().is_some() {
            steps.push(Step::Hold(who));
        } else if self.can_learn(state, who) {
            steps.push(Step::Learn(who));
        }
        let is_deleted = |partition: u8| {
            let running = session.assignment(partition).running;
            running.is_some_and(|running| running.sent < kafka.partition(partition).start)
        };
        if state.partitions().any(is_deleted) {
            steps.push(Step::Halt(who));
        }
        steps.extend(Self::ends(state, session).into_iter().map(|ends| Step::Decide(who, ends)));
        let has_place =
            session.queued.is_empty() && (!session.appended.is_empty() || session.attempt.is_none());
        if !session.decided.is_empty() && !self.may_append_some(session) {
            steps.push(Step::DropDecided(who));
        } else if !session.decided.is_empty() && has_place {
            steps.push(Step::Append(who));
        }
        self.publishing_steps(state, who, session, steps);
    }

    fn publishing_steps(&self, state: &State, who: Who, session: &Session, steps: &mut Vec<Step>) {
        if session.attempt.is_some() {
            let is_ready = state.kafka.client(who).transaction.is_some_and(|open| open.has_offsets);
            steps.push(if is_ready { Step::Commit(who) } else { Step::AddOffsets(who) });
            return;
        }
        let batch = self.publishable(state, who);
        if batch.is_empty() {
            return;
        }
        let is_member = session.membership == Membership::Current
            || matches!(self.rules.broken, Some(Break::AnyMembership | Break::RetryAtOnce));
        if self.transaction(state, who, &batch).is_none() {
            steps.extend((!session.appended.is_empty()).then_some(Step::DropAppended(who)));
        } else if is_member {
            steps.push(Step::Send(who));
        }
    }

    /// A person who knows what is published starts the process again, if one of the ways out fits exactly.
    fn resolving_steps(&self, state: &State, who: Who, steps: &mut Vec<Step>) {
        if !state.partitions().any(|partition| state.kafka.is_pending(partition)) {
            let ways = Accepted::ALL.into_iter().filter(|accepted| self.is_exact(state, who, *accepted));
            steps.extend(ways.map(|accepted| Step::Resolve(who, accepted)));
        }
    }
}

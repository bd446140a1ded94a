//! Following: what a process does with partitions while others may publish them, as in `processor::follow`.
//! `processor::handover` says what it may append.

use processor::{Accept, Change, LogPartitions, Refusal, Shares, Start, Warmth};

use super::{
    commands::MOST,
    rules::{Break, Rules},
    starting::{Accepted, offset},
    state::{CURRENT, Chunk, Partition, Process, State, Who},
    steps::Step,
    world::World,
};

/// A process joins a group that has members once its log lacks at most this many commands that the group has committed.
const MOST_BEHIND: i64 = 1;

/// A process that is no member of the group yet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warming {
    pub accepts: Option<Accepted>,
    pub follower: Follower,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Follower {
    /// The program's own: what is the session's, and what it may append.
    pub shares: Shares,
    /// By partition.
    pub followed: Vec<Followed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Followed {
    /// The session has the partition, or the topic's partitions are unknown.
    No,
    /// It is to be followed, and has not started.
    Waiting,
    /// The next offset to append, and the next one to read: those in between are decided.
    Up { next: u8, read: u8 },
}

impl Follower {
    pub fn new(partitions: usize) -> Self {
        Self { shares: Shares::default(), followed: vec![Followed::No; partitions] }
    }

    pub fn followed(&self, partition: Partition) -> Followed {
        self.followed[usize::from(partition)]
    }

    fn followed_mut(&mut self, partition: Partition) -> &mut Followed {
        &mut self.followed[usize::from(partition)]
    }

    /// Acts on the next change. Returns whether there was one.
    fn change(&mut self) -> bool {
        match self.shares.next_change() {
            Some(Change::Follow(partition)) => *self.followed_mut(partition as Partition) = Followed::Waiting,
            // It drops what it has read.
            Some(Change::Leave(partition)) => *self.followed_mut(partition as Partition) = Followed::No,
            None => return false,
        }
        true
    }

    /// Acts at once on all changes, unless it has something that is decided and not appended: nothing else depends on when it
    /// does that.
    pub fn act(&mut self) {
        let has_read = |followed: &Followed| matches!(followed, Followed::Up { next, read } if next < read);
        while !self.followed.iter().any(has_read) && self.change() {}
    }

    /// It takes a new client.
    fn restart(&mut self) {
        self.shares.restart();
        self.followed.fill(Followed::No);
        self.act();
    }
}

fn numbers(state: &State) -> Vec<i32> {
    state.partitions().map(i32::from).collect()
}

impl World {
    /// Whether a process that starts now follows before it joins the group.
    pub fn has_to_warm(&self, state: &State, who: Who) -> bool {
        self.log_partitions == LogPartitions::All && state.has_other_members(who)
    }

    pub fn following_steps(&self, state: &State, who: Who, steps: &mut Vec<Step>) {
        if let Process::Warming(_) = &state.instance(who).process {
            let may_join = state.warmth(who).is_enough(MOST_BEHIND);
            if may_join || self.rules.broken == Some(Break::JoinCold) {
                steps.push(Step::Join(who));
            }
        }
        let Some(follower) = state.follower(who) else { return };
        if state.session(who).is_some() && self.has_to_warm(state, who) {
            let mut known = follower.shares.clone();
            known.know(&numbers(state));
            // The group has said that others have the partitions, or will say so.
            steps.extend((known != follower.shares).then_some(Step::Know(who)));
        }
        let has_read = |followed: &Followed| matches!(followed, Followed::Up { next, read } if next < read);
        let is_left = |partition: &Partition| {
            follower.shares.may_append(i32::from(*partition)) && has_read(&follower.followed(*partition))
        };
        // First it appends what it has read, as far as it may.
        if !state.partitions().any(|partition| is_left(&partition)) && follower.clone().change() {
            steps.push(Step::Change(who));
        }
        for partition in state.partitions() {
            self.followed_steps(state, who, follower, partition, steps);
        }
    }

    fn followed_steps(
        &self,
        state: &State,
        who: Who,
        follower: &Follower,
        partition: Partition,
        steps: &mut Vec<Step>,
    ) {
        let topic = state.kafka.partition(partition);
        let may_append = follower.shares.may_append(partition.into());
        match follower.followed(partition) {
            Followed::No => {}
            Followed::Waiting => {
                // Alone, it is assigned the partition sooner or later.
                let may_start = may_append && state.has_other_members(who);
                if may_start && self.plan_following(state, who, partition).is_ok() {
                    steps.push(Step::Follow(who, partition));
                }
            }
            Followed::Up { next, read } => {
                if read > next && (may_append || self.rules.broken == Some(Break::AppendTaken)) {
                    steps.push(Step::AppendFollowed(who, partition));
                }
                if !may_append {
                    return;
                }
                if next < topic.start {
                    steps.push(Step::StopFollowing(who));
                } else if read == next && next < topic.end {
                    steps.push(Step::ReadFollowed(who, partition, next + 1));
                    let all = (topic.end > next + 1).then_some(topic.end);
                    steps.extend(all.map(|all| Step::ReadFollowed(who, partition, all)));
                }
                if topic.marked() > state.log(who, partition).seen {
                    steps.push(Step::Note(who, partition));
                }
            }
        }
    }

    fn plan_following(&self, state: &State, who: Who, partition: Partition) -> Result<Start, Refusal> {
        (self.rules.plan_following)(&self.facts(state, who, partition), Accept::default())
    }

    /// The log records the start. In one step: if the session takes the partition in between, nothing starts.
    pub fn follow(&self, state: &mut State, who: Who, partition: Partition) {
        let published = self.facts(state, who, partition).published_by_group().map(offset);
        let start = self.plan_following(state, who, partition).expect("checked before this step");
        let gap = start.gap.map(|gap| offset(gap.next_offset));
        state.write(who, |logs| logs[usize::from(partition)].start_partition(gap, published));
        let next = offset(start.offset);
        *state.follower_mut(who).followed_mut(partition) = Followed::Up { next, read: next };
    }

    /// Decides the batch that was read, and appends it without waiting for the disk.
    pub fn append_followed(&self, state: &mut State, who: Who, partition: Partition) {
        let (commands, Rules { settle, broken, .. }) = (&self.commands, self.rules);
        let followed = state.follower_mut(who).followed_mut(partition);
        let Followed::Up { next: first, read: next } = *followed else { panic!("it has read nothing") };
        *followed = Followed::Up { next, read: next };
        state.follower_mut(who).act();
        state.write_followed(who, |logs| {
            let log = &mut logs[usize::from(partition)];
            log.append(commands, settle, first, next);
            if broken == Some(Break::SeeFollowed) {
                log.raise_seen(next);
            }
        });
        if broken == Some(Break::PublishFollowed) && state.session(who).is_some() {
            let mut outcomes = [None; MOST];
            let range = usize::from(first)..usize::from(next);
            outcomes[range.clone()].copy_from_slice(&state.log(who, partition).outcomes[range]);
            let chunk = Chunk { partition, epoch: CURRENT, first, next, is_logged: false, outcomes };
            state.running(who).appended = vec![chunk];
        }
    }

    /// The process starts, and stays outside of the group.
    pub fn warm(&self, state: &mut State, who: Who, accepts: Option<Accepted>) {
        let mut follower = Follower::new(state.kafka.partitions.len());
        follower.shares.know(&numbers(state));
        follower.act();
        state.instance_mut(who).process = Process::Warming(Warming { accepts, follower });
    }

    /// A process that was warm enough becomes a member.
    pub fn join_warm(&self, state: &mut State, who: Who) {
        let Process::Warming(Warming { accepts, follower }) = state.instance(who).process.clone() else {
            panic!("only a process that warms joins later");
        };
        let has_members = state.has_other_members(who);
        state.has_joined_cold |= has_members && !state.is_disturbed && state.unlogged(who) > MOST_BEHIND;
        self.begin(state, who, accepts);
        // Alone, it has followed nothing.
        if has_members {
            state.running(who).follower = Some(follower);
        }
    }
}

impl State {
    pub fn follower(&self, who: Who) -> Option<&Follower> {
        match &self.instance(who).process {
            Process::Up(session) => session.follower.as_ref(),
            Process::Warming(warming) => Some(&warming.follower),
            Process::Down | Process::Gone | Process::Refused => None,
        }
    }

    fn follower_mut(&mut self, who: Who) -> &mut Follower {
        match &mut self.instance_mut(who).process {
            Process::Up(session) => session.follower.as_mut().expect("it follows"),
            Process::Warming(warming) => &mut warming.follower,
            Process::Down | Process::Gone | Process::Refused => {
                panic!("a process that does not run follows nothing")
            }
        }
    }

    /// The session has the partition from now on, and knows of the others.
    pub fn take_from_follower(&mut self, who: Who, partition: Partition, is_late: bool) {
        let numbers = numbers(self);
        if let Some(follower) = &mut self.running(who).follower {
            if !is_late {
                follower.shares.take(&[partition.into()]);
            }
            follower.shares.know(&numbers);
            follower.act();
        }
    }

    pub fn know(&mut self, who: Who) {
        let numbers = numbers(self);
        let follower = self.follower_mut(who);
        follower.shares.know(&numbers);
        follower.act();
    }

    pub fn act_on_change(&mut self, who: Who) {
        assert!(self.follower_mut(who).change(), "checked before this step");
    }

    pub fn read_followed(&mut self, who: Who, partition: Partition, to: u8) {
        let Followed::Up { read, .. } = self.follower_mut(who).followed_mut(partition) else {
            panic!("checked before this step");
        };
        *read = to;
    }

    pub fn restart_follower(&mut self, who: Who) {
        self.follower_mut(who).restart();
    }

    /// How many commands the log lacks whose output is published.
    fn unlogged(&self, who: Who) -> i64 {
        let lacks = |partition: Partition| {
            let (topic, log) = (self.kafka.partition(partition), self.log(who, partition));
            (0..topic.published)
                .filter(|offset| log.outcome(*offset).is_none() && !log.is_gap(*offset))
                .count()
        };
        self.partitions().map(lacks).sum::<usize>() as i64
    }

    fn warmth(&self, who: Who) -> Warmth {
        if !self.has_other_members(who) {
            return Warmth::Alone;
        }
        let (mut logged, mut committed) = (0, 0);
        for partition in self.partitions() {
            let of_group = self.kafka.partition(partition).committed.map_or(0, |found| found.offset);
            committed += i64::from(of_group);
            logged += i64::from(self.log(who, partition).logged.min(of_group));
        }
        Warmth::Behind { logged, committed }
    }

    /// Records how far others have published.
    pub fn note(&mut self, who: Who, partition: Partition) {
        let published = self.kafka.partition(partition).marked().expect("checked before this step");
        self.write(who, |logs| logs[usize::from(partition)].raise_seen(published));
    }
}

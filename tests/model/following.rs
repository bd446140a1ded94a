//! Following: what a process does with the partition while another one may publish it, as in `processor::follow` and
//! `processor::handover`.

use processor::{Accept, LogPartitions, Refusal, Start, Warmth};

use super::{
    commands::{Commands, MOST},
    rules::{Break, Rules},
    starting::{facts, offset},
    state::{Accepted, Chunk, Process, State, Who},
    steps::Step,
    world::World,
};

/// A process joins a group that has members once its log lacks at most this many commands that the group has committed.
const MOST_BEHIND: i64 = 1;

/// A process that is no member of the group yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Warming {
    pub accepts: Option<Accepted>,
    pub followed: Option<Followed>,
}

/// The partition while it is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Followed {
    /// The next offset to append.
    pub next: u8,
    /// The next offset to read: those in between are decided.
    pub read: u8,
}

impl World {
    /// Whether a process that starts now follows before it joins the group.
    pub fn has_to_warm(&self, state: &State, who: Who) -> bool {
        self.partitions == LogPartitions::All && state.kafka.counted[who.other().index()]
    }

    pub fn following_steps(&self, state: &State, who: Who, steps: &mut Vec<Step>) {
        let kafka = &state.kafka;
        let is_taken = match &state.instances[who.index()].process {
            Process::Down | Process::Refused => return,
            Process::Up(session) => session.is_assigned,
            Process::Warming(_) => {
                let may_join = state.warmth(who).is_enough(MOST_BEHIND);
                if may_join || self.rules.broken == Some(Break::JoinCold) {
                    steps.push(Step::Join(who));
                }
                false
            }
        };
        let Some(followed) = state.followed(who) else {
            // The group has said that another member has the partition, or will say so.
            if !is_taken && self.has_to_warm(state, who) && self.plan_following(state, who).is_ok() {
                steps.push(Step::Follow(who));
            }
            return;
        };
        let Followed { next, read } = followed;
        if read > next {
            steps.push(Step::AppendFollowed(who));
        } else if is_taken {
            // Only a broken rule leaves something to append here, and nothing more is read.
        } else if next < kafka.start {
            steps.push(Step::StopFollowing(who));
        } else if next < kafka.end {
            steps.push(Step::ReadFollowed(who, next + 1));
            steps.extend((kafka.end > next + 1).then_some(Step::ReadFollowed(who, kafka.end)));
        }
        if !is_taken && kafka.marked() > state.instances[who.index()].log.seen {
            steps.push(Step::Note(who));
        }
    }

    fn plan_following(&self, state: &State, who: Who) -> Result<Start, Refusal> {
        (self.rules.plan_following)(&facts(state, who, &self.commands), Accept::default())
    }

    /// The log records the start. In one step: if the session takes the partition in between, nothing starts.
    pub fn follow(&self, state: &mut State, who: Who) {
        let published = facts(state, who, &self.commands).published_by_group().map(offset);
        let start = self.plan_following(state, who).expect("checked before this step");
        let gap = start.gap.map(|gap| offset(gap.next_offset));
        state.write(who, |log| log.start_partition(gap, published));
        let next = offset(start.offset);
        *state.followed_mut(who) = Some(Followed { next, read: next });
    }
}

impl State {
    pub fn followed(&self, who: Who) -> Option<Followed> {
        match &self.instances[who.index()].process {
            Process::Up(session) => session.followed,
            Process::Warming(warming) => warming.followed,
            Process::Down | Process::Refused => None,
        }
    }

    pub fn followed_mut(&mut self, who: Who) -> &mut Option<Followed> {
        match &mut self.instances[who.index()].process {
            Process::Up(session) => &mut session.followed,
            Process::Warming(warming) => &mut warming.followed,
            Process::Down | Process::Refused => panic!("a process that does not run follows nothing"),
        }
    }

    /// The process starts, and stays outside of the group.
    pub fn warm(&mut self, who: Who, accepts: Option<Accepted>) {
        self.instances[who.index()].process = Process::Warming(Warming { accepts, followed: None });
    }

    fn warmth(&self, who: Who) -> Warmth {
        if !self.kafka.counted[who.other().index()] {
            return Warmth::Alone;
        }
        let committed = self.kafka.committed.map_or(0, |found| found.offset);
        let logged = self.instances[who.index()].log.logged.min(committed);
        Warmth::Behind { logged: logged.into(), committed: committed.into() }
    }

    /// A process that was warm enough becomes a member. Alone, it has nothing to follow.
    pub fn join_warm(&mut self, who: Who) {
        let Process::Warming(Warming { accepts, followed }) = self.instances[who.index()].process else {
            panic!("only a process that warms joins later");
        };
        let has_members = self.kafka.counted[who.other().index()];
        let committed = self.kafka.committed.map_or(0, |found| found.offset);
        let lacks = committed.saturating_sub(self.instances[who.index()].log.logged);
        self.has_joined_cold |= has_members && i64::from(lacks) > MOST_BEHIND;
        self.begin(who, accepts);
        self.running(who).followed = followed.filter(|_| has_members);
    }

    /// Records how far others have published.
    pub fn note(&mut self, who: Who) {
        let published = self.kafka.marked().expect("checked before this step");
        self.write(who, |log| log.raise_seen(published));
    }

    /// Decides the batch that was read, and appends it without waiting for the disk.
    pub fn append_followed(&mut self, who: Who, commands: &Commands, rules: &Rules) {
        let followed = self.followed_mut(who).as_mut().expect("it follows");
        let Followed { next: first, read: next } = *followed;
        followed.next = next;
        self.write_followed(who, |log| {
            log.append(commands, rules.settle, first, next);
            if rules.broken == Some(Break::SeeFollowed) {
                log.raise_seen(next);
            }
        });
        let mut outcomes = [None; MOST];
        let range = usize::from(first)..usize::from(next);
        outcomes[range.clone()].copy_from_slice(&self.instances[who.index()].log.outcomes[range]);
        if let Process::Up(session) = &mut self.instances[who.index()].process
            && rules.broken == Some(Break::PublishFollowed)
        {
            session.appended = Some(Chunk { first, next, is_logged: false, is_current: true, outcomes });
        }
    }
}

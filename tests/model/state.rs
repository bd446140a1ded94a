//! The state of the whole: Kafka, and two instances with their logs. Small values without pointers, since there are many.

use super::{
    commands::{MOST, Outcome},
    following::{Followed, Warming},
    log::Log,
};

/// One of the two instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Who(pub u8);

pub const BOTH: [Who; 2] = [Who(0), Who(1)];

/// The instance whose log is not synced with each append (`log.synchronous = "normal"`). The other's is.
pub const NOT_SYNCED: Who = Who(0);

impl Who {
    pub fn index(self) -> usize {
        self.0.into()
    }

    pub fn other(self) -> Self {
        Self(1 - self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub kafka: Kafka,
    pub instances: [Instance; 2],
    /// The faults that may still happen.
    pub faults: u8,
    /// Somebody moved or lost the group's offset, or deleted undecided commands.
    pub is_disturbed: bool,
    /// A mark replaced an offset without one, or an absent one, below the end of a log, which does not know the clock there.
    pub is_clock_guessed: bool,
    /// A process joined a group that has members, although its log lacked more than it may.
    pub has_joined_cold: bool,
    /// The promises end here, so the model does too.
    pub limit: Option<Limit>,
}

/// Where the promises end, as `docs/guarantees.md` says, or because of what a person accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The group's offset is gone, and a log starts that has seen nothing published.
    NewLogWithoutOffset,
    /// The group's offset is gone, and more was published after this log's clean stop.
    OldCleanStop,
    /// Another program committed just the offset of this log's clean stop, after which more was published.
    ForeignOffsetOfOldCleanStop,
    /// A person accepted a loss, and the facts changed before the start.
    AcceptedTooLate,
}

impl Limit {
    pub const ALL: [Self; 4] = [
        Self::NewLogWithoutOffset,
        Self::OldCleanStop,
        Self::ForeignOffsetOfOldCleanStop,
        Self::AcceptedTooLate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::NewLogWithoutOffset => "limit: a new log, and no offset",
            Self::OldCleanStop => "limit: an old clean stop, and no offset",
            Self::ForeignOffsetOfOldCleanStop => "limit: another program's offset, at an old clean stop",
            Self::AcceptedTooLate => "limit: a loss accepted too late",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kafka {
    /// The first retained command, and the end of the topic.
    pub start: u8,
    pub end: u8,
    /// Which processes the coordinator counts as members.
    pub counted: [bool; 2],
    /// Who has the partition, as the coordinator knows it.
    pub owner: Option<Who>,
    pub committed: Option<GroupOffset>,
    /// The open transaction of each transactional id.
    pub transactions: [Option<Transaction>; 2],
    pub visible: [Visible; MOST],
    /// The highest offset that a transaction of the program committed. Unlike `committed`, nobody else moves it.
    pub published: u8,
}

/// The group's committed offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupOffset {
    pub offset: u8,
    /// The clock in the mark; `None` if another program committed the offset.
    pub clock: Option<u8>,
}

/// The output of a command that a `read_committed` consumer sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Visible {
    pub times: u8,
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Whoever began it held the partition.
    pub is_held: bool,
    pub outputs: [Option<Outcome>; MOST],
    pub offset: u8,
    pub clock: u8,
    /// The broker accepted its offset, and returns no offset of the group until the transaction ends.
    pub has_offset: bool,
    /// The request to commit is on its way.
    pub is_late: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instance {
    pub log: Log,
    /// The log that a power loss restores, if that is another one: without its last write, or without all that was followed
    /// since the last synced write.
    pub synced: Option<Log>,
    pub copy: Log,
    pub process: Process,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Process {
    Down,
    /// It stopped with a message that asks a person.
    Refused,
    /// It follows the partition, and joins the group when it is warm.
    Warming(Warming),
    Up(Session),
}

/// What the group's snapshot says about this process, for the broker to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Membership {
    Current,
    /// Of an earlier generation, or of a member that was removed.
    Old,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub membership: Membership,
    /// It has the partition, as far as it knows.
    pub is_assigned: bool,
    pub is_revoking: bool,
    /// The outcome of its last transaction is unknown.
    pub is_in_doubt: bool,
    /// What a person accepts for the first start of the partition.
    pub accepts: Option<Accepted>,
    pub planned: Option<Planned>,
    pub held: Option<Held>,
    pub followed: Option<Followed>,
    /// A batch that was read, and is to go through the log.
    pub decided: Option<Chunk>,
    /// The batch that is being published, and the one after it.
    pub appended: Option<Chunk>,
    pub queued: Option<Chunk>,
    /// It has begun a transaction for the first of them.
    pub attempt: Option<Membership>,
}

/// What a person accepts. Not `processor::Loss::LostCommands`: that is never without a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accepted {
    Nothing,
    Republish,
    SkipUnpublished,
    GroupOffset,
}

impl Accepted {
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Republish, Self::SkipUnpublished, Self::GroupOffset];
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

/// The partition while it is held, in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// The log's cursor when the partition started.
    pub logged: u8,
    pub published: u8,
    pub clock: u8,
    /// The next offset that is not in a batch yet.
    pub sent: u8,
    /// The next offset that has not been through all stages.
    pub done: u8,
}

/// A batch: consecutive commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    pub first: u8,
    pub next: u8,
    /// It lies below `logged`.
    pub is_logged: bool,
    /// Its epoch has not ended.
    pub is_current: bool,
    /// By offset, once they are decided.
    pub outcomes: [Option<Outcome>; MOST],
}

impl State {
    pub fn new(faults: u8) -> Self {
        let instance =
            Instance { log: Log::default(), synced: None, copy: Log::default(), process: Process::Down };
        let kafka = Kafka {
            start: 0,
            end: 0,
            counted: [false; 2],
            owner: None,
            committed: None,
            transactions: [None; 2],
            visible: [Visible::default(); MOST],
            published: 0,
        };
        Self {
            kafka,
            instances: [instance; 2],
            faults,
            is_disturbed: false,
            is_clock_guessed: false,
            has_joined_cold: false,
            limit: None,
        }
    }

    pub fn session(&self, who: Who) -> Option<&Session> {
        match &self.instances[who.index()].process {
            Process::Up(session) => Some(session),
            Process::Down | Process::Refused | Process::Warming(_) => None,
        }
    }

    /// Changes the log of an instance in one transaction.
    pub fn write(&mut self, who: Who, change: impl FnOnce(&mut Log)) {
        let instance = &mut self.instances[who.index()];
        let before = instance.log;
        change(&mut instance.log);
        if who != NOT_SYNCED {
            instance.synced = None;
        } else if instance.log != before {
            instance.synced = Some(before);
        }
    }

    /// The same, without waiting for the disk.
    pub fn write_followed(&mut self, who: Who, change: impl FnOnce(&mut Log)) {
        let earlier = self.instances[who.index()].synced.filter(|_| who != NOT_SYNCED);
        let before = self.instances[who.index()].log;
        self.write(who, change);
        self.instances[who.index()].synced = earlier.or(Some(before));
    }

    /// Of a process that runs.
    pub fn running(&mut self, who: Who) -> &mut Session {
        match &mut self.instances[who.index()].process {
            Process::Up(session) => session,
            Process::Down | Process::Refused | Process::Warming(_) => {
                panic!("a step of a process that has no session")
            }
        }
    }
}

impl Session {
    pub fn new(accepts: Option<Accepted>) -> Self {
        Self {
            membership: Membership::Current,
            is_assigned: false,
            is_revoking: false,
            is_in_doubt: false,
            accepts,
            planned: None,
            held: None,
            followed: None,
            decided: None,
            appended: None,
            queued: None,
            attempt: None,
        }
    }

    /// Ends the epoch: nothing in flight counts any more.
    pub fn end_epoch(&mut self) {
        (self.held, self.planned) = (None, None);
        for chunk in [&mut self.decided, &mut self.appended, &mut self.queued].into_iter().flatten() {
            chunk.is_current = false;
        }
    }

    /// The batch that was being published is through.
    pub fn finish(&mut self) {
        self.attempt = None;
        self.appended = self.queued.take();
    }

    /// Whether everything that was read has been through all stages.
    pub fn is_drained(&self) -> bool {
        !self.is_in_doubt && self.held.is_none_or(|held| held.done >= held.sent)
    }
}

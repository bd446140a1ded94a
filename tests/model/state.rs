//! The state of the whole: Kafka, and the instances with their logs.

use processor::{Epoch, HeldPartitions};

use super::{
    broker::Kafka,
    commands::{MOST, Outcome},
    fingerprint::Shared,
    following::{Follower, Warming},
    limits::Limit,
    log::Log,
    starting::{Accepted, Planned},
};

/// An instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Who(pub u8);

/// The instance whose log is not synced with each append (`log.synchronous = "normal"`). The others' are.
pub const NOT_SYNCED: Who = Who(0);

impl Who {
    pub fn index(self) -> usize {
        self.0.into()
    }
}

/// The number of a partition.
pub type Partition = u8;

/// The most partitions that a step can name, and the most instances that have names.
pub const MOST_PARTITIONS: usize = 2;
pub const MOST_INSTANCES: usize = 3;

#[derive(Debug, Clone, Hash)]
pub struct State {
    pub kafka: Kafka,
    pub instances: Vec<Shared<Instance>>,
    /// The faults that may still happen.
    pub faults: u8,
    /// Somebody moved or lost an offset of the group, or deleted undecided commands.
    pub is_disturbed: bool,
    /// A mark replaced an offset without one, or an absent one, below the end of a log, which does not know the clock there.
    pub is_clock_guessed: bool,
    /// A process joined a group that has members, although its log lacked more of what is published than it may.
    pub has_joined_cold: bool,
    /// The promises end here, so the model does too.
    pub limit: Option<Limit>,
}

/// What a log has, by partition: one file, which is written, lost and restored as a whole.
pub type Logs = Vec<Log>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instance {
    pub logs: Logs,
    /// What a power loss restores, if that is something else: without the last write, or without all that was followed since
    /// the last synced write.
    pub synced: Option<Logs>,
    pub copy: Logs,
    pub process: Process,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Process {
    Down,
    /// It never starts again.
    Gone,
    /// It stopped with a message that asks a person.
    Refused,
    /// It follows all partitions, and joins the group when it is warm.
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

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    pub membership: Membership,
    /// The outcome of its last transaction is unknown.
    pub is_in_doubt: bool,
    /// By partition.
    pub assignments: Vec<Assignment>,
    /// The program's own: for which partitions it may append and publish.
    pub held: HeldPartitions,
    pub follower: Option<Follower>,
    /// A batch that was read, and is to go through the log.
    pub decided: Batch,
    /// The batch that is being published, and the one after it.
    pub appended: Batch,
    pub queued: Batch,
    /// It has begun a transaction for the first of them.
    pub attempt: Option<Membership>,
}

/// A partition, as far as the process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Assignment {
    pub is_assigned: bool,
    pub is_revoking: bool,
    /// What a person accepts for its first start.
    pub accepts: Option<Accepted>,
    pub planned: Option<Planned>,
    pub running: Option<Running>,
}

/// How far reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Running {
    /// The log's cursor when the partition started.
    pub logged: u8,
    /// The next offset that is not in a batch yet.
    pub sent: u8,
}

/// One chunk at most of each partition. Empty if there is none.
pub type Batch = Vec<Chunk>;

/// The program compares epochs only with each other. So a partition that is held has this one, and whatever is in flight of
/// an earlier epoch has the other. Otherwise there would be states without end.
pub const CURRENT: Epoch = 1;
pub const ENDED: Epoch = 0;

/// Consecutive commands of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chunk {
    pub partition: Partition,
    pub epoch: Epoch,
    pub first: u8,
    pub next: u8,
    /// It lies below `logged`.
    pub is_logged: bool,
    /// By offset, once they are decided.
    pub outcomes: [Option<Outcome>; MOST],
}

impl State {
    pub fn new(partitions: usize, instances: usize, faults: u8) -> Self {
        assert!(partitions <= MOST_PARTITIONS && instances <= MOST_INSTANCES, "{partitions}, {instances}");
        let logs = vec![Log::default(); partitions];
        let instance = Instance { logs: logs.clone(), synced: None, copy: logs, process: Process::Down };
        Self {
            kafka: Kafka::new(partitions, instances),
            instances: vec![Shared::new(instance); instances],
            faults,
            is_disturbed: false,
            is_clock_guessed: false,
            has_joined_cold: false,
            limit: None,
        }
    }

    pub fn everybody(&self) -> impl DoubleEndedIterator<Item = Who> + use<> {
        (0..self.instances.len() as u8).map(Who)
    }

    pub fn others(&self, who: Who) -> impl Iterator<Item = Who> + use<> {
        self.everybody().filter(move |other| *other != who)
    }

    pub fn partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        0..self.kafka.partitions.len() as u8
    }

    pub fn instance(&self, who: Who) -> &Instance {
        &self.instances[who.index()]
    }

    pub fn instance_mut(&mut self, who: Who) -> &mut Instance {
        self.instances[who.index()].own()
    }

    pub fn log(&self, who: Who, partition: Partition) -> &Log {
        &self.instance(who).logs[usize::from(partition)]
    }

    pub fn session(&self, who: Who) -> Option<&Session> {
        match &self.instance(who).process {
            Process::Up(session) => Some(session),
            Process::Down | Process::Gone | Process::Refused | Process::Warming(_) => None,
        }
    }

    /// Of a process that runs.
    pub fn running(&mut self, who: Who) -> &mut Session {
        match &mut self.instance_mut(who).process {
            Process::Up(session) => session,
            Process::Down | Process::Gone | Process::Refused | Process::Warming(_) => {
                panic!("a step of a process that has no session")
            }
        }
    }

    /// Once no fault can happen any more, what only faults use makes no difference.
    pub fn forget_what_faults_need(&mut self) {
        for who in self.everybody() {
            let instance = self.instance(who);
            if instance.synced.is_some() || instance.copy.iter().any(|log| *log != Log::default()) {
                let instance = self.instance_mut(who);
                instance.synced = None;
                instance.copy.fill(Log::default());
            }
        }
    }

    /// Changes a log in one transaction.
    pub fn write(&mut self, who: Who, change: impl FnOnce(&mut Logs)) {
        let instance = self.instance_mut(who);
        let before = instance.logs.clone();
        change(&mut instance.logs);
        if who != NOT_SYNCED {
            instance.synced = None;
        } else if instance.logs != before {
            instance.synced = Some(before);
        }
    }

    /// The same, without waiting for the disk.
    pub fn write_followed(&mut self, who: Who, change: impl FnOnce(&mut Logs)) {
        let earlier = self.instance(who).synced.clone().filter(|_| who != NOT_SYNCED);
        let before = self.instance(who).logs.clone();
        self.write(who, change);
        self.instance_mut(who).synced = earlier.or(Some(before));
    }
}

impl Session {
    pub fn new(partitions: usize, accepts: Option<Accepted>) -> Self {
        let assignment =
            Assignment { is_assigned: false, is_revoking: false, accepts, planned: None, running: None };
        Self {
            membership: Membership::Current,
            is_in_doubt: false,
            assignments: vec![assignment; partitions],
            held: HeldPartitions::default(),
            follower: None,
            decided: Batch::new(),
            appended: Batch::new(),
            queued: Batch::new(),
            attempt: None,
        }
    }

    pub fn assignment(&self, partition: Partition) -> &Assignment {
        &self.assignments[usize::from(partition)]
    }

    pub fn assignment_mut(&mut self, partition: Partition) -> &mut Assignment {
        &mut self.assignments[usize::from(partition)]
    }

    /// The partitions that are assigned, and of which that is true.
    pub fn assigned(&self, is_true: fn(&Assignment) -> bool) -> impl Iterator<Item = Partition> {
        let assigned =
            (0..).zip(&self.assignments).filter(move |(_, found)| found.is_assigned && is_true(found));
        assigned.map(|(partition, _)| partition)
    }

    /// Restarts all partitions from their cursors: nothing in flight counts any more.
    pub fn restart(&mut self) {
        self.held.release_all();
        self.assignments.iter_mut().for_each(Assignment::halt);
        self.rename_epochs();
    }

    /// Gives what is in flight of an epoch that has ended the number of such epochs.
    pub fn rename_epochs(&mut self) {
        let held = &self.held;
        for chunk in [&mut self.decided, &mut self.appended, &mut self.queued].into_iter().flatten() {
            if held.held_in(chunk.partition.into(), chunk.epoch).is_none() {
                chunk.epoch = ENDED;
            }
        }
    }

    /// The batch that was being published is through.
    pub fn finish(&mut self) {
        self.attempt = None;
        self.appended = std::mem::take(&mut self.queued);
    }

    /// Whether everything that was read has been through all stages.
    pub fn is_drained(&self) -> bool {
        let is_done = |(partition, assignment): (i32, &Assignment)| {
            let held = self.held.get(&partition).zip(assignment.running);
            held.is_none_or(|(held, running)| held.done >= running.sent.into())
        };
        !self.is_in_doubt && (0..).zip(&self.assignments).all(is_done)
    }
}

impl Assignment {
    /// It stays assigned, and starts again.
    pub fn halt(&mut self) {
        (self.planned, self.running) = (None, None);
    }

    pub fn release(&mut self) {
        self.halt();
        (self.is_assigned, self.is_revoking) = (false, false);
    }
}

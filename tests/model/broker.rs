//! What Kafka does: the group's generations, and transactions with offsets of the group.

use super::{
    commands::{MOST, Outcome},
    state::{MOST_PARTITIONS, Membership, Partition, Process, State, Who},
};

#[derive(Debug, Clone, Hash)]
pub struct Kafka {
    pub partitions: Vec<TopicPartition>,
    /// By instance.
    pub clients: Vec<Client>,
}

/// A partition of the commands, with its owner and offset in the group, and the output of its commands.
#[derive(Debug, Clone, Copy, Hash)]
pub struct TopicPartition {
    /// The first retained command, and the end.
    pub start: u8,
    pub end: u8,
    /// Who has the partition, as the coordinator knows it.
    pub owner: Option<Who>,
    pub committed: Option<GroupOffset>,
    pub visible: [Visible; MOST],
    /// The highest offset that a transaction of the program committed. Unlike `committed`, nobody else moves it.
    pub published: u8,
}

/// An instance, as the coordinators know it.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Client {
    /// It counts as a member of the group.
    pub is_counted: bool,
    /// What its transactional id has open.
    pub transaction: Option<Transaction>,
}

/// The group's committed offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupOffset {
    pub offset: u8,
    /// `None` if another program committed the offset.
    pub mark: Option<GroupMark>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupMark {
    pub instance: Who,
    pub clock: u8,
}

/// The output of a command that a `read_committed` consumer sees.
#[derive(Debug, Clone, Copy, Hash, Default)]
pub struct Visible {
    pub times: u8,
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Clone, Copy, Hash)]
pub struct Transaction {
    /// By partition, if it has an offset of it.
    pub parts: [Option<Part>; MOST_PARTITIONS],
    /// The broker accepted its offsets, and returns no offset of these partitions until the transaction ends.
    pub has_offsets: bool,
    /// The request to commit is on its way.
    pub is_late: bool,
}

/// What a transaction has of one partition.
#[derive(Debug, Clone, Copy, Hash)]
pub struct Part {
    /// Whoever began it held the partition.
    pub is_held: bool,
    pub outputs: [Option<Outcome>; MOST],
    pub offset: u8,
    pub clock: u8,
}

impl State {
    /// The next generation begins: every membership that a process knows is old, except that of `knows`.
    pub fn next_generation(&mut self, knows: Option<Who>) {
        for who in self.everybody() {
            let Process::Up(session) = &self.instance(who).process else { continue };
            let membership = if knows == Some(who) { Membership::Current } else { Membership::Old };
            let attempt = session.attempt.map(|_| Membership::Old);
            if (membership, attempt) != (session.membership, session.attempt) {
                let session = self.running(who);
                (session.membership, session.attempt) = (membership, attempt);
            }
        }
    }

    /// A process becomes a member, and knows it.
    pub fn join(&mut self, who: Who) {
        self.kafka.client_mut(who).is_counted = true;
        self.next_generation(Some(who));
    }

    /// The coordinator counts the process as a member no more.
    pub fn remove_member(&mut self, who: Who) {
        self.kafka.client_mut(who).is_counted = false;
        for topic in &mut self.kafka.partitions {
            topic.owner.take_if(|owner| *owner == who);
        }
        self.next_generation(None);
    }

    /// Whether the group has another member.
    pub fn has_other_members(&self, who: Who) -> bool {
        self.others(who).any(|other| self.kafka.client(other).is_counted)
    }
}

impl Kafka {
    pub fn new(partitions: usize, instances: usize) -> Self {
        let partition = TopicPartition {
            start: 0,
            end: 0,
            owner: None,
            committed: None,
            visible: [Visible::default(); MOST],
            published: 0,
        };
        let client = Client { is_counted: false, transaction: None };
        Self { partitions: vec![partition; partitions], clients: vec![client; instances] }
    }

    pub fn partition(&self, partition: Partition) -> &TopicPartition {
        &self.partitions[usize::from(partition)]
    }

    pub fn partition_mut(&mut self, partition: Partition) -> &mut TopicPartition {
        &mut self.partitions[usize::from(partition)]
    }

    pub fn client(&self, who: Who) -> &Client {
        &self.clients[who.index()]
    }

    pub fn client_mut(&mut self, who: Who) -> &mut Client {
        &mut self.clients[who.index()]
    }

    /// Whether an open transaction may move the group's offset of the partition, so that the coordinator returns none.
    pub fn is_pending(&self, partition: Partition) -> bool {
        let open = self.clients.iter().filter_map(|client| client.transaction);
        open.filter(|open| open.has_offsets).any(|open| open.parts[usize::from(partition)].is_some())
    }

    /// What is open of the transactional id is aborted, and whoever uses it is fenced.
    pub fn abort(&mut self, who: Who) {
        self.client_mut(who).transaction = None;
    }

    /// Output and offsets become visible at once.
    pub fn commit(&mut self, instance: Who) {
        let transaction = self.client_mut(instance).transaction.take().expect("an open transaction");
        for (topic, part) in self.partitions.iter_mut().zip(transaction.parts) {
            let Some(part) = part else { continue };
            for (visible, outcome) in topic.visible.iter_mut().zip(part.outputs) {
                if outcome.is_some() {
                    visible.times += 1;
                    visible.outcome = outcome;
                }
            }
            topic.published = topic.published.max(part.offset);
            let mark = Some(GroupMark { instance, clock: part.clock });
            topic.committed = Some(GroupOffset { offset: part.offset, mark });
        }
    }
}

impl TopicPartition {
    /// The group's offset, if the program committed it.
    pub fn marked(&self) -> Option<u8> {
        self.committed.filter(|found| found.mark.is_some()).map(|found| found.offset)
    }
}

//! A simulated Kafka: the commands topic, transactional producers, the visible outputs.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use contract::{OutputRecord, Record, ReplyRecord};
use kafka::{
    OutputTopic,
    mark::{Committed, Mark, NextOffset},
};
use uuid::Uuid;

use super::group::{Group, Membership};
use super::replies::ReplyBoard;

/// Shared by every client; all of them are on one thread.
pub type Shared = Rc<RefCell<Cluster>>;

/// What goes wrong at the broker, as the number of cases in 1000 requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// An answer is lost; the request may have been carried out or not.
    pub lost_answer: u32,
    /// A transaction is refused.
    pub refused: u32,
    /// Something happens without a request: a session or a transaction times out, members rejoin.
    pub moves: u32,
    /// Transactions never time out, so every fencing is caused by another producer.
    pub patient: bool,
}

/// A transaction that has not ended.
#[derive(Debug, Default)]
struct Open {
    records: Vec<(OutputTopic, OutputRecord)>,
    replies: Vec<ReplyRecord>,
    offsets: BTreeMap<i32, NextOffset>,
    /// The request to commit is still on its way.
    late_commit: bool,
}

#[derive(Debug, Default)]
struct Producer {
    epoch: u64,
    open: Option<Open>,
}

/// The brokers.
#[derive(Debug)]
pub struct Cluster {
    pub rng: fastrand::Rng,
    /// By offset; `None` is a control record. Entries below `starts` are deleted.
    pub topic: BTreeMap<i32, Vec<Option<Record>>>,
    pub starts: BTreeMap<i32, i64>,
    pub group: Group,
    pub committed: BTreeMap<i32, i64>,
    /// The metadata of the processors' last commits.
    marked: BTreeMap<i32, Mark>,
    /// Partitions whose offset somebody else committed.
    pub foreign: BTreeSet<i32>,
    pub visible: Vec<(OutputTopic, OutputRecord)>,
    pub replies: ReplyBoard,
    producers: BTreeMap<String, Producer>,
    /// Transactions that are decided, but not yet marked in their partitions: the producers, and the partitions whose
    /// offsets they move. An offset that such a marker may move is not returned, and the producer's next transaction has to
    /// wait.
    unmarked: Vec<(String, Vec<i32>)>,
    /// A separate generator for the markers, so that seeds which found something before still find it.
    pub marks: fastrand::Rng,
    pub faults: Faults,
    /// No request is answered.
    pub refusing: bool,
    /// The process that publishes is killed before its transaction ends.
    pub dying: bool,
    /// Clients of the group that lost the brokers permanently: they receive nothing and get no answer.
    pub lost: BTreeSet<u32>,
    /// Partitions that can't be read, as after a batch that no client can uncompress.
    pub stalled: BTreeSet<i32>,
    /// Things that must never happen at the broker, but did.
    pub violation: Option<String>,
    /// The number of earlier topics with the same name; a client that reads one of them gets nothing any more.
    pub topics_before: u32,
    /// How often each event happened; a run must include all of them.
    pub happened: BTreeMap<&'static str, u64>,
    /// Log instances in the order in which they were first seen: their ids are random, but a seed must give one run.
    instances: Vec<Uuid>,
    /// Recorded only to describe a failure.
    pub tracing: bool,
    pub trace: Vec<String>,
}

/// The outcome of a transactional request.
#[derive(Debug)]
pub enum Ended {
    Done,
    Fenced,
    Stale,
    /// Carried out or not: no answer.
    Unknown,
    /// Refused and aborted.
    Aborted,
}

impl Cluster {
    pub fn new(seed: u64, partitions: i32) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            topic: (0..partitions).map(|partition| (partition, Vec::new())).collect(),
            starts: (0..partitions).map(|partition| (partition, 0)).collect(),
            group: Group::new(partitions),
            committed: BTreeMap::new(),
            marked: BTreeMap::new(),
            foreign: BTreeSet::new(),
            visible: Vec::new(),
            replies: ReplyBoard::new(seed),
            producers: BTreeMap::new(),
            unmarked: Vec::new(),
            marks: fastrand::Rng::with_seed(seed.rotate_left(32)),
            faults: Faults::default(),
            refusing: false,
            dying: false,
            lost: BTreeSet::new(),
            stalled: BTreeSet::new(),
            violation: None,
            topics_before: 0,
            happened: BTreeMap::new(),
            instances: Vec::new(),
            tracing: false,
            trace: Vec::new(),
        }
    }

    pub fn note(&mut self, step: impl FnOnce() -> String) {
        if self.tracing {
            self.trace.push(step());
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// Of a log with this instance id.
    pub fn transactional_id(&mut self, instance: Uuid) -> String {
        let known = self.instances.iter().position(|known| *known == instance);
        let number = known.unwrap_or_else(|| {
            self.instances.push(instance);
            self.instances.len() - 1
        });
        format!("t{number}")
    }

    pub fn chance(&mut self, in_thousand: u32) -> bool {
        self.rng.u32(0..1000) < in_thousand
    }

    pub fn end(&self, partition: i32) -> i64 {
        self.topic[&partition].len() as i64
    }

    /// Before each request: what others do at the same time.
    pub fn passes(&mut self) {
        if !self.chance(self.faults.moves) {
            return;
        }
        match self.rng.u32(0..4) {
            0 => self.time_out_transaction(),
            1 => self.time_out_member(),
            2 => {
                self.note(|| "  the group is asked to join again".into());
                self.count("the generation moved on under a running instance");
                self.group.call_to_join();
            }
            _ => self.late_commit(),
        }
        self.group.progress(&mut self.rng);
    }

    pub fn time_out_member(&mut self) {
        let members = self.group.member_ids();
        if let Some(&member) = self.rng.choice(members.iter()) {
            self.note(|| format!("  member {member} is declared dead"));
            self.group.remove(member);
        }
    }

    /// The broker aborts a transaction; its producer learns of it by being fenced.
    pub fn time_out_transaction(&mut self) {
        if self.faults.patient {
            return;
        }
        let open: Vec<String> = self.open_transactions();
        if let Some(id) = self.rng.choice(open.iter()).cloned() {
            self.note(|| format!("  the transaction of {id} times out"));
            self.count("a transaction timed out");
            self.expire(&id);
        }
    }

    pub fn open_transactions(&self) -> Vec<String> {
        self.producers
            .iter()
            .filter(|(_, producer)| producer.open.is_some())
            .map(|(id, _)| id.clone())
            .collect()
    }

    pub fn expire(&mut self, id: &str) {
        let producer = self.producers.get_mut(id).expect("it was listed");
        producer.open = None;
        producer.epoch += 1;
    }

    fn late_commit(&mut self) {
        let late = self.producers.iter().find_map(|(id, producer)| {
            producer.open.as_ref().is_some_and(|open| open.late_commit).then(|| id.clone())
        });
        if let Some(id) = late {
            self.note(|| format!("  the commit of {id} arrives late"));
            self.count("a commit of unknown end took effect later");
            self.end_transaction(&id);
        }
    }

    /// Whether a transaction that is open or not yet marked holds offsets of the partition.
    pub fn is_pending(&mut self, partition: i32) -> bool {
        let unmarked = self.unmarked.iter().any(|(_, partitions)| partitions.contains(&partition));
        if unmarked {
            self.count("an offset was asked for before the transaction that moves it was marked");
            // Not for ever.
            self.unmarked.remove(0);
        }
        unmarked || self.is_open(partition)
    }

    /// Half of the time, the next owner of these partitions aborts what their former owners have left open.
    pub fn abort_pending(&mut self, partitions: &[i32], next_owner: Uuid) {
        if self.faults.patient || self.marks.bool() {
            return;
        }
        for &partition in partitions {
            let committed = self.committed_of(partition).and_then(|found| found.mark);
            let Some(owner) = committed.map(|mark| mark.instance).filter(|owner| *owner != next_owner) else {
                continue;
            };
            // Sometimes for nothing: an instance that runs and is fenced goes on too.
            let is_open = self.is_open(partition);
            if !is_open && self.marks.u32(0..4) > 0 {
                continue;
            }
            let id = self.transactional_id(owner);
            self.note(|| format!("  {id} is fenced, to abort what it has open of partition {partition}"));
            self.count(match is_open {
                true => "the next owner aborted a transaction that was left open",
                false => "the next owner fenced an instance that had nothing open",
            });
            for id in [id.clone(), format!("{id}-2")] {
                self.init_transactions(&id);
            }
            if self.is_open(partition) {
                self.violation.get_or_insert(format!(
                    "partition {partition}: {id} committed last, and another instance has a transaction open"
                ));
            }
        }
    }

    fn is_open(&self, partition: i32) -> bool {
        let holds = |open: &Open| open.offsets.contains_key(&partition);
        self.producers.values().any(|producer| producer.open.as_ref().is_some_and(holds))
    }

    /// The producer waits until its last transaction is marked.
    fn await_marks(&mut self, id: &str) {
        self.unmarked.retain(|(producer, _)| producer != id);
    }

    /// A new epoch: the open transaction of the previous one is aborted, and its producer is fenced.
    pub fn init_transactions(&mut self, id: &str) -> u64 {
        self.await_marks(id);
        let producer = self.producers.entry(id.to_owned()).or_default();
        producer.open = None;
        producer.epoch += 1;
        producer.epoch
    }

    fn producer(&mut self, id: &str, epoch: u64) -> Option<&mut Producer> {
        self.producers.get_mut(id).filter(|producer| producer.epoch == epoch)
    }

    pub fn add_records(&mut self, id: &str, epoch: u64, records: Vec<(OutputTopic, OutputRecord)>) -> Ended {
        self.await_marks(id);
        let Some(producer) = self.producer(id, epoch) else { return Ended::Fenced };
        producer.open.get_or_insert_default().records.extend(records);
        Ended::Done
    }

    pub fn add_reply(&mut self, id: &str, epoch: u64, reply: ReplyRecord) -> Ended {
        let Some(producer) = self.producer(id, epoch) else { return Ended::Fenced };
        producer.open.get_or_insert_default().replies.push(reply);
        Ended::Done
    }

    /// KIP-447: generation and member are checked, ownership is not.
    pub fn add_offsets(
        &mut self,
        id: &str,
        epoch: u64,
        offsets: &[NextOffset],
        member: &Membership,
    ) -> Ended {
        self.await_marks(id);
        if self.producer(id, epoch).is_none() {
            return Ended::Fenced;
        }
        if !self.group.accepts(member) {
            return Ended::Stale;
        }
        let producer = self.producer(id, epoch).expect("checked above");
        let open = producer.open.get_or_insert_default();
        open.offsets.extend(offsets.iter().map(|next| (next.partition, *next)));
        Ended::Done
    }

    pub fn commit(&mut self, id: &str, epoch: u64) -> Ended {
        if self.producer(id, epoch).is_none() {
            return Ended::Fenced;
        }
        self.end_transaction(id);
        Ended::Done
    }

    pub fn commit_later(&mut self, id: &str, epoch: u64) {
        if let Some(open) = self.producer(id, epoch).and_then(|producer| producer.open.as_mut()) {
            open.late_commit = true;
        }
    }

    pub fn abort(&mut self, id: &str, epoch: u64) -> Ended {
        let Some(producer) = self.producer(id, epoch) else { return Ended::Fenced };
        producer.open = None;
        Ended::Done
    }

    fn end_transaction(&mut self, id: &str) {
        let Some(open) = self.producers.get_mut(id).and_then(|producer| producer.open.take()) else { return };
        let outputs = open.records.len();
        let offsets: Vec<_> = open.offsets.values().map(|next| (next.partition, next.offset)).collect();
        self.note(|| format!("  visible: {outputs} outputs, offsets {offsets:?}"));
        self.visible.extend(open.records);
        self.replies.visible.extend(open.replies);
        // Consumers see them in the order in which they were decided, since the later ones come after the earlier ones.
        if self.marks.bool() {
            self.unmarked.push((id.to_owned(), open.offsets.keys().copied().collect()));
        }
        open.offsets.into_values().for_each(|next| self.set_committed(next));
    }

    pub fn set_committed(&mut self, NextOffset { partition, offset, mark }: NextOffset) {
        let before = self.committed.insert(partition, offset);
        self.marked.insert(partition, mark);
        if !self.foreign.remove(&partition) && before.is_some_and(|before| before > offset) {
            self.violation.get_or_insert(format!(
                "partition {partition}: the committed offset went back from {before:?} to {offset}"
            ));
        }
    }

    /// Commits for the group as another program would.
    pub fn commit_as_other(&mut self, partition: i32, offset: i64) {
        self.note(|| format!("  somebody else commits {partition}/{offset}"));
        self.committed.insert(partition, offset);
        self.foreign.insert(partition);
    }

    pub fn committed_of(&self, partition: i32) -> Option<Committed> {
        let mark = self.marked.get(&partition).filter(|_| !self.foreign.contains(&partition));
        self.committed.get(&partition).map(|&offset| Committed { offset, mark: mark.copied() })
    }

    /// The clock of the commands below an offset.
    pub fn clock(&self, partition: i32, offset: i64) -> i64 {
        let records = self.topic[&partition].iter().take(offset as usize).flatten();
        records.fold(0, |clock, record| record.coordinates.advance(clock))
    }

    /// Creates the commands topic again, empty.
    pub fn make_topic_again(&mut self) {
        self.topics_before += 1;
        self.topic.values_mut().for_each(Vec::clear);
        self.starts.values_mut().for_each(|start| *start = 0);
    }

    /// The broker aborts all open transactions.
    pub fn expire_all(&mut self) {
        self.open_transactions().iter().for_each(|id| self.expire(id));
    }

    /// Whether every partition is committed up to its end.
    pub fn is_published(&self) -> bool {
        self.topic.iter().all(|(partition, records)| {
            let committed = self.committed.get(partition).copied();
            committed.unwrap_or(0) == records.len() as i64
        })
    }

    /// Deletes the oldest records, but only committed ones.
    pub fn delete_old(&mut self) {
        let partition = self.rng.i32(0..self.topic.len() as i32);
        let start = self.starts[&partition];
        let committed = self.committed.get(&partition).copied().unwrap_or(0);
        if committed > start {
            let to = self.rng.i64(start + 1..=committed);
            self.note(|| format!("retention: partition {partition} begins at {to}"));
            self.count("retention deleted published commands");
            self.starts.insert(partition, to);
        }
    }
}

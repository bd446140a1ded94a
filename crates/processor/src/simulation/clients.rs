//! The simulated Kafka as the processor sees it: [`Source`] and [`Sink`].

use std::{
    cell::RefCell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use contract::{OutputRef, Record, ReplyRecord};
use kafka::{
    Answer, Bounds, EndOffsets, Ends, OutputTopic, Polled, PublishError, Sink, Source, SourceError,
    liveness::Probe,
    mark::{Committed, NextOffset},
    replies::ReplyCounts,
};
use uuid::Uuid;

use super::{
    LOSS, Mutation,
    cluster::{Cluster, Ended, Shared},
    group::Membership,
    marker,
    replies::Replies,
};

/// Where a follower reads.
#[derive(Debug, Clone)]
pub struct Brokers {
    pub cluster: Shared,
    pub mutation: Option<Mutation>,
}

/// A member of the group, or a follower outside of it.
#[derive(Debug)]
pub struct SimulatedSource {
    cluster: Shared,
    pub number: u32,
    /// Of the log.
    instance: Uuid,
    is_follower: bool,
    positions: BTreeMap<i32, i64>,
    /// Which of the topics with this name it reads.
    topic: u32,
    mutation: Option<Mutation>,
}

impl SimulatedSource {
    pub fn join(cluster: &Shared, instance: Uuid, mutation: Option<Mutation>) -> Self {
        let number = cluster.borrow_mut().group.join();
        let topic = cluster.borrow().topics_before;
        Self {
            cluster: cluster.clone(),
            number,
            instance,
            is_follower: false,
            positions: BTreeMap::new(),
            topic,
            mutation,
        }
    }

    /// A request to the brokers, which may get no answer.
    fn ask<T>(&self, ask: impl FnOnce(&mut Cluster) -> Option<T>) -> Result<T, SourceError> {
        let mut cluster = self.cluster.borrow_mut();
        cluster.passes();
        let lost = cluster.faults.lost_answer;
        if cluster.refusing || cluster.lost.contains(&self.number) || cluster.chance(lost) {
            return Err(SourceError::Retriable("no answer".into()));
        }
        let answer = ask(&mut cluster).ok_or_else(|| SourceError::Retriable("not now".into()));
        if cluster.chance(lost) { Err(SourceError::Retriable("the answer was lost".into())) } else { answer }
    }
}

impl Source for SimulatedSource {
    type Membership = Membership;
    type Brokers = Brokers;

    fn follower(Brokers { cluster, mutation }: &Brokers) -> Result<Self, SourceError> {
        let topic = cluster.borrow().topics_before;
        // No member has the number 0.
        let (cluster, mutation, positions) = (cluster.clone(), *mutation, BTreeMap::new());
        let instance = Uuid::nil();
        Ok(Self { cluster, number: 0, instance, is_follower: true, positions, topic, mutation })
    }

    fn partitions(&mut self) -> Result<Vec<i32>, SourceError> {
        self.ask(|cluster| Some(cluster.topic.keys().copied().collect()))
    }

    fn has_other_members(&mut self) -> Result<bool, SourceError> {
        self.ask(|cluster| Some(!cluster.group.member_ids().is_empty()))
    }

    fn poll(&mut self, _: Duration) -> Result<Polled, SourceError> {
        let mut cluster = self.cluster.borrow_mut();
        cluster.passes();
        if cluster.refusing || cluster.lost.contains(&self.number) {
            return Ok(Polled::Nothing);
        }
        if cluster.topics_before != self.topic {
            return Err(SourceError::Retriable("the topic is gone".into()));
        }
        let cluster = &mut *cluster;
        cluster.group.progress(&mut cluster.rng);
        if let Some(polled) = cluster.group.poll(self.number) {
            let number = self.number;
            cluster.note(|| format!("  client {number} polls {polled:?}"));
            return Ok(polled);
        }
        let is_readable = |partition: &i32| !cluster.stalled.contains(partition);
        let mut started: Vec<i32> = self.positions.keys().copied().filter(is_readable).collect();
        cluster.rng.shuffle(&mut started);
        for partition in started {
            let position = self.positions.get_mut(&partition).expect("listed");
            if *position < cluster.starts[&partition] {
                return Err(SourceError::Retriable(format!(
                    "partition {partition} does not hold {position}"
                )));
            }
            // One control record is skipped per poll, like a fetch that ends at one.
            if let Some(entry) = cluster.topic[&partition].get(*position as usize) {
                *position += 1;
                return Ok(entry.clone().map_or(Polled::Nothing, Polled::Record));
            }
        }
        Ok(Polled::Nothing)
    }

    fn start(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        self.positions.extend(starts.iter().copied());
        Ok(())
    }

    fn halt(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.positions.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.halt(partitions)?;
        self.cluster.borrow_mut().group.release(self.number, partitions);
        Ok(())
    }

    fn positions(&mut self) -> Result<Vec<(i32, i64)>, SourceError> {
        Ok(self.positions.iter().map(|(&partition, &position)| (partition, position)).collect())
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Committed>)>, SourceError> {
        let mark = Some(marker(self.instance).mark(0));
        self.ask(|cluster| {
            let is_pending =
                |cluster: &mut Cluster| partitions.iter().any(|&partition| cluster.is_pending(partition));
            let is_stable = self.is_follower || !is_pending(cluster) || {
                cluster.abort_pending(partitions, self.instance);
                !is_pending(cluster)
            };
            let forgotten =
                (self.mutation == Some(Mutation::SeenIgnored)).then_some(Committed { offset: 0, mark });
            let committed = |&partition| {
                let mut found = cluster.committed_of(partition).or(forgotten);
                if let Some(found) = found.as_mut().filter(|_| self.mutation == Some(Mutation::MarkIgnored)) {
                    found.mark = found.mark.or(mark);
                }
                (partition, found)
            };
            is_stable.then(|| partitions.iter().map(committed).collect())
        })
    }

    fn commit_first(&mut self, next_offsets: &[NextOffset]) -> Result<(), SourceError> {
        let membership = self.membership();
        self.ask(|cluster| {
            membership.filter(|membership| cluster.group.accepts(membership))?;
            next_offsets.iter().for_each(|&next| cluster.set_committed(next));
            Some(())
        })
    }

    fn bounds(&mut self, partition: i32) -> Result<Bounds, SourceError> {
        self.ask(|cluster| Some(Bounds { start: cluster.starts[&partition], end: cluster.end(partition) }))
    }

    fn ends(&mut self, partitions: &[i32]) -> Option<Ends> {
        // Draws no random number, so that seeds which found something before still find it.
        let cluster = self.cluster.borrow();
        if cluster.refusing || cluster.lost.contains(&self.number) || cluster.topics_before != self.topic {
            return None;
        }
        // No producer posts in a transaction here.
        let end = |partition| EndOffsets::all_stable(cluster.end(partition));
        let offsets = partitions.iter().map(|&partition| (partition, end(partition))).collect();
        Some(Ends { offsets, partitions: Some(cluster.topic.keys().copied().collect()), ..Ends::default() })
    }

    fn take_error(&mut self) -> Option<String> {
        None
    }

    fn records_at(&mut self, offsets: &[(i32, i64)]) -> Result<Vec<Answer<Option<Record>>>, SourceError> {
        self.ask(|cluster| {
            let retained = |partition: &i32, offset: &i64| *offset >= cluster.starts[partition];
            let record = |(partition, offset): &(i32, i64)| {
                retained(partition, offset)
                    .then(|| cluster.topic[partition].get(*offset as usize)?.clone())?
            };
            Some(offsets.iter().map(|at| Ok(record(at))).collect())
        })
    }

    fn membership(&mut self) -> Option<Membership> {
        self.cluster.borrow().group.membership(self.number)
    }

    fn probe(&mut self, _: Instant) -> Option<Probe> {
        let mut cluster = self.cluster.borrow_mut();
        Some(if cluster.refusing {
            Probe::Unreachable("no answer".into())
        } else if cluster.lost.contains(&self.number) && self.mutation != Some(Mutation::LostForEver) {
            cluster.count(LOSS);
            Probe::ClientStuck
        } else {
            Probe::Reached
        })
    }
}

/// Two transactional producers that take turns.
#[derive(Debug)]
pub struct SimulatedSink {
    cluster: Shared,
    ids: [String; 2],
    epochs: Option<[u64; 2]>,
    turn: usize,
    mutation: Option<Mutation>,
    replies: Replies,
    /// The offsets of the last request to commit.
    pub asked: RefCell<Vec<(i32, i64)>>,
}

impl SimulatedSink {
    pub fn new(cluster: &Shared, id: String, mutation: Option<Mutation>) -> Self {
        let (replies, asked) = (Replies::default(), RefCell::default());
        let ids = [id.clone(), format!("{id}-2")];
        Self { cluster: cluster.clone(), ids, epochs: None, turn: 0, mutation, replies, asked }
    }

    fn epoch(&self) -> Result<u64, PublishError> {
        let epochs = self.epochs.ok_or_else(|| PublishError::Unknown("there is no producer".into()))?;
        Ok(epochs[self.turn])
    }

    fn id(&self) -> &str {
        &self.ids[self.turn]
    }

    /// The steps of a commit, each of which can go wrong in its own way.
    fn try_commit(&self, offsets: &[NextOffset], membership: &Membership) -> Result<Ended, PublishError> {
        let epoch = self.epoch()?;
        let mut cluster = self.cluster.borrow_mut();
        cluster.passes();
        let (lost, refused) = (cluster.faults.lost_answer, cluster.faults.refused);
        if cluster.refusing || cluster.chance(lost) {
            return Ok(Ended::Unknown);
        }
        match cluster.add_offsets(self.id(), epoch, offsets, membership) {
            Ended::Done => {}
            other => return Ok(other),
        }
        if cluster.dying {
            cluster.count("an instance was killed in the middle of a transaction");
            return Ok(Ended::Unknown);
        }
        if cluster.chance(lost) {
            return Ok(Ended::Unknown);
        }
        if self.replies.is_doomed() {
            cluster.count("a reply was refused with its transaction");
            return Ok(Ended::Aborted);
        }
        if cluster.chance(refused) {
            return Ok(Ended::Aborted);
        }
        cluster.passes();
        if cluster.chance(lost) {
            cluster.commit_later(self.id(), epoch);
            cluster.count("a commit with unknown outcome had no effect");
            return Ok(Ended::Unknown);
        }
        let ended = cluster.commit(self.id(), epoch);
        if cluster.chance(lost) {
            cluster.count("a commit with unknown outcome had its effect");
            return Ok(Ended::Unknown);
        }
        Ok(ended)
    }
}

fn outcome(ended: &Ended) -> Result<(), PublishError> {
    match ended {
        Ended::Done => Ok(()),
        Ended::Fenced => Err(PublishError::Fenced("a newer epoch".into())),
        Ended::Stale => Err(PublishError::StaleMembership("another generation".into())),
        Ended::Unknown => Err(PublishError::Unknown("no answer".into())),
        Ended::Aborted => Err(PublishError::Aborted("refused".into())),
    }
}

impl Sink for SimulatedSink {
    type Membership = Membership;

    fn reset(&mut self) -> Result<(), PublishError> {
        let before = self.epochs.take();
        let mut cluster = self.cluster.borrow_mut();
        cluster.passes();
        let lost = cluster.faults.lost_answer;
        if cluster.refusing || cluster.dying || cluster.chance(lost) {
            return outcome(&Ended::Unknown);
        }
        let [first, second] = &self.ids;
        let first = cluster.init_transactions(first);
        if cluster.marks.u32(0..1000) < lost {
            return outcome(&Ended::Unknown);
        }
        let second = match before {
            Some([_, second]) if self.mutation == Some(Mutation::HalfReset) => second,
            _ => cluster.init_transactions(second),
        };
        if cluster.chance(lost) {
            return outcome(&Ended::Unknown);
        }
        self.epochs = Some([first, second]);
        Ok(())
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        self.replies.begin();
        self.turn = (self.turn + 1) % self.ids.len();
        self.epoch().map(drop)
    }

    fn reply(&mut self, reply: &ReplyRecord) -> Result<(), PublishError> {
        let epoch = self.epoch()?;
        let mut cluster = self.cluster.borrow_mut();
        outcome(&self.replies.send(&mut cluster, &self.ids[self.turn], epoch, reply))
    }

    fn send(&mut self, topic: OutputTopic, record: OutputRef<'_>) -> Result<(), PublishError> {
        let epoch = self.epoch()?;
        let mut cluster = self.cluster.borrow_mut();
        let lost = cluster.faults.lost_answer;
        let ended = cluster.add_records(self.id(), epoch, vec![(topic, record.to_record())]);
        if cluster.chance(lost / 4) { outcome(&Ended::Unknown) } else { outcome(&ended) }
    }

    fn commit(
        &mut self,
        offsets: &[NextOffset],
        membership: &Membership,
    ) -> Result<ReplyCounts, PublishError> {
        self.asked.replace(offsets.iter().map(|next| (next.partition, next.offset)).collect());
        let mut ended = self.try_commit(offsets, membership)?;
        if matches!(ended, Ended::Stale | Ended::Aborted) && self.abort().is_err() {
            ended = Ended::Unknown;
        }
        let id = self.id();
        let asked = self.asked.borrow().clone();
        self.cluster.borrow_mut().note(|| format!("  {id} commits {asked:?} as {membership:?}: {ended:?}"));
        let retries = self.mutation == Some(Mutation::RetryUnknown) && matches!(ended, Ended::Unknown);
        if retries && (0..9).any(|_| self.reset().is_ok()) {
            ended = Ended::Aborted;
        }
        outcome(&ended).map(|()| self.replies.take())
    }

    fn abort(&mut self) -> Result<(), PublishError> {
        let epoch = self.epoch()?;
        let mut cluster = self.cluster.borrow_mut();
        let refused = cluster.faults.refused;
        if cluster.refusing || cluster.chance(refused) {
            return outcome(&Ended::Unknown);
        }
        outcome(&cluster.abort(self.id(), epoch))
    }
}

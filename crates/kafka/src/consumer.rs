//! The reader of the commands topic, as a member of the group or outside of it.
//!
//! librdkafka's callbacks only note what they have to say (`notes`); the polling thread acts on it.

mod polling;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use contract::Record;
use rdkafka::{
    Offset,
    consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    groups::{GroupInfo, GroupMemberInfo},
};
use uuid::Uuid;

use self::polling::{classify, lacking, poll_past_log_lines};
use super::{
    Answer, Bounds, Ends, Polled, Settings, Source, SourceError, client,
    context::Context,
    ends,
    liveness::{Probe, Query, probe},
    mark::{Committed, NextOffset},
    member::Member,
    native,
    notes::Notes,
    offsets::{self, is_late, marked_list, offset_list, offsets, unknown_list},
    predecessor::{Found, Predecessors},
    reader::Reader,
    records::RecordBuffer,
    refusal::OutputRefusal,
    topic_id,
};

/// How long one question to the brokers may block the polling thread.
const ASK: Duration = Duration::from_secs(2);
/// An answer that takes longer may wait for a transaction that a former owner has left open.
const PROMPT: Duration = Duration::from_millis(300);
/// How long to ask for the offset of one partition after another.
const SINGLY: Duration = Duration::from_secs(1);

/// Reads the commands topic, as a member of the consumer group or outside of it.
pub struct GroupConsumer {
    consumer: Member,
    /// Of a follower: asks for the group's offsets without waiting for open transactions. While others publish, there is
    /// nearly always one.
    offsets_reader: Option<Member>,
    notes: Arc<Notes>,
    settings: Settings,
    topic: String,
    pending: VecDeque<Polled>,
    buffer: RecordBuffer,
    /// What librdkafka fetches: all or some of the assigned partitions.
    started: BTreeSet<i32>,
    probing: Query<Probe>,
    asking_ends: Query<Ends>,
    /// `None`: the end of what others have left open is awaited.
    predecessors: Option<Predecessors>,
    aborting: Query<Found>,
    /// How many offsets were asked for alone.
    asked_singly: usize,
    joined: Instant,
}

impl fmt::Debug for GroupConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupConsumer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The group's view of one member, with a readable generation.
#[derive(Clone)]
pub struct Membership {
    pub metadata: Arc<ConsumerGroupMetadata>,
    pub generation: i32,
    pub member_id: String,
}

impl PartialEq for Membership {
    fn eq(&self, other: &Self) -> bool {
        (self.generation, &self.member_id) == (other.generation, &other.member_id)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in generation {}", self.member_id, self.generation)
    }
}

impl GroupConsumer {
    /// Joins the group.
    pub fn join(settings: &Settings) -> Result<Self, SourceError> {
        let member = Self::make(settings, true)?;
        member
            .consumer
            .subscribe(&[&member.topic])
            .map_err(|error| SourceError::Fatal(format!("can't subscribe to '{}': {error}", member.topic)))?;
        Ok(member)
    }

    /// Aborts transactions that former owners of its partitions have left open. `own` is the instance of this process's log.
    pub fn abort_pending(&mut self, transactional_id_prefix: &str, own: Uuid) {
        self.predecessors = Some(Predecessors::new(&self.settings, transactional_id_prefix, own));
    }

    /// Does not join the group.
    pub fn outside(settings: &Settings) -> Result<Self, SourceError> {
        Self::make(settings, false)
    }

    fn make(settings: &Settings, is_member: bool) -> Result<Self, SourceError> {
        let notes = Notes::of(&settings.topics.commands);
        let properties = if is_member { client::consumer(settings) } else { client::outside(settings) };
        let consumer = topic_id::logging_ids(properties)
            .create_with_context(notes.context(is_member))
            .map_err(|error| SourceError::Fatal(format!("the Kafka consumer can't be made: {error}")))?;
        Ok(Self {
            consumer: Member::new(consumer),
            offsets_reader: None,
            notes,
            settings: settings.clone(),
            topic: settings.topics.commands.clone(),
            pending: VecDeque::new(),
            buffer: RecordBuffer::default(),
            started: BTreeSet::new(),
            probing: Query::default(),
            asking_ends: Query::default(),
            predecessors: None,
            aborting: Query::default(),
            asked_singly: 0,
            joined: Instant::now(),
        })
    }

    #[cfg(test)]
    pub(crate) fn client(&self) -> &BaseConsumer<Context> {
        &self.consumer
    }

    /// Commits offsets through this member, for the at-least-once publisher.
    #[must_use]
    pub fn committer(&self) -> Committer {
        Committer { consumer: Arc::clone(&self.consumer), topic: self.topic.clone() }
    }

    fn unassign(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        // librdkafka refuses a list with a partition that was never started, and accepts an empty list.
        let started: Vec<i32> =
            partitions.iter().copied().filter(|partition| self.started.remove(partition)).collect();
        let list = unknown_list(&self.topic, &started);
        self.consumer.incremental_unassign(&list).map_err(|error| self.retriable("unassign", &error))?;
        self.notes.assigned().is_revoking = false;
        Ok(())
    }

    fn ask_committed(
        &self,
        partitions: &[i32],
        within: Duration,
    ) -> KafkaResult<Vec<(i32, Option<Committed>)>> {
        let asker = self.offsets_reader.as_ref().unwrap_or(&self.consumer);
        offsets::committed(asker, &self.topic, partitions, within)
    }

    /// A pending offset holds back the answer about all that are asked for with it, so each is asked for alone, as far as there
    /// is time. The next call goes on with those for which there was none.
    fn ask_committed_singly(&mut self, partitions: &[i32]) -> KafkaResult<Vec<(i32, Option<Committed>)>> {
        let deadline = Instant::now() + SINGLY;
        let mut order = partitions.to_vec();
        order.rotate_left(self.asked_singly % partitions.len());
        let mut known = Vec::new();
        for partition in order.into_iter().take_while(|_| Instant::now() < deadline) {
            self.asked_singly += 1;
            match self.ask_committed(&[partition], PROMPT) {
                Err(error) if !is_late(&error) => return Err(error),
                asked => known.extend(asked.into_iter().flatten()),
            }
        }
        Ok(known)
    }

    /// Begins to abort what keeps the offsets of these partitions pending, unless that is under way.
    fn begin_to_abort(&mut self, partitions: &[i32]) {
        // One that may have lost the partitions must not disturb their next owner.
        let Some(Membership { generation, member_id, .. }) =
            self.membership().filter(|_| self.notes.rebalances().is_empty())
        else {
            return;
        };
        let Some(predecessors) = &mut self.predecessors else { return };
        let generation = (generation, member_id);
        let abort = |predecessors: Predecessors| {
            let (member, partitions) = (Arc::clone(&self.consumer), partitions.to_vec());
            let generation = generation.clone();
            move || predecessors.abort(&member, &generation, &partitions)
        };
        // If an earlier attempt has ended, another one begins.
        if let Some(ended) = self.aborting.poll(self.joined, abort(predecessors.clone())) {
            predecessors.set_aborted(ended.unwrap_or_default());
            self.aborting.poll(self.joined, abort(predecessors.clone()));
        }
    }

    /// Whether the brokers say that this user may not use the group. A question about its offsets only times out then.
    fn is_denied(&self) -> bool {
        let asker = self.offsets_reader.as_ref().unwrap_or(&self.consumer);
        // Each poll serves an error or a line of the log.
        for _ in 0..native::waiting(asker.client()) {
            asker.poll(Duration::ZERO);
        }
        self.notes.is_denied.load(Ordering::SeqCst)
    }

    fn may_have_others(&self, group: &GroupInfo) -> bool {
        // The brokers name the members of a group of the new protocol (KIP-848) only in answer to another question, and none
        // at all if they don't know them now.
        let are_unlisted = matches!(group.state(), "Dead" | "");
        let own = self.settings.properties.get("group.instance.id");
        // The brokers make a static member's id of its `group.instance.id`, a hyphen and a UUID.
        let is_own = |member: &GroupMemberInfo| {
            own.and_then(|own| member.id().strip_prefix(own.as_str())).is_some_and(|rest| rest.len() == 37)
        };
        are_unlisted || group.members().iter().any(|member| !is_own(member))
    }

    fn retriable(&self, what: &str, error: &KafkaError) -> SourceError {
        let lacking = lacking(&self.settings, error);
        SourceError::Retriable(lacking.unwrap_or_else(|| format!("{what}: {error}")))
    }
}

impl Source for GroupConsumer {
    type Membership = Membership;
    type Brokers = Settings;

    fn follower(settings: &Settings) -> Result<Self, SourceError> {
        let mut follower = Self::outside(settings)?;
        let mut properties = client::outside(settings);
        properties.set("isolation.level", "read_uncommitted");
        let offsets_reader = properties
            .create_with_context(follower.notes.context(false))
            .map_err(|error| SourceError::Fatal(format!("the Kafka consumer can't be made: {error}")))?;
        follower.offsets_reader = Some(Member::new(offsets_reader));
        Ok(follower)
    }

    fn partitions(&mut self) -> Result<Vec<i32>, SourceError> {
        let what = format!("the partitions of '{}'", self.topic);
        match ends::partitions(&self.consumer, &self.topic, ASK) {
            Ok(none) if none.is_empty() => Err(SourceError::Retriable(format!("{what}: there are none"))),
            found => found.map_err(|error| self.retriable(&what, &error)),
        }
    }

    fn has_other_members(&mut self) -> Result<bool, SourceError> {
        let name = &self.settings.group;
        // Not `DescribeConsumerGroups`: librdkafka aborts the process if that times out and is answered later (issue 4605).
        let listed = match self.consumer.client().fetch_group_list(Some(name), ASK) {
            Ok(listed) => listed,
            Err(error) => {
                // The embedded broker does not say it, and joining reports a missing right. All brokers are asked, and of one
                // that does not answer nothing is known.
                let is_refused = matches!(
                    error.rdkafka_error_code(),
                    Some(RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::GroupAuthorizationFailed)
                );
                return Ok(!is_refused);
            }
        };
        if let Some(group) = listed.groups().iter().find(|group| group.name() == name) {
            return Ok(self.may_have_others(group));
        }
        // A new group, or its coordinator does not answer now, or the brokers may not say it.
        let partitions = self.partitions()?;
        match self.committed(&partitions) {
            Ok(committed) => Ok(committed.iter().any(|(_, found)| found.is_some())),
            Err(_) if self.is_denied() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled, SourceError> {
        if let Some(noted) = self.pending.pop_front() {
            return Ok(noted);
        }
        let consumer = Arc::clone(&self.consumer);
        let polled = poll_past_log_lines(&consumer, &self.notes, timeout);
        // Before the record: its partition may be lost.
        self.pending.append(&mut self.notes.rebalances());
        // After the poll: the log line is queued before librdkafka requests anything of the new topic, so it comes out
        // before every record.
        if self.notes.topic_id.has_changed() {
            return Err(SourceError::Retriable(format!(
                "the brokers name another topic '{}' than before, which is compared with the log",
                self.topic
            )));
        }
        let record = match polled {
            None => None,
            Some(Ok(message)) => Some(Polled::Record(self.buffer.record(&message))),
            Some(Err(error)) => {
                self.notes.hear(error.to_string());
                classify(&self.settings, &error)?
            }
        };
        self.pending.extend(record);
        Ok(self.pending.pop_front().unwrap_or(Polled::Nothing))
    }

    fn start(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        let list = offset_list(&self.topic, starts);
        self.consumer.incremental_assign(&list).map_err(|error| self.retriable("assign", &error))?;
        self.started.extend(starts.iter().map(|&(partition, _)| partition));
        Ok(())
    }

    fn halt(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.unassign(partitions)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.unassign(partitions)
    }

    fn positions(&mut self) -> Result<Vec<(i32, i64)>, SourceError> {
        let list = self.consumer.position().map_err(|error| self.retriable("position", &error))?;
        Ok(offsets(&list).into_iter().filter_map(|(partition, offset)| Some((partition, offset?))).collect())
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Option<Committed>)>, SourceError> {
        let what = format!("the committed offsets of the group '{}'", self.settings.group);
        let may_abort = self.predecessors.is_some();
        let mut asked = self.ask_committed(partitions, if may_abort { PROMPT } else { ASK });
        if may_abort && asked.as_ref().is_err_and(is_late) {
            self.begin_to_abort(partitions);
            asked = self.ask_committed(partitions, ASK - PROMPT);
            if asked.as_ref().is_err_and(is_late) {
                let known = self.ask_committed_singly(partitions);
                asked = if known.as_ref().is_ok_and(Vec::is_empty) { asked } else { known };
            }
        }
        let committed = asked.map_err(|error| self.retriable(&what, &error))?;
        if let Some(predecessors) = &mut self.predecessors {
            predecessors.forget(committed.iter().map(|(partition, _)| *partition));
            if committed.len() == partitions.len() {
                // What it aborted has ended.
                self.aborting = Query::default();
            }
        }
        Ok(committed)
    }

    fn commit_first(&mut self, next_offsets: &[NextOffset]) -> Result<(), SourceError> {
        const WHAT: &str = "the group's first offsets";
        self.committer().commit(next_offsets).map_err(|error| {
            match OutputRefusal::of_error(&error, || format!("{WHAT}: {error}")) {
                Some(refusal) => SourceError::Fatal(refusal.to_string()),
                None => self.retriable(WHAT, &error),
            }
        })
    }

    fn bounds(&mut self, partition: i32) -> Result<Bounds, SourceError> {
        let (start, end) = self.consumer.fetch_watermarks(&self.topic, partition, ASK).map_err(|error| {
            let what = format!("the first and last offsets of partition {partition} of '{}'", self.topic);
            self.retriable(&what, &error)
        })?;
        Ok(Bounds { start, end })
    }

    fn ends(&mut self, partitions: &[i32]) -> Option<Ends> {
        let (consumer, settings) = (Arc::clone(&self.consumer), self.settings.clone());
        let partitions = partitions.to_vec();
        let ends =
            self.asking_ends.poll(self.joined, move || ends::ask(&consumer, &partitions, &settings))?;
        Some(ends.unwrap_or_else(Ends::from))
    }

    fn take_error(&mut self) -> Option<String> {
        self.notes.take_error()
    }

    fn records_at(&mut self, wanted: &[(i32, i64)]) -> Result<Vec<Answer<Option<Record>>>, SourceError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut properties = client::reader(&self.settings);
        // Otherwise nothing reports that a partition ends before the offset.
        properties.set("enable.partition.eof", "true");
        let mut reader = Reader::with_config(&self.settings, properties)?;
        let from = wanted.iter().map(|&(partition, offset)| (partition, Offset::Offset(offset)));
        // Whatever the reason, the next attempt may succeed, and nothing was read yet.
        reader.start(&self.topic, from).map_err(|error| SourceError::Retriable(error.to_string()))?;
        reader.stop_at(wanted.iter().map(|&(partition, offset)| (partition, offset + 1)));
        let (mut found, mut failed) = (BTreeMap::new(), None);
        let deadline = Instant::now() + ASK;
        while !reader.is_done() && Instant::now() < deadline {
            match reader.poll(Duration::from_millis(50)) {
                Ok(Some(record)) => drop(found.insert(record.coordinates.partition, record)),
                Ok(None) => {}
                // The binding does not name the partition of an error; it is not one whose record arrives.
                Err(error) => failed = Some(error.to_string()),
            }
        }
        let failed = failed.or_else(|| reader.last_error().map(str::to_owned));
        let answers = wanted.iter().map(|&(partition, offset)| match found.remove(&partition) {
            Some(record) => Ok(Some(record)),
            None if reader.has_reached_end(partition) => Ok(None),
            None => Err(failed
                .clone()
                .unwrap_or_else(|| format!("the record at offset {offset} did not arrive in time"))),
        });
        Ok(answers.collect())
    }

    fn membership(&mut self) -> Option<Membership> {
        let consumer = &self.consumer;
        let (generation, member_id) = native::generation(consumer.client())?;
        // In the classic protocol a generation is there before the assignment, which the group's leader makes. In the new
        // protocol they come in one answer, and librdkafka tells nothing of an assignment without partitions.
        let is_assigned = || self.notes.assigned().member_id.as_ref() == Some(&member_id);
        if !client::is_new_protocol(&self.settings) && !is_assigned() {
            return None;
        }
        let metadata = Arc::new(consumer.group_metadata()?);
        // Two calls: the metadata is valid only if the generation was the same before and after.
        let unchanged = native::generation(consumer.client())? == (generation, member_id.clone());
        unchanged.then_some(Membership { metadata, generation, member_id })
    }

    fn probe(&mut self, since: Instant) -> Option<Probe> {
        let (consumer, settings) = (Arc::clone(&self.consumer), self.settings.clone());
        let found =
            self.probing.poll(since, move || probe(&*consumer, &settings, &settings.topics.commands))?;
        Some(found.unwrap_or_else(Probe::Unreachable))
    }
}

impl Drop for GroupConsumer {
    /// Leaves the group, within 3 s.
    fn drop(&mut self) {
        self.notes.closing.store(true, Ordering::SeqCst);
    }
}

/// Commits offsets as the group member, on another thread than the polling one.
#[derive(Clone)]
pub struct Committer {
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
}

impl fmt::Debug for Committer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Committer {
    /// Commits and waits for the broker's answer.
    pub fn commit(&self, next_offsets: &[NextOffset]) -> Result<(), KafkaError> {
        let list = marked_list(&self.topic, next_offsets);
        self.consumer.commit(&list, rdkafka::consumer::CommitMode::Sync)
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Undoes the transactions that former owners of partitions have left open.
//!
//! An instance that is killed or frozen in the middle of a transaction leaves the offsets of its partitions pending. Their
//! next owner has to know them (KIP-447), and the brokers undo the transaction only after its time-out, for which they look
//! every ten seconds. The next owner need not wait: it fences the transactional ids of the instance that committed last,
//! which the offset's mark names, and the brokers undo what those have open before they answer.
//!
//! Nothing is lost by it. The new owner is in a generation of the group in which the former one can add no offsets to a
//! transaction any more, so this one either takes place as a whole before, or not at all.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};
use uuid::Uuid;

use super::{
    Settings, client,
    context::Context,
    mark::Committed,
    native,
    repeats::{self, Origin},
    transactional,
};

/// How long offsets are pending before their transaction is undone: many times as long as one takes, and short beside a
/// member's session. A transaction that another instance has undone is older than this.
pub const PENDING: Duration = Duration::from_millis(500);
/// For what the group has committed, whether more is pending or not.
const ASK: Duration = Duration::from_secs(2);

/// Fences former owners of partitions whose offsets stay pending.
#[derive(Debug, Clone)]
pub(crate) struct Predecessors {
    settings: Settings,
    transactional_id_prefix: String,
    own: Uuid,
    /// The group's offsets from which on something was undone.
    undone: BTreeMap<i32, i64>,
}

impl Predecessors {
    pub fn new(settings: &Settings, transactional_id_prefix: &str, own: Uuid) -> Self {
        let (settings, transactional_id_prefix) = (settings.clone(), transactional_id_prefix.to_owned());
        Self { settings, transactional_id_prefix, own, undone: BTreeMap::new() }
    }

    /// Undoes what keeps the offsets of these partitions pending. Blocks for as long as the brokers take, and logs the
    /// outcome. Returns from which offsets on something was undone.
    pub fn undo(&self, member: &BaseConsumer<Context>, partitions: &[i32]) -> BTreeMap<i32, i64> {
        let mut undone = BTreeMap::new();
        if let Err(reason) = self.try_undo(member, partitions, &mut undone) {
            let text =
                format!("what the former owner of partitions left open can't be undone; waiting: {reason}");
            repeats::warn(Origin::Program, &text);
        }
        undone
    }

    /// The end of a transaction can be lost at the brokers, and no fencing helps against that: it is tried once.
    pub fn set_undone(&mut self, undone: BTreeMap<i32, i64>) {
        self.undone.extend(undone);
    }

    fn try_undo(
        &self,
        member: &BaseConsumer<Context>,
        partitions: &[i32],
        undone: &mut BTreeMap<i32, i64>,
    ) -> Result<(), String> {
        let owners = self.owners(partitions).map_err(|error| error.to_string())?;
        let is_only_one = owners.len() == 1;
        for (instance, committed) in owners {
            let partitions: Vec<i32> = committed.keys().copied().collect();
            let is_open = || member.committed_offsets(self.list(&partitions), PENDING).is_err();
            let is_new =
                committed.iter().any(|(partition, offset)| self.undone.get(partition) != Some(offset));
            // Of several, most have nothing open: they gave their partitions back in order, and run.
            if !is_new || !(is_only_one || is_open()) {
                continue;
            }
            let id = transactional::id(&self.transactional_id_prefix, &self.settings.group, instance);
            transactional::fence(&self.settings, &id).map_err(|error| error.to_string())?;
            tracing::warn!(
                ?partitions,
                %instance,
                "undid a transaction that the former owner of these partitions left open"
            );
            undone.extend(committed);
        }
        Ok(())
    }

    /// The group's offsets that another instance committed last, by instance.
    fn owners(&self, partitions: &[i32]) -> KafkaResult<BTreeMap<Uuid, BTreeMap<i32, i64>>> {
        let mut properties = client::outside(&self.settings);
        // Does not wait for what is pending.
        properties.set("isolation.level", "read_uncommitted");
        let reader: BaseConsumer<Context> = properties.create_with_context(Context::quiet())?;
        let committed = native::committed(&reader.committed_offsets(self.list(partitions), ASK)?);
        let mut owners: BTreeMap<Uuid, BTreeMap<i32, i64>> = BTreeMap::new();
        for (partition, found) in committed {
            if let Some(Committed { offset, mark: Some(mark) }) = found
                && mark.instance != self.own
            {
                owners.entry(mark.instance).or_default().insert(partition, offset);
            }
        }
        Ok(owners)
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition_offset(&self.settings.topics.commands, partition, Offset::Invalid)
                .expect("a well-known name");
        }
        list
    }
}

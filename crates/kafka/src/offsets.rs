//! Lists of partitions with their offsets, and the group's offsets.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
};

use super::{
    context::Context,
    mark::{Committed, NextOffset},
    native,
    refusal::is_timeout,
};

/// The offsets that the group has committed of these partitions, as this client finds them.
pub(crate) fn committed(
    asker: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
    within: Duration,
) -> KafkaResult<Vec<(i32, Option<Committed>)>> {
    let list = whole(asker.committed_offsets(unknown_list(topic, partitions), within)?)?;
    Ok(native::committed(&list))
}

/// Whether there was no answer in time.
pub(crate) fn is_late(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(is_timeout)
}

/// Fails if a partition has an error.
pub(crate) fn whole(list: TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    match list.elements().iter().find_map(|element| element.error().err()) {
        Some(error) => Err(error),
        None => Ok(list),
    }
}

/// Next offsets with their marks, to commit.
#[must_use]
pub(crate) fn marked_list(topic: &str, next_offsets: &[NextOffset]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for NextOffset { partition, offset, mark } in next_offsets {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*offset)).expect("a number");
        element.set_metadata(mark.metadata(*offset));
    }
    list
}

/// Offsets to read from.
#[must_use]
pub(crate) fn offset_list(topic: &str, next_offsets: &[(i32, i64)]) -> TopicPartitionList {
    list(topic, next_offsets.iter().map(|&(partition, offset)| (partition, Offset::Offset(offset))))
}

/// Partitions whose offsets are asked for.
#[must_use]
pub(crate) fn unknown_list(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    list(topic, partitions.iter().map(|&partition| (partition, Offset::Invalid)))
}

fn list(topic: &str, partitions: impl IntoIterator<Item = (i32, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(topic, partition, offset).expect("offsets are numbers or well-known names");
    }
    list
}

pub(crate) fn offsets(list: &TopicPartitionList) -> Vec<(i32, Option<i64>)> {
    let number = |offset| match offset {
        Offset::Offset(number) => Some(number),
        _ => None,
    };
    list.elements().iter().map(|element| (element.partition(), number(element.offset()))).collect()
}

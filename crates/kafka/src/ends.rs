//! Where the partitions of the commands topic end, and which output topics are missing.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{EndOffsets, Ends, Settings, Topics, client, native};

/// For each question, in addition to the delay by a fetch on the same connection. librdkafka closes the connection if a
/// question has no answer in time.
const ASK: Duration = Duration::from_secs(2);

/// Asks each leader once, and for each topic once. A question without an answer does not affect the others.
pub(super) fn ask<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[i32],
    settings: &Settings,
) -> Ends {
    let (topics, within) = (&settings.topics, ASK + client::fetch_wait(settings));
    let mut ends = Ends::default();
    match missing(consumer, topics, within) {
        Ok(missing) => ends.missing = Some(missing),
        Err(error) => ends.error = Some(error.to_string()),
    }
    let leaders = match leaders(consumer, &topics.commands, within) {
        Ok(leaders) => leaders,
        Err(error) => {
            ends.error = Some(error.to_string());
            return ends;
        }
    };
    ends.partitions = Some(leaders.keys().copied().collect());
    let mut led: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for &partition in partitions {
        match leaders.get(&partition).copied().flatten() {
            Some(leader) => led.entry(leader).or_default().push(partition),
            None => ends.error = Some(format!("partition {partition} has no leader")),
        }
    }
    // One after the other: in a joint question librdkafka returns no answer at all if one leader does not answer.
    for (leader, partitions) in led {
        if let Err(error) = ask_leader(consumer, &topics.commands, &partitions, within, &mut ends) {
            ends.error = Some(format!("node {leader}, which leads {partitions:?}: {error}"));
        }
    }
    ends
}

fn ask_leader<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    within: Duration,
    ends: &mut Ends,
) -> Result<(), KafkaError> {
    let mut list = TopicPartitionList::new();
    for &partition in partitions {
        // The list holds times instead of offsets; the end stands for the latest.
        list.add_partition_offset(topic, partition, Offset::End)?;
    }
    for element in consumer.offsets_for_times(list, within)?.elements() {
        let partition = element.partition();
        match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(stable)) => {
                // A `read_committed` consumer gets the last stable offset. The high watermark comes with each fetch.
                let fetched = native::high_watermark(consumer.client(), topic, partition);
                let high_watermark = fetched.map_or(stable, |fetched| fetched.max(stable));
                ends.offsets.push((partition, EndOffsets { stable, high_watermark }));
            }
            (Ok(()), _) => ends.error = Some(format!("the leader of partition {partition} did not say it")),
            (Err(error), _) => ends.error = Some(format!("partition {partition}: {error}")),
        }
    }
    Ok(())
}

/// The partitions of a topic.
pub(super) fn partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    within: Duration,
) -> Result<Vec<i32>, KafkaError> {
    Ok(leaders(consumer, topic, within)?.into_keys().collect())
}

/// The partitions, each with its leader if it has one.
fn leaders<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    within: Duration,
) -> Result<BTreeMap<i32, Option<i32>>, KafkaError> {
    let metadata = consumer.client().fetch_metadata(Some(topic), within)?;
    let topics = metadata.topics().iter().filter(|found| found.name() == topic);
    let partitions = topics.flat_map(|found| found.partitions());
    let leader = |leader: i32| (leader >= 0).then_some(leader);
    Ok(partitions.map(|partition| (partition.id(), leader(partition.leader()))).collect())
}

/// The output topics that do not exist.
fn missing<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &Topics,
    within: Duration,
) -> Result<Vec<String>, KafkaError> {
    let mut missing = Vec::new();
    for topic in [&topics.notifications, &topics.rejections] {
        let metadata = consumer.client().fetch_metadata(Some(topic), within)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let error = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
        if matches!(error, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) {
            missing.push(topic.clone());
        }
    }
    Ok(missing)
}

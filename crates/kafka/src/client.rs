//! From the settings to librdkafka's properties.

use std::time::Duration;

use rdkafka::{config::ClientConfig, consumer::BaseConsumer, error::KafkaError, producer::BaseProducer};

use super::{Settings, connection::not_made, topics::producer_limit};

/// KiB of librdkafka's fetch queue; its own default is 64 MiB per consumer. This holds about 9,000 usual commands, more than
/// arrive between two checks of the queue. librdkafka's overhead is not counted, and doubles the size of a short record.
const FETCH_QUEUE_KIB: u32 = 3 * 1024;
/// How soon librdkafka checks a full fetch queue again. Its own default is a second, for most of which a short queue is
/// empty.
const FETCH_QUEUE_BACKOFF_MS: &str = "10";
/// The size limit of a zstd batch, uncompressed. librdkafka triples its buffer until the batch fits, so the effective limit
/// lies between a third of this and all of it, and a longer batch is refused on every fetch. With librdkafka's own default
/// of 100 MB, a record of 5 kB stopped a partition. This does not limit what a fetch requests: `fetch.max.bytes` does.
const UNPACKED_MAX_BYTES: u64 = 1_000_000_000;
/// Bytes that the protocol adds to the records of a fetch response.
const FRAMING: u64 = 512;
/// After this a crashed instance's partitions are assigned to others, and its transaction is aborted.
const SESSION_TIMEOUT_MS: &str = "10000";
/// How soon added partitions are noticed. librdkafka's own default is five minutes.
const METADATA_REFRESH_MS: &str = "10000";
/// KiB of librdkafka's produce queue; its own default is 1 GiB.
const PRODUCE_QUEUE_KIB: u32 = 64 * 1024;
/// Above every limit of the contract. The broker's own limit decides, and its refusal names the topic.
pub const MESSAGE_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of the publisher's batches, if its topics accept as many; librdkafka's own default. Smaller batches mean more
/// requests for the same records.
pub const BATCH_BYTES: usize = 1_000_000;
/// The same for producers of commands, which do not know the topic's limit.
pub const POST_BATCH_BYTES: usize = 128 * 1024;
/// A frozen instance's open transaction blocks every `read_committed` reader until this time-out aborts it, or whoever takes
/// its partitions over does.
pub const TRANSACTION_TIMEOUT_MS: u32 = 10_000;

/// Properties of any client: where the brokers are, then what the operator set.
fn common(settings: &Settings, role: &str) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .set("client.id", format!("activity-stream-{role}"))
        .set("socket.keepalive.enable", "true")
        .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS)
        .set("reconnect.backoff.max.ms", "1000");
    client
}

fn with_operators(settings: &Settings, mut client: ClientConfig) -> ClientConfig {
    for (property, value) in &settings.properties {
        client.set(property, value);
    }
    // On brokers that allow it, a producer's metadata request would create the topic: a deleted reply topic came back
    // with the brokers' defaults.
    client.set("allow.auto.create.topics", "false");
    client
}

/// What makes a client a member of its group. The first three are the classic protocol's.
const MEMBERSHIP: [&str; 6] = [
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "max.poll.interval.ms",
    "group.instance.id",
    "group.protocol",
];

/// Whether the group's protocol is the new one (KIP-848): the brokers assign the partitions, and decide how long a session is.
pub(crate) fn is_new_protocol(settings: &Settings) -> bool {
    settings.properties.get("group.protocol").is_some_and(|name| name.eq_ignore_ascii_case("consumer"))
}

/// The group member that reads commands.
#[must_use]
pub fn consumer(settings: &Settings) -> ClientConfig {
    let is_classic = !is_new_protocol(settings);
    let mut client = common(settings, "consumer");
    if is_classic {
        client.set("session.timeout.ms", SESSION_TIMEOUT_MS).set("heartbeat.interval.ms", "1000");
    }
    client
        .set("queued.max.messages.kbytes", FETCH_QUEUE_KIB.to_string())
        .set("fetch.wait.max.ms", "100")
        .set("fetch.error.backoff.ms", "100")
        .set("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS);
    let mut client = with_fetch_bytes(with_operators(settings, client));
    // Set last: the guarantee depends on these, so they can't be overridden.
    client
        .set("group.id", &settings.group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error");
    if is_classic {
        // A partition that stays here keeps being processed. The brokers' own assignor of the new protocol does the same.
        client.set("partition.assignment.strategy", "cooperative-sticky");
    }
    client
}

/// A client that reads and asks as the group does, and can't be taken for a member.
#[must_use]
pub(crate) fn outside(settings: &Settings) -> ClientConfig {
    without_membership(consumer(settings))
}

fn without_membership(mut client: ClientConfig) -> ClientConfig {
    for property in MEMBERSHIP {
        client.remove(property);
    }
    client
}

/// Sets the size of a fetch response, unless the operator does, to half of the queue: the next fetch is under way while
/// there are records left to read. librdkafka's own default is the whole queue. It refuses a size below `message.max.bytes`,
/// or one that does not fit into `receive.message.max.bytes`, which also limits the uncompressed size and is therefore far
/// above the size of a fetch, unless the operator lowers it.
fn with_fetch_bytes(mut client: ClientConfig) -> ClientConfig {
    const PROPERTY: &str = "fetch.max.bytes";
    const ROOM: &str = "receive.message.max.bytes";
    let room = client.get(ROOM).and_then(|_| number(&client, ROOM));
    if client.get(PROPERTY).is_none() {
        let (queue_kib, longest) =
            (number(&client, "queued.max.messages.kbytes"), number(&client, "message.max.bytes"));
        // An invalid value is refused when the client is made.
        let (Some(queue_kib), Some(longest)) = (queue_kib, longest) else { return client };
        let fits = room.unwrap_or(UNPACKED_MAX_BYTES).saturating_sub(FRAMING);
        client.set(PROPERTY, (queue_kib * 1024 / 2).min(fits).max(longest).to_string());
    }
    if client.get(ROOM).is_none()
        && let Some(asked) = number(&client, PROPERTY)
    {
        client.set(ROOM, UNPACKED_MAX_BYTES.max(asked + FRAMING).to_string());
    }
    client
}

/// The value of a property: what was set, or librdkafka's default.
fn number(client: &ClientConfig, property: &str) -> Option<u64> {
    let value = client.create_native_config().and_then(|config| config.get(property));
    value.ok().and_then(|value| value.parse().ok())
}

/// A reader outside any group.
#[must_use]
pub fn reader(settings: &Settings) -> ClientConfig {
    let mut client = common(settings, "reader");
    client
        .set("fetch.wait.max.ms", "10")
        .set("queued.max.messages.kbytes", FETCH_QUEUE_KIB.to_string())
        .set("fetch.queue.backoff.ms", FETCH_QUEUE_BACKOFF_MS)
        // Required by librdkafka before it lets a client assign partitions; never joined, never committed to.
        .set("group.id", format!("{}-reader", settings.group));
    let mut client = with_fetch_bytes(without_membership(with_operators(settings, client)));
    client
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error");
    client
}

/// An idempotent producer that keeps order. Its batches have at most `batch_bytes`, or one record: a topic's
/// `max.message.bytes` limits the batch, and librdkafka does not split a refused one (Kafka's Java client does).
#[must_use]
pub fn producer(settings: &Settings, batch_bytes: usize) -> ClientConfig {
    let mut client = common(settings, "producer");
    client
        .set("linger.ms", "0")
        .set("queue.buffering.max.kbytes", PRODUCE_QUEUE_KIB.to_string())
        .set("queue.buffering.max.messages", "100000")
        .set("message.max.bytes", MESSAGE_MAX_BYTES.to_string())
        .set("batch.size", batch_bytes.to_string())
        // As the Java client does, so that both put a key into the same partition.
        .set("partitioner", "murmur2_random");
    let mut client = with_operators(settings, client);
    client.set("enable.idempotence", "true").set("acks", "all");
    client
}

/// Adds what a transactional producer needs.
pub fn transactional<'a>(client: &'a mut ClientConfig, transactional_id: &str) -> &'a mut ClientConfig {
    client
        .set("transactional.id", transactional_id)
        .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
        // librdkafka wants it no longer than the transaction's.
        .set("delivery.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
}

/// Whether librdkafka accepts the operator's properties together with the fixed ones. Asks no broker.
///
/// # Errors
///
/// A sentence that says which property does not fit.
pub fn check_properties(settings: &Settings) -> Result<(), String> {
    // Without an address, the client connects to nothing.
    let settings = Settings { bootstrap_servers: String::new(), ..settings.clone() };
    for name in ["session.timeout.ms", "heartbeat.interval.ms"] {
        if is_new_protocol(&settings) && settings.properties.contains_key(name) {
            return Err(format!(
                "{name} can't be set with group.protocol=consumer: the brokers' group.consumer.{name} applies. Leave it out"
            ));
        }
    }
    let refused = |error: KafkaError| not_made(&settings, &error);
    for consumer in [consumer, reader] {
        let consumer: Result<BaseConsumer, _> = consumer(&settings).create();
        consumer.map_err(refused)?;
    }
    let mut client = producer(&settings, BATCH_BYTES);
    let made: Result<BaseProducer, _> = transactional(&mut client, "check").create();
    made.map(drop).map_err(refused)?;
    // Otherwise the client's own limits would refuse or block the output of a large command, perhaps months later.
    let largest = producer_limit(&settings.topics).unsigned_abs();
    for (property, unit, unit_bytes) in
        [("message.max.bytes", "bytes", 1), ("queue.buffering.max.kbytes", "KiB", 1024)]
    {
        let wanted = largest.div_ceil(unit_bytes);
        if let Some(found) = number(&client, property).filter(|found| *found < wanted) {
            return Err(format!(
                "{property} is {found} {unit}: the largest notification or rejection needs {wanted}. Raise it, or leave it out"
            ));
        }
    }
    Ok(())
}

/// How long a fetch may delay an answer on the same connection.
#[must_use]
pub(crate) fn fetch_wait(settings: &Settings) -> Duration {
    consumer_time(settings, "fetch.wait.max.ms")
}

/// The longest time that a group member may let pass between two polls.
#[must_use]
pub fn poll_interval(settings: &Settings) -> Duration {
    consumer_time(settings, "max.poll.interval.ms")
}

/// The operator's value, the program's, or librdkafka's default.
fn consumer_time(settings: &Settings, milliseconds: &str) -> Duration {
    // Invalid values were refused before: see `check_properties`.
    number(&consumer(settings), milliseconds).map_or(Duration::ZERO, Duration::from_millis)
}

/// Metadata, topics and their settings.
#[must_use]
pub fn admin(settings: &Settings) -> ClientConfig {
    with_operators(settings, common(settings, "admin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_operators_or_the_defaults() {
        let times = |properties: &[(&str, &str)]| {
            let settings = Settings::for_test("nobody.invalid:9092", properties);
            [fetch_wait(&settings), poll_interval(&settings)].map(|time| time.as_millis())
        };
        assert_eq!(times(&[]), [100, 300_000]);
        assert_eq!(
            times(&[("fetch.wait.max.ms", "5000"), ("max.poll.interval.ms", "600000")]),
            [5000, 600_000]
        );
    }

    #[test]
    fn a_fetch_queue_is_short_and_looked_at_often_unless_the_operator_says_otherwise() {
        const KEYS: [&str; 3] = ["queued.max.messages.kbytes", "fetch.max.bytes", "fetch.queue.backoff.ms"];
        let of =
            |client: &ClientConfig| KEYS.map(|key| client.get(key).map(str::to_owned).unwrap_or_default());
        let settings = |properties: &[(&str, &str)]| Settings::for_test("nobody.invalid:9092", properties);
        for client in [consumer, reader] {
            assert_eq!(of(&client(&settings(&[]))), ["3072", "1572864", "10"]);
            let operators = ["65536", "2000000", "200"];
            let properties: Vec<_> = KEYS.into_iter().zip(operators).collect();
            assert_eq!(of(&client(&settings(&properties))), operators);
        }
    }

    #[test]
    fn an_answer_to_a_fetch_is_half_of_the_queue_where_that_is_allowed() {
        let of = |properties: &[(&str, &str)]| {
            let settings = Settings::for_test("nobody.invalid:9092", properties);
            assert_eq!(check_properties(&settings), Ok(()), "{properties:?}");
            [consumer, reader].map(|client| client(&settings).get("fetch.max.bytes").map(str::to_owned))
        };
        let both = |bytes: &str| [Some(bytes.to_owned()), Some(bytes.to_owned())];
        assert_eq!(of(&[]), both("1572864"));
        assert_eq!(of(&[("queued.max.messages.kbytes", "65536")]), both("33554432"));
        // Twice what librdkafka has room for by default.
        assert_eq!(of(&[("queued.max.messages.kbytes", "400000")]), both("204800000"));
        // No less than the longest message, which is a million bytes by default.
        assert_eq!(of(&[("queued.max.messages.kbytes", "1000")]), both("1000000"));
        assert_eq!(of(&[("message.max.bytes", "10000000")]), both("10000000"));
        // As librdkafka reads numbers.
        assert_eq!(of(&[("message.max.bytes", "0x989680")]), both("10000000"));
        assert_eq!(of(&[("receive.message.max.bytes", "1100000")]), both("1099488"));
        assert_eq!(of(&[("fetch.max.bytes", "2000000")]), both("2000000"));
    }

    #[test]
    fn unpacked_batches_may_be_large_and_fetches_stay_small() {
        let of = |properties: &[(&str, &str)]| {
            let settings = Settings::for_test("nobody.invalid:9092", properties);
            assert_eq!(check_properties(&settings), Ok(()), "{properties:?}");
            let [member, reader] = [consumer, reader].map(|client| {
                let client = client(&settings);
                ["receive.message.max.bytes", "fetch.max.bytes"]
                    .map(|property| number(&client, property).expect("a number"))
            });
            assert_eq!(member, reader);
            member
        };
        assert_eq!(of(&[]), [1_000_000_000, 1_572_864]);
        assert_eq!(of(&[("receive.message.max.bytes", "100000000")]), [100_000_000, 1_572_864]);
        assert_eq!(of(&[("queued.max.messages.kbytes", "2097151")]), [1_000_000_000, 999_999_488]);
        // At least what librdkafka requires for this size of a fetch.
        assert_eq!(of(&[("message.max.bytes", "1000000000")]), [1_000_000_512, 1_000_000_000]);
        assert_eq!(of(&[("fetch.max.bytes", "2000000000")]), [2_000_000_512, 2_000_000_000]);
    }

    #[test]
    fn properties_that_do_not_fit_together_are_refused_before_any_broker_is_asked() {
        let checked = |properties: &[(&str, &str)]| {
            check_properties(&Settings::for_test("nobody.invalid:9092", properties))
        };
        assert_eq!(checked(&[]), Ok(()));
        assert_eq!(checked(&[("session.timeout.ms", "1"), ("compression.type", "gzip")]), Ok(()));
        assert_eq!(checked(&[("message.max.bytes", "10000000")]), Ok(()));
        assert_eq!(checked(&[("max.poll.interval.ms", "20000")]), Ok(()));
        assert_eq!(checked(&[("receive.message.max.bytes", "1100000")]), Ok(()));
        for (property, too_small, enough) in
            [("message.max.bytes", "1179659", "1179660"), ("queue.buffering.max.kbytes", "1152", "1153")]
        {
            let reason = checked(&[(property, too_small)]).unwrap_err();
            assert!(reason.starts_with(&format!("{property} is {too_small} ")), "{reason}");
            assert!(reason.contains(&format!("needs {enough}. Raise it")), "{reason}");
            assert_eq!(checked(&[(property, enough)]), Ok(()));
        }
        let reason = checked(&[("max.in.flight.requests.per.connection", "10")]).unwrap_err();
        assert!(reason.contains("max.in.flight"), "{reason}");
        let reason =
            checked(&[("session.timeout.ms", "30000"), ("max.poll.interval.ms", "20000")]).unwrap_err();
        assert!(reason.contains("max.poll.interval.ms"), "{reason}");
    }

    #[test]
    fn the_new_protocol_leaves_sessions_and_assignments_to_the_brokers() {
        let settings = |more: &[(&str, &str)]| {
            let properties = [&[("group.protocol", "Consumer"), ("group.instance.id", "one")], more].concat();
            Settings::for_test("nobody.invalid:9092", &properties)
        };
        let plain = settings(&[("max.poll.interval.ms", "5000")]);
        assert_eq!(check_properties(&plain), Ok(()));
        let set = |client: &ClientConfig| MEMBERSHIP.map(|name| client.get(name).is_some());
        assert_eq!(set(&consumer(&plain)), [false, false, false, true, true, true]);
        for client in [outside(&plain), reader(&plain)] {
            assert_eq!(set(&client), [false; MEMBERSHIP.len()]);
        }
        for name in ["session.timeout.ms", "heartbeat.interval.ms"] {
            let reason = check_properties(&settings(&[(name, "3000")])).unwrap_err();
            let wanted = format!(
                "{name} can't be set with group.protocol=consumer: the brokers' group.consumer.{name}"
            );
            assert!(reason.starts_with(&wanted), "{reason}");
        }
    }

    #[test]
    fn partitions_added_to_a_topic_are_noticed_within_seconds() {
        let refresh = |properties: &[(&str, &str)]| {
            let settings = Settings::for_test("nobody.invalid:9092", properties);
            let clients = [consumer(&settings), reader(&settings), producer(&settings, 1), admin(&settings)];
            clients.map(|client| number(&client, "topic.metadata.refresh.interval.ms").unwrap_or(0))
        };
        assert_eq!(refresh(&[]), [10_000; 4]);
        assert_eq!(refresh(&[("topic.metadata.refresh.interval.ms", "60000")]), [60_000; 4]);
    }
}

//! Replies, each brought to the one that waits for it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use contract::{CORRELATION_ID, Header, REPLY_PARTITION, REPLY_TOPIC, Record};
use kafka::{
    Settings,
    access::Operation,
    client,
    consumer::record_of,
    follow::{failure, is_group_denied, is_lasting},
    member::Member,
    reach::reach,
    repeats::{self, Origin},
    topics::{self, TopicsError},
};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Reply, silence::Silence};

/// For the end of the partition.
const ASK: Duration = Duration::from_secs(10);
/// How soon the reader notices that nobody needs it any more.
const SLICE: Duration = Duration::from_millis(100);

/// A reply, or why it is none.
type Answer = Result<Reply, String>;

/// Where replies are wanted.
#[derive(Debug, Clone)]
pub(super) struct ReplyTo {
    pub topic: String,
    /// `None`: one of those that there are.
    pub partition: Option<i32>,
}

/// Reads one partition of the topic of replies, on a thread of its own, until it is dropped.
pub(super) struct Replies {
    to: Vec<Header>,
    waiting: Arc<Waiting>,
    stop: Arc<AtomicBool>,
}

/// Those who wait, by their correlation ids.
#[derive(Debug, Default)]
struct Waiting(Mutex<Senders>);

#[derive(Debug, Default)]
struct Senders {
    by_id: HashMap<Uuid, oneshot::Sender<Answer>>,
    /// Why nothing is read any more.
    ended: Option<String>,
}

/// One reply that is waited for.
#[derive(Debug)]
pub(super) struct Awaited {
    replies: Arc<Replies>,
    id: Uuid,
    answer: oneshot::Receiver<Answer>,
}

/// The partition, and how far it is read.
struct Reader {
    settings: Settings,
    topic: String,
    partition: i32,
    next_offset: i64,
    consumer: Member<client::Logging>,
}

impl Replies {
    /// Begins at the partition's end as it is now, so whatever is asked for from now on is seen. Blocks.
    pub fn start(settings: &Settings, to: &ReplyTo) -> Result<Self, String> {
        let partition = partition(settings, to)?;
        let consumer = Reader::consumer(settings)?;
        // A number instead of "the end", which would be where it is when the first fetch comes to it.
        let (_, end) = consumer
            .fetch_watermarks(&to.topic, partition, ASK)
            .map_err(|error| format!("reading the topic '{}' failed: {error}", to.topic))?;
        let reader = Reader {
            settings: settings.clone(),
            topic: to.topic.clone(),
            partition,
            next_offset: end,
            consumer,
        };
        reader.assign(&reader.consumer)?;
        let replies = Self {
            to: vec![
                Header::new(REPLY_TOPIC, to.topic.as_str()),
                Header::new(REPLY_PARTITION, partition.to_be_bytes()),
            ],
            waiting: Arc::default(),
            stop: Arc::default(),
        };
        let (waiting, stop) = (Arc::clone(&replies.waiting), Arc::clone(&replies.stop));
        thread::Builder::new()
            .name("replies".into())
            .spawn(move || reader.read(&waiting, &stop))
            .map_err(|error| format!("a thread could not be started: {error}"))?;
        Ok(replies)
    }

    /// To be called before the command is sent, which needs the headers of what is returned.
    pub fn expect(self: &Arc<Self>) -> Awaited {
        let (sender, answer) = oneshot::channel();
        let id = Uuid::new_v4();
        let mut senders = self.waiting.lock();
        if senders.ended.is_none() {
            senders.by_id.insert(id, sender);
        }
        drop(senders);
        Awaited { replies: Arc::clone(self), id, answer }
    }

    /// Whether nothing is read any more.
    pub fn have_ended(&self) -> bool {
        self.waiting.lock().ended.is_some()
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Awaited {
    /// With which a command asks for this reply.
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = self.replies.to.clone();
        headers.push(Header::new(CORRELATION_ID, *self.id.as_bytes()));
        headers
    }

    /// What came for it, or why nothing will.
    pub async fn reply(&mut self) -> Result<Answer, String> {
        (&mut self.answer).await.map_err(|_| {
            let ended = self.replies.waiting.lock().ended.clone();
            ended.unwrap_or_else(|| "the thread that reads them failed".to_owned())
        })
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.replies.waiting.lock().by_id.remove(&self.id);
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.0.lock().expect("never poisoned")
    }

    /// Brings a reply to the one that waits for it; those of others, and those that come too late, are let go.
    fn answer(&self, record: &Record) {
        let id = record.headers.iter().rev().find(|header| header.name == CORRELATION_ID.as_bytes());
        let id = id.and_then(|header| Uuid::from_slice(header.value.as_deref()?).ok());
        let Some(sender) = id.and_then(|id| self.lock().by_id.remove(&id)) else { return };
        let answer = serde_json::from_slice(record.value.as_deref().unwrap_or_default());
        // Who waited may have given up just now.
        let _ = sender.send(answer.map_err(|error| error.to_string()));
    }

    /// Nothing is read any more: those who wait learn of it now.
    fn end(&self, reason: String) {
        let mut senders = self.lock();
        senders.ended = Some(reason);
        senders.by_id.clear();
    }
}

impl Reader {
    fn consumer(settings: &Settings) -> Result<Member<client::Logging>, String> {
        let consumer: BaseConsumer<client::Logging> = client::reader(settings)
            // Who waited for what is gone learns of it by the time-out; those to come must not wait in vain.
            .set("auto.offset.reset", "latest")
            .create_with_context(client::Logging)
            .map_err(|error| format!("the Kafka reader can't be made: {error}"))?;
        Ok(Member::new(consumer))
    }

    fn assign(&self, consumer: &BaseConsumer<client::Logging>) -> Result<(), String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, self.partition, Offset::Offset(self.next_offset))
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| format!("reading the topic '{}' failed: {error}", self.topic))
    }

    fn read(mut self, waiting: &Waiting, stop: &AtomicBool) {
        let mut silence = Silence::begin();
        while !stop.load(Ordering::Relaxed) {
            let read = self.consumer.poll(SLICE).map(|polled| polled.map(|message| record_of(&message)));
            match read {
                None => repeats::log_due(Instant::now()),
                Some(Ok(record)) => {
                    silence.broken();
                    self.next_offset = record.coordinates.offset + 1;
                    waiting.answer(&record);
                }
                Some(Err(error)) if is_lasting(&error) => {
                    waiting.end(failure(&self.settings, &self.topic, &error).to_string());
                    return;
                }
                Some(Err(error)) if is_group_denied(&error) => {}
                // librdkafka goes on trying; what is not seen meanwhile ends by its time-out.
                Some(Err(error)) => unreadable(&error),
            }
            if !silence.is_due() {
                continue;
            }
            let (asked, settings) = (Arc::clone(&self.consumer), self.settings.clone());
            let topic = self.topic.clone();
            if silence.is_final(move || reach(asked.client(), &settings, &topic)) {
                tracing::warn!("the reader of replies has lost the brokers; going on with another one");
                let renewed = Self::consumer(&self.settings)
                    .and_then(|consumer| self.assign(&consumer).map(|()| consumer));
                match renewed {
                    Ok(consumer) => self.consumer = consumer,
                    Err(reason) => repeats::warn(Origin::Program, &format!("{reason}; trying again later")),
                }
            }
        }
    }
}

/// In an outage the client reports it at each attempt to connect.
fn unreadable(error: &KafkaError) {
    repeats::warn(Origin::Program, &format!("replies can't be read just now: {error}"));
}

/// The partition that is read.
fn partition(settings: &Settings, to: &ReplyTo) -> Result<i32, String> {
    let count = topics::require(settings, &to.topic, Operation::Read).map_err(|error| match error {
        // The processor makes its own topics, and never those.
        TopicsError::Missing { topic } => {
            format!(
                "the topic '{topic}' does not exist. Create it, and name it in the processor's topics.replies"
            )
        }
        other => other.to_string(),
    })?;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    match to.partition {
        Some(partition) if (0..count).contains(&partition) => Ok(partition),
        Some(partition) => {
            Err(format!("the topic '{}' has {count} partitions, and none with number {partition}", to.topic))
        }
        None => {
            let random = Uuid::new_v4().as_u128() % u128::from(count.max(1).unsigned_abs());
            Ok(i32::try_from(random).unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::Coordinates;
    use rdkafka::error::RDKafkaErrorCode;
    use testing::said_by;

    use super::*;

    fn reply(id: &[u8], value: &str) -> Record {
        Record {
            coordinates: Coordinates { partition: 0, offset: 0, timestamp: 0 },
            key: None,
            value: Some(value.into()),
            headers: vec![Header::new(CORRELATION_ID, id)],
        }
    }

    fn replies() -> Arc<Replies> {
        let to = vec![Header::new(REPLY_TOPIC, "t"), Header::new(REPLY_PARTITION, 258_i32.to_be_bytes())];
        Arc::new(Replies { to, waiting: Arc::default(), stop: Arc::default() })
    }

    #[tokio::test]
    async fn each_reply_comes_to_the_one_that_waits_for_it() {
        let replies = replies();
        let mut awaited: Vec<_> = (0..3).map(|_| replies.expect()).collect();
        let ids: Vec<Uuid> = awaited.iter().map(|it| it.id).collect();
        let headers = awaited[0].headers();
        assert_eq!(headers[1], Header::new(REPLY_PARTITION, [0, 0, 1, 2]));
        assert_eq!(headers[2], Header::new(CORRELATION_ID, *ids[0].as_bytes()));
        let id = "01a20ada-2c7b-89d1-8003-000000003039";
        replies.waiting.answer(&reply(b"somebody else's", "{}"));
        replies.waiting.answer(&reply(ids[2].as_bytes(), "no reply"));
        replies
            .waiting
            .answer(&reply(ids[1].as_bytes(), &format!(r#"{{"status":"duplicate","id":"{id}"}}"#)));
        replies.waiting.answer(&reply(ids[0].as_bytes(), &format!(r#"{{"status":"accepted","id":"{id}"}}"#)));
        assert_eq!(awaited[0].reply().await, Ok(Ok(Reply::Accepted { id: id.parse().unwrap() })));
        assert_eq!(awaited[1].reply().await, Ok(Ok(Reply::Duplicate { id: id.parse().unwrap() })));
        assert!(matches!(awaited[2].reply().await, Ok(Err(_))));
    }

    #[test]
    fn an_outage_is_one_line() {
        // One that no other test's client meets.
        let error = KafkaError::MessageConsumption(RDKafkaErrorCode::KafkaStorageError);
        let (said, ()) = said_by(|| (0..20).for_each(|_| unreadable(&error)));
        assert_eq!(said.matches("replies can't be read just now: ").count(), 1, "{said}");
    }

    #[test]
    fn who_gives_up_is_forgotten() {
        let replies = replies();
        let awaited = replies.expect();
        let id = awaited.id;
        drop(awaited);
        assert!(replies.waiting.lock().by_id.is_empty());
        replies.waiting.answer(&reply(id.as_bytes(), "{}"));
    }

    #[tokio::test]
    async fn who_waits_learns_that_nothing_is_read_any_more() {
        let replies = replies();
        let mut before = replies.expect();
        assert!(!replies.have_ended());
        replies.waiting.end("it is gone".to_owned());
        assert!(replies.have_ended());
        let mut after = replies.expect();
        for awaited in [&mut before, &mut after] {
            assert_eq!(awaited.reply().await, Err("it is gone".to_owned()));
        }
    }
}

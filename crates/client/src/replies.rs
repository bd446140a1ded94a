//! Replies, each delivered to its waiter.

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

use contract::{CORRELATION_ID, Header, REPLY_PARTITION, REPLY_TOPIC, Record, Reply};
use kafka::{
    Settings,
    access::Operation,
    client,
    reader::Reader,
    repeats::{self, Origin},
    topics::{self, TopicsError},
};
use rdkafka::{Offset, error::KafkaError};
use tokio::sync::oneshot;
use uuid::Uuid;

/// How soon the reader notices that it has to stop.
const SLICE: Duration = Duration::from_millis(100);

/// A reply, or why it is malformed.
type Answer = Result<Reply, String>;

/// Where replies should go.
#[derive(Debug, Clone)]
pub(super) struct ReplyTo {
    pub topic: String,
    /// `None`: any.
    pub partition: Option<i32>,
}

/// Reads one partition of the reply topic, on a separate thread, until it is dropped.
pub(super) struct Replies {
    to: Vec<Header>,
    waiting: Arc<Waiters>,
    stop: Arc<AtomicBool>,
}

/// Waiters by correlation id.
#[derive(Debug, Default)]
struct Waiters(Mutex<Senders>);

#[derive(Debug, Default)]
struct Senders {
    by_id: HashMap<Uuid, oneshot::Sender<Answer>>,
    /// Why the reading has ended.
    ended: Option<String>,
}

/// One expected reply.
#[derive(Debug)]
pub(super) struct Awaited {
    replies: Arc<Replies>,
    id: Uuid,
    answer: oneshot::Receiver<Answer>,
}

impl Replies {
    /// Starts at the partition's end as it is now, so every reply that is asked for from now on is seen. Blocks.
    pub fn start(settings: &Settings, to: &ReplyTo) -> Result<Self, String> {
        let partition = partition(settings, to)?;
        let mut properties = client::reader(settings);
        // Lost replies end in a time-out; later ones must still arrive.
        properties.set("auto.offset.reset", "latest");
        let mut reader = Reader::with_config(settings, properties)
            .map_err(|error| error.to_string())?
            .on_passing_error(unreadable);
        // A number, because "the end" would be that of the first fetch.
        let end = reader.offsets_at(&to.topic, [partition], Offset::End);
        let from = end.map(|end| end.into_iter().map(|(partition, end)| (partition, Offset::Offset(end))));
        from.and_then(|from| reader.start(&to.topic, from)).map_err(|error| error.to_string())?;
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
            .spawn(move || read(reader, &waiting, &stop))
            .map_err(|error| format!("a thread could not be started: {error}"))?;
        Ok(replies)
    }

    /// Call it before sending the command, which needs the headers of the result.
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

    /// Whether the reading has ended.
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
    /// The headers with which a command asks for this reply.
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = self.replies.to.clone();
        headers.push(Header::new(CORRELATION_ID, *self.id.as_bytes()));
        headers
    }

    /// The reply, or why none will come.
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

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Senders> {
        self.0.lock().expect("never poisoned")
    }

    /// Delivers a reply to its waiter. Drops late replies and those of other clients.
    fn answer(&self, record: &Record) {
        let id = record.headers.iter().rev().find(|header| header.name == CORRELATION_ID.as_bytes());
        let id = id.and_then(|header| Uuid::from_slice(header.value.as_deref()?).ok());
        let Some(sender) = id.and_then(|id| self.lock().by_id.remove(&id)) else { return };
        let answer = serde_json::from_slice(record.value.as_deref().unwrap_or_default());
        // The waiter may have stopped just now.
        let _ = sender.send(answer.map_err(|error| error.to_string()));
    }

    /// The reading has ended: fails all waiters.
    fn end(&self, reason: String) {
        let mut senders = self.lock();
        senders.ended = Some(reason);
        senders.by_id.clear();
    }
}

fn read(mut reader: Reader, waiting: &Waiters, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match reader.poll(SLICE) {
            Ok(Some(record)) => waiting.answer(&record),
            Ok(None) => repeats::log_due(Instant::now()),
            Err(error) => return waiting.end(error.to_string()),
        }
    }
}

/// In an outage this comes with each attempt to connect.
fn unreadable(error: &KafkaError) {
    repeats::warn(Origin::Program, &format!("replies can't be read just now: {error}"));
}

/// The partition that is read.
fn partition(settings: &Settings, to: &ReplyTo) -> Result<i32, String> {
    let count = topics::require(settings, &to.topic, Operation::Read).map_err(|error| match error {
        // The processor never creates reply topics.
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
            value: Some(value.to_owned().into()),
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
    fn forgets_an_abandoned_wait() {
        let replies = replies();
        let awaited = replies.expect();
        let id = awaited.id;
        drop(awaited);
        assert!(replies.waiting.lock().by_id.is_empty());
        replies.waiting.answer(&reply(id.as_bytes(), "{}"));
    }

    #[tokio::test]
    async fn pending_waits_fail_when_reading_ends() {
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

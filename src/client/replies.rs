//! Replies, each brought to the one that waits for it.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Reply, WaitError, posting::ReplyTo};
use crate::{
    activity::{CORRELATION_ID, Header, REPLY_PARTITION, REPLY_TOPIC, Record},
    kafka::{
        Settings, client,
        consumer::record_of,
        topics::{self, TopicsError},
    },
};

/// For the end of the partition.
const ASK: Duration = Duration::from_secs(10);
/// How soon the reader notices that nobody needs it any more.
const SLICE: Duration = Duration::from_millis(100);

type Answer = Result<Reply, String>;

/// Reads one partition of the topic of replies, on a thread of its own, until it is dropped.
pub(super) struct Replies {
    to: Vec<Header>,
    waiting: Arc<Waiting>,
    stop: Arc<AtomicBool>,
}

/// Those who wait, by their correlation ids.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<Uuid, oneshot::Sender<Answer>>>);

/// One reply that is waited for.
#[derive(Debug)]
pub(super) struct Awaited<'r> {
    replies: &'r Replies,
    id: Uuid,
    answer: oneshot::Receiver<Answer>,
}

impl Replies {
    /// Begins at the partition's end as it is now, so whatever is asked for from now on is seen. Blocks.
    pub fn start(settings: &Settings, to: &ReplyTo) -> Result<Self, String> {
        let partition = partition(settings, to)?;
        let reader: BaseConsumer<client::Logging> = client::reader(settings)
            // Who waited for what is gone learns of it by the time-out; those to come must not wait in vain.
            .set("auto.offset.reset", "latest")
            .create_with_context(client::Logging)
            .map_err(|error| format!("the Kafka reader can't be made: {error}"))?;
        let failed = |error| format!("reading the topic '{}' failed: {error}", to.topic);
        // A number instead of "the end", which would be where it is when the first fetch comes to it.
        let (_, end) = reader.fetch_watermarks(&to.topic, partition, ASK).map_err(failed)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&to.topic, partition, Offset::Offset(end)).map_err(failed)?;
        reader.assign(&list).map_err(failed)?;
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
            .spawn(move || read(&reader, &waiting, &stop))
            .map_err(|error| format!("can't start a thread: {error}"))?;
        Ok(replies)
    }

    /// To be called before the command is sent, which needs the headers of what is returned.
    pub fn expect(&self) -> Awaited<'_> {
        let (sender, answer) = oneshot::channel();
        let id = Uuid::new_v4();
        self.waiting.lock().insert(id, sender);
        Awaited { replies: self, id, answer }
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

impl Awaited<'_> {
    /// With which a command asks for this reply.
    pub fn headers(&self) -> Vec<Header> {
        let mut headers = self.replies.to.clone();
        headers.push(Header::new(CORRELATION_ID, *self.id.as_bytes()));
        headers
    }

    pub async fn reply(&mut self) -> Result<Reply, WaitError> {
        match (&mut self.answer).await {
            Ok(answer) => answer.map_err(WaitError::BadReply),
            Err(_) => Err(WaitError::BadReply("the reader of replies has ended".to_owned())),
        }
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.replies.waiting.lock().remove(&self.id);
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, oneshot::Sender<Answer>>> {
        self.0.lock().expect("never poisoned")
    }

    /// Brings a reply to the one that waits for it; those of others, and those that come too late, are let go.
    fn answer(&self, record: &Record) {
        let id = record.headers.iter().rev().find(|header| header.name == CORRELATION_ID.as_bytes());
        let id = id.and_then(|header| Uuid::from_slice(header.value.as_deref()?).ok());
        let Some(sender) = id.and_then(|id| self.lock().remove(&id)) else { return };
        let answer = serde_json::from_slice(record.value.as_deref().unwrap_or_default());
        // Who waited may have given up just now.
        let _ = sender.send(answer.map_err(|error| error.to_string()));
    }
}

/// The partition that is read.
fn partition(settings: &Settings, to: &ReplyTo) -> Result<i32, String> {
    let count = topics::require(settings, &to.topic).map_err(|error| match error {
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

fn read(reader: &BaseConsumer<client::Logging>, waiting: &Waiting, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match reader.poll(SLICE) {
            None => {}
            Some(Ok(message)) => waiting.answer(&record_of(&message)),
            // librdkafka goes on trying; what is not seen meanwhile ends by its time-out.
            Some(Err(error)) => tracing::warn!(%error, "replies can't be read just now"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::Coordinates;

    fn reply(id: &[u8], value: &str) -> Record {
        Record {
            coordinates: Coordinates { partition: 0, offset: 0, timestamp: 0 },
            key: None,
            value: Some(value.into()),
            headers: vec![Header::new(CORRELATION_ID, id)],
        }
    }

    fn replies() -> Replies {
        let to = vec![Header::new(REPLY_TOPIC, "t"), Header::new(REPLY_PARTITION, 258_i32.to_be_bytes())];
        Replies { to, waiting: Arc::default(), stop: Arc::default() }
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
        assert_eq!(awaited[0].reply().await, Ok(Reply::Accepted { id: id.parse().unwrap() }));
        assert_eq!(awaited[1].reply().await, Ok(Reply::Duplicate { id: id.parse().unwrap() }));
        assert!(matches!(awaited[2].reply().await, Err(WaitError::BadReply(_))));
    }

    #[test]
    fn who_gives_up_is_forgotten() {
        let replies = replies();
        let awaited = replies.expect();
        let id = awaited.id;
        drop(awaited);
        assert!(replies.waiting.lock().is_empty());
        replies.waiting.answer(&reply(id.as_bytes(), "{}"));
    }
}

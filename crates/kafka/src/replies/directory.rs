//! The state of the reply topics as the brokers report it, cached so that no batch waits for it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, Producer},
};

use super::Undeliverable;
use crate::{Settings, client, context::Context};

/// Between two questions about all topics.
const REFRESH: Duration = Duration::from_secs(5);
/// For one answer of the brokers.
pub(super) const ASK: Duration = Duration::from_secs(2);
/// After this time, an answer that keeps a reply back is stale.
const STALE: Duration = Duration::from_secs(1);

/// The last answer about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TopicAnswer {
    Missing,
    Forbidden,
    /// For each partition, whether it has a leader.
    Partitions(Vec<bool>),
    /// The brokers did not answer.
    Unanswered,
}

/// Asks the brokers on a separate thread, which ends when this is dropped.
pub(super) struct Directory {
    board: Arc<Board>,
    asked_for: Sender<String>,
}

#[derive(Default)]
struct Board {
    answers: Mutex<BTreeMap<String, (Instant, TopicAnswer)>>,
    changed: Condvar,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl Directory {
    /// `None` without a client or thread; then no reply can be delivered.
    pub fn open(settings: &Settings) -> Option<Self> {
        let asker = Asker { client: new_client(settings)?, settings: settings.clone() };
        let topics: Vec<String> = settings.topics.replies.names().map(str::to_owned).collect();
        let board = Arc::new(Board::default());
        let (asked_for, questions) = crossbeam_channel::bounded(topics.len() + 1);
        let kept = Arc::clone(&board);
        thread::Builder::new()
            .name("reply-topics".into())
            .spawn(move || keep(asker, &topics, &kept, &questions))
            .inspect_err(|error| tracing::warn!(%error, "no thread that asks for reply topics"))
            .ok()?;
        Some(Self { board, asked_for })
    }

    /// The last answer about a topic, at most a few seconds old if the brokers answer.
    pub fn latest(&self, topic: &str) -> TopicAnswer {
        self.known(topic).map_or(TopicAnswer::Unanswered, |(_, answer)| answer)
    }

    /// Asks again if the last answer is stale; waits up to `patience`. For an answer that keeps a reply back.
    pub fn refresh_if_stale(&self, topic: &str, patience: Duration) -> TopicAnswer {
        match self.known(topic) {
            Some((at, answer)) if at.elapsed() < STALE => answer,
            _ => self.refresh(topic, patience),
        }
    }

    /// Asks again, however fresh the last answer is.
    pub fn refresh(&self, topic: &str, patience: Duration) -> TopicAnswer {
        let now = Instant::now();
        // A full queue already contains questions whose answers will do.
        let _ = self.asked_for.try_send(topic.to_owned());
        let answers = self.board.answers.lock().expect("never poisoned");
        let is_old = |answers: &mut BTreeMap<String, (Instant, TopicAnswer)>| {
            answers.get(topic).is_none_or(|(at, _)| *at < now)
        };
        let (answers, _) =
            self.board.changed.wait_timeout_while(answers, patience, is_old).expect("never poisoned");
        answers.get(topic).map_or(TopicAnswer::Unanswered, |(_, answer)| answer.clone())
    }

    fn known(&self, topic: &str) -> Option<(Instant, TopicAnswer)> {
        self.board.answers.lock().expect("never poisoned").get(topic).cloned()
    }
}

/// Asks for all topics repeatedly, and at once for one that a caller waits for.
fn keep(mut asker: Asker, topics: &[String], board: &Board, questions: &Receiver<String>) {
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due {
            for topic in topics {
                asker.ask(topic, board);
                // A waiting caller does not wait for all topics.
                for question in questions.try_iter() {
                    asker.ask(&question, board);
                }
            }
            due = Instant::now() + REFRESH;
        }
        match questions.recv_deadline(due) {
            Ok(topic) => asker.ask(&topic, board),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Asker {
    client: BaseProducer<Context>,
    settings: Settings,
}

impl Asker {
    fn ask(&mut self, topic: &str, board: &Board) {
        let begun = Instant::now();
        let answer = partitions(&self.client, topic).unwrap_or_else(|error| {
            tracing::debug!(topic, %error, "no answer of a reply topic");
            // The client may be stuck: see `liveness`.
            if let Some(client) = new_client(&self.settings) {
                self.client = client;
            }
            TopicAnswer::Unanswered
        });
        // librdkafka's own errors wait in the client's queue.
        self.client.poll(Duration::ZERO);
        board.answers.lock().expect("never poisoned").insert(topic.to_owned(), (begun, answer));
        board.changed.notify_all();
    }
}

fn new_client(settings: &Settings) -> Option<BaseProducer<Context>> {
    let client = client::admin(settings).create_with_context(Context::quiet());
    client.inspect_err(|error| tracing::warn!(%error, "no client that asks for reply topics")).ok()
}

fn partitions(client: &BaseProducer<Context>, topic: &str) -> Result<TopicAnswer, KafkaError> {
    let metadata = client.client().fetch_metadata(Some(topic), ASK)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(TopicAnswer::Missing);
    };
    Ok(match found.error().map(RDKafkaErrorCode::from) {
        None | Some(RDKafkaErrorCode::LeaderNotAvailable) => {
            let mut leaders = vec![false; found.partitions().len()];
            for partition in found.partitions() {
                let place = usize::try_from(partition.id()).ok().and_then(|id| leaders.get_mut(id));
                if let Some(led) = place {
                    *led = partition.leader() >= 0;
                }
            }
            TopicAnswer::Partitions(leaders)
        }
        Some(RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            TopicAnswer::Forbidden
        }
        Some(_) => TopicAnswer::Missing,
    })
}

impl TopicAnswer {
    /// Why a reply can't go to this partition, if it can't.
    pub fn against(&self, partition: i32) -> Option<Undeliverable> {
        match self {
            Self::Missing => Some(Undeliverable::TopicMissing),
            Self::Forbidden => Some(Undeliverable::Forbidden),
            Self::Unanswered => Some(Undeliverable::Unavailable),
            Self::Partitions(leaders) if leaders.is_empty() => Some(Undeliverable::TopicMissing),
            Self::Partitions(leaders) => {
                match usize::try_from(partition).ok().and_then(|place| leaders.get(place)) {
                    None => Some(Undeliverable::PartitionMissing),
                    Some(false) => Some(Undeliverable::Unavailable),
                    Some(true) => None,
                }
            }
        }
    }

    pub fn partitions(&self) -> i32 {
        match self {
            Self::Partitions(leaders) => i32::try_from(leaders.len()).unwrap_or(i32::MAX),
            _ => 0,
        }
    }
}

//! The topics: whether they exist, creating missing ones, and whether their settings allow the guarantees.

mod error;
mod fitness;

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use contract::ActivityId;
use futures::executor::block_on;
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, Producer},
};

pub use error::TopicsError;
pub use fitness::Role;
pub(super) use fitness::producer_limit;
use fitness::{Described, TopicSettings};

use super::{
    Settings, Topics,
    access::{self, Access, Operation, Resource},
    client,
    connection::{ConnectionError, not_made},
    context::Context,
    native,
};

/// For one question to the brokers.
const ASK: Duration = Duration::from_secs(5);
/// For a topic that should be known to all brokers.
const KNOWN: Duration = Duration::from_secs(2);
/// For the topics' settings, which the embedded broker never returns.
const SETTINGS: Duration = Duration::from_secs(3);
/// For a created topic to be known to all brokers.
const CREATED: Duration = Duration::from_secs(15);
/// Kafka's own default of `max.message.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: i64 = 1_048_588;

/// What an activity id can hold.
const MAX_PARTITIONS: usize = ActivityId::MAX_PARTITION as usize + 1;

/// The record limit of a topic with Kafka's defaults, if the broker does not return it.
pub const DEFAULT_RECORD_BYTES: usize = 1_048_588;

/// One topic as the brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicState {
    pub name: String,
    pub partitions: usize,
    pub created: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub brokers: usize,
    pub topics: Vec<TopicState>,
    /// Bytes of the largest record that the rejections topic accepts; `None` if the broker does not return it.
    pub rejection_bytes: Option<usize>,
    /// Bytes of the largest batch that both output topics accept; `None` if the broker does not return it.
    pub batch_bytes: Option<usize>,
    /// Sentences for the operator about what does not stop the program.
    pub warnings: Vec<String>,
}

/// The last client-wide error, which says why nobody answers.
type LastError = Arc<Mutex<Option<(Option<RDKafkaErrorCode>, String)>>>;

/// Questions to the brokers about topics.
struct Brokers<'a> {
    settings: &'a Settings,
    client: BaseProducer<Context>,
    last_error: LastError,
}

impl fmt::Debug for Brokers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brokers").finish_non_exhaustive()
    }
}

/// What to do about a missing topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Create,
    /// Only check whether it could be created.
    Validate,
}

/// What [`find`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub brokers: usize,
    /// Of each topic, in the order of the question; `None` if it does not exist.
    pub partitions: Vec<Option<usize>>,
}

/// Looks for topics on which this user needs the right to `needed`. Neither creates nor checks them.
pub fn find(settings: &Settings, topics: &[&str], needed: Operation) -> Result<Found, TopicsError> {
    let topics: Vec<_> = topics.iter().map(|topic| (*topic, needed)).collect();
    let (brokers, found) = look(settings, &topics)?;
    Ok(Found { brokers, partitions: found.into_iter().collect::<Result<_, _>>()? })
}

/// The partitions of a topic if it exists, or why that is unknown.
pub type Presence = Result<Option<usize>, TopicsError>;

/// The number of brokers, and for each topic what [`find`] returns.
pub fn look(
    settings: &Settings,
    topics: &[(&str, Operation)],
) -> Result<(usize, Vec<Presence>), TopicsError> {
    let brokers = Brokers::connect(settings)?;
    let count = brokers.count()?;
    Ok((count, topics.iter().map(|(topic, needed)| brokers.partitions(topic, *needed)).collect()))
}

/// The partitions of a topic that has to exist, because `needed` is done with it.
pub fn require(settings: &Settings, topic: &str, needed: Operation) -> Result<usize, TopicsError> {
    let found = find(settings, &[topic], needed)?.partitions.into_iter().flatten().next();
    found.ok_or_else(|| TopicsError::Missing { topic: topic.to_owned() })
}

/// Bytes of the largest record that the rejections topic accepts; `None` if the broker does not return it.
pub fn rejection_bytes(settings: &Settings) -> Result<Option<usize>, TopicsError> {
    let topic = &settings.topics.rejections;
    let brokers = Brokers::connect(settings)?;
    let described = brokers.describe(&[(Role::Rejections, topic)]).ok();
    match described.and_then(|described| Some(described.into_iter().next()?.2)) {
        Some(Ok(settings)) => Ok(settings.largest_record()),
        Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
            Err(brokers.lacks(Operation::DescribeConfigs, topic))
        }
        _ => Ok(None),
    }
}

/// Checks the topics, and creates missing ones if wanted. Fails with all problems that [`examine`] finds.
pub fn prepare(settings: &Settings, missing: Missing) -> Result<Report, TopicsError> {
    let (report, mut problems) = examine(settings, missing)?;
    match problems.len() {
        0 => Ok(report),
        1 => Err(problems.remove(0)),
        _ => Err(TopicsError::Several(problems)),
    }
}

/// As [`prepare`], and returns all problems. Fails if the brokers do not answer.
pub fn examine(settings: &Settings, missing: Missing) -> Result<(Report, Vec<TopicsError>), TopicsError> {
    let brokers = Brokers::connect(settings)?;
    let mut report = Report { brokers: brokers.count()?, ..Report::default() };
    let mut problems = Vec::new();
    let topics = &settings.topics;
    let (read, write) = (Operation::Read, Operation::Write);
    let known = Instant::now() + KNOWN;
    for (name, needed) in
        [(&topics.commands, read), (&topics.notifications, write), (&topics.rejections, write)]
    {
        match brokers.prepare(name, needed, missing, known) {
            Ok(found) if *name == topics.commands && found.partitions > MAX_PARTITIONS => {
                let found = found.partitions;
                problems.push(TopicsError::TooManyPartitions { topic: name.clone(), found });
            }
            Ok(found) => report.topics.push(found),
            // After that, earlier answers mean nothing.
            Err(error @ (TopicsError::Connection(_) | TopicsError::Client(_))) => return Err(error),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(brokers.check_settings(&mut report));
    Ok((report, problems))
}

impl<'a> Brokers<'a> {
    fn connect(settings: &'a Settings) -> Result<Self, TopicsError> {
        let last_error = LastError::default();
        let last = Arc::clone(&last_error);
        let context = Context::default().on_error(move |error, reason| {
            let code = error.rdkafka_error_code();
            let mut last = last.lock().expect("never poisoned");
            // "All brokers down" says less than the reason that came before it.
            if code != Some(RDKafkaErrorCode::AllBrokersDown) || last.is_none() {
                *last = Some((code, reason.to_owned()));
            }
        });
        let client = client::admin(settings)
            .create_with_context(context)
            .map_err(|error| TopicsError::Client(not_made(settings, &error)))?;
        Ok(Self { settings, client, last_error })
    }
}

impl Brokers<'_> {
    fn unanswered(&self, error: &KafkaError) -> TopicsError {
        // The reason is still in the client's queue.
        self.client.poll(Duration::from_millis(50));
        let last = self.last_error.lock().expect("never poisoned").take();
        TopicsError::Connection(ConnectionError::of(self.settings, last, error))
    }

    fn count(&self) -> Result<usize, TopicsError> {
        let metadata = self
            .client
            .client()
            .fetch_metadata(Some(&self.settings.topics.commands), ASK)
            .map_err(|error| self.unanswered(&error))?;
        Ok(metadata.brokers().len())
    }

    fn lacks(&self, operation: Operation, topic: &str) -> TopicsError {
        TopicsError::Forbidden(Access::of(self.settings).lacks(operation, Resource::Topic(topic)))
    }

    /// The number of partitions of a topic on which `needed` is needed; `None` if it does not exist.
    fn partitions(&self, topic: &str, needed: Operation) -> Result<Option<usize>, TopicsError> {
        let metadata =
            self.client.client().fetch_metadata(Some(topic), ASK).map_err(|error| self.unanswered(&error))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(found.partitions().len()).filter(|&partitions| partitions > 0)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(RDKafkaErrorCode::LeaderNotAvailable) => Ok(Some(found.partitions().len())),
            // Without Describe the user also lacks every right that includes it, such as the needed one.
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Err(self.lacks(needed, topic)),
            Some(code) => Err(TopicsError::Undescribed { topic: topic.to_owned(), reason: code.to_string() }),
        }
    }

    /// The lowest number of replicas of a partition; `None` if unknown.
    fn replicas(&self, topic: &str) -> Option<usize> {
        let metadata = self.client.client().fetch_metadata(Some(topic), ASK).ok()?;
        let found = metadata.topics().iter().find(|found| found.name() == topic)?;
        found.partitions().iter().map(|partition| partition.replicas().len()).min()
    }

    fn admin(&self) -> Result<AdminClient<Context>, TopicsError> {
        AdminClient::from_config_and_context(&client::admin(self.settings), Context::default())
            .map_err(|error| TopicsError::Client(not_made(self.settings, &error)))
    }

    /// Creates a topic, or checks whether it could.
    fn create(&self, topic: &str, only_validate: bool) -> Result<(), TopicsError> {
        let topics = &self.settings.topics;
        let mut new =
            NewTopic::new(topic, topics.partitions, TopicReplication::Fixed(topics.replication_factor));
        // Regardless of the brokers' defaults.
        new = new.set("cleanup.policy", "delete");
        // Then a producer's retries keep their place in time, and no producer's clock can outrun the idempotency window.
        if topic == topics.commands {
            new = new.set("message.timestamp.type", "LogAppendTime");
        }
        let limit = if topic == topics.rejections {
            Some(self.rejection_limit())
        } else if topic == topics.notifications {
            Some(fitness::notification_limit(topics).max(DEFAULT_MAX_MESSAGE_BYTES))
        } else {
            None
        };
        let limit = limit.map(|bytes| bytes.to_string());
        if let Some(limit) = &limit {
            new = new.set("max.message.bytes", limit);
        }
        let refused = |reason: String| TopicsError::NotCreated { topic: topic.to_owned(), reason };
        let options = AdminOptions::new().operation_timeout(Some(ASK)).request_timeout(Some(ASK));
        let options = options.validate_only(only_validate);
        let results = block_on(self.admin()?.create_topics([&new], &options))
            .map_err(|error| refused(error.to_string()))?;
        match results.into_iter().next() {
            Some(Err((
                _,
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed,
            ))) => Err(self.lacks(Operation::Create, topic)),
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                Err(refused(code.to_string()))
            }
            _ => {
                if !only_validate {
                    tracing::info!(topic, partitions = topics.partitions, "topic created");
                }
                Ok(())
            }
        }
    }

    /// One topic on which `needed` is needed. Looks for a missing one until `known`.
    fn prepare(
        &self,
        topic: &str,
        needed: Operation,
        missing: Missing,
        known: Instant,
    ) -> Result<TopicState, TopicsError> {
        let (partitions, created) = match (self.partitions(topic, needed)?, missing) {
            (Some(partitions), _) => (partitions, false),
            (None, Missing::Refuse) => (self.look_again(topic, needed, known)?, false),
            (None, Missing::Create) => {
                self.create(topic, false)?;
                (self.await_topic(topic, needed)?, true)
            }
            (None, Missing::Validate) => {
                self.create(topic, true)?;
                (usize::try_from(self.settings.topics.partitions).unwrap_or(0), false)
            }
        };
        Ok(TopicState { name: topic.to_owned(), partitions, created })
    }

    /// A new topic is not known to all brokers at once, and each question may go to another broker.
    fn look_again(&self, topic: &str, needed: Operation, known: Instant) -> Result<usize, TopicsError> {
        while Instant::now() < known {
            std::thread::sleep(Duration::from_millis(100));
            if let Some(partitions) = self.partitions(topic, needed)? {
                return Ok(partitions);
            }
        }
        Err(TopicsError::Missing { topic: topic.to_owned() })
    }

    fn await_topic(&self, topic: &str, needed: Operation) -> Result<usize, TopicsError> {
        let deadline = Instant::now() + CREATED;
        loop {
            if let Some(partitions) = self.partitions(topic, needed)? {
                return Ok(partitions);
            }
            if Instant::now() >= deadline {
                let reason = "the brokers do not know it yet".to_owned();
                return Err(TopicsError::NotCreated { topic: topic.to_owned(), reason });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The record limit of the rejections topic: that of the commands topic, and what a rejection adds.
    fn rejection_limit(&self) -> i64 {
        let described = self.describe(&[(Role::Commands, &self.settings.topics.commands)]);
        let commands = described.ok().and_then(|described| described.into_iter().next()?.2.ok());
        fitness::rejection_limit(commands.as_ref())
    }

    /// The settings of each topic, in order. Fails if the broker does not answer at all.
    fn describe(&self, topics: &[(Role, &str)]) -> Result<Vec<Described>, KafkaError> {
        let admin = AdminClient::from_config_and_context(&client::admin(self.settings), Context::default())?;
        let options = AdminOptions::new().request_timeout(Some(SETTINGS));
        let wanted: Vec<_> = topics.iter().map(|(_, topic)| ResourceSpecifier::Topic(topic)).collect();
        let described = block_on(admin.describe_configs(&wanted, &options));
        tracing::debug!(?topics, ?described, "settings");
        let described = described?.into_iter().zip(topics).map(|(described, &(role, topic))| {
            let settings = described.and_then(|resource| {
                if resource.entries.is_empty() {
                    return Err(self.why_undescribed(topic));
                }
                let values = resource.entries.into_iter();
                Ok(TopicSettings {
                    values: values.filter_map(|entry| Some((entry.name, entry.value?))).collect(),
                    replicas: self.replicas(topic),
                })
            });
            (role, topic.to_owned(), settings)
        });
        Ok(described.collect())
    }

    /// Why a topic's settings are missing. Each topic has some; the Rust binding drops the broker's code.
    fn why_undescribed(&self, topic: &str) -> RDKafkaErrorCode {
        match self.partitions(topic, Operation::Describe) {
            Ok(None) => RDKafkaErrorCode::UnknownTopicOrPartition,
            Err(TopicsError::Forbidden(_)) => RDKafkaErrorCode::TopicAuthorizationFailed,
            _ => match native::allowed(self.client.client(), native::Described::Topic, topic, ASK) {
                Ok(Some(allowed)) if !access::contains(&allowed, Operation::DescribeConfigs) => {
                    RDKafkaErrorCode::TopicAuthorizationFailed
                }
                _ => RDKafkaErrorCode::Unknown,
            },
        }
    }

    fn check_settings(&self, report: &mut Report) -> Vec<TopicsError> {
        let topics = &self.settings.topics;
        let mut all: Vec<(Role, &str)> = vec![
            (Role::Commands, &topics.commands),
            (Role::Notifications, &topics.notifications),
            (Role::Rejections, &topics.rejections),
        ];
        all.extend(topics.replies.names().map(|name| (Role::Replies, name)));
        match self.describe(&all) {
            Ok(described) => fitness::judge(topics, &Access::of(self.settings), &described, report),
            Err(error) => {
                report.warnings.push(format!(
                    "the broker does not tell the topics' settings, so cleanup.policy, min.insync.replicas, \
                     message.timestamp.type and max.message.bytes are not checked: {error}"
                ));
                Vec::new()
            }
        }
    }
}

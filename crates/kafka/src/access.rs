//! Access rights on the brokers: which one is missing, in words, and which ones this user has.

use std::{cell::Cell, collections::BTreeSet, fmt, time::Duration};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{BaseProducer, Producer as _},
};

use super::{Settings, client, context::Context, native};

/// For one question about rights.
const ASK: Duration = Duration::from_secs(5);
/// For one question to brokers that are known to answer: a group's coordinator may have to create its topic first.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// For a transactional id: its coordinator has to be found, and may have to create its topic first.
const TRANSACT: Duration = Duration::from_secs(15);

/// What may be done with a resource, as `kafka-acls.sh` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Read,
    Write,
    Create,
    Describe,
    DescribeConfigs,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Create => "Create",
            Self::Describe => "Describe",
            Self::DescribeConfigs => "DescribeConfigs",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    /// All transactional ids that begin with this.
    TransactionalIds(&'a str),
}

impl fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "the topic '{topic}'"),
            Self::Group(group) => write!(f, "the group '{group}'"),
            Self::TransactionalIds(prefix) => write!(f, "the transactional ids that begin with '{prefix}'"),
        }
    }
}

/// Names a missing right, its user, and the command that grants it.
#[derive(Debug, Clone)]
pub struct Access {
    servers: String,
    /// The principal's name, if known: the brokers' rules name a certificate.
    user: Option<String>,
}

impl Access {
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let property = |name: &str| settings.properties.get(name).map(String::as_str);
        let protocol = property("security.protocol").unwrap_or("plaintext").to_ascii_lowercase();
        let user = match protocol.as_str() {
            "plaintext" => Some("ANONYMOUS"),
            "ssl" => None,
            _ => property("sasl.username"),
        };
        Self { servers: settings.bootstrap_servers.clone(), user: user.map(str::to_owned) }
    }

    /// The sentence for a missing right.
    #[must_use]
    pub fn lacks(&self, operation: Operation, resource: Resource<'_>) -> String {
        let user = self.user.as_ref().map_or("this user".to_owned(), |user| format!("user '{user}'"));
        let name = self.user.as_deref().unwrap_or("NAME");
        let option = match resource {
            Resource::Topic(topic) => format!("--topic '{topic}'"),
            Resource::Group(group) => format!("--group '{group}'"),
            Resource::TransactionalIds(prefix) => {
                format!("--transactional-id '{prefix}' --resource-pattern-type prefixed")
            }
        };
        format!(
            "{user} lacks {operation} on {resource}. Grant it: kafka-acls.sh --bootstrap-server {} --add --allow-principal \
             'User:{name}' --operation {operation} {option}",
            self.servers
        )
    }

    /// The same sentence, if the error denies access to this topic or to the configured group.
    #[must_use]
    pub fn lacking(
        &self,
        error: &KafkaError,
        (operation, topic): (Operation, &str),
        group: (Operation, &str),
    ) -> Option<String> {
        match error.rdkafka_error_code()? {
            Code::TopicAuthorizationFailed => Some(self.lacks(operation, Resource::Topic(topic))),
            Code::GroupAuthorizationFailed => Some(self.lacks(group.0, Resource::Group(group.1))),
            _ => None,
        }
    }
}

/// The operations that the brokers allow this user; `None` if the resource does not exist or they do not say.
pub type Allowed = Option<BTreeSet<Operation>>;

/// Asks the brokers for this user's rights. Changes nothing.
pub struct Rights<'a> {
    settings: &'a Settings,
    client: BaseProducer<Context>,
    /// Whether the first question was answered: the embedded broker never answers.
    answers: Cell<Option<bool>>,
}

impl fmt::Debug for Rights<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rights").finish_non_exhaustive()
    }
}

impl<'a> Rights<'a> {
    pub fn connect(settings: &'a Settings) -> Result<Self, KafkaError> {
        let client = client::admin(settings).create_with_context(Context::quiet())?;
        Ok(Self { settings, client, answers: Cell::new(None) })
    }

    pub fn of_topic(&self, topic: &str) -> Allowed {
        self.ask(native::Described::Topic, topic)
    }

    pub fn of_group(&self, group: &str) -> Allowed {
        self.ask(native::Described::Group, group)
    }

    fn ask(&self, described: native::Described, name: &str) -> Allowed {
        let timeout = match self.answers.get() {
            None => ASK,
            Some(true) => ASK_AGAIN,
            Some(false) => return None,
        };
        let answer = native::allowed(self.client.client(), described, name, timeout);
        if self.answers.get().is_none() {
            self.answers.set(Some(!matches!(answer, Err(Code::OperationTimedOut))));
        }
        tracing::debug!(?described, name, ?answer, "access rights");
        match answer {
            Ok(allowed) => allowed.map(|allowed| allowed.into_iter().filter_map(operation).collect()),
            // Without Describe the user has no right on it.
            Err(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => Some(BTreeSet::new()),
            Err(_) => None,
        }
    }

    /// Whether a producer may use transactional ids with this prefix. Registers one, as each start of the processor does; it
    /// fences only another check.
    pub fn may_transact(&self, prefix: &str) -> Result<bool, KafkaError> {
        let mut properties = client::producer(self.settings, client::BATCH_BYTES);
        let producer: BaseProducer<Context> =
            client::transactional(&mut properties, &format!("{prefix}check"))
                .create_with_context(Context::quiet())?;
        match producer.init_transactions(TRANSACT) {
            Ok(()) => Ok(true),
            Err(error) => match error.rdkafka_error_code() {
                Some(Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }
}

/// Whether an operation is among these numbers.
#[must_use]
pub fn contains(allowed: &[u32], wanted: Operation) -> bool {
    allowed.iter().any(|&number| operation(number) == Some(wanted))
}

/// The protocol's numbers for operations.
fn operation(number: u32) -> Option<Operation> {
    use rdkafka::bindings::rd_kafka_AclOperation_t as Native;
    [
        (Native::RD_KAFKA_ACL_OPERATION_READ, Operation::Read),
        (Native::RD_KAFKA_ACL_OPERATION_WRITE, Operation::Write),
        (Native::RD_KAFKA_ACL_OPERATION_CREATE, Operation::Create),
        (Native::RD_KAFKA_ACL_OPERATION_DESCRIBE, Operation::Describe),
        (Native::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS, Operation::DescribeConfigs),
    ]
    .into_iter()
    .find_map(|(native, operation)| (native as u32 == number).then_some(operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_a_missing_right_with_user_resource_and_the_command_that_grants_it() {
        let said = |properties: &[(&str, &str)], resource| {
            Access::of(&Settings::for_test("b:9092", properties)).lacks(Operation::Read, resource)
        };
        let scram = [("security.protocol", "SASL_SSL"), ("sasl.username", "x")];
        assert_eq!(
            said(&scram, Resource::Group("g")),
            "user 'x' lacks Read on the group 'g'. Grant it: kafka-acls.sh --bootstrap-server b:9092 --add \
             --allow-principal 'User:x' --operation Read --group 'g'"
        );
        let anonymous = said(&[], Resource::Topic("t"));
        assert!(anonymous.starts_with("user 'ANONYMOUS' lacks Read on the topic 't'. "), "{anonymous}");
        let certificate = said(&[("security.protocol", "ssl")], Resource::TransactionalIds("p-g-"));
        assert!(
            certificate.starts_with("this user lacks Read on the transactional ids that begin with 'p-g-'. ")
                && certificate.ends_with(
                    "'User:NAME' --operation Read --transactional-id 'p-g-' --resource-pattern-type prefixed"
                ),
            "{certificate}"
        );
    }
}

//! What librdkafka calls back: its log, client-wide errors, rebalances and delivery reports.

use std::{fmt, sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::ProducerContext,
    types::RDKafkaRespErr,
    util::IntoOpaque,
};

use super::repeats::{self, Origin};

type OnLog = Box<dyn Fn(&str, &str) + Send + Sync>;
type OnError = Box<dyn Fn(&KafkaError, &str) + Send + Sync>;

/// The context of every client. By default librdkafka's log and errors go to the program's log, nobody follows rebalances,
/// and delivery reports are dropped.
pub struct Context<D = ()> {
    log: fn(RDKafkaLogLevel, &str, &str),
    on_log: Option<OnLog>,
    on_error: OnError,
    group: Option<Arc<dyn Group>>,
    deliveries: D,
}

/// What a member of a consumer group does about the group.
pub trait Group: Send + Sync {
    /// Assigns or revokes `partitions`, now or later: librdkafka waits until it has.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Context>,
        event: RDKafkaRespErr,
        partitions: &TopicPartitionList,
    );

    /// The consumer is still a member, and about to leave.
    fn before_leaving(&self, _: &BaseConsumer<Context>) {}

    /// How long [`before_leaving`](Self::before_leaving) may take.
    fn leaving_takes(&self) -> Duration {
        Duration::ZERO
    }

    /// The close has begun; it ends once nothing is assigned any more.
    fn leaving(&self, _: &BaseConsumer<Context>) {}
}

/// Receives the delivery reports of a producer.
pub trait Deliver: Send + Sync {
    /// What a record is sent with, and comes back in its report.
    type Opaque: IntoOpaque;

    fn delivered(&self, result: &DeliveryResult<'_>, opaque: Self::Opaque);
}

impl Deliver for () {
    type Opaque = ();

    fn delivered(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl Default for Context {
    fn default() -> Self {
        Self::delivering(())
    }
}

impl Context {
    /// For a client whose log lines would only confuse, such as the embedded broker's own.
    #[must_use]
    pub fn quiet() -> Self {
        Self {
            log: |_, facility, message| tracing::trace!(target: "librdkafka", facility, "{message}"),
            ..Self::default()
        }
        .on_error(|error, reason| tracing::debug!(target: "librdkafka", %error, "{reason}"))
    }

    /// Hands rebalances to this member of a group.
    #[must_use]
    pub fn member(self, group: Arc<dyn Group>) -> Self {
        Self { group: Some(group), ..self }
    }

    pub(crate) fn group(&self) -> Option<&dyn Group> {
        self.group.as_deref()
    }
}

impl<D> Context<D> {
    /// Hands delivery reports to `deliveries`.
    #[must_use]
    pub fn delivering(deliveries: D) -> Self {
        Self { log: log_line, on_log: None, on_error: Box::new(client_error), group: None, deliveries }
    }

    pub fn deliveries(&self) -> &D {
        &self.deliveries
    }

    /// Also reads each line of librdkafka's log: facility and message.
    pub(crate) fn on_log(self, read: impl Fn(&str, &str) + Send + Sync + 'static) -> Self {
        Self { on_log: Some(Box::new(read)), ..self }
    }

    /// Passes client-wide errors and their reasons to `take` instead of the program's log.
    pub(crate) fn on_error(self, take: impl Fn(&KafkaError, &str) + Send + Sync + 'static) -> Self {
        Self { on_error: Box::new(take), ..self }
    }
}

impl<D> fmt::Debug for Context<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl<D: Send + Sync> ClientContext for Context<D> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        (self.log)(level, facility, message);
        if let Some(read) = &self.on_log {
            read(facility, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        (self.on_error)(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if let Some(group) = &self.group {
            group.rebalance(consumer, event, partitions);
        }
    }
}

impl<D: Deliver> ProducerContext for Context<D> {
    type DeliveryOpaque = D::Opaque;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: D::Opaque) {
        self.deliveries.delivered(result, opaque);
    }
}

/// One line of librdkafka's log. What an operator has to know is also reported as an error, so these stay in the
/// background.
fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// A client-wide error: an unreachable broker, a refused login. librdkafka keeps trying.
pub(crate) fn client_error(error: &KafkaError, reason: &str) {
    // Readers receive the end of a partition as an event; librdkafka reports it here as well.
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
        tracing::trace!(target: "librdkafka", "{reason}");
        return;
    }
    repeats::warn(Origin::Client, &format!("{reason}: {error}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use testing::said_by;

    fn said(code: RDKafkaErrorCode) -> String {
        said_by(|| client_error(&KafkaError::Global(code), "why")).0
    }

    #[test]
    fn the_end_of_a_partition_is_no_warning_and_an_error_is() {
        assert_eq!(said(RDKafkaErrorCode::PartitionEOF), "");
        assert!(said(RDKafkaErrorCode::AllBrokersDown).contains("WARN"));
    }

    #[test]
    fn an_error_that_repeats_is_one_line() {
        let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        let (said, ()) = said_by(|| {
            for attempt in 0..100 {
                client_error(
                    &error,
                    &format!("b:1: connection refused (after {attempt}ms in state CONNECT)"),
                );
            }
        });
        // Counts of other tests' errors may be due just then.
        assert_eq!(said.lines().filter(|line| line.contains("b:1: connection refused")).count(), 1, "{said}");
    }
}

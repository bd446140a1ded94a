//! Whether a quiet client is merely idle, has lost the brokers temporarily, or is stuck permanently.
//!
//! Since version 2.10 librdkafka drops each broker that a Metadata response does not list. A lone Kafka node lists none, not
//! even itself, while its own controller considers it dead: for a moment after it was started or frozen. A client that
//! receives this has no brokers left, and should bootstrap again from `bootstrap.servers`. But if its threads have closed
//! the connections before the rest of that response is processed, the response ends the new bootstrap too, and marks it as
//! in progress: from then on the client looks for no broker, and reports nothing. Only a new client helps.
//!
//! That is librdkafka's issue [5301](https://github.com/confluentinc/librdkafka/issues/5301), open as of 2.13, with a fix
//! that is not merged ([5303](https://github.com/confluentinc/librdkafka/pull/5303)). This program is built with 2.12.1
//! (`rdkafka-sys` 4.10.0+2.12.1). Once librdkafka has the fix, `tests/embedded/forgotten.rs` waits in vain for clients to
//! get stuck.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use rdkafka::{
    client::Client,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, KafkaResult},
    metadata::Metadata,
    producer::{BaseProducer, Producer},
};

use super::{
    Settings, client,
    context::{Context, Deliver},
};

/// Between two probes of a client that hears nothing.
const QUIET: Duration = Duration::from_secs(10);
/// For one answer of the brokers to a client that is connected.
const ASK: Duration = Duration::from_secs(2);
/// For one answer to a client that has to connect first.
const CONNECT: Duration = Duration::from_secs(5);

/// What a probe of the brokers found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// They answer this client.
    Reached,
    /// They answer a new client, and not this one.
    ClientStuck,
    /// They answer nobody, for this reason.
    Unreachable(String),
}

/// Watches one client at a time.
#[derive(Debug)]
pub struct Liveness {
    settings: Settings,
    topic: String,
    heard_at: Instant,
    probe_at: Instant,
    probing: Query<Probe>,
}

impl Liveness {
    /// Probes ask for `topic`. The first is due after a quiet period from now.
    #[must_use]
    pub fn new(settings: &Settings, topic: &str) -> Self {
        let heard_at = Instant::now();
        Self {
            settings: settings.clone(),
            topic: topic.to_owned(),
            heard_at,
            probe_at: heard_at + QUIET,
            probing: Query::default(),
        }
    }

    /// Something came from the brokers.
    pub fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.probe_at = self.heard_at + QUIET;
    }

    /// Whether this client is stuck and has to be replaced. Probes a quiet client on a separate thread, and never blocks.
    pub fn is_client_stuck(&mut self, client: &Arc<impl Probed>) -> bool {
        if Instant::now() < self.probe_at {
            return false;
        }
        let (client, settings, topic) = (Arc::clone(client), self.settings.clone(), self.topic.clone());
        let Some(found) = self.probing.poll(self.heard_at, move || probe(&*client, &settings, &topic)) else {
            return false;
        };
        let found = found.unwrap_or_else(Probe::Unreachable);
        tracing::debug!(?found, "probed the brokers");
        self.heard();
        found == Probe::ClientStuck
    }
}

/// A client that can be probed.
pub trait Probed: Send + Sync + 'static {
    fn metadata(&self, topic: &str, timeout: Duration) -> KafkaResult<Metadata>;
}

impl Probed for BaseConsumer<Context> {
    fn metadata(&self, topic: &str, timeout: Duration) -> KafkaResult<Metadata> {
        self.client().fetch_metadata(Some(topic), timeout)
    }
}

impl<D: Deliver + 'static> Probed for BaseProducer<Context<D>> {
    fn metadata(&self, topic: &str, timeout: Duration) -> KafkaResult<Metadata> {
        self.client().fetch_metadata(Some(topic), timeout)
    }
}

/// A question to the brokers on a separate thread, with the time of its start: a polling thread can't wait for seconds.
#[derive(Debug)]
pub(crate) struct Query<T>(Option<(Instant, Receiver<T>)>);

impl<T> Default for Query<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> Query<T> {
    /// Takes the answer, or the reason why nobody could be asked. Starts to `ask` unless a question is under way that was
    /// started after `since`.
    pub(crate) fn poll(
        &mut self,
        since: Instant,
        ask: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Result<T, String>> {
        // The thread of an older question runs on, and nobody receives its answer.
        self.0.take_if(|(begun, _)| *begun < since);
        let Some((_, answer)) = &self.0 else {
            let (done, answer) = bounded(1);
            let begun = Instant::now();
            let asking = thread::Builder::new().name("probe".into()).spawn(move || {
                // The session may have ended.
                let _ = done.send(ask());
            });
            self.0 = asking.is_ok().then_some((begun, answer));
            return asking.err().map(|error| Err(format!("a thread could not be started: {error}")));
        };
        let answer = match answer.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the thread that asks failed".to_owned()),
            Ok(answer) => Ok(answer),
        };
        self.0 = None;
        Some(answer)
    }
}

/// Asks for a topic through this client and, without an answer, through a new one. Blocks.
pub(crate) fn probe(client: &impl Probed, settings: &Settings, topic: &str) -> Probe {
    // A fetch on the same connection may delay the answer.
    let patience = ASK + client::fetch_wait(settings);
    let is_reached = || client.metadata(topic, patience).is_ok();
    if is_reached() {
        return Probe::Reached;
    }
    match answers(settings, topic) {
        Err(reason) => Probe::Unreachable(reason),
        // The brokers may have come back between the two.
        Ok(()) if is_reached() => Probe::Reached,
        Ok(()) => Probe::ClientStuck,
    }
}

/// Whether the brokers answer a client that knows only `bootstrap.servers`: there, and at the addresses that they advertise.
fn answers(settings: &Settings, topic: &str) -> Result<(), String> {
    let client: BaseProducer<Context> =
        client::admin(settings).create_with_context(Context::quiet()).map_err(|error| error.to_string())?;
    let client = client.client();
    let metadata = client.fetch_metadata(Some(topic), CONNECT).map_err(|error| error.to_string())?;
    if metadata.brokers().is_empty() {
        return Err("the node that answers knows no broker".into());
    }
    // One partition of each leader: a leader is asked at its advertised address.
    let partitions =
        metadata.topics().iter().filter(|found| found.name() == topic).flat_map(|found| found.partitions());
    let led = partitions.filter(|partition| partition.leader() >= 0);
    let led: BTreeMap<i32, i32> = led.map(|partition| (partition.leader(), partition.id())).collect();
    let mut failed = None;
    for (_, partition) in led {
        match lead(client, topic, partition) {
            Ok(()) => return Ok(()),
            Err(error) => failed = Some(error),
        }
    }
    Err(match failed {
        None => format!("no partition of the topic '{topic}' has a leader"),
        Some(error) => format!(
            "the brokers answer at bootstrap.servers ({}), not at the addresses that they name ({}): {error}. See \
             advertised.listeners in their configuration",
            settings.bootstrap_servers,
            addresses(&metadata)
        ),
    })
}

/// Whether a partition's leader answers, even with an error.
fn lead(client: &Client<Context>, topic: &str, partition: i32) -> Result<(), KafkaError> {
    let asked = client.fetch_watermarks(topic, partition, CONNECT).map(drop);
    asked.or_else(|error| match error.rdkafka_error_code() {
        // Codes below 0 are librdkafka's own, those above are the brokers'.
        Some(code) if code as i32 > 0 => Ok(()),
        _ => Err(error),
    })
}

fn addresses(metadata: &Metadata) -> String {
    let named = metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port()));
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn awaited(query: &mut Query<Probe>, since: Instant) -> Probe {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(answer) = query.poll(since, || panic!("one is under way")) {
                return answer.expect("a thread");
            }
            assert!(Instant::now() < deadline, "no answer in time");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_question_is_answered_once_and_then_asked_again() {
        let (mut query, since) = (Query::default(), Instant::now());
        let (go_on, wait) = mpsc::channel::<Probe>();
        assert_eq!(query.poll(since, move || wait.recv().unwrap()), None);
        assert_eq!(query.poll(since, || panic!("one is under way")), None);
        go_on.send(Probe::ClientStuck).unwrap();
        assert_eq!(awaited(&mut query, since), Probe::ClientStuck);
        assert_eq!(query.poll(since, || Probe::Reached), None, "it is asked, not known");
    }

    #[test]
    fn an_answer_to_a_question_from_before_the_last_sign_does_not_count() {
        let (mut query, since) = (Query::default(), Instant::now());
        let (answered, wait) = mpsc::channel();
        let asked = move || {
            answered.send(()).unwrap();
            Probe::ClientStuck
        };
        assert_eq!(query.poll(since, asked), None);
        // The answer is on its way, or there.
        wait.recv().unwrap();
        let sign = Instant::now();
        assert_eq!(query.poll(sign, || Probe::Reached), None, "it is asked again");
        assert_eq!(awaited(&mut query, sign), Probe::Reached);
    }
}

//! Whether a client still finds the brokers, or has lost them for good.
//!
//! Since its version 2.10 librdkafka drops each broker that an answer to Metadata does not name. A Kafka node that is
//! alone names none, not even itself, while its own controller takes it for dead: for a moment after it was started or
//! frozen. A client that hears this has no brokers left, and should begin again at `bootstrap.servers`. But where its
//! threads have shut the connections down before the rest of that same answer is read, the answer ends the new
//! beginning as well, and marks it as under way: from then on the client looks for nobody, and says nothing. Only
//! another client helps.
//!
//! That is librdkafka's issue [5301](https://github.com/confluentinc/librdkafka/issues/5301), open as of 2.13, with a
//! fix that is not merged ([5303](https://github.com/confluentinc/librdkafka/pull/5303)). This program is built with
//! 2.12.1 (`rdkafka-sys` 4.10.0+2.12.1). With one that has the fix, `tests/embedded/forgotten.rs` waits in vain for
//! clients to be lost.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use rdkafka::{
    ClientContext,
    client::Client,
    error::KafkaError,
    metadata::Metadata,
    producer::{BaseProducer, Producer},
};

use super::{Settings, client};

/// For one answer of the brokers to a client that is connected.
const ASK: Duration = Duration::from_secs(2);
/// For one answer to a client that has to connect first.
const CONNECT: Duration = Duration::from_secs(5);

/// What became of asking the brokers anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// They answer this client.
    Reached,
    /// They answer a new client, and not this one.
    Lost,
    /// They answer nobody, for this reason.
    Away(String),
}

/// A question under way, and since when, on a thread of its own: whoever polls can't wait for seconds.
#[derive(Debug)]
pub struct Asking<T>(Option<(Instant, Receiver<T>)>);

impl<T> Default for Asking<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// Where nobody could be asked, that is the answer.
impl From<String> for Reach {
    fn from(reason: String) -> Self {
        Self::Away(reason)
    }
}

impl<T: From<String> + Send + 'static> Asking<T> {
    /// The answer to the question under way, where it is there; where none is under way that was begun since then, `ask`
    /// is from now on. An answer made of a text says why nobody could be asked.
    pub fn answer(&mut self, since: Instant, ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        // Whoever asks is alive still, and finds nobody to tell.
        self.0.take_if(|(begun, _)| *begun < since);
        let Some((_, answer)) = &self.0 else {
            let (done, answer) = bounded(1);
            let begun = Instant::now();
            let asking = thread::Builder::new().name("reach".into()).spawn(move || {
                // Nobody listens any more where the session has ended.
                let _ = done.send(ask());
            });
            self.0 = asking.is_ok().then_some((begun, answer));
            return asking.err().map(|error| format!("a thread could not be started: {error}").into());
        };
        let answer = match answer.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => "the thread that asks failed".to_owned().into(),
            Ok(answer) => answer,
        };
        self.0 = None;
        Some(answer)
    }
}

/// Asks for a topic, through this client and where it does not answer through a new one.
pub fn reach<C: ClientContext>(client: &Client<C>, settings: &Settings, topic: &str) -> Reach {
    // On the same connection the answer may wait behind that to a fetch.
    let patience = ASK + client::fetch_wait(settings);
    let reached = || client.fetch_metadata(Some(topic), patience).is_ok();
    if reached() {
        return Reach::Reached;
    }
    match answers(settings, topic) {
        Err(reason) => Reach::Away(reason),
        // Asked once more: the brokers may have come back between the two.
        Ok(()) if reached() => Reach::Reached,
        Ok(()) => Reach::Lost,
    }
}

/// How many partitions a topic has.
#[derive(Debug)]
pub enum Partitions {
    Count(usize),
    Unknown(String),
}

impl From<String> for Partitions {
    fn from(reason: String) -> Self {
        Self::Unknown(reason)
    }
}

pub fn partitions<C: ClientContext>(client: &Client<C>, settings: &Settings, topic: &str) -> Partitions {
    match client.fetch_metadata(Some(topic), ASK + client::fetch_wait(settings)) {
        Ok(told) => told.topics().iter().find(|told| told.name() == topic).map_or_else(
            || "the answer lacks the topic".to_owned().into(),
            |told| Partitions::Count(told.partitions().len()),
        ),
        Err(error) => error.to_string().into(),
    }
}

/// Whether the brokers answer a client that knows nothing but where to begin: there, and where they say that they are.
fn answers(settings: &Settings, topic: &str) -> Result<(), String> {
    let client: BaseProducer<client::Quiet> =
        client::admin(settings).create_with_context(client::Quiet).map_err(|error| error.to_string())?;
    let client = client.client();
    let told = client.fetch_metadata(Some(topic), CONNECT).map_err(|error| error.to_string())?;
    if told.brokers().is_empty() {
        return Err("who answers knows of no broker".into());
    }
    // One partition of each leader: a leader is asked at the address that it was named with.
    let partitions =
        told.topics().iter().filter(|told| told.name() == topic).flat_map(|told| told.partitions());
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
            addresses(&told)
        ),
    })
}

/// Whether a partition's leader answers, if only to refuse.
fn lead<C: ClientContext>(client: &Client<C>, topic: &str, partition: i32) -> Result<(), KafkaError> {
    let asked = client.fetch_watermarks(topic, partition, CONNECT).map(drop);
    asked.or_else(|error| match error.rdkafka_error_code() {
        // Below 0 are librdkafka's own codes, above it the brokers'.
        Some(code) if code as i32 > 0 => Ok(()),
        _ => Err(error),
    })
}

fn addresses(told: &Metadata) -> String {
    let named = told.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port()));
    named.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn awaited(asking: &mut Asking<Reach>, since: Instant) -> Reach {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(answer) = asking.answer(since, || panic!("one is under way")) {
                return answer;
            }
            assert!(Instant::now() < deadline, "no answer in time");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_question_is_answered_once_and_then_asked_again() {
        let (mut asking, since) = (Asking::default(), Instant::now());
        let (go_on, wait) = mpsc::channel::<Reach>();
        assert_eq!(asking.answer(since, move || wait.recv().unwrap()), None);
        assert_eq!(asking.answer(since, || panic!("one is under way")), None);
        go_on.send(Reach::Lost).unwrap();
        assert_eq!(awaited(&mut asking, since), Reach::Lost);
        assert_eq!(asking.answer(since, || Reach::Reached), None, "it is asked, not known");
    }

    #[test]
    fn an_answer_to_a_question_from_before_the_last_sign_does_not_count() {
        let (mut asking, since) = (Asking::default(), Instant::now());
        let (answered, wait) = mpsc::channel();
        let asked = move || {
            answered.send(()).unwrap();
            Reach::Lost
        };
        assert_eq!(asking.answer(since, asked), None);
        // The answer is on its way, or there.
        wait.recv().unwrap();
        let sign = Instant::now();
        assert_eq!(asking.answer(sign, || Reach::Reached), None, "it is asked anew");
        assert_eq!(awaited(&mut asking, sign), Reach::Reached);
    }
}

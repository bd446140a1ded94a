//! Whether a client still finds the brokers, or has lost them for good.
//!
//! Since its version 2.10 librdkafka drops each broker that an answer to Metadata does not name. A Kafka node that is
//! alone names none, not even itself, while its own controller takes it for dead: for a moment after it was started or
//! frozen. A client that hears this has no brokers left, and should begin again at `bootstrap.servers`. But where its
//! threads have shut the connections down before the rest of that same answer is read, the answer ends the new
//! beginning as well, and marks it as under way: from then on the client looks for nobody, and says nothing (its issue
//! [5301](https://github.com/confluentinc/librdkafka/issues/5301), open as of 2.13). Only another client helps.

use std::{thread, time::Duration};

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use rdkafka::{
    ClientContext,
    client::Client,
    producer::{BaseProducer, Producer},
};

use super::{Settings, client};

/// For one answer of the brokers.
const ASK: Duration = Duration::from_secs(2);

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

/// A question under way, on a thread of its own: whoever polls can't wait for seconds.
#[derive(Debug, Default)]
pub(crate) struct Asking(Option<Receiver<Reach>>);

impl Asking {
    /// The answer to the question under way, where it is there; where none is under way, `ask` is from now on.
    pub fn answer(&mut self, ask: impl FnOnce() -> Reach + Send + 'static) -> Option<Reach> {
        let Some(answer) = &self.0 else {
            let (done, answer) = bounded(1);
            let asking = thread::Builder::new().name("reach".into()).spawn(move || {
                // Nobody listens any more where the session has ended.
                let _ = done.send(ask());
            });
            self.0 = asking.is_ok().then_some(answer);
            return asking.err().map(|error| Reach::Away(format!("a thread could not be started: {error}")));
        };
        let answer = match answer.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Reach::Away("the thread that asks failed".into()),
            Ok(reach) => reach,
        };
        self.0 = None;
        Some(answer)
    }
}

/// Asks for the commands topic, through this client and where it does not answer through a new one.
pub(crate) fn reach<C: ClientContext>(client: &Client<C>, settings: &Settings) -> Reach {
    let reached = || client.fetch_metadata(Some(&settings.topics.commands), ASK).is_ok();
    if reached() {
        return Reach::Reached;
    }
    match answers(settings) {
        Err(reason) => Reach::Away(reason),
        // Asked once more: the brokers may have come back between the two.
        Ok(()) if reached() => Reach::Reached,
        Ok(()) => Reach::Lost,
    }
}

/// Whether the brokers answer a client that knows nothing but where to begin, and name themselves.
fn answers(settings: &Settings) -> Result<(), String> {
    let client: BaseProducer<client::Quiet> =
        client::admin(settings).create_with_context(client::Quiet).map_err(|error| error.to_string())?;
    let told = client.client().fetch_metadata(Some(&settings.topics.commands), ASK);
    let told = told.map_err(|error| error.to_string())?;
    if told.brokers().is_empty() { Err("who answers knows of no broker".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Instant};

    use super::*;

    #[test]
    fn a_question_is_answered_once_and_then_asked_again() {
        let mut asking = Asking::default();
        let (go_on, wait) = mpsc::channel::<Reach>();
        assert_eq!(asking.answer(move || wait.recv().unwrap()), None);
        assert_eq!(asking.answer(|| panic!("one is under way")), None);
        go_on.send(Reach::Lost).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let answer = loop {
            if let Some(answer) = asking.answer(|| panic!("one is under way")) {
                break answer;
            }
            assert!(Instant::now() < deadline, "no answer in time");
            thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(answer, Reach::Lost);
        assert_eq!(asking.answer(|| Reach::Reached), None, "it is asked, not known");
    }
}

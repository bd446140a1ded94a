//! What becomes of the producer where a transaction fails.

use super::*;
use crate::{
    activity::{OutputRecord, ReplyRecord},
    processor::Unobserved,
};

/// A sink whose producer can be made anew, unless there is a reason why not.
#[derive(Default)]
struct Made(Option<String>);

impl Sink for Made {
    type Membership = u32;

    fn reset(&mut self) -> Result<(), PublishError> {
        self.0.clone().map_or(Ok(()), |reason| Err(PublishError::Unknown(reason)))
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    fn send(&mut self, _: OutputTopic, _: &OutputRecord) -> Result<(), PublishError> {
        Ok(())
    }

    fn reply(&mut self, _: &ReplyRecord) -> Result<(), PublishError> {
        Ok(())
    }

    fn commit(&mut self, _: &[(i32, i64)], _: &u32) -> Result<ReplyCounts, PublishError> {
        Ok(ReplyCounts::default())
    }

    fn abort(&mut self) -> Result<(), PublishError> {
        Ok(())
    }
}

fn publish() -> Publish<Made> {
    let options = PublishOptions {
        topic: "c".into(),
        source: "s".into(),
        rejection_bytes: 1 << 20,
        replies: ReplyTopics::default(),
        output_bytes: 1 << 20,
    };
    let ownership = Arc::new(Ownership::default());
    Publish::new(Made::default(), ownership, options, Arc::new(Unobserved), Timing::default())
}

fn fenced_after(took: [Duration; 2]) -> [Result<Progress, ProcessorError>; 2] {
    let mut publish = publish();
    took.map(|took| publish.recover(PublishError::Fenced("newer".into()), took, Place::default()))
}

#[test]
fn two_fencings_are_somebody_else_and_time_outs_are_not() {
    let (soon, late) = (Duration::from_millis(5), Timing::default().transaction);
    let [first, second] = fenced_after([soon, soon]);
    assert!(first.is_ok());
    assert!(matches!(second, Err(ProcessorError::FencedTwice(_))), "{second:?}");
    for took in [[late, late], [late, soon], [soon, late]] {
        assert!(fenced_after(took).iter().all(Result::is_ok), "{took:?}");
    }
}

#[test]
fn who_asks_is_told_that_it_waits_for_a_producer() {
    let mut publish = publish();
    let waits_for = |publish: &Publish<Made>| publish.ownership.publisher_waits_for().unwrap_or_default();
    publish.sink.0 = Some("nobody answers".into());
    let unknown = PublishError::Unknown("no answer in time".into());
    publish.recover(unknown, Duration::ZERO, Place::default()).unwrap();
    assert_eq!(waits_for(&publish), "no producer yet: nobody answers");
    publish.sink.0 = None;
    publish.attempt(&[], Place::default()).unwrap();
    assert_eq!(waits_for(&publish), "");
}

//! What becomes of the producer where a transaction fails, and what is sent.

use super::*;
use crate::{
    activity::{Coordinates, Decider, Header, Limits, OutputRecord, Reading, Record, ReplyRecord},
    processor::Unobserved,
};

/// A sink whose producer can be made anew, unless there is a reason why not. It keeps what it is sent.
#[derive(Default)]
struct Made(Option<String>, Vec<OutputRecord>);

impl Sink for Made {
    type Membership = u32;

    fn reset(&mut self) -> Result<(), PublishError> {
        self.0.clone().map_or(Ok(()), |reason| Err(PublishError::Unknown(reason)))
    }

    fn begin(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    fn send(&mut self, _: OutputTopic, record: &OutputRecord) -> Result<(), PublishError> {
        self.1.push(record.clone());
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

/// The memory of one is used for the next.
#[test]
fn a_notification_has_nothing_of_the_one_before_it() {
    let outcome = |offset: i64, value: &str, headers: Vec<Header>| {
        let coordinates = Coordinates { partition: 0, offset, timestamp: 0 };
        let record = Record { coordinates, key: None, value: Some(value.into()), headers };
        let Reading::Valid { event, .. } = Decider::new("c", Limits::default()).read(&record).reading else {
            panic!("a valid command")
        };
        Outcome { record, decision: Decision::Accepted(event) }
    };
    let long = format!(
        r#"{{"objectType":"case","objectId":"1","content":"{}","targets":[{{"targetId":"anna","notify":true}},{{"@type":"Everyone","notify":true}}]}}"#,
        "x".repeat(1000)
    );
    let short = r#"{"objectType":"a","objectId":"2","targets":[{"targetId":"b","notify":true}]}"#;
    let outcomes = [
        outcome(0, &long, vec![Header::new("traceparent", "00-1"), Header::new("tracestate", "a=1")]),
        outcome(1, short, vec![Header::new("tracestate", "b")]),
        outcome(2, short, Vec::new()),
    ];
    let mut publish = publish();
    for outcome in &outcomes {
        publish.send(outcome, &mut Sent::default()).unwrap();
    }
    let expected: Vec<_> = outcomes
        .iter()
        .flat_map(|Outcome { record, decision }| {
            let Decision::Accepted(event) = decision else { panic!("not accepted") };
            event.notifications("s", &record.headers).map(|notification| notification.record)
        })
        .collect();
    assert_eq!(expected.len(), 4);
    assert_eq!(publish.sink.1, expected);
}

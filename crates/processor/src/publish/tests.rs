//! What is sent, and what happens to the producer if a transaction fails.

use contract::{Coordinates, Decider, Decision, Fate, Header, Limits, Reading, Record};
use rdkafka::error::RDKafkaErrorCode;
use testing::said_by;

use super::{transaction::Sent, *};
use crate::{
    ownership::{self, Owner},
    scripted::{self, ScriptedSink, Unobserved},
};

fn publish() -> Publish<ScriptedSink> {
    with_owner().1
}

fn with_owner() -> (Owner<u32>, Publish<ScriptedSink>) {
    let (owner, publication) = ownership::handles();
    let publish = Publish::new(
        ScriptedSink::default(),
        publication,
        scripted::publish_options(),
        Arc::new(Unobserved),
        Timing::default(),
    );
    (owner, publish)
}

fn open(publish: &mut Publish<ScriptedSink>) -> Result<(), ProcessorError> {
    publish_all(publish, &[])
}

/// As the pipeline does, but for the pauses.
fn publish_all(publish: &mut Publish<ScriptedSink>, batch: &[Chunk]) -> Result<(), ProcessorError> {
    let mut from = BatchPlace::default();
    loop {
        match publish.attempt(batch, from)? {
            Attempt::Through => return Ok(()),
            Attempt::UpTo(_) if batch.is_empty() => return Ok(()),
            Attempt::UpTo(place) => from = place,
            Attempt::Wait(_) => {}
        }
    }
}

fn fenced_after(took: [Duration; 2], fenced_once: Duration) -> [Result<Attempt, ProcessorError>; 2] {
    let mut publish = publish();
    publish.timing.fenced_once = fenced_once;
    took.map(|took| publish.recover(PublishError::Fenced("newer".into()), took, BatchPlace::default()))
}

#[test]
fn two_fencings_are_somebody_else_and_time_outs_are_not() {
    let (soon, late) = (Duration::from_millis(5), Timing::default().aborted_by_others);
    let [first, second] = fenced_after([soon, soon], Duration::ZERO);
    assert!(first.is_ok());
    assert!(matches!(second, Err(ProcessorError::FencedTwice(_))), "{second:?}");
    for took in [[late, late], [late, soon], [soon, late]] {
        assert!(fenced_after(took, Duration::ZERO).iter().all(Result::is_ok), "{took:?}");
    }
    // Both producers at nearly one time.
    assert!(fenced_after([soon, soon], Timing::default().fenced_once).iter().all(Result::is_ok));
}

#[test]
fn a_missing_producer_is_the_reason_for_waiting() {
    let (owner, mut publish) = with_owner();
    let waits_for = |owner: &Owner<u32>| owner.publisher_waits_for().unwrap_or_default();
    // Before the first producer, however long the attempt to make it takes to fail.
    assert_eq!(waits_for(&owner), "making the first producer");
    publish.sink.unreachable = Some("nobody answers".into());
    let unknown = PublishError::Unknown("no answer in time".into());
    publish.recover(unknown, Duration::ZERO, BatchPlace::default()).unwrap();
    assert_eq!(waits_for(&owner), "no producer yet: nobody answers");
    publish.sink.unreachable = None;
    publish.attempt(&[], BatchPlace::default()).unwrap();
    assert_eq!(waits_for(&owner), "");

    let (owner, mut publish) = with_owner();
    open(&mut publish).unwrap();
    assert_eq!(waits_for(&owner), "", "the first one was made");
}

#[test]
fn attempts_to_get_a_producer_that_fail_alike_are_one_line() {
    let mut publish = publish();
    publish.sink.unreachable = Some("the same each time".into());
    let (said, ()) = said_by(|| {
        for _ in 0..20 {
            publish.attempt(&[], BatchPlace::default()).unwrap();
        }
    });
    assert_eq!(said.matches("the same each time").count(), 1, "{said}");
    assert!(said.contains("WARN") && said.contains("no producer yet; trying again: "), "{said}");
}

/// The next notification reuses the memory of the last.
#[test]
fn a_notification_has_nothing_of_the_one_before_it() {
    let outcome = |offset: i64, value: &str, headers: Vec<Header>| {
        let coordinates = Coordinates { partition: 0, offset, timestamp: 0 };
        let record = Record { coordinates, key: None, value: Some(value.to_owned().into()), headers };
        let Reading::Valid { event, .. } = Decider::new("c", Limits::default()).read(&record).reading else {
            panic!("a valid command")
        };
        (record, Decision::Accepted(event))
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
    for (record, decision) in &outcomes {
        publish.send(record, decision, &mut Sent::default()).unwrap();
    }
    let expected: Vec<_> = outcomes
        .iter()
        .flat_map(|(record, decision)| {
            let Decision::Accepted(event) = decision else { panic!("not accepted") };
            event.notifications("s", &record.headers).map(|notification| notification.record)
        })
        .collect();
    assert_eq!(expected.len(), 4);
    assert_eq!(publish.sink.all, expected);
}

/// Publishes commands 0 to 5 of partition 0, and 0 to 2 of partition 1, as an intake would that begins again at the
/// cursors after each restart.
fn published_by((owner, publish): &mut (Owner<u32>, Publish<ScriptedSink>)) -> Result<(), ProcessorError> {
    let outcome = |partition: i32, offset: i64| {
        let coordinates = Coordinates { partition, offset, timestamp: 0 };
        let value = format!(
            r#"{{"objectType":"case","objectId":"{partition}-{offset}","targets":[{{"targetId":"a","notify":true}}]}}"#
        );
        let record =
            Record { coordinates, key: None, value: Some(value.to_owned().into()), headers: Vec::new() };
        let Reading::Valid { event, .. } = Decider::new("c", Limits::default()).read(&record).reading else {
            panic!("a valid command")
        };
        (record, Decision::Accepted(event))
    };
    let ends: BTreeMap<i32, i64> = [(0, 6), (1, 3)].into();
    let mut published: BTreeMap<i32, i64> = [(0, 0), (1, 0)].into();
    open(publish)?;
    owner.set_membership(Some(1));
    for _ in 0..20 {
        let batch: Vec<_> = ends
            .iter()
            .map(|(&partition, &end)| {
                let from = published[&partition];
                let epoch = owner.start_partition(partition, from, from, 0);
                let commands = (from..end).map(|offset| outcome(partition, offset));
                let (records, fates) =
                    commands.map(|(record, decision)| (record, Fate::Decided(decision))).unzip();
                Chunk {
                    partition,
                    epoch,
                    first_offset: from,
                    next_offset: end,
                    is_logged: false,
                    records,
                    fates,
                }
            })
            .collect();
        let ended = publish_all(publish, &batch);
        for (partition, next_offset) in publish.sink.committed.iter().flatten() {
            published.insert(*partition, *next_offset);
        }
        ended?;
        if !owner.take_restart() {
            assert_eq!(published, ends);
            return Ok(());
        }
    }
    panic!("it never ends: {published:?}");
}

#[test]
fn stops_at_a_command_whose_output_is_refused_after_publishing_all_before_it() {
    for (poison, at) in [("0-0", (0, 0)), ("0-3", (0, 3)), ("0-5", (0, 5)), ("1-0", (1, 0)), ("1-2", (1, 2))]
    {
        let mut session = with_owner();
        session.1.sink.poison = Some(poison);
        let error = published_by(&mut session).unwrap_err();
        let publish = session.1;
        let ProcessorError::OutputRefused { partition, offset, .. } = &error else { panic!("{error}") };
        assert_eq!((*partition, *offset), at);
        let said = error.to_string();
        let wanted = format!("partition {partition}, offset {offset}: ");
        assert!(said.starts_with(&wanted) && said.contains("a record for 'r': no. "), "{said}");
        let committed = publish.sink.committed.iter().flatten().rfind(|(p, _)| p == partition);
        assert_eq!(committed.map_or(0, |(_, next_offset)| *next_offset), *offset);
    }
}

#[test]
fn commands_refused_together_and_accepted_alone_are_published() {
    let mut session = with_owner();
    session.1.sink.most = Some(1);
    published_by(&mut session).unwrap();
    assert!(session.1.suspect.is_none(), "the suspicion outlives its end");
    let mut unsuspected = with_owner();
    published_by(&mut unsuspected).unwrap();
    assert_eq!(unsuspected.1.sink.committed.len(), 1);
}

#[test]
fn failures_report_their_abort_reason() {
    #[derive(Default)]
    struct Reasons(std::sync::Mutex<Vec<AbortReason>>);
    impl Observer for Reasons {
        fn aborted(&self, reason: AbortReason) {
            self.0.lock().unwrap().push(reason);
        }
    }
    let reasons = Arc::new(Reasons::default());
    let mut publish = publish();
    publish.observer = Arc::clone(&reasons) as Arc<dyn Observer>;
    let refusal = OutputRefusal::of(RDKafkaErrorCode::InvalidRecord, || "no".into()).unwrap();
    for error in [
        PublishError::Aborted("again and again".into()),
        PublishError::Refused(refusal),
        PublishError::TimedOut("no answer".into()),
        PublishError::Unknown("strange".into()),
    ] {
        publish.recover(error, Duration::ZERO, BatchPlace::default()).unwrap();
    }
    publish.recover(PublishError::Fenced("newer".into()), Duration::ZERO, BatchPlace::default()).unwrap();
    let names: Vec<_> = reasons.0.lock().unwrap().iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names, ["refused", "refused", "timed_out", "unknown", "fenced"]);
}

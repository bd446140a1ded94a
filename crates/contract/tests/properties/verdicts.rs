//! Verdicts are reproducible and bounded, for any record at all.

use activity_stream_contract::{Decider, Event, Limits, Reading, Record, rejection_record};
use proptest::{collection::vec, prelude::*, sample::select};
use testing::contract::*;

use crate::strategies::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn gives_the_same_verdict_every_time(record in any_record()) {
        let verdict = decider().read(&record);
        prop_assert_eq!(&verdict, &decider().read(&record.clone()));
        if let Reading::Rejected(problems) = verdict.reading {
            prop_assert!(!problems.0.is_empty());
            let rejection = rejection_record(&record, TOPIC, &problems, usize::MAX);
            prop_assert_eq!(&rejection.value, &record.value);
            prop_assert!(rejection.headers.starts_with(&record.headers));
        }
    }

    #[test]
    fn events_survive_the_log_unchanged(record in any_record(), command in command()) {
        let record = Record { value: Some(command.into()), ..record };
        if let Reading::Valid { event, .. } = decider().read(&record).reading {
            let bits = decider().topic_bits();
            let again = Event::from_log(bits, record.coordinates, event.json().to_owned()).unwrap();
            prop_assert_eq!(&again, &event);
            let from_log: Vec<_> = again.notifications("s", &record.headers).collect();
            let decided: Vec<_> = event.notifications("s", &record.headers).collect();
            prop_assert_eq!(from_log, decided);
        }
    }

    /// Nothing of what came before in the same memory shows.
    #[test]
    fn notifications_in_memory_that_is_used_again_equal_those_in_their_own(
        commands in vec(command(), 1..6),
        records in vec(any_record(), 6)
    ) {
        let mut text = String::new();
        for (command, record) in commands.into_iter().zip(records) {
            let event = event(command);
            let mut notifications = event.notifications("s", &record.headers);
            for alone in event.notifications("s", &record.headers) {
                let again = notifications.next_in(&mut text).expect("as many");
                prop_assert_eq!((again.id(), again.output().to_record()), (&*alone.id, alone.record));
            }
            prop_assert!(notifications.next_in(&mut text).is_none());
        }
    }

    #[test]
    fn limits_problems_in_number_and_size(
        bad in vec(select(vec!["\"\"", "7", "{\"x\":1}", "{\"notify\":\"\\u0000\"}", "\"\\u0001\"", "{\"\\u0002\":2}"]), 1..400),
        name in "[\\u0000-\\u007f]{0,300}",
        problems in 1..150_usize,
        problem_bytes in 4_000..70_000_usize,
    ) {
        let limits = Limits { problems, problem_bytes, ..Limits::default() };
        let value = format!("{{{name}:[],\"targets\":[{}]}}", bad.join(","), name = quote(&name));
        let Reading::Rejected(found) = Decider::new(TOPIC, limits).read(&record(value)).reading else {
            return Err(TestCaseError::fail("accepted"));
        };
        prop_assert!(found.0.len() <= problems + 1);
        prop_assert!(found.to_json().len() <= problem_bytes);
        let last = found.0.iter().position(|problem| problem.code == "too_many_problems");
        prop_assert!(last.is_none_or(|last| last + 1 == found.0.len()));
    }
}

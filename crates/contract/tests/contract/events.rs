//! Events: what the log contains and shows.

use activity_stream_contract::Event;
use testing::contract::*;

#[test]
fn reads_events_back_from_the_log() {
    let targets =
        r#""content":"x","targets":["a",{"@type":"Members","notify":true},{"targetId":"b/c","notify":true}]"#;
    for command in CALLS.map(|(_, command)| command.to_owned()).into_iter().chain([entry(targets)]) {
        let event = event(command);
        let again = Event::from_log(decider().topic_bits(), AT, event.json().to_owned()).unwrap();
        assert_eq!(again, event);
    }
    let bits = decider().topic_bits();
    for text in [
        "",
        "[]",
        "{}",
        r#"{"objectType":"a","objectId":"b"}"#,
        r#"{"targets":[{"@type":"Everyone","notify":false}],"objectType":"a","objectId":"b"}"#,
        r#"{"objectType":"a","objectId":"b" ,"targets":[{"@type":"Everyone", "notify":true}]}"#,
        r#"{"objectType":"a","objectId":"b","targets":[{"@type":"Somebody","notify":false}]}"#,
        r#"{"objectType":"a","objectId":1,"targets":[{"@type":"Everyone","notify":false}]}"#,
    ] {
        assert!(Event::from_log(bits, AT, text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn shows_targets_with_their_names() {
    let event = event(CALLS[2].1);
    let shown: Vec<_> =
        event.targets().into_iter().map(|each| (each.audience, each.name, each.notify)).collect();
    assert_eq!(
        shown,
        [
            ("Identity:nordlys/administrators".to_owned(), Some("Administrators".to_owned()), false),
            ("Identity:nordlys/accounting".to_owned(), Some("Accounting".to_owned()), true),
        ]
    );
}

#[test]
fn a_verdict_identifies_its_record() {
    let verdict = decider().read(&record(entry("")));
    assert_eq!((verdict.coordinates, verdict.checksum), (AT, record(entry("")).checksum()));
}

//! Notifications: keys, trace headers and size.

use activity_stream_contract::{Decider, Decision, Header, Limits, Reading, Record};
use testing::contract::*;

#[test]
fn keys_notifications_by_audience() {
    let keys = |targets: &str| -> Vec<String> {
        let event = event(format!(r#"{{"objectType":"a/b","objectId":"1:2%é","targets":{targets}}}"#));
        let notifications = event.notifications("s", &[]);
        notifications.map(|each| text(each.record.key.as_deref().unwrap()).to_owned()).collect()
    };
    let targets = r#"[{"targetId":"a/b:c%d","notify":true},{"targetId":{"id":"a","domain":"d/e"},"notify":true},
        {"@type":"Members","notify":true},{"@type":"Members","targetId":"x/y","notify":true},"unnotified",
        {"@type":"Everyone","notify":true},{"@type":"Public","notify":true}]"#;
    assert_eq!(
        keys(targets),
        [
            "Identity:a%2Fb%3Ac%25d",
            "Identity:d%2Fe/a",
            "Members:object:a%2Fb/1%3A2%25é",
            "Members:channel:x%2Fy",
            "Everyone",
            "Public"
        ]
    );
}

#[test]
fn copies_the_last_of_each_trace_header() {
    let event = event(CALLS[2].1);
    let headers = [
        Header::new("tracestate", b"\xff".to_vec()),
        Header::new("traceparent", "first"),
        Header::new("traceparent", "last"),
        Header::new("Traceparent", "other"),
        Header::new("x", "y"),
    ];
    let notification = event.notifications("s", &headers).next().unwrap();
    assert_eq!(notification.record.headers[7..], [headers[2].clone(), headers[0].clone()]);
}

#[test]
fn drops_trace_headers_without_a_value() {
    let event = event(CALLS[2].1);
    for value in [None, Some("".into())] {
        let without = |name: &'static [u8]| Header { name: name.into(), value: value.clone() };
        let headers = [
            Header::new("traceparent", "earlier"),
            without(b"traceparent"),
            Header::new("tracestate", "s"),
            Header::new("kafka_replyTopic", "answers"),
        ];
        let notification = event.notifications("s", &headers).next().unwrap().record;
        assert_eq!(notification.headers[7..], [headers[2].clone()]);
        let command = Record { headers: headers.to_vec(), ..record("") };
        let reply = answering().reply_topics().reply(&command, &Decision::Accepted(event.clone())).unwrap();
        assert_eq!(reply.record.headers[1..], [headers[2].clone()]);
        let bare =
            event.notifications("s", &[without(b"traceparent"), without(b"tracestate")]).next().unwrap();
        assert_eq!(bare.record.headers.len(), 7);
    }
}

#[test]
fn trace_headers_never_make_a_notification_too_large_for_a_broker() {
    // As large as a command may be, in a record as large as brokers take by default.
    let about = entry(r#""targets":[{"targetId":"u","notify":true}],"content":"""#);
    let content = "x".repeat(Limits::default().value_bytes - about.len());
    let value = about.replace(r#""content":"""#, &format!(r#""content":"{content}""#));
    assert_eq!(value.len(), Limits::default().value_bytes);
    let record = |bytes: usize| record_with(&value, &[("tracestate", "t".repeat(bytes).as_str())]);
    let of = |record: &Record| {
        let (event, _) = read(record).unwrap();
        event.notifications("s", &record.headers).next().unwrap().record
    };
    assert!(of(&record(1_048_588 - value.len() - 100)).bytes() < 1_000_000);
    assert_eq!(of(&record(4096)).headers.len(), of(&record(4097)).headers.len() + 1);
}

#[test]
fn limits_output_independently_of_the_source() {
    let targets: Vec<_> = (0..50).map(|id| format!(r#"{{"targetId":"{id}","notify":true}}"#)).collect();
    let value = entry(&format!(r#""content":"{}","targets":[{}]"#, "x".repeat(5000), targets.join(",")));
    let headers = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let record = record_with(&value, &headers);
    let (event, _) = read(&record).unwrap();
    let bytes: usize = event.notifications("", &record.headers).map(|each| each.record.bytes()).sum();
    let with = |output_bytes| {
        Decider::new(TOPIC, Limits { output_bytes, ..Limits::default() }).read(&record).reading
    };
    assert!(matches!(with(bytes), Reading::Valid { .. }));
    let Reading::Rejected(problems) = with(bytes - 1) else { panic!("accepted") };
    assert_eq!(codes(&problems), [" output_too_large"]);

    // At the contract's own limits: 1,000 audiences of an entry of 100 KiB.
    let targets: Vec<_> = (0..1000).map(|id| format!(r#"{{"targetId":"{id}","notify":true}}"#)).collect();
    let large = entry(&format!(r#""content":"{}","targets":[{}]"#, "x".repeat(100_000), targets.join(",")));
    assert_eq!(testing::contract::problems(large), [" output_too_large"]);
}

//! Snapshots of everything that goes to Kafka.

use std::fmt::Write;

use activity_stream_contract::{
    Code, Decision, Header, Limits, OutputRecord, Record, ReplyTopics, rejection_record,
};
use bytes::Bytes;
use testing::contract::*;

/// A record as lines: headers, key, value.
fn shown(record: &OutputRecord) -> String {
    let bytes = |bytes: &Option<Bytes>| {
        bytes.as_ref().map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let mut out = String::new();
    for header in &record.headers {
        writeln!(out, "{}: {}", text(&header.name), bytes(&header.value)).unwrap();
    }
    writeln!(out, "key {}\nvalue {}", bytes(&record.key), bytes(&record.value)).unwrap();
    out
}

fn shown_event(command: &Record) -> String {
    let (event, _) = read(command).unwrap_or_else(|problems| panic!("rejected: {problems}"));
    let mut out = format!("event {}\n{}\n", event.id(), event.json());
    for notification in event.notifications("activity-stream", &command.headers) {
        write!(out, "\nnotification {}\n{}", notification.id, shown(&notification.record)).unwrap();
    }
    out
}

#[test]
fn the_five_calls() {
    for (name, command) in CALLS {
        insta::assert_snapshot!(name, shown_event(&record(command)));
    }
}

#[test]
fn notifications_to_every_kind_of_audience() {
    let command = r#"{"@type":"assign","actor":{"Id":"kari","Name":"Kari Nordmann","Type":"User"},
        "objectType":"case","objectId":"c/7","publishedAt":"2026-11-24T01:20:00.1234567+01:00",
        "targets":["ola",{"targetId":"ola","notify":true},{"@type":"Everyone","notify":true},
            {"@type":"Members","notify":true},{"@type":"Members","targetId":"c:1","notify":true},{"@type":"Public","notify":true}],
        "attachments":["a.pdf",{"id":"https://example.com/","@type":"link","name":"A \"link\""}],
        "content":"Ola, se på denne","task":{"id": 7},"href":"\/cases\/7"}"#;
    let trace =
        [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), ("tracestate", "a=b")];
    insta::assert_snapshot!("audiences", shown_event(&record_with(command, &trace)));
}

#[test]
fn a_rejection() {
    let command =
        record_with(r#"{"objectTyp":"case","targets":[{"targetID":"x","notify":"yes"}]}"#, &[("a", "b")]);
    let problems = read(&command).unwrap_err();
    insta::assert_snapshot!("rejection", shown(&rejection_record(&command, TOPIC, &problems, 1 << 20)));
}

#[test]
fn replies() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let asks = [
        ("kafka_replyTopic", "answers"),
        ("kafka_replyPartition", "\0\0\u{1}\u{2}"),
        ("kafka_correlationId", "c-1"),
        ("traceparent", trace),
    ];
    let command = record_with(&entry(""), &asks);
    let (event, _) = read_with(&answering(), &command).unwrap();
    let of = event.id();
    let problems = problems_of(&record_with(r#"{"objectType":"case","objectId":""}"#, &asks));
    let decisions = [Decision::Accepted(event), Decision::Duplicate { of }, Decision::Rejected(problems)];
    let topics: ReplyTopics = ["answers".to_owned()].into_iter().collect();
    let mut out = String::new();
    for decision in decisions {
        let reply = topics.reply(&command, &decision).unwrap();
        writeln!(out, "to {} {:?}\n{}", reply.topic, reply.partition, shown(&reply.record)).unwrap();
    }
    insta::assert_snapshot!("replies", out);
}

#[test]
fn problems_of_bad_reply_headers() {
    let asks = |name: &str, value: Option<&[u8]>| Header {
        name: name.as_bytes().to_vec().into(),
        value: value.map(Bytes::copy_from_slice),
    };
    let topic = || asks("kafka_replyTopic", Some(b"answers"));
    let long = vec![b'x'; 10_240];
    let bad = [
        vec![asks("kafka_replyTopic", None)],
        vec![asks("kafka_replyTopic", Some(b""))],
        vec![asks("kafka_replyTopic", Some(b"a\xff"))],
        vec![asks("kafka_replyTopic", Some(b"answer"))],
        vec![asks("kafka_replyTopic", Some(&long))],
        vec![topic(), asks("kafka_replyTopic", Some(b"activity.commands"))],
        vec![topic(), asks("kafka_replyPartition", None)],
        vec![topic(), asks("kafka_replyPartition", Some(b"12"))],
        vec![topic(), asks("kafka_replyPartition", Some(b"\xff\xff\xff\xff"))],
        vec![topic(), asks("kafka_correlationId", Some(&long))],
    ];
    let mut shown: Vec<_> = bad
        .into_iter()
        .map(|headers| problems_of(&Record { headers, ..record(entry("")) }).to_string())
        .collect();
    let asked = record_with(&entry(""), &[("kafka_replyTopic", "answers")]);
    shown.push(read_with(&decider(), &asked).unwrap_err().to_string());
    let many: ReplyTopics = (1..10).map(|number| format!("answers-{number}")).collect();
    let many = activity_stream_contract::Decider::new(TOPIC, Limits::default()).with_reply_topics(many);
    shown.push(read_with(&many, &asked).unwrap_err().to_string());
    insta::assert_snapshot!("bad-reply-headers", shown.join("\n"));
}

fn problems_of(command: &Record) -> activity_stream_contract::Problems {
    read_with(&answering(), command).expect_err("rejected")
}

/// Invalid values, at least one for each rule of the contract.
const BAD: &[&str] = &[
    "",
    "{\"objectType\":\"case\",}",
    "\u{feff}{}",
    "[{}]",
    "\"a long text that is no object at all, which is cut where it becomes too long to repeat\"",
    "{}",
    r#"{"objectType":null,"objectId":7}"#,
    r#"{"object_type":"case","ObjectId":"1"}"#,
    r#"{"objectType":"","objectId":"a\u0007b"}"#,
    r#"{"objectType":"case","objectId":"1","@type":"","actor":["x"]}"#,
    r#"{"objectType":"case","objectId":"1","type":"a","@type":"b"}"#,
    r#"{"objectType":"case","objectId":"1","free":1,"free":2}"#,
    r#"{"objectType":"case","objectId":"1","actor":{"ID":"x","type":"user"}}"#,
    r#"{"objectType":"case","objectId":"1","actor":{"id":"","domain":"","type":7}}"#,
    r#"{"objectType":"case","objectId":"1","publishedAt":"24.11.2026"}"#,
    r#"{"objectType":"case","objectId":"1","content":{"text":"x"}}"#,
    r#"{"objectType":"case","objectId":"1","content":"\ud83d"}"#,
    r#"{"objectType":"case","objectId":"1","\ud83d":"x"}"#,
    r#"{"objectType":"case","objectId":"1","tragets":["x"]}"#,
    r#"{"objectType":"case","objectId":"1","targets":null}"#,
    r#"{"objectType":"case","objectId":"1","targets":[]}"#,
    r#"{"objectType":"case","objectId":"1","targets":"Everyone"}"#,
    r#"{"objectType":"case","objectId":"1","targets":[null,7,{},{"notify":true}]}"#,
    r#"{"objectType":"case","objectId":"1","targets":["a",{"targetId":"b","notify":"yes"}]}"#,
    r#"{"objectType":"case","objectId":"1","targets":[{"targetId":"b","notfy":true},{"id":"b","notify":true}]}"#,
    r#"{"objectType":"case","objectId":"1","targets":[{"@type":"everyone"},{"@type":"Somebody"},{"@type":7}]}"#,
    r#"{"objectType":"case","objectId":"1","targets":[{"@type":"Identity"},{"@type":"Members","targetId":{"id":"x"}}]}"#,
    r#"{"objectType":"case","objectId":"1","targets":[{"@type":"Everyone","targetId":"x"},{"targetId":{"id":"a","name":"A"},"name":"B"},{"@type":"Members","name":"M"}]}"#,
    r#"{"objectType":"case","objectId":"1","bcc":["x"],"To":[{"id":"y"}],"publishedAt":null,"published":null}"#,
    r#"{"objectType":"case","objectId":"1","attachments":"bill.pdf"}"#,
    r#"{"objectType":"case","objectId":"1","attachments":[null,{"@type":"files","id":"x"},{"ID":"x"}]}"#,
];

#[test]
fn problems_of_bad_commands() {
    let mut out = String::new();
    for value in BAD {
        let problems = read(&record(*value)).expect_err(value);
        writeln!(out, "{value}\n{}\n", problems.to_string().replace('\n', "\n    ").replacen("", "    ", 1))
            .unwrap();
    }
    insta::assert_snapshot!("bad-commands", out);
}

#[test]
fn problems_of_bad_records() {
    let header = |value: Option<&[u8]>| Header {
        name: "idempotency-key".into(),
        value: value.map(Bytes::copy_from_slice),
    };
    let good = record(entry(""));
    let with = |headers: Vec<Header>| Record { headers, ..good.clone() };
    let bad = [
        Record { value: None, ..good.clone() },
        Record { coordinates: activity_stream_contract::Coordinates { timestamp: -1, ..AT }, ..good.clone() },
        Record { value: Some(b"{\"a\":\"\xfe\"}"[..].into()), ..good.clone() },
        Record { value: Some(vec![b' '; 600_000].into()), ..good.clone() },
        Record {
            value: Some(entry(&format!("\"a\":{}{}", "[".repeat(70), "]".repeat(70))).into()),
            ..good.clone()
        },
        Record { key: None, ..with(vec![header(Some(b"k"))]) },
        with(vec![header(None)]),
        with(vec![header(Some(b""))]),
        with(vec![header(Some(b"\xff"))]),
        with(vec![header(Some(&[b'k'; 256]))]),
        with(vec![header(Some(b"k")), header(Some(b"k"))]),
        with(vec![Header::unreadable()]),
    ];
    let shown: Vec<_> = bad.iter().map(|record| read(record).expect_err("rejected").to_string()).collect();
    insta::assert_snapshot!("bad-records", shown.join("\n"));
}

#[test]
fn codes() {
    let lines: Vec<_> = Code::ALL.iter().map(|code| format!("{code}: {}", code.meaning())).collect();
    insta::assert_snapshot!("codes", lines.join("\n"));
}

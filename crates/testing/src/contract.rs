//! Helpers of the tests of the contract: short ways to build a record and to read it.

use ::contract::{Coordinates, Decider, Event, Header, IdempotencyKey, Limits, Problems, Reading, Record};
use bytes::Bytes;

pub const TOPIC: &str = "activity.commands";

/// The coordinates of the contract's example; the timestamp is 2026-11-24T00:00:00.123Z.
pub const AT: Coordinates = Coordinates { partition: 3, offset: 12_345, timestamp: 1_795_478_400_123 };

/// The five calls that must always work.
pub const CALLS: [(&str, &str); 5] = [
    ("1-everyone", include_str!("../../../tests/examples/1-everyone.json")),
    ("2-administrators-only", include_str!("../../../tests/examples/2-administrators-only.json")),
    ("3-notify-accounting", include_str!("../../../tests/examples/3-notify-accounting.json")),
    ("4-file-attachment", include_str!("../../../tests/examples/4-file-attachment.json")),
    ("5-on-a-case", include_str!("../../../tests/examples/5-on-a-case.json")),
];

pub fn decider() -> Decider {
    Decider::new(TOPIC, Limits::default())
}

pub fn record(value: impl Into<Vec<u8>>) -> Record {
    Record {
        coordinates: AT,
        key: Some("case/1".into()),
        value: Some(Bytes::from(value.into())),
        headers: Vec::new(),
    }
}

pub fn record_with(value: &str, headers: &[(&str, &str)]) -> Record {
    let headers = headers.iter().map(|(name, value)| Header::new(*name, *value)).collect();
    Record { headers, ..record(value) }
}

/// One that allows replies on the topics `answers` and `more-answers`.
pub fn answering() -> Decider {
    decider().with_reply_topics(["answers", "more-answers"].map(str::to_owned).into_iter().collect())
}

pub fn read(record: &Record) -> Result<(Event, Option<IdempotencyKey>), Problems> {
    read_with(&decider(), record)
}

pub fn read_with(decider: &Decider, record: &Record) -> Result<(Event, Option<IdempotencyKey>), Problems> {
    match decider.read(record).reading {
        Reading::Valid { event, key } => Ok((event, key)),
        Reading::Rejected(problems) => Err(problems),
    }
}

#[track_caller]
pub fn event(value: impl Into<Vec<u8>>) -> Event {
    read(&record(value)).unwrap_or_else(|problems| panic!("rejected: {problems}")).0
}

/// `pointer code` of each problem.
#[track_caller]
pub fn problems(value: impl Into<Vec<u8>>) -> Vec<String> {
    codes(&read(&record(value)).expect_err("accepted"))
}

pub fn codes(problems: &Problems) -> Vec<String> {
    problems.0.iter().map(|problem| format!("{} {}", problem.pointer, problem.code)).collect()
}

/// An entry about case 1 with further properties, given as JSON.
pub fn entry(more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"objectType":"case","objectId":"1"{comma}{more}}}"#)
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

//! Replies: a command's outcome, sent to the producer that requested it.
//!
//! The headers are those of request and reply in Spring for Apache Kafka (`ReplyingKafkaTemplate`, and on the replying
//! side `MessagingMessageListenerAdapter`), with the same meaning: `kafka_replyTopic` is the topic's name in UTF-8,
//! `kafka_replyPartition` a big-endian integer of four bytes, `kafka_correlationId` opaque bytes. If a header is
//! repeated, the last one counts.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    code::Code,
    decision::Decision,
    id::ActivityId,
    limits::Limits,
    notification,
    problem::{Findings, Pointer, Problems},
    record::{Header, OutputRecord, Record},
    wording::{DidYouMean, Quoted},
};

/// The header with the topic for the reply; without it there is no reply.
pub const REPLY_TOPIC: &str = "kafka_replyTopic";
/// The header with the partition of that topic; without it, any partition.
pub const REPLY_PARTITION: &str = "kafka_replyPartition";
/// The header that is copied to the reply, byte for byte.
pub const CORRELATION_ID: &str = "kafka_correlationId";

/// Keeps replies below the default record size limit of a topic (1 MiB).
pub(crate) const MAX_CORRELATION_ID_BYTES: usize = 4096;
/// Names of allowed topics in one problem.
const MAX_NAMED_TOPICS: usize = 5;

/// The outcome of a command: the value of a reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Reply {
    /// The command became this activity.
    Accepted { id: ActivityId },
    /// The same command already became this activity.
    Duplicate { id: ActivityId },
    /// The command became no activity.
    Rejected { problems: Problems },
}

/// A reply and its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyRecord {
    pub topic: String,
    /// `None` for any.
    pub partition: Option<i32>,
    pub record: OutputRecord,
}

/// The topics that replies may go to. All instances need the same ones, as with the limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyTopics {
    names: Vec<String>,
    /// Allows every topic, whatever the names.
    any: bool,
}

/// A request for a reply, from a command's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo<'r> {
    topic: &'r str,
    partition: Option<i32>,
    correlation_id: Option<&'r Header>,
}

impl From<&Decision> for Reply {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Accepted(event) => Self::Accepted { id: event.id() },
            Decision::Duplicate { of } => Self::Duplicate { id: *of },
            Decision::Rejected(problems) => Self::Rejected { problems: problems.clone() },
        }
    }
}

impl Reply {
    /// The value of the reply's record: a JSON object without whitespace.
    #[must_use]
    pub fn to_json(&self) -> String {
        // An enum of ids and strings always serializes.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// From names in any order.
impl FromIterator<String> for ReplyTopics {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        names.dedup();
        Self { names, any: false }
    }
}

impl ReplyTopics {
    /// Allows all topics, to check a command without knowing the processor's configuration.
    #[must_use]
    pub fn any() -> Self {
        Self { names: Vec::new(), any: true }
    }

    #[must_use]
    pub fn allows(&self, topic: &str) -> bool {
        self.any || self.names.binary_search_by(|name| name.as_str().cmp(topic)).is_ok()
    }

    /// In alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The reply that the command requested. `None` if it requested none, or with invalid headers, which its rejection
    /// reports.
    #[must_use]
    pub fn reply(&self, record: &Record, decision: &Decision) -> Option<ReplyRecord> {
        let limits = Limits::default();
        let to = self.read_request(&record.headers, &mut Findings::new(&limits))?;
        let mut headers = vec![Header::named("content-type", "application/json")];
        headers.extend(to.correlation_id.cloned());
        headers.extend(notification::trace_headers(&record.headers).cloned());
        let value = Reply::from(decision).to_json().into();
        let record = OutputRecord { key: None, value: Some(value), headers };
        Some(ReplyRecord { topic: to.topic.to_owned(), partition: to.partition, record })
    }

    /// Reads the request for a reply, if there is one, or reports what is wrong with it.
    pub(crate) fn read_request<'r>(
        &self,
        headers: &'r [Header],
        findings: &mut Findings<'_>,
    ) -> Option<ReplyTo<'r>> {
        let last = |name: &str| Header::last(headers, name.as_bytes());
        let topic = self.read_topic(last(REPLY_TOPIC)?, findings)?;
        let partition = match last(REPLY_PARTITION) {
            Some(header) => Some(read_partition(header, findings)?),
            None => None,
        };
        let correlation_id = last(CORRELATION_ID);
        let length = correlation_id.and_then(|header| header.value.as_ref()).map_or(0, Bytes::len);
        if length > MAX_CORRELATION_ID_BYTES {
            let wanted =
                format_args!("at most {MAX_CORRELATION_ID_BYTES} bytes in the header {CORRELATION_ID}");
            findings.expected(&Pointer::Root, Code::BadReplyHeader, wanted, length);
            return None;
        }
        Some(ReplyTo { topic, partition, correlation_id })
    }

    fn read_topic<'r>(&self, header: &'r Header, findings: &mut Findings<'_>) -> Option<&'r str> {
        let mut bad = |found: fmt::Arguments<'_>| {
            let wanted = format_args!("a topic's name in UTF-8 in the header {REPLY_TOPIC}");
            findings.expected(&Pointer::Root, Code::BadReplyHeader, wanted, found);
            None
        };
        match header.value.as_deref().map(std::str::from_utf8) {
            None => bad(format_args!("null")),
            Some(Ok("")) => bad(format_args!("no bytes")),
            Some(Err(error)) => {
                bad(format_args!("a byte that is not UTF-8 at position {}", error.valid_up_to()))
            }
            Some(Ok(topic)) if self.allows(topic) => Some(topic),
            Some(Ok(topic)) => {
                let known: Vec<&str> = self.names().collect();
                let hint = DidYouMean { given: topic, known: &known };
                let wanted = format_args!("{} in the header {REPLY_TOPIC}", self.wanted());
                let found = format_args!("{}{hint}", Quoted(topic));
                findings.expected(&Pointer::Root, Code::ReplyTopicNotAllowed, wanted, found);
                None
            }
        }
    }

    /// The allowed topics, as part of a sentence.
    fn wanted(&self) -> String {
        let named: Vec<String> =
            self.names().take(MAX_NAMED_TOPICS).map(|name| format!("\"{name}\"")).collect();
        match self.names.len() {
            0 => "no reply topic, since this processor allows none (topics.replies),".to_owned(),
            1 => format!("the only reply topic, {},", named[0]),
            all if all <= MAX_NAMED_TOPICS => format!("one of the reply topics, {},", named.join(", ")),
            all => format!("one of the {all} reply topics, {} …,", named.join(", ")),
        }
    }
}

fn read_partition(header: &Header, findings: &mut Findings<'_>) -> Option<i32> {
    let mut bad = |found: fmt::Arguments<'_>| {
        let wanted = format_args!(
            "a partition's number, as a big-endian integer of 4 bytes, in the header {REPLY_PARTITION}"
        );
        findings.expected(&Pointer::Root, Code::BadReplyHeader, wanted, found);
        None
    };
    let Some(value) = header.value.as_deref() else { return bad(format_args!("null")) };
    match <[u8; 4]>::try_from(value).map(i32::from_be_bytes) {
        Ok(partition) if partition >= 0 => Some(partition),
        Ok(partition) => bad(format_args!("{partition}")),
        Err(_) => bad(format_args!("{} bytes", value.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decider::Decider, decision::Reading, record::Coordinates};

    const ID: &str = "01a20ada-2c7b-89d1-8003-000000003039";

    fn header(name: &str, value: Option<&[u8]>) -> Header {
        Header { name: name.as_bytes().to_vec().into(), value: value.map(Bytes::copy_from_slice) }
    }

    fn command(headers: Vec<Header>) -> Record {
        Record {
            coordinates: Coordinates { partition: 3, offset: 12_345, timestamp: 1 },
            key: None,
            value: Some(r#"{"objectType":"case","objectId":"7"}"#.into()),
            headers,
        }
    }

    fn topics() -> ReplyTopics {
        ["b", "a"].map(str::to_owned).into_iter().collect()
    }

    fn duplicate() -> Decision {
        Decision::Duplicate { of: ID.parse().unwrap() }
    }

    fn reply(headers: Vec<Header>) -> Option<ReplyRecord> {
        topics().reply(&command(headers), &duplicate())
    }

    #[test]
    fn a_reply_survives_a_round_trip_through_json() {
        let problems = Problems::one(Code::Tombstone, "\"expected\" an entry");
        let id = ID.parse().unwrap();
        for (reply, json) in [
            (Reply::Accepted { id }, format!(r#"{{"status":"accepted","id":"{ID}"}}"#)),
            (Reply::Duplicate { id }, format!(r#"{{"status":"duplicate","id":"{ID}"}}"#)),
            (
                Reply::Rejected { problems: problems.clone() },
                format!(r#"{{"status":"rejected","problems":{}}}"#, problems.to_json()),
            ),
        ] {
            assert_eq!(reply.to_json(), json);
            assert_eq!(serde_json::from_str::<Reply>(&json).unwrap(), reply);
        }
    }

    #[test]
    fn replies_only_on_request_and_to_allowed_topics() {
        assert_eq!(reply(vec![]), None);
        assert_eq!(reply(vec![header(CORRELATION_ID, Some(b"c"))]), None);
        assert_eq!(reply(vec![header(REPLY_TOPIC, Some(b"c"))]), None);
        let to_a = reply(vec![header(REPLY_TOPIC, Some(b"a"))]).unwrap();
        assert_eq!((to_a.topic.as_str(), to_a.partition), ("a", None));
        assert_eq!(
            ReplyTopics::default().reply(&command(vec![header(REPLY_TOPIC, Some(b"a"))]), &duplicate()),
            None
        );
    }

    /// As in Spring.
    #[test]
    fn the_last_header_of_a_name_counts() {
        let asked = reply(vec![
            header(REPLY_TOPIC, Some(b"nowhere")),
            header(REPLY_TOPIC, Some(b"b")),
            header(REPLY_PARTITION, Some(b"x")),
            header(REPLY_PARTITION, Some(&[0, 0, 1, 0])),
            header(CORRELATION_ID, Some(b"1")),
            header(CORRELATION_ID, Some(b"2")),
        ])
        .unwrap();
        assert_eq!((asked.topic.as_str(), asked.partition), ("b", Some(256)));
        let ids: Vec<_> =
            asked.record.headers.iter().filter(|it| it.name == CORRELATION_ID.as_bytes()).collect();
        assert_eq!(ids, [&header(CORRELATION_ID, Some(b"2"))]);
    }

    #[test]
    fn copies_the_correlation_id_byte_for_byte() {
        for id in [None, Some(&b""[..]), Some(&[0, 0xff, 0x80]), Some(&[7; MAX_CORRELATION_ID_BYTES])] {
            let asked = vec![header(REPLY_TOPIC, Some(b"a")), header(CORRELATION_ID, id)];
            let record = reply(asked).unwrap().record;
            assert_eq!(record.headers[1..], [header(CORRELATION_ID, id)]);
        }
    }

    #[test]
    fn rejects_a_command_with_an_invalid_request_and_does_not_reply() {
        let decider = Decider::new("c", Limits::default()).with_reply_topics(topics());
        let cases = [
            (header(REPLY_TOPIC, Some(b"nowhere")), Code::ReplyTopicNotAllowed),
            (header(REPLY_TOPIC, Some(b"\xff")), Code::BadReplyHeader),
            (header(REPLY_PARTITION, Some(&[0x80, 0, 0, 0])), Code::BadReplyHeader),
            (header(CORRELATION_ID, Some(&[7; MAX_CORRELATION_ID_BYTES + 1])), Code::BadReplyHeader),
        ];
        for (bad, code) in cases {
            let command = command(vec![header(REPLY_TOPIC, Some(b"a")), bad]);
            let Reading::Rejected(problems) = decider.read(&command).reading else { panic!("accepted") };
            assert_eq!((problems.0.len(), problems.first_code()), (1, code.as_str()));
            assert_eq!(topics().reply(&command, &Decision::Rejected(problems)), None);
        }
    }
}

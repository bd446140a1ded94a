//! Replies: a command's outcome, for the producer that asked to be told.
//!
//! The headers are those of Spring for Apache Kafka's request and reply (`ReplyingKafkaTemplate`, and on the
//! answering side `MessagingMessageListenerAdapter`), read as it reads them: `kafka_replyTopic` is the topic's name in
//! UTF-8, `kafka_replyPartition` a big-endian integer of four bytes, `kafka_correlationId` bytes that only their writer
//! understands. Of several headers of one name the last one counts.

use serde::{Deserialize, Serialize};

use super::{
    code::Code,
    decision::Decision,
    found::{DidYouMean, Quoted},
    id::ActivityId,
    notification,
    problem::{Findings, Pointer, Problems},
    record::{Header, OutputRecord, Record},
};

/// Names the topic that the outcome is wanted on; without it there is no reply.
pub const REPLY_TOPIC: &str = "kafka_replyTopic";
/// Names the partition of that topic; without it any partition will do.
pub const REPLY_PARTITION: &str = "kafka_replyPartition";
/// Comes back with the reply, byte for byte.
pub const CORRELATION_ID: &str = "kafka_correlationId";

/// Bytes of a correlation id. A reply is then never larger than what a topic takes by default (1 MiB).
pub(super) const LONGEST_CORRELATION_ID: usize = 4096;
/// Names of allowed topics in a problem.
const NAMED: usize = 5;

/// What became of a command, as the value of a reply has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Reply {
    /// It became this activity.
    Accepted { id: ActivityId },
    /// It came before, and became this activity then.
    Duplicate { id: ActivityId },
    /// It became nothing.
    Rejected { problems: Problems },
}

/// A reply and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyRecord {
    pub topic: String,
    /// `None`: any.
    pub partition: Option<i32>,
    pub record: OutputRecord,
}

/// The topics that replies may go to. The same for all instances, as the limits are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyTopics {
    names: Vec<String>,
    /// Whatever the names.
    any: bool,
}

/// Where a command wants its reply, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReplyTo<'r> {
    topic: &'r str,
    partition: Option<i32>,
    correlation_id: Option<&'r Header>,
}

/// What is wrong with a command's reply headers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum BadReplyTo<'r> {
    NotAllowed(&'r str),
    Header { name: &'static str, expected: String, found: String },
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
    /// The value of the reply's record: one JSON object, without whitespace.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and ids in a struct: there is nothing that could fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Names as they are given, in any order.
impl FromIterator<String> for ReplyTopics {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        names.dedup();
        Self { names, any: false }
    }
}

impl ReplyTopics {
    /// For who checks a command and does not know which topics the processor allows.
    #[must_use]
    pub fn any() -> Self {
        Self { names: Vec::new(), any: true }
    }

    #[must_use]
    pub fn allows(&self, topic: &str) -> bool {
        self.any || self.names.binary_search_by(|name| name.as_str().cmp(topic)).is_ok()
    }

    /// In order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The reply that the command asked for; `None` where it asked for none, or not in a way that can be followed. The
    /// latter is a problem of the command, which its rejection tells.
    #[must_use]
    pub fn reply(&self, record: &Record, decision: &Decision) -> Option<ReplyRecord> {
        let to = self.read(&record.headers)?.ok()?;
        let mut headers = vec![Header::named("content-type", "application/json")];
        headers.extend(to.correlation_id.cloned());
        headers.extend(notification::passed_on(&record.headers).cloned());
        let value = Reply::from(decision).to_json().into_bytes();
        let record = OutputRecord { key: None, value: Some(value), headers };
        Some(ReplyRecord { topic: to.topic.to_owned(), partition: to.partition, record })
    }

    /// Reports what is wrong with the reply headers of a command.
    pub(super) fn check(&self, headers: &[Header], findings: &mut Findings<'_>) {
        let root = Pointer::Root;
        match self.read(headers) {
            None | Some(Ok(_)) => {}
            Some(Err(BadReplyTo::Header { name, expected, found })) => {
                let message = format_args!("expected {expected} in the header {name}, found {found}");
                findings.add(&root, Code::BadReplyHeader, message);
            }
            Some(Err(BadReplyTo::NotAllowed(topic))) => {
                let known: Vec<&str> = self.names().collect();
                let hint = DidYouMean { given: topic, known: &known };
                let (wanted, found) = (self.wanted(), Quoted(topic));
                let message =
                    format_args!("expected {wanted} in the header {REPLY_TOPIC}, found {found}{hint}");
                findings.add(&root, Code::ReplyTopicNotAllowed, message);
            }
        }
    }

    /// The names that are allowed, as a sentence wants them.
    fn wanted(&self) -> String {
        let named: Vec<String> = self.names().take(NAMED).map(|name| format!("\"{name}\"")).collect();
        match self.names.len() {
            0 => "none, since this processor allows no topic for replies (topics.replies),".to_owned(),
            1 => format!("the topic {}, the only one for replies,", named[0]),
            all if all <= NAMED => format!("one of the topics for replies, {},", named.join(", ")),
            all => format!("one of the {all} topics for replies, {} …,", named.join(", ")),
        }
    }

    fn read<'r>(&self, headers: &'r [Header]) -> Option<Result<ReplyTo<'r>, BadReplyTo<'r>>> {
        let topic = Header::last(headers, REPLY_TOPIC.as_bytes())?;
        Some(self.read_asked(topic, headers))
    }

    fn read_asked<'r>(
        &self,
        topic: &'r Header,
        headers: &'r [Header],
    ) -> Result<ReplyTo<'r>, BadReplyTo<'r>> {
        let topic = topic_name(topic)?;
        if !self.allows(topic) {
            return Err(BadReplyTo::NotAllowed(topic));
        }
        let last = |name: &str| Header::last(headers, name.as_bytes());
        let partition = last(REPLY_PARTITION).map(partition_number).transpose()?;
        let correlation_id = last(CORRELATION_ID);
        let length = correlation_id.and_then(|header| header.value.as_ref()).map_or(0, Vec::len);
        if length > LONGEST_CORRELATION_ID {
            return Err(BadReplyTo::Header {
                name: CORRELATION_ID,
                expected: format!("at most {LONGEST_CORRELATION_ID} bytes"),
                found: length.to_string(),
            });
        }
        Ok(ReplyTo { topic, partition, correlation_id })
    }
}

fn topic_name(header: &Header) -> Result<&str, BadReplyTo<'_>> {
    let bad = |found: String| BadReplyTo::Header {
        name: REPLY_TOPIC,
        expected: "a topic's name in UTF-8".to_owned(),
        found,
    };
    match header.value.as_deref().map(std::str::from_utf8) {
        None => Err(bad("null".to_owned())),
        Some(Ok("")) => Err(bad("no bytes".to_owned())),
        Some(Ok(topic)) => Ok(topic),
        Some(Err(error)) => Err(bad(format!("a byte that is not UTF-8 at position {}", error.valid_up_to()))),
    }
}

fn partition_number(header: &Header) -> Result<i32, BadReplyTo<'_>> {
    let bad = |found: String| BadReplyTo::Header {
        name: REPLY_PARTITION,
        expected: "a partition's number, as a big-endian integer of 4 bytes,".to_owned(),
        found,
    };
    let Some(value) = header.value.as_deref() else { return Err(bad("null".to_owned())) };
    let Ok(bytes) = <[u8; 4]>::try_from(value) else { return Err(bad(format!("{} bytes", value.len()))) };
    let partition = i32::from_be_bytes(bytes);
    if partition < 0 { Err(bad(partition.to_string())) } else { Ok(partition) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decider::Decider, decision::Reading, limits::Limits, record::Coordinates};

    const ID: &str = "01a20ada-2c7b-89d1-8003-000000003039";

    fn header(name: &str, value: Option<&[u8]>) -> Header {
        Header { name: name.as_bytes().to_vec().into(), value: value.map(Vec::from) }
    }

    fn command(headers: Vec<Header>) -> Record {
        Record {
            coordinates: Coordinates { partition: 3, offset: 12_345, timestamp: 1 },
            key: None,
            value: Some(br#"{"objectType":"case","objectId":"7"}"#.to_vec()),
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
    fn a_reply_is_read_as_it_is_written() {
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
    fn a_reply_goes_only_where_it_was_asked_for_and_is_allowed() {
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

    /// As Spring reads them.
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
    fn a_correlation_id_comes_back_byte_for_byte() {
        for id in [None, Some(&b""[..]), Some(&[0, 0xff, 0x80]), Some(&[7; LONGEST_CORRELATION_ID])] {
            let asked = vec![header(REPLY_TOPIC, Some(b"a")), header(CORRELATION_ID, id)];
            let record = reply(asked).unwrap().record;
            assert_eq!(record.headers[1..], [header(CORRELATION_ID, id)]);
        }
    }

    #[test]
    fn a_request_that_cannot_be_followed_is_a_problem_and_has_no_reply() {
        let decider = Decider::new("c", Limits::default()).with_reply_topics(topics());
        let cases = [
            (header(REPLY_TOPIC, Some(b"nowhere")), Code::ReplyTopicNotAllowed),
            (header(REPLY_TOPIC, Some(b"\xff")), Code::BadReplyHeader),
            (header(REPLY_PARTITION, Some(&[0x80, 0, 0, 0])), Code::BadReplyHeader),
            (header(CORRELATION_ID, Some(&[7; LONGEST_CORRELATION_ID + 1])), Code::BadReplyHeader),
        ];
        for (bad, code) in cases {
            let command = command(vec![header(REPLY_TOPIC, Some(b"a")), bad]);
            let Reading::Rejected(problems) = decider.read(&command).reading else { panic!("accepted") };
            assert_eq!((problems.0.len(), problems.first_code()), (1, code.as_str()));
            assert_eq!(topics().reply(&command, &Decision::Rejected(problems)), None);
        }
    }
}

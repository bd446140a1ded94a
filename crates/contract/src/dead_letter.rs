//! Dead letters: rejections read from their topic, and the commands in them.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    command_ref::PartitionOffset,
    entry::object_key,
    idempotency,
    problem::Problems,
    record::{Header, OutputRecord, Record},
    rejection::{HEADER_PREFIX, OMITTED},
    reply::{CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC},
};

/// A record of the rejections topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'r> {
    /// The commands topic.
    pub topic: &'r str,
    /// Where the command is in the commands topic.
    pub at: PartitionOffset,
    pub problems: Problems,
    record: &'r Record,
}

/// The rejection omits parts of its command, so the command can't be rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the rejection omits the command's {0} (too large for the rejections topic, or unreadable)")]
pub struct OmittedParts(String);

/// The headers of a request for a reply, which the rejection already answered.
const REPLY: [&str; 3] = [REPLY_TOPIC, REPLY_PARTITION, CORRELATION_ID];

impl<'r> DeadLetter<'r> {
    /// Reads a record. `None` if it is not a rejection from this program.
    #[must_use]
    pub fn of(record: &'r Record) -> Option<Self> {
        let header = |name: &str| text(record, &format!("{HEADER_PREFIX}{name}"));
        let at = format!("{}:{}", header("partition")?, header("offset")?).parse().ok()?;
        let problems = serde_json::from_str(header("exception.message")?).ok()?;
        Some(Self { topic: header("topic")?, at, problems, record })
    }

    /// The command, to post again to its partition.
    ///
    /// It keeps its idempotency key. If it had none, it gets one from its partition and offset, so that posting it several
    /// times creates only one activity. That header requires a record key, which the command also gets if it had none.
    /// The headers of the rejection and of the request for a reply are removed.
    ///
    /// # Errors
    ///
    /// [`OmittedParts`] if the rejection does not contain the whole command.
    pub fn command(&self) -> Result<OutputRecord, OmittedParts> {
        if let Some(omitted) = omitted(self.record) {
            return Err(OmittedParts(omitted.replace(',', " and ")));
        }
        let Record { key, value, headers, .. } = self.record.clone();
        let is_the_commands = |header: &Header| {
            !header.name.starts_with(HEADER_PREFIX.as_bytes())
                && REPLY.iter().all(|name| header.name != name.as_bytes())
        };
        let headers = headers.into_iter().filter(is_the_commands).collect();
        let mut command = OutputRecord { key, value, headers };
        let derived = format!("activity-stream.replay/{}/{}", self.at.partition, self.at.offset);
        if !idempotency::is_given(&command.headers, command.value.as_deref()) {
            command.headers.push(Header::new(idempotency::HEADER, derived.as_str()));
        }
        let keyed_by_header =
            command.headers.iter().any(|header| header.name == idempotency::HEADER.as_bytes());
        if keyed_by_header && command.key.as_ref().is_none_or(Bytes::is_empty) {
            let object = command.value.as_deref().and_then(object_key);
            command.key = Some(object.unwrap_or(derived).into());
        }
        Ok(command)
    }
}

/// The last header with that name: a command that was a rejection itself contains earlier ones.
fn text<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    std::str::from_utf8(Header::last(&record.headers, name.as_bytes())?.value.as_deref()?).ok()
}

/// The omitted parts, from the last header. Any other header with that name is the command's own.
fn omitted(record: &Record) -> Option<&str> {
    let last = record.headers.last().filter(|header| header.name == OMITTED.as_bytes())?;
    std::str::from_utf8(last.value.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        code::Code, decider::Decider, decision::Reading, limits::Limits, record::Coordinates,
        rejection::rejection_record,
    };

    const ENTRY: &str = r#"{"objectType":"case","objectId":"7"}"#;

    fn command(key: Option<&str>, value: &str, headers: &[(&str, &str)]) -> Record {
        Record {
            coordinates: Coordinates { partition: 3, offset: 12_345, timestamp: 1 },
            key: key.map(|key| key.to_owned().into()),
            value: Some(value.to_owned().into()),
            headers: headers.iter().map(|(name, value)| Header::new(*name, *value)).collect(),
        }
    }

    /// The rejection of a command, read from the rejections topic.
    fn rejected(command: &Record, limit: usize) -> Record {
        let problems = Problems::one(Code::TooDeep, "deep");
        let OutputRecord { key, value, headers } = rejection_record(command, "commands", &problems, limit);
        let coordinates = Coordinates { partition: 0, offset: 1, timestamp: 9 };
        Record { coordinates, key, value, headers }
    }

    fn replayed(command: &Record) -> OutputRecord {
        DeadLetter::of(&rejected(command, 1 << 20)).unwrap().command().unwrap()
    }

    fn names(record: &OutputRecord) -> Vec<&str> {
        record.headers.iter().map(|header| std::str::from_utf8(&header.name).unwrap()).collect()
    }

    #[test]
    fn reads_a_rejection() {
        let record = rejected(&command(None, ENTRY, &[]), 1 << 20);
        let letter = DeadLetter::of(&record).unwrap();
        assert_eq!((letter.topic, letter.at.to_string()), ("commands", "3:12345".to_owned()));
        assert_eq!(letter.problems.first_code(), "too_deep");
        assert!(DeadLetter::of(&command(None, ENTRY, &[])).is_none());
    }

    #[test]
    fn a_replay_has_a_derived_key_and_no_headers_of_its_rejection() {
        let headers =
            [("x", "1"), ("kafka_replyTopic", "r"), ("kafka_correlationId", "c"), ("traceparent", "t")];
        let again = replayed(&command(None, ENTRY, &headers));
        assert_eq!(names(&again), ["x", "traceparent", "idempotency-key"]);
        assert_eq!(again.headers[2].value.as_deref(), Some(&b"activity-stream.replay/3/12345"[..]));
        assert_eq!(again.key.as_deref(), Some(&b"case/7"[..]));
        let keyed = replayed(&command(Some("k"), "no entry", &[]));
        assert_eq!(keyed.key.as_deref(), Some(&b"k"[..]));
        let neither = replayed(&command(None, "no entry", &[]));
        assert_eq!(neither.key.as_deref(), Some(&b"activity-stream.replay/3/12345"[..]));
    }

    #[test]
    fn a_replay_keeps_its_own_key() {
        let own = replayed(&command(None, ENTRY, &[("idempotency-key", "mine")]));
        assert_eq!(names(&own), ["idempotency-key"]);
        assert_eq!(own.key.as_deref(), Some(&b"case/7"[..]));
        let event = [("ce_id", "1"), ("ce_source", "s")];
        assert_eq!(names(&replayed(&command(Some("k"), ENTRY, &event))), ["ce_id", "ce_source"]);
        let structured =
            format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{ENTRY}}}"#);
        let kind = [("content-type", "application/cloudevents+json")];
        assert_eq!(names(&replayed(&command(None, &structured, &kind))), ["content-type"]);
        // An event without id and source has no key of its own.
        assert_eq!(names(&replayed(&command(None, "{}", &kind))), ["content-type", "idempotency-key"]);
    }

    #[test]
    fn a_replay_keeps_an_invalid_key() {
        let twice =
            replayed(&command(Some("k"), ENTRY, &[("idempotency-key", "a"), ("idempotency-key", "b")]));
        assert_eq!(names(&twice), ["idempotency-key", "idempotency-key"]);
        let mut null = command(None, ENTRY, &[]);
        null.headers.push(Header { name: idempotency::HEADER.as_bytes().into(), value: None });
        assert_eq!(replayed(&null).headers, null.headers);
    }

    #[test]
    fn replays_a_tombstone_and_an_empty_record_key() {
        let mut tombstone = command(Some(""), ENTRY, &[]);
        tombstone.value = None;
        let again = replayed(&tombstone);
        assert_eq!((again.value.as_deref(), names(&again)), (None, vec!["idempotency-key"]));
        assert_eq!(again.key.as_deref(), Some(&b"activity-stream.replay/3/12345"[..]));
        // An event's own key needs no record key.
        let event = replayed(&command(Some(""), ENTRY, &[("ce_id", "1"), ("ce_source", "s")]));
        assert_eq!(event.key.as_deref(), Some(&b""[..]));
    }

    /// For example because another tool copied a rejection to the commands topic.
    #[test]
    fn a_rejected_rejection_is_read_by_its_last_headers_and_replayed_without_any() {
        let first = rejected(&command(Some("k"), ENTRY, &[]), 1 << 20);
        let mut second = first.clone();
        second.coordinates = Coordinates { partition: 1, offset: 77, timestamp: 2 };
        let record = rejected(&second, 1 << 20);
        let letter = DeadLetter::of(&record).unwrap();
        assert_eq!(letter.at.to_string(), "1:77");
        let again = letter.command().unwrap();
        assert_eq!(names(&again), ["idempotency-key"]);
        assert_eq!(again.headers[0].value.as_deref(), Some(&b"activity-stream.replay/1/77"[..]));
    }

    #[test]
    fn replays_of_one_command_have_the_same_key() {
        let decider = Decider::new("commands", Limits::default());
        let key = |record: &Record| match decider.read(record).reading {
            Reading::Valid { key, .. } => key.expect("a key"),
            Reading::Rejected(problems) => panic!("{problems}"),
        };
        let again = replayed(&command(None, ENTRY, &[]));
        let at = |offset| Record {
            coordinates: Coordinates { partition: 3, offset, timestamp: 5 },
            key: again.key.clone(),
            value: again.value.clone(),
            headers: again.headers.clone(),
        };
        assert_eq!(key(&at(1)), key(&at(2)));
        // If it is rejected again, it keeps its key.
        assert_eq!(replayed(&at(99)), again);
    }

    #[test]
    fn refuses_to_replay_a_command_with_omitted_parts() {
        let large = command(None, &"x".repeat(5000), &[]);
        let record = rejected(&large, 3000);
        let error = DeadLetter::of(&record).unwrap().command().unwrap_err();
        assert!(error.to_string().starts_with("the rejection omits the command's value "), "{error}");
    }

    #[test]
    fn a_replay_keeps_headers_named_like_those_of_its_rejection() {
        let again = replayed(&command(Some("k"), ENTRY, &[(OMITTED, "value"), ("x", "1")]));
        assert_eq!(names(&again), [OMITTED, "x", "idempotency-key"]);
    }

    #[test]
    fn replays_binary_and_large_parts_unchanged() {
        let mut strange = command(None, ENTRY, &[]);
        strange.key = Some(vec![0xff; 10_000].into());
        strange.headers.push(Header { name: vec![0xfe].into(), value: Some(vec![0xff, 0].into()) });
        strange.headers.push(Header { name: "null".into(), value: None });
        let again = replayed(&strange);
        assert_eq!(again.key, strange.key);
        assert_eq!(again.headers[..2], strange.headers[..]);
    }

    #[test]
    fn ignores_a_record_with_an_invalid_partition_or_offset() {
        for (name, value) in [("partition", "-1"), ("offset", "-1"), ("offset", "1:2"), ("partition", "")] {
            let mut record = rejected(&command(None, ENTRY, &[]), 1 << 20);
            record.headers.push(Header::new(format!("{HEADER_PREFIX}{name}"), value));
            assert!(DeadLetter::of(&record).is_none(), "{name} {value}");
        }
    }
}

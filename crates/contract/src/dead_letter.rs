//! Rejections read back: what was wrong with which command, and the command as it can be posted again.

use std::{fmt, str::FromStr};

use serde::Serialize;
use thiserror::Error;

use super::{
    id::{ActivityId, topic_bits},
    key,
    object_key::object_key,
    problem::Problems,
    record::{Header, OutputRecord, Record},
    rejection::{DEAD_LETTER, OMITTED},
    reply::{CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC},
};

/// A record of the rejections topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'r> {
    /// The commands topic.
    pub topic: &'r str,
    pub place: Place,
    pub problems: Problems,
    record: &'r Record,
}

/// Where a command lies in the commands topic. Written `PARTITION:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Place {
    pub partition: i32,
    pub offset: i64,
}

/// How a command is named: by its place, or by an activity id, which holds its place and some bits of its topic's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    At(Place),
    Id(ActivityId),
}

/// An id that was made on another topic, whose place means nothing here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{id} is not an id of the topic '{topic}': it was made for a topic of another name (of whose checksum it holds \
     {found:03x}, not {wanted:03x}). Name that topic with --commands-topic, or the command by PARTITION:OFFSET"
)]
pub struct OtherTopic {
    id: ActivityId,
    topic: String,
    found: u16,
    wanted: u16,
}

/// Neither `PARTITION:OFFSET` nor an activity id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected PARTITION:OFFSET, such as 3:12345, or an activity id")]
pub struct NotAPlace;

/// The rejection had to leave parts of its command behind, so the command cannot be made from it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("its {0} stayed behind, because the rejections topic does not take records of that size")]
pub struct Omitted(String);

/// Headers of a request that was answered when its command was rejected.
const REPLY: [&str; 3] = [REPLY_TOPIC, REPLY_PARTITION, CORRELATION_ID];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, offset) = text.split_once(':').ok_or(NotAPlace)?;
        match (partition.parse(), offset.parse()) {
            (Ok(partition), Ok(offset)) if partition >= 0 && offset >= 0 => Ok(Self { partition, offset }),
            _ => Err(NotAPlace),
        }
    }
}

impl FromStr for Named {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::At))
    }
}

impl Named {
    /// Its place on this commands topic.
    ///
    /// # Errors
    ///
    /// [`OtherTopic`] where it is an id that was made on a topic with another name.
    pub fn on(self, topic: &str) -> Result<Place, OtherTopic> {
        match self {
            Self::At(place) => Ok(place),
            Self::Id(id) => {
                let (found, wanted) = (id.topic_bits(), topic_bits(topic));
                if found != wanted {
                    return Err(OtherTopic { id, topic: topic.to_owned(), found, wanted });
                }
                Ok(Place { partition: id.partition(), offset: id.offset() })
            }
        }
    }
}

impl<'r> DeadLetter<'r> {
    /// What the record says; `None` where it is no rejection of this program's.
    #[must_use]
    pub fn of(record: &'r Record) -> Option<Self> {
        let said = |name: &str| text(record, &format!("{DEAD_LETTER}{name}"));
        let place = format!("{}:{}", said("partition")?, said("offset")?).parse().ok()?;
        let problems = serde_json::from_str(said("exception.message")?).ok()?;
        Some(Self { topic: said("topic")?, place, problems, record })
    }

    /// The command as it can be posted again, to the partition that it came from.
    ///
    /// It has its own idempotency key, or, where it had none, one that is made of its place, so that it becomes
    /// one activity however often it is posted again. That header asks for a record key, which it gets where it
    /// had none. The headers of its rejection, and those of a request that has had its answer, are left out.
    ///
    /// # Errors
    ///
    /// [`Omitted`] where the rejection does not hold all of the command.
    pub fn command(&self) -> Result<OutputRecord, Omitted> {
        if let Some(omitted) = omitted(self.record) {
            return Err(Omitted(omitted.replace(',', " and ")));
        }
        let Record { key, value, headers, .. } = self.record.clone();
        let is_the_commands = |header: &Header| {
            !header.name.starts_with(DEAD_LETTER.as_bytes())
                && REPLY.iter().all(|name| header.name != name.as_bytes())
        };
        let headers = headers.into_iter().filter(is_the_commands).collect();
        let mut command = OutputRecord { key, value, headers };
        let derived = format!("activity-stream.replay/{}/{}", self.place.partition, self.place.offset);
        if !key::is_given(&command.headers, command.value.as_deref()) {
            command.headers.push(Header::new(key::HEADER, derived.as_str()));
        }
        let keyed_by_header = command.headers.iter().any(|header| header.name == key::HEADER.as_bytes());
        if keyed_by_header && command.key.as_ref().is_none_or(Vec::is_empty) {
            let object = command.value.as_deref().and_then(object_key);
            command.key = Some(object.unwrap_or(derived).into_bytes());
        }
        Ok(command)
    }
}

/// The last header of that name: a command that was a rejection itself carries the earlier ones.
fn text<'r>(record: &'r Record, name: &str) -> Option<&'r str> {
    std::str::from_utf8(Header::last(&record.headers, name.as_bytes())?.value.as_deref()?).ok()
}

/// What the rejection left behind. It says so in its last header; one of that name elsewhere is the command's own.
fn omitted(record: &Record) -> Option<&str> {
    let last = record.headers.last().filter(|header| header.name == OMITTED.as_bytes())?;
    std::str::from_utf8(last.value.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decider::Decider, decision::Reading, limits::Limits, record::Coordinates, rejection::rejection_record,
    };

    const ENTRY: &str = r#"{"objectType":"case","objectId":"7"}"#;

    fn command(key: Option<&str>, value: &str, headers: &[(&str, &str)]) -> Record {
        Record {
            coordinates: Coordinates { partition: 3, offset: 12_345, timestamp: 1 },
            key: key.map(|key| key.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers: headers.iter().map(|(name, value)| Header::new(*name, *value)).collect(),
        }
    }

    /// The rejection of a command, as a record of the rejections topic.
    fn rejected(command: &Record, limit: usize) -> Record {
        let problems = Problems::one(crate::Code::TooDeep, "deep");
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
    fn a_rejection_is_read_back() {
        let record = rejected(&command(None, ENTRY, &[]), 1 << 20);
        let letter = DeadLetter::of(&record).unwrap();
        assert_eq!((letter.topic, letter.place.to_string()), ("commands", "3:12345".to_owned()));
        assert_eq!(letter.problems.first_code(), "too_deep");
        assert!(DeadLetter::of(&command(None, ENTRY, &[])).is_none());
    }

    #[test]
    fn a_replay_has_a_key_of_its_place_and_not_the_headers_of_its_rejection() {
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
    fn an_id_names_a_place_on_its_own_topic_only() {
        let place = Place { partition: 3, offset: 12_345 };
        let id = "01a20ada-2c7b-89d1-8003-000000003039".parse::<Named>().unwrap();
        assert_eq!(id.on("activity.commands"), Ok(place));
        let error = id.on("Aktivität").unwrap_err();
        assert_eq!((error.found, error.wanted), (0x9d1, 0x8a9));
        assert_eq!("3:12345".parse::<Named>().unwrap().on("Aktivität"), Ok(place));
    }

    #[test]
    fn its_own_key_stays() {
        let own = replayed(&command(None, ENTRY, &[("idempotency-key", "mine")]));
        assert_eq!(names(&own), ["idempotency-key"]);
        assert_eq!(own.key.as_deref(), Some(&b"case/7"[..]));
        let event = [("ce_id", "1"), ("ce_source", "s")];
        assert_eq!(names(&replayed(&command(Some("k"), ENTRY, &event))), ["ce_id", "ce_source"]);
        let structured =
            format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t","data":{ENTRY}}}"#);
        let kind = [("content-type", "application/cloudevents+json")];
        assert_eq!(names(&replayed(&command(None, &structured, &kind))), ["content-type"]);
        // An event that does not say which it is has no key of its own.
        assert_eq!(names(&replayed(&command(None, "{}", &kind))), ["content-type", "idempotency-key"]);
    }

    #[test]
    fn a_key_that_is_given_twice_or_as_null_is_left_to_be_rejected() {
        let twice =
            replayed(&command(Some("k"), ENTRY, &[("idempotency-key", "a"), ("idempotency-key", "b")]));
        assert_eq!(names(&twice), ["idempotency-key", "idempotency-key"]);
        let mut null = command(None, ENTRY, &[]);
        null.headers.push(Header { name: key::HEADER.as_bytes().into(), value: None });
        assert_eq!(replayed(&null).headers, null.headers);
    }

    #[test]
    fn without_value_and_with_an_empty_key_it_is_a_command_too() {
        let mut tombstone = command(Some(""), ENTRY, &[]);
        tombstone.value = None;
        let again = replayed(&tombstone);
        assert_eq!((again.value.as_deref(), names(&again)), (None, vec!["idempotency-key"]));
        assert_eq!(again.key.as_deref(), Some(&b"activity-stream.replay/3/12345"[..]));
        // An event is known by its id, in whatever partition.
        let event = replayed(&command(Some(""), ENTRY, &[("ce_id", "1"), ("ce_source", "s")]));
        assert_eq!(event.key.as_deref(), Some(&b""[..]));
    }

    /// As it is where some other tool has put a rejection back onto the commands topic.
    #[test]
    fn of_a_rejection_of_a_rejection_the_last_headers_count_and_none_is_posted() {
        let first = rejected(&command(Some("k"), ENTRY, &[]), 1 << 20);
        let mut second = first.clone();
        second.coordinates = Coordinates { partition: 1, offset: 77, timestamp: 2 };
        let record = rejected(&second, 1 << 20);
        let letter = DeadLetter::of(&record).unwrap();
        assert_eq!(letter.place.to_string(), "1:77");
        let again = letter.command().unwrap();
        assert_eq!(names(&again), ["idempotency-key"]);
        assert_eq!(again.headers[0].value.as_deref(), Some(&b"activity-stream.replay/1/77"[..]));
    }

    #[test]
    fn a_replay_can_be_accepted_and_is_known_again() {
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
        // Refused once more, it keeps the key that it got.
        assert_eq!(replayed(&at(99)), again);
    }

    #[test]
    fn what_stayed_behind_cannot_be_posted_again() {
        let large = command(None, &"x".repeat(5000), &[]);
        let record = rejected(&large, 3000);
        let error = DeadLetter::of(&record).unwrap().command().unwrap_err();
        assert!(error.to_string().starts_with("its value stayed behind"), "{error}");
    }

    #[test]
    fn a_command_may_bring_headers_that_are_named_like_those_of_its_rejection() {
        let again = replayed(&command(Some("k"), ENTRY, &[(OMITTED, "value"), ("x", "1")]));
        assert_eq!(names(&again), [OMITTED, "x", "idempotency-key"]);
    }

    #[test]
    fn what_is_no_text_and_what_is_large_is_posted_again_as_it_was() {
        let mut strange = command(None, ENTRY, &[]);
        strange.key = Some(vec![0xff; 10_000]);
        strange.headers.push(Header { name: vec![0xfe].into(), value: Some(vec![0xff, 0]) });
        strange.headers.push(Header { name: b"null".into(), value: None });
        let again = replayed(&strange);
        assert_eq!(again.key, strange.key);
        assert_eq!(again.headers[..2], strange.headers[..]);
    }

    #[test]
    fn a_place_that_cannot_be_is_none_of_ours() {
        for (name, value) in [("partition", "-1"), ("offset", "-1"), ("offset", "1:2"), ("partition", "")] {
            let mut record = rejected(&command(None, ENTRY, &[]), 1 << 20);
            record.headers.push(Header::new(format!("{DEAD_LETTER}{name}"), value));
            assert!(DeadLetter::of(&record).is_none(), "{name} {value}");
        }
    }

    #[test]
    fn commands_are_named_in_two_ways() {
        let place = Place { partition: 3, offset: 12_345 };
        assert_eq!("3:12345".parse(), Ok(Named::At(place)));
        let id = "01a20ada-2c7b-89d1-8003-000000003039";
        assert_eq!(id.parse(), Ok(Named::Id(id.parse().unwrap())));
        for wrong in ["", "3", "3:", ":1", "-1:1", "1:-1", "a:b", "1:2:3"] {
            assert_eq!(wrong.parse::<Named>(), Err(NotAPlace), "{wrong}");
        }
    }
}

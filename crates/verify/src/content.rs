//! What is compared of a record or a row: which command it belongs to, and digests of its parts.

use std::fmt;

use contract::{
    ActivityId, Coordinates, Decision, Header, Notification, OutputRecord, Problems, Record, TRACE_HEADERS,
    rejection_forms, rejection_record,
};
use event_log::{Content, Row};
use uuid::Uuid;

use super::report::What;

/// Headers of a rejection that say where its command lies. They come behind the command's own.
const TOPIC: &[u8] = b"__connect.errors.topic";
const PARTITION: &[u8] = b"__connect.errors.partition";
const OFFSET: &[u8] = b"__connect.errors.offset";
/// Says that a rejection leaves a part of its command behind.
const OMITTED: &[u8] = b"activity-stream.omitted";

/// Which of all records and rows of a collection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Where its command lies.
    pub partition: i32,
    pub offset: i64,
    /// The command's timestamp, of a notification only.
    pub timestamp: i64,
    /// The target's place, of a notification only.
    pub place: u32,
}

/// Three parts of the content, and all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    pub parts: [u64; 3],
    pub all: u128,
}

/// Something that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub id: Id,
    pub what: What,
    pub digest: Digest,
    /// How much of its command a rejection holds depends on a setting of the topic, which may have changed. All forms
    /// that it may have then, where they are asked for and the command is there.
    pub forms: Vec<u128>,
}

/// What the three parts are called.
pub const PARTS_OF_RECORD: [&str; 3] = ["key", "value", "headers"];
pub const PARTS_OF_ROW: [&str; 3] = ["outcome", "timestamp or checksum", "content"];

impl Id {
    /// Of a row of a log, and of a rejection.
    #[must_use]
    pub fn of_command(partition: i32, offset: i64) -> Self {
        Self { partition, offset, timestamp: 0, place: 0 }
    }

    fn of_notification(id: ActivityId, place: u32) -> Self {
        Self { partition: id.partition(), offset: id.offset(), timestamp: id.timestamp(), place }
    }

    /// The notification's id, as it travels.
    #[must_use]
    pub fn text(&self, topic_bits: u16) -> String {
        let Self { partition, offset, timestamp, place } = *self;
        let at = Coordinates { partition, offset, timestamp };
        format!("{}/{place}", ActivityId::new(topic_bits, at))
    }
}

/// Why a record on a topic can't be one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOurs(pub String);

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which notification the record says that it is: by its value or, where that can't be read, by its header.
pub fn id_of_notification(record: &Record, topic_bits: u16) -> Result<Id, NotOurs> {
    #[derive(serde::Deserialize)]
    struct Value<'a> {
        #[serde(borrow)]
        id: std::borrow::Cow<'a, str>,
    }
    let value = record.value.as_deref().unwrap_or_default();
    let in_value = serde_json::from_slice::<Value<'_>>(value).ok().and_then(|value| parse(&value.id));
    let in_header = || parse(std::str::from_utf8(last(&record.headers, b"ce_id")?).ok()?);
    let Some((id, place)) = in_value.or_else(in_header) else {
        return Err(NotOurs("neither its value nor its header ce_id holds the id of a notification".into()));
    };
    if id.topic_bits() != topic_bits {
        return Err(NotOurs(format!("its id {id}/{place} is of another commands topic")));
    }
    Ok(Id::of_notification(id, place))
}

/// As notifications write it, and not otherwise: `UUID/PLACE`.
fn parse(text: &str) -> Option<(ActivityId, u32)> {
    let (id, place) = text.split_once('/')?;
    let (id, place): (ActivityId, u32) = (id.parse().ok()?, place.parse().ok()?);
    (format!("{id}/{place}") == text).then_some((id, place))
}

/// Which command the rejection says that it is of.
pub fn id_of_rejection(record: &Record, topic: &str) -> Result<Id, NotOurs> {
    let text = |name: &[u8]| std::str::from_utf8(last(&record.headers, name)?).ok();
    let number = |name| text(name)?.parse::<i64>().ok();
    let (Some(of), Some(partition), Some(offset)) = (text(TOPIC), number(PARTITION), number(OFFSET)) else {
        return Err(NotOurs("its headers do not say which command it is of".into()));
    };
    if of != topic {
        return Err(NotOurs(format!("its headers say that it is of the topic '{of}'")));
    }
    let partition = i32::try_from(partition)
        .map_err(|_| NotOurs(format!("its headers say that it is of partition {partition}")))?;
    Ok(Id::of_command(partition, offset))
}

fn last<'a>(headers: &'a [Header], name: &[u8]) -> Option<&'a [u8]> {
    headers.iter().rev().find(|header| header.name == name)?.value.as_deref()
}

/// Makes digests, under a key of this run: sums of them can't be forged.
#[derive(Debug, Clone)]
pub struct Digester {
    key: [u8; 32],
}

impl Default for Digester {
    fn default() -> Self {
        let mut key = [0; 32];
        key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self { key }
    }
}

impl Digester {
    /// A notification that should exist. Its trace headers are the command's own: without that, they are left out.
    #[must_use]
    pub fn notification(&self, notification: &Notification, command: ActivityId, retained: bool) -> Item {
        let place =
            notification.id.rsplit('/').next().and_then(|place| place.parse().ok()).unwrap_or_default();
        let OutputRecord { key, value, headers } = &notification.record;
        let digest = self.of_notification(key.as_deref(), value.as_deref(), headers, retained);
        Item { id: Id::of_notification(command, place), what: What::Notification, digest, forms: Vec::new() }
    }

    /// A notification that is there.
    #[must_use]
    pub fn found_notification(&self, record: &Record, retained: bool) -> Digest {
        self.of_notification(record.key.as_deref(), record.value.as_deref(), &record.headers, retained)
    }

    fn of_notification(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
        retained: bool,
    ) -> Digest {
        let compared = headers.iter().filter(|header| {
            retained || !TRACE_HEADERS.iter().any(|passed_on| header.name == passed_on.as_bytes())
        });
        self.digest([self.part([key]), self.part([value]), self.headers(compared)])
    }

    /// The rejection of a command that is there to be compared with.
    #[must_use]
    pub fn rejection(&self, record: &Record, topic: &str, problems: &Problems, limit: usize) -> Item {
        let digest = self.of_rejection(&rejection_record(record, topic, problems, limit));
        let id = Id::of_command(record.coordinates.partition, record.coordinates.offset);
        Item { id, what: What::Rejection, digest, forms: Vec::new() }
    }

    /// What the rejection of a command may be under any limit.
    #[must_use]
    pub fn forms_of_rejection(&self, record: &Record, topic: &str, problems: &Problems) -> Vec<u128> {
        rejection_forms(record, topic, problems).iter().map(|form| self.of_rejection(form).all).collect()
    }

    fn of_rejection(&self, OutputRecord { key, value, headers }: &OutputRecord) -> Digest {
        self.of_parts(key.as_deref(), value.as_deref(), headers)
    }

    fn of_parts(&self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> Digest {
        self.digest([self.part([key]), self.part([value]), self.headers(headers.iter())])
    }

    /// The rejection of a command of which only a log knows: its own headers, and the command's checksum.
    #[must_use]
    pub fn rejection_by_log(&self, row: &Row, topic: &str, problems: &Problems) -> Item {
        let at = row.coordinates;
        let empty = Record { coordinates: at, key: None, value: None, headers: Vec::new() };
        let headers = rejection_record(&empty, topic, problems, usize::MAX).headers;
        let digest = self.by_checksum(row.checksum, &headers);
        Item { id: Id::of_command(at.partition, at.offset), what: What::Rejection, digest, forms: Vec::new() }
    }

    /// The last part of [`Self::rejection_by_log`]'s digest, of a rejection that left a part of its command behind: as
    /// little as can be compared without the command. `None` of one that no limit gives.
    #[must_use]
    pub fn found_rejection_in_part(&self, record: &Record) -> Option<u64> {
        let (omitted, headers) = record.headers.split_last()?;
        let own = headers.iter().rposition(|header| header.name == TOPIC)?;
        let (commands, own) = headers.split_at(own);
        let is_given = match omitted.value.as_deref()? {
            // Headers that can't be read.
            b"headers" => {
                return (omitted.name == OMITTED && commands.is_empty())
                    .then(|| short(self.headers(own.iter())));
            }
            b"value" => true,
            b"value,headers" => commands.is_empty(),
            b"value,headers,key" => commands.is_empty() && record.key.is_none(),
            _ => false,
        };
        let is_given = is_given && omitted.name == OMITTED && record.value.is_none();
        is_given.then(|| short(self.headers(own.iter())))
    }

    /// A rejection that is there.
    #[must_use]
    pub fn found_rejection(&self, record: &Record, retained: bool) -> Digest {
        if retained {
            return self.of_parts(record.key.as_deref(), record.value.as_deref(), &record.headers);
        }
        let own = record.headers.iter().rposition(|header| header.name == TOPIC).unwrap_or(0);
        let (commands, own) = record.headers.split_at(own);
        let command = Record { headers: commands.to_vec(), ..record.clone() };
        self.by_checksum(command.checksum(), own)
    }

    fn by_checksum(&self, checksum: u32, own: &[Header]) -> Digest {
        let checksum = self.part([Some(checksum.to_le_bytes().as_slice())]);
        self.digest([checksum, checksum, self.headers(own.iter())])
    }

    /// What a log should say of a command.
    #[must_use]
    pub fn row(&self, at: Coordinates, checksum: u32, decision: &Decision) -> Item {
        let (what, content) = match decision {
            Decision::Accepted(event) => {
                (What::Event, self.event(event.object_type(), event.object_id(), event.json()))
            }
            Decision::Duplicate { of } => (What::Duplicate, self.duplicate(of.offset(), of.timestamp())),
            Decision::Rejected(problems) => (What::Rejection, self.problems(&problems.to_json())),
        };
        self.item_of_row(at, checksum, what, content)
    }

    /// What a log says of a command.
    #[must_use]
    pub fn found_row(&self, row: &Row) -> Item {
        let (what, content) = match &row.content {
            Content::Event { object_type, object_id, json, .. } => {
                (What::Event, self.event(object_type, object_id, json))
            }
            Content::Duplicate { of_offset, of_timestamp } => {
                (What::Duplicate, self.duplicate(*of_offset, *of_timestamp))
            }
            Content::Rejection { problems } => (What::Rejection, self.problems(problems)),
        };
        self.item_of_row(row.coordinates, row.checksum, what, content)
    }

    fn event(&self, object_type: &str, object_id: &str, json: &str) -> blake3::Hash {
        self.part([object_type, object_id, json].map(|text| Some(text.as_bytes())))
    }

    fn duplicate(&self, of_offset: i64, of_timestamp: i64) -> blake3::Hash {
        self.part([Some(&of_offset.to_le_bytes()[..]), Some(&of_timestamp.to_le_bytes()[..])])
    }

    fn problems(&self, json: &str) -> blake3::Hash {
        self.part([Some(json.as_bytes())])
    }

    fn item_of_row(&self, at: Coordinates, checksum: u32, what: What, content: blake3::Hash) -> Item {
        let (timestamp, checksum) = (at.timestamp.to_le_bytes(), checksum.to_le_bytes());
        let known = self.part([Some(&timestamp[..]), Some(&checksum[..])]);
        let digest = self.digest([self.part([Some(&[what as u8][..])]), known, content]);
        Item { id: Id::of_command(at.partition, at.offset), what, digest, forms: Vec::new() }
    }

    fn headers<'a>(&self, headers: impl Iterator<Item = &'a Header>) -> blake3::Hash {
        self.part(headers.flat_map(|header| [Some(header.name.as_ref()), header.value.as_deref()]))
    }

    /// Each piece is preceded by its length, and null differs from empty.
    fn part<'a>(&self, pieces: impl IntoIterator<Item = Option<&'a [u8]>>) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for piece in pieces {
            let length = piece.map_or(u64::MAX, |piece| piece.len() as u64);
            hasher.update(&length.to_le_bytes());
            hasher.update(piece.unwrap_or_default());
        }
        hasher.finalize()
    }

    fn digest(&self, parts: [blake3::Hash; 3]) -> Digest {
        let all = self.part(parts.iter().map(|part| Some(&part.as_bytes()[..])));
        let mut sum = [0; 16];
        sum.copy_from_slice(&all.as_bytes()[..16]);
        Digest { parts: parts.map(short), all: u128::from_le_bytes(sum) }
    }
}

fn short(part: blake3::Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *part.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

//! The parts of a record or a row that are compared: its command, and digests of its content.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use contract::{
    ActivityId, Coordinates, Decision, Header, Notification, OutputRecord, Problems, Record, TRACE_HEADERS,
    rejection_forms, rejection_record,
};
use event_log::{Content, Row};

use super::{problems::problems_as_written, report::What, staging::Side};

/// Headers of a rejection with the place of its command. They come after the command's own headers.
const TOPIC: &[u8] = b"__connect.errors.topic";
const PARTITION: &[u8] = b"__connect.errors.partition";
const OFFSET: &[u8] = b"__connect.errors.offset";
/// The header with the problems, among these.
const PROBLEMS: &[u8] = b"__connect.errors.exception.message";
/// The header of a rejection that omits a part of its command.
const OMITTED: &[u8] = b"activity-stream.omitted";

/// Identifies a record or a row within its collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    /// Partition and offset of its command.
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The command's timestamp, of a notification only.
    pub(crate) timestamp: i64,
    /// The target's index, of a notification only.
    pub(crate) target: u32,
}

/// 64 bits of a hash of each of the three parts of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u64; 3]);

impl Digest {
    pub(crate) fn last(self) -> u64 {
        self.0[2]
    }
}

/// A record or a row, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: Id,
    pub(crate) what: What,
    pub(crate) digest: Digest,
}

/// What the three parts are called.
pub(crate) const PARTS_OF_RECORD: [&str; 3] = ["key", "value", "headers"];
pub(crate) const PARTS_OF_ROW: [&str; 3] = ["outcome", "timestamp or checksum", "content"];

impl Id {
    /// Of a row of a log, and of a rejection.
    fn of_command(partition: i32, offset: i64) -> Self {
        Self { partition, offset, timestamp: 0, target: 0 }
    }

    fn of_notification(id: ActivityId, target: u32) -> Self {
        Self { partition: id.partition(), offset: id.offset(), timestamp: id.timestamp(), target }
    }

    /// The notification's id, as it is published.
    pub(crate) fn text(&self, topic_bits: u16) -> String {
        let Self { partition, offset, timestamp, target } = *self;
        let at = Coordinates { partition, offset, timestamp };
        format!("{}/{target}", ActivityId::new(topic_bits, at))
    }
}

/// Why a record on a topic can't be from this program.
#[derive(Debug)]
pub(crate) struct NotOurs(pub(crate) String);

/// The notification id in the record: from its value or, if that can't be read, from its header.
pub(crate) fn id_of_notification(record: &Record, topic_bits: u16) -> Result<Id, NotOurs> {
    #[derive(serde::Deserialize)]
    struct Value<'a> {
        #[serde(borrow)]
        id: std::borrow::Cow<'a, str>,
    }
    let value = record.value.as_deref().unwrap_or_default();
    let in_value = serde_json::from_slice::<Value<'_>>(value).ok().and_then(|value| parse(&value.id));
    let in_header = || parse(std::str::from_utf8(last(&record.headers, b"ce_id")?).ok()?);
    let Some((id, target)) = in_value.or_else(in_header) else {
        return Err(NotOurs("neither its value nor its header ce_id holds the id of a notification".into()));
    };
    if id.topic_bits() != topic_bits {
        return Err(NotOurs(format!("its id {id}/{target} is of another commands topic")));
    }
    Ok(Id::of_notification(id, target))
}

/// `UUID/TARGET`, exactly as notifications write it.
fn parse(text: &str) -> Option<(ActivityId, u32)> {
    let (id, target) = text.split_once('/')?;
    let (id, target): (ActivityId, u32) = (id.parse().ok()?, target.parse().ok()?);
    (format!("{id}/{target}") == text).then_some((id, target))
}

/// The command that the rejection's headers name.
pub(crate) fn id_of_rejection(record: &Record, topic: &str) -> Result<Id, NotOurs> {
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

/// Makes digests with a key of this run, so that nobody can craft two contents with the same digest.
#[derive(Debug, Default)]
pub(crate) struct Digester {
    key: RandomState,
}

impl Digester {
    /// A notification that should exist. Its trace headers are the command's: without the command, they are not compared.
    pub(crate) fn notification(
        &self,
        notification: &Notification,
        command: ActivityId,
        retained: bool,
    ) -> Item {
        let target =
            notification.id.rsplit('/').next().and_then(|target| target.parse().ok()).unwrap_or_default();
        let OutputRecord { key, value, headers } = &notification.record;
        let digest = self.of_notification(key.as_deref(), value.as_deref(), headers, retained);
        Item { id: Id::of_notification(command, target), what: What::Notification, digest }
    }

    pub(crate) fn found_notification(&self, record: &Record, retained: bool) -> Digest {
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
        Digest([self.part([key]), self.part([value]), self.headers(compared)])
    }

    /// The rejection of a retained command.
    pub(crate) fn rejection(&self, record: &Record, topic: &str, problems: &Problems, limit: usize) -> Item {
        self.item_of_rejection(record, &rejection_record(record, topic, problems, limit))
    }

    /// The rejection of a retained command under any limit: how much of its command it holds depends on a setting of the
    /// topic, which may have changed.
    pub(crate) fn forms_of_rejection(
        &self,
        record: &Record,
        topic: &str,
        problems: &Problems,
    ) -> impl Iterator<Item = Item> {
        let forms = rejection_forms(record, topic, problems).into_iter();
        forms.map(|form| self.item_of_rejection(record, &form))
    }

    fn item_of_rejection(&self, command: &Record, rejection: &OutputRecord) -> Item {
        let OutputRecord { key, value, headers } = rejection;
        let digest = self.of_rejection(key.as_deref(), value.as_deref(), headers);
        let Coordinates { partition, offset, .. } = command.coordinates;
        Item { id: Id::of_command(partition, offset), what: What::Rejection, digest }
    }

    fn of_rejection(&self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> Digest {
        Digest([self.part([key]), self.part([value]), self.headers_of_rejection(headers)])
    }

    /// The rejection of a command that only a log knows: its own headers, and the command's checksum.
    pub(crate) fn rejection_by_log(&self, row: &Row, topic: &str, problems: &Problems) -> Item {
        let at = row.coordinates;
        let empty = Record { coordinates: at, key: None, value: None, headers: Vec::new() };
        let headers = rejection_record(&empty, topic, problems, usize::MAX).headers;
        let digest = self.by_checksum(row.checksum, &headers);
        Item { id: Id::of_command(at.partition, at.offset), what: What::Rejection, digest }
    }

    pub(crate) fn found_rejection(&self, record: &Record, retained: bool) -> (Side, Digest) {
        if retained {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            return (Side::Found, self.of_rejection(key, value, &record.headers));
        }
        let own = record.headers.iter().rposition(|header| header.name == TOPIC).unwrap_or(0);
        let (commands, own) = record.headers.split_at(own);
        let command = Record { headers: commands.to_vec(), ..record.clone() };
        let Digest([first, second, last]) = self.by_checksum(command.checksum(), own);
        match self.own_headers_of_part(record) {
            Some(last) => (Side::FoundInPart, Digest([first, second, last])),
            None => (Side::Found, Digest([first, second, last])),
        }
    }

    /// The comparable part of a rejection that omits a part of its command, if the command is not retained: the last part of
    /// [`Self::rejection_by_log`]'s digest. `None` if no limit gives such a rejection.
    fn own_headers_of_part(&self, record: &Record) -> Option<u64> {
        let (omitted, headers) = record.headers.split_last()?;
        let own = headers.iter().rposition(|header| header.name == TOPIC)?;
        let (commands, own) = headers.split_at(own);
        let is_given = match omitted.value.as_deref()? {
            // Headers that can't be read.
            b"headers" => commands.is_empty(),
            b"value" => record.value.is_none(),
            b"value,headers" => commands.is_empty() && record.value.is_none(),
            b"value,headers,key" => commands.is_empty() && record.value.is_none() && record.key.is_none(),
            _ => false,
        };
        (is_given && omitted.name == OMITTED).then(|| self.headers_of_rejection(own))
    }

    fn by_checksum(&self, checksum: u32, own: &[Header]) -> Digest {
        let checksum = self.part([Some(checksum.to_le_bytes().as_slice())]);
        Digest([checksum, checksum, self.headers_of_rejection(own)])
    }

    /// The row that a log should have of a command.
    pub(crate) fn row(&self, at: Coordinates, checksum: u32, decision: &Decision) -> Item {
        let (what, content) = match decision {
            Decision::Accepted(event) => {
                (What::Event, self.event(event.object_type(), event.object_id(), event.json()))
            }
            Decision::Duplicate { of } => (What::Duplicate, self.duplicate(of.offset(), of.timestamp())),
            Decision::Rejected(problems) => (What::Rejection, self.problems(problems.to_json().as_bytes())),
        };
        self.item_of_row(at, checksum, what, content)
    }

    /// The row that a log has of a command.
    pub(crate) fn found_row(&self, row: &Row) -> Item {
        let (what, content) = match &row.content {
            Content::Event { object_type, object_id, json, .. } => {
                (What::Event, self.event(object_type, object_id, json))
            }
            Content::Duplicate { of_offset, of_timestamp } => {
                (What::Duplicate, self.duplicate(*of_offset, *of_timestamp))
            }
            Content::Rejection { problems } => (What::Rejection, self.problems(problems.as_bytes())),
        };
        self.item_of_row(row.coordinates, row.checksum, what, content)
    }

    fn event(&self, object_type: &str, object_id: &str, json: &str) -> u64 {
        self.part([object_type, object_id, json].map(|text| Some(text.as_bytes())))
    }

    fn duplicate(&self, of_offset: i64, of_timestamp: i64) -> u64 {
        self.part([Some(&of_offset.to_le_bytes()[..]), Some(&of_timestamp.to_le_bytes()[..])])
    }

    /// Pointers and codes, or all bytes of a text that can't be read as problems: that is one piece, problems are an even
    /// number of pieces.
    fn problems(&self, json: &[u8]) -> u64 {
        match problems_as_written(json) {
            Some(Problems(problems)) => {
                let texts = problems.iter().flat_map(|problem| [&problem.pointer, &problem.code]);
                self.part(texts.map(|text| Some(text.as_bytes())))
            }
            None => self.part([Some(json)]),
        }
    }

    fn item_of_row(&self, at: Coordinates, checksum: u32, what: What, content: u64) -> Item {
        let (timestamp, checksum) = (at.timestamp.to_le_bytes(), checksum.to_le_bytes());
        let known = self.part([Some(&timestamp[..]), Some(&checksum[..])]);
        let digest = Digest([self.part([Some(&[what as u8][..])]), known, content]);
        Item { id: Id::of_command(at.partition, at.offset), what, digest }
    }

    /// All but the message of each problem. A command can have headers with the same names: the rejection's own ones start
    /// at the last topic.
    fn headers_of_rejection(&self, headers: &[Header]) -> u64 {
        let own = headers.iter().rposition(|header| header.name == TOPIC).unwrap_or(headers.len());
        let index = headers.iter().skip(own).position(|header| header.name == PROBLEMS).map(|at| own + at);
        let problems = index.and_then(|index| headers[index].value.as_deref());
        let problems = problems.map(|json| self.problems(json).to_le_bytes());
        self.part(headers.iter().enumerate().flat_map(|(at, header)| {
            let value = match problems.as_ref() {
                Some(digest) if Some(at) == index => Some(&digest[..]),
                _ => header.value.as_deref(),
            };
            [Some(header.name.as_ref()), value]
        }))
    }

    fn headers<'a>(&self, headers: impl Iterator<Item = &'a Header>) -> u64 {
        self.part(headers.flat_map(|header| [Some(header.name.as_ref()), header.value.as_deref()]))
    }

    /// Each piece is preceded by its length, and null differs from empty.
    fn part<'a>(&self, pieces: impl IntoIterator<Item = Option<&'a [u8]>>) -> u64 {
        let mut hasher = self.key.build_hasher();
        for piece in pieces {
            hasher.write_u64(piece.map_or(u64::MAX, |piece| piece.len() as u64));
            hasher.write(piece.unwrap_or_default());
        }
        hasher.finish()
    }
}

//! Reads a record: the part of deciding that depends on the record alone.

use std::{mem, sync::Arc};

use crate::{
    cloud_event::{EventField, Form, Structured},
    code::Code,
    decision::{Reading, Verdict},
    entry::Entry,
    event::{Event, Parts},
    field::Field,
    id::{self, ActivityId},
    idempotency::{GivenKey, IdempotencyKey},
    json::{self, RawMember},
    limits::Limits,
    normal_form::NormalForm,
    problem::{Findings, Pointer, Problems},
    quick,
    record::{Coordinates, Header, Record},
    reply::ReplyTopics,
    wording::Found,
};

/// Reads the records of one commands topic. It keeps no state: only [`settle`](crate::settle()) takes earlier commands into
/// account.
#[derive(Debug, Clone)]
pub struct Decider {
    topic: String,
    topic_bits: u16,
    limits: Limits,
    reply_topics: ReplyTopics,
}

/// A verdict whose event is in a buffer that is still being written.
struct Draft {
    coordinates: Coordinates,
    checksum: u32,
    reading: Result<(Parts, Option<IdempotencyKey>), Problems>,
}

/// Bytes by which an event is usually larger than a short command: names, braces, date-times and a key.
pub(crate) const USUAL_GROWTH: usize = 256;

/// Bytes for the last event of a buffer, which begins before the buffer is full. A larger one moves the text.
const ROOM: usize = 16 * 1024;

impl Decider {
    /// When a buffer has this size, the next event gets another one.
    pub const BUFFER_BYTES: usize = 64 * 1024;

    /// `topic` is the name of the commands topic. Every activity id contains 12 bits of its checksum.
    pub fn new(topic: impl Into<String>, limits: Limits) -> Self {
        let topic = topic.into();
        Self { topic_bits: id::topic_bits(&topic), topic, limits, reply_topics: ReplyTopics::default() }
    }

    /// Allows commands to request replies on these topics; by default they may not.
    #[must_use]
    pub fn with_reply_topics(self, reply_topics: ReplyTopics) -> Self {
        Self { reply_topics, ..self }
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// [`topic_bits`](crate::topic_bits) of the topic.
    #[must_use]
    pub fn topic_bits(&self) -> u16 {
        self.topic_bits
    }

    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    #[must_use]
    pub fn reply_topics(&self) -> &ReplyTopics {
        &self.reply_topics
    }

    /// Reads a record. The same record always gets the same verdict, on every machine.
    ///
    /// Partition and offset must fit the activity id: [`Coordinates::fits_id`](crate::Coordinates::fits_id).
    #[must_use]
    pub fn read(&self, record: &Record) -> Verdict {
        let mut buffer = String::new();
        let draft = self.draft(record, &mut buffer);
        self.verdict(draft, &Arc::new(buffer))
    }

    /// [Reads](Self::read) records. Their events share a few buffers, so that an event needs no memory of its own. An
    /// event that is kept keeps about [`BUFFER_BYTES`](Self::BUFFER_BYTES) at most, unless it or one beside it is larger.
    #[must_use]
    pub fn read_all(&self, records: &[Record]) -> Vec<Verdict> {
        let expected: usize = records.iter().map(|record| record.bytes() + USUAL_GROWTH).sum();
        let mut verdicts = Vec::with_capacity(records.len());
        let (mut drafts, mut buffer) = (Vec::new(), String::new());
        for (index, record) in records.iter().enumerate() {
            if buffer.is_empty() {
                buffer.reserve(expected.min(Self::BUFFER_BYTES + ROOM));
            }
            drafts.push(self.draft(record, &mut buffer));
            if buffer.len() >= Self::BUFFER_BYTES || index + 1 == records.len() {
                let mut full = mem::take(&mut buffer);
                if full.capacity() > full.len() + ROOM {
                    full.shrink_to_fit();
                }
                let shared = Arc::new(full);
                verdicts.extend(drafts.drain(..).map(|draft| self.verdict(draft, &shared)));
            }
        }
        verdicts
    }

    fn draft(&self, record: &Record, buffer: &mut String) -> Draft {
        let mut findings = Findings::new(&self.limits);
        let valid = self.read_valid(record, &mut findings, buffer);
        let reading = match (findings.into_problems(), valid) {
            (Some(problems), _) => Err(problems),
            (None, Some(valid)) => Ok(valid),
            // Unreachable, since an entry that can't be read has a problem. If it had none, it would still be rejected.
            (None, None) => Err(Problems::one(Code::Missing, "the entry is incomplete")),
        };
        Draft { coordinates: record.coordinates, checksum: record.checksum(), reading }
    }

    fn verdict(&self, draft: Draft, buffer: &Arc<String>) -> Verdict {
        let Draft { coordinates, checksum, reading } = draft;
        let reading = match reading {
            Ok((parts, key)) => Reading::Valid { event: self.event(coordinates, buffer.clone(), parts), key },
            Err(problems) => Reading::Rejected(problems),
        };
        Verdict { coordinates, checksum, reading }
    }

    pub(crate) fn event(&self, at: Coordinates, buffer: Arc<String>, parts: Parts) -> Event {
        Event::new(ActivityId::new(self.topic_bits, at), at, buffer, parts)
    }

    fn read_valid(
        &self,
        record: &Record,
        findings: &mut Findings<'_>,
        buffer: &mut String,
    ) -> Option<(Parts, Option<IdempotencyKey>)> {
        let at = record.coordinates;
        let root = Pointer::Root;
        if !at.has_valid_timestamp() {
            let wanted = "a record timestamp from 1970 to the year 9999";
            findings.expected(&root, Code::BadTimestamp, wanted, format_args!("{} ms", at.timestamp));
        }
        if Header::are_unreadable(&record.headers) {
            let found = "more, or headers that can't be read";
            findings.expected(&root, Code::UnreadableHeaders, "at most 100000 headers", found);
        }
        let form = Form::of(&record.headers, findings);
        let key_in_headers = GivenKey::read(record, form == Form::Value, findings);
        self.reply_topics.read_request(&record.headers, findings);
        let value = record.value.as_deref();
        let mut event = Structured::default();
        let mut entry = Entry::new();
        if !self.read_quickly(value, form, findings, &mut entry) {
            let mut members = members(value, findings)?;
            let mut pointer = root;
            if form == Form::Structured {
                event = Structured::read(members, findings);
                members = event.data.take()?;
                pointer = root.name(EventField::Data.name());
            }
            entry = Entry::read(members, &pointer, findings)?;
        }
        let given_key = key_in_headers.or_else(|| GivenKey::of_structured(&event));
        buffer.reserve(value.map_or(0, <[u8]>::len) + USUAL_GROWTH);
        Some(self.write(&entry, given_key, record, findings, buffer))
    }

    /// Appends the text of the event to the buffer.
    pub(crate) fn write(
        &self,
        entry: &Entry<'_>,
        given_key: Option<GivenKey<'_>>,
        record: &Record,
        findings: &mut Findings<'_>,
        buffer: &mut String,
    ) -> (Parts, Option<IdempotencyKey>) {
        let (at, start) = (record.coordinates, buffer.len());
        let normal_form = NormalForm::write(entry, at.timestamp, buffer);
        let key = given_key.map(|given| IdempotencyKey::new(given, entry, &normal_form, buffer));
        let parts = Parts::write(normal_form, at.timestamp, entry, buffer);
        let allowed = self.limits.output_bytes;
        if parts.output_may_exceed(allowed, &record.headers) {
            let event = self.event(at, Arc::new(buffer.clone()), parts.clone());
            if event.output_exceeds(allowed, &record.headers) {
                let wanted = format_args!("at most {allowed} bytes of notifications");
                let found = format_args!("more in {} notifications", event.notification_count());
                findings.expected(&Pointer::Root, Code::OutputTooLarge, wanted, found);
                buffer.truncate(start);
            }
        }
        (parts, key)
    }

    /// Whether `entry` was read: the value is an ordinary one, and nothing is wrong with the record so far.
    fn read_quickly<'a>(
        &self,
        value: Option<&'a [u8]>,
        form: Form,
        findings: &Findings<'_>,
        entry: &mut Entry<'a>,
    ) -> bool {
        let Some(value) = value.filter(|value| value.len() <= self.limits.value_bytes) else { return false };
        if form != Form::Value || !findings.is_empty() {
            return false;
        }
        let text = std::str::from_utf8(value);
        text.is_ok_and(|text| quick::read(text, &self.limits, entry).is_some())
    }
}

/// Splits the value, which must be one JSON object.
pub(crate) fn members<'a>(
    value: Option<&'a [u8]>,
    findings: &mut Findings<'_>,
) -> Option<Vec<RawMember<'a>>> {
    let root = Pointer::Root;
    let Some(value) = value else {
        findings.expected(&root, Code::Tombstone, "an entry", "a record without value");
        return None;
    };
    let allowed = findings.limits().value_bytes;
    if value.len() > allowed {
        findings.expected(&root, Code::TooLarge, format_args!("at most {allowed} bytes"), value.len());
        return None;
    }
    let text = match std::str::from_utf8(value) {
        Ok(text) => text,
        Err(error) => {
            let position = error.valid_up_to();
            let found = format_args!("byte 0x{:02x} at {position}", value[position]);
            findings.expected(&root, Code::NotUtf8, "UTF-8", found);
            return None;
        }
    };
    match json::members(text) {
        Ok(members) => {
            check_nesting(text, findings);
            Some(members)
        }
        Err(_) => {
            report_not_an_object(text, findings);
            None
        }
    }
}

/// Values are split one level at a time, so a value that is nested too deep can still be read for other problems.
fn check_nesting(json: &str, findings: &mut Findings<'_>) {
    let allowed = findings.limits().nesting;
    let levels = json::depth(json, allowed);
    if levels > allowed {
        let wanted = format_args!("at most {allowed} levels of nesting");
        findings.expected(&Pointer::Root, Code::TooDeep, wanted, levels);
    }
}

fn report_not_an_object(text: &str, findings: &mut Findings<'_>) {
    match json::value(text) {
        Ok(value) => {
            findings.expected(&Pointer::Root, Code::NotAnObject, "an object", Found(value));
            check_nesting(text, findings);
        }
        Err(error) => {
            let hint = if text.starts_with('\u{feff}') { "; remove the byte order mark" } else { "" };
            findings.add(&Pointer::Root, Code::NotJson, format_args!("expected JSON: {error}{hint}"));
        }
    }
}

//! What a record says by itself.

use super::{
    cloud_event::{EventField, Form, Structured},
    code::Code,
    decision::{Reading, Verdict},
    entry::Entry,
    event::Event,
    field::Field,
    found::Found,
    id::{self, ActivityId},
    json::{self, RawMember},
    key::{GivenKey, IdempotencyKey},
    limits::Limits,
    normal_form::NormalForm,
    problem::{Findings, Pointer, Problems},
    record::{Header, Record},
    reply::ReplyTopics,
};

/// Reads the records of one commands topic. Keeps nothing from one record to the next: what must be known of
/// earlier ones is brought in by [`settle`](super::settle()).
#[derive(Debug, Clone)]
pub struct Decider {
    topic: String,
    topic_bits: u16,
    limits: Limits,
    reply_topics: ReplyTopics,
}

/// What normalising adds to a short command: names, braces and a date-time.
const USUAL_GROWTH: usize = 160;

impl Decider {
    /// `topic` is the name of the commands topic, of which every activity id holds 12 bits.
    pub fn new(topic: impl Into<String>, limits: Limits) -> Self {
        let topic = topic.into();
        Self { topic_bits: id::topic_bits(&topic), topic, limits, reply_topics: ReplyTopics::default() }
    }

    /// The same, where commands may ask for replies on these topics. Without it, none may.
    #[must_use]
    pub fn with_reply_topics(self, reply_topics: ReplyTopics) -> Self {
        Self { reply_topics, ..self }
    }

    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What the ids of this topic's activities hold of its name.
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

    /// What the record says. The same record gives the same verdict, whenever and wherever it is asked for.
    ///
    /// Partition and offset must fit the id: [`Coordinates::fits_id`](super::Coordinates::fits_id).
    #[must_use]
    pub fn read(&self, record: &Record) -> Verdict {
        let mut findings = Findings::new(&self.limits);
        let valid = self.read_valid(record, &mut findings);
        let reading = match (findings.into_problems(), valid) {
            (Some(problems), _) => Reading::Rejected(problems),
            (None, Some((event, key))) => Reading::Valid { event, key },
            // What is not read has a problem. Were it otherwise, it would still have to be rejected.
            (None, None) => Reading::Rejected(Problems::one(Code::Missing, "the entry is incomplete")),
        };
        Verdict { coordinates: record.coordinates, checksum: record.checksum(), reading }
    }

    fn read_valid(
        &self,
        record: &Record,
        findings: &mut Findings<'_>,
    ) -> Option<(Event, Option<IdempotencyKey>)> {
        let at = record.coordinates;
        if !at.has_valid_timestamp() {
            let message = format_args!(
                "expected a record timestamp from 1970 to the year 9999, found {} ms",
                at.timestamp
            );
            findings.add(&Pointer::Root, Code::BadTimestamp, message);
        }
        if Header::are_unreadable(&record.headers) {
            let message =
                format_args!("expected at most 100000 headers, found more, or some that can't be read");
            findings.add(&Pointer::Root, Code::UnreadableHeaders, message);
        }
        let form = Form::of(&record.headers, findings);
        let key_in_headers = GivenKey::read(record, form == Form::Value, findings);
        self.reply_topics.check(&record.headers, findings);
        let value = record.value.as_deref();
        let mut members = members(value, findings)?;
        let root = Pointer::Root;
        let mut place = root;
        let mut event = Structured::default();
        if form == Form::Structured {
            event = Structured::read(members, findings);
            members = event.data.take()?;
            place = root.name(EventField::Data.name());
        }
        let entry = Entry::read(members, &place, findings)?;
        let given_key = key_in_headers.or_else(|| GivenKey::of_structured(&event));

        let length = value.map_or(0, <[u8]>::len) + USUAL_GROWTH;
        let normal_form = NormalForm::write(&entry, at.timestamp, length);
        let key = given_key.map(|given| IdempotencyKey::new(given, &entry, &normal_form));
        let id = ActivityId::new(self.topic_bits, at);
        let event = Event::new(id, at, (entry.object_type, entry.object_id), normal_form);
        if event.output_exceeds(self.limits.output_bytes, &record.headers) {
            let message = format_args!(
                "expected at most {} bytes of notifications; {} of this size have more",
                self.limits.output_bytes,
                event.notification_count()
            );
            findings.add(&Pointer::Root, Code::OutputTooLarge, message);
        }
        Some((event, key))
    }
}

/// The members of the one object that a value must be.
fn members<'a>(value: Option<&'a [u8]>, findings: &mut Findings<'_>) -> Option<Vec<RawMember<'a>>> {
    let root = Pointer::Root;
    let Some(value) = value else {
        findings.add(&root, Code::Tombstone, format_args!("expected an entry, found a record without value"));
        return None;
    };
    let allowed = findings.limits().value_bytes;
    if value.len() > allowed {
        let message = format_args!("expected at most {allowed} bytes, found {}", value.len());
        findings.add(&root, Code::TooLarge, message);
        return None;
    }
    let text = match std::str::from_utf8(value) {
        Ok(text) => text,
        Err(error) => {
            let position = error.valid_up_to();
            let message = format_args!("expected UTF-8, found byte 0x{:02x} at {position}", value[position]);
            findings.add(&root, Code::NotUtf8, message);
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

/// Reading goes one level at a time, so what is too deep can still be looked at for other problems.
fn check_nesting(json: &str, findings: &mut Findings<'_>) {
    let allowed = findings.limits().nesting;
    let levels = json::depth(json, allowed);
    if levels > allowed {
        let message = format_args!("expected at most {allowed} levels of nesting, found {levels}");
        findings.add(&Pointer::Root, Code::TooDeep, message);
    }
}

fn report_not_an_object(text: &str, findings: &mut Findings<'_>) {
    match json::value(text) {
        Ok(value) => {
            let message = format_args!("expected an object, found {}", Found(value));
            findings.add(&Pointer::Root, Code::NotAnObject, message);
            check_nesting(text, findings);
        }
        Err(error) => {
            let mark = if text.starts_with('\u{feff}') { "; it begins with a byte order mark" } else { "" };
            findings.add(&Pointer::Root, Code::NotJson, format_args!("expected JSON: {error}{mark}"));
        }
    }
}

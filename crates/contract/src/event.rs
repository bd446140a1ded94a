//! Events: accepted commands in normal form.

use std::{borrow::Cow, fmt, ops::Range, sync::Arc};

use smallvec::SmallVec;
use thiserror::Error;

use crate::{
    date_time,
    decider::USUAL_GROWTH,
    entry::Entry,
    id::ActivityId,
    json::{self, RawMember},
    limits::Limits,
    normal_form::{NormalForm, NotifiedTarget},
    problem::{Findings, Pointer},
    record::Coordinates,
    target::{Audience, NOTIFIED, Target},
    text::Text,
};

/// An accepted command: the entry in normal form, with its id and the coordinates of the command.
///
/// Its text is part of a buffer, which events that were decided together share: see
/// [`Decider::read_all`](crate::Decider::read_all).
#[derive(Clone)]
pub struct Event {
    id: ActivityId,
    coordinates: Coordinates,
    buffer: Arc<String>,
    parts: Parts,
}

/// Where in its buffer the text of an event is: the normal form, followed by the other texts that its output contains.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub json: Range<usize>,
    /// `,"targets":[…]` in `json`.
    audience: Range<usize>,
    object_type: Range<usize>,
    object_id: Range<usize>,
    /// The record's timestamp, if any target is notified.
    time: Range<usize>,
    pub notified: SmallVec<[Notified; 1]>,
}

/// A target that is notified.
#[derive(Debug, Clone)]
pub(crate) struct Notified {
    pub target: NotifiedTarget,
    /// The notification's record key.
    pub key: Range<usize>,
}

/// A target of an event, to show to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTarget {
    /// The audience as in notification keys: `Identity:nordlys/accounting`, `Everyone`, …
    pub audience: String,
    /// The display name of an identity, if the command has one.
    pub name: Option<String>,
    pub notify: bool,
}

/// Text from a log is not a normal form: another program changed the log.
#[derive(Debug, Error)]
#[error("not an entry in normal form: {0}")]
pub struct NotNormalForm(pub String);

impl Parts {
    /// Appends the other texts of the event to its normal form.
    pub fn write(normal_form: NormalForm, timestamp: i64, entry: &Entry<'_>, buffer: &mut String) -> Self {
        let notified = entry.targets.iter().filter(|target| target.notify).map(|target| &target.audience);
        Self::write_for(normal_form, timestamp, (&entry.object_type, &entry.object_id), notified, buffer)
    }

    /// `audiences` are those of the targets that are notified.
    fn write_for<'e>(
        normal_form: NormalForm,
        timestamp: i64,
        (object_type, object_id): (&Text<'_>, &Text<'_>),
        audiences: impl Iterator<Item = &'e Audience<'e>>,
        buffer: &mut String,
    ) -> Self {
        let default_time = normal_form.default_time();
        let NormalForm { json, audience, notified: targets, .. } = normal_form;
        let object_type_at = written(buffer, |buffer| buffer.push_str(&object_type.unescaped()));
        // Together they are the subject of notifications.
        buffer.push('/');
        let object_id_at = written(buffer, |buffer| buffer.push_str(&object_id.unescaped()));
        let time = default_time.unwrap_or_else(|| {
            let is_needed = !targets.is_empty();
            written(buffer, |buffer| {
                if is_needed {
                    date_time::push_timestamp(buffer, timestamp);
                }
            })
        });
        let mut notified = SmallVec::new();
        for (target, audience) in targets.into_iter().zip(audiences) {
            let key = written(buffer, |buffer| audience.push_key(object_type, object_id, buffer));
            notified.push(Notified { target, key });
        }
        Self { json, audience, object_type: object_type_at, object_id: object_id_at, time, notified }
    }
}

impl Event {
    pub(crate) fn new(id: ActivityId, coordinates: Coordinates, buffer: Arc<String>, parts: Parts) -> Self {
        Self { id, coordinates, buffer, parts }
    }

    /// Reads an event from the log. No limits apply: what was accepted stays accepted.
    ///
    /// # Errors
    ///
    /// [`NotNormalForm`] if the text lacks a part that every normal form has.
    pub fn from_log(topic_bits: u16, coordinates: Coordinates, json: String) -> Result<Self, NotNormalForm> {
        let members = members(&json)?;
        let object_type = required_text(&members, "objectType")?;
        let object_id = required_text(&members, "objectId")?;
        let targets =
            find(&members, "targets").ok_or_else(|| NotNormalForm("it has no targets".to_owned()))?;
        let start = position(&json, targets.name).checked_sub(1);
        let Some(start) = start.filter(|start| json.as_bytes()[*start] == b',') else {
            return Err(NotNormalForm("there is no comma before its targets".to_owned()));
        };
        let audience = start..position(&json, targets.value) + targets.value.len();
        let (mut notified, mut audiences) = (SmallVec::new(), Vec::new());
        for (index, (raw, target)) in read_targets(targets.value)?.into_iter().enumerate() {
            if !target.notify {
                continue;
            }
            let visible = raw
                .strip_suffix(NOTIFIED)
                .ok_or_else(|| NotNormalForm(format!("its target {index} does not end in {NOTIFIED}")))?;
            let start = position(&json, visible);
            notified.push(NotifiedTarget { index, json: start..start + visible.len() });
            audiences.push(target.audience);
        }
        let normal_form = NormalForm { json: 0..json.len(), default_published_at: None, audience, notified };
        let mut buffer = String::with_capacity(json.len() + USUAL_GROWTH);
        buffer.push_str(&json);
        let object = (&object_type, &object_id);
        let parts =
            Parts::write_for(normal_form, coordinates.timestamp, object, audiences.iter(), &mut buffer);
        Ok(Self::new(ActivityId::new(topic_bits, coordinates), coordinates, Arc::new(buffer), parts))
    }

    #[must_use]
    pub fn id(&self) -> ActivityId {
        self.id
    }

    #[must_use]
    pub fn coordinates(&self) -> Coordinates {
        self.coordinates
    }

    /// The normal form.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.buffer[self.parts.json.clone()]
    }

    #[must_use]
    pub fn object_type(&self) -> &str {
        &self.buffer[self.parts.object_type.clone()]
    }

    #[must_use]
    pub fn object_id(&self) -> &str {
        &self.buffer[self.parts.object_id.clone()]
    }

    /// What was done: `@type`. Parses the JSON again, as do the methods below: they are for output to people.
    #[must_use]
    pub fn verb(&self) -> Cow<'_, str> {
        self.text("@type").unwrap_or_default()
    }

    /// When it happened, as the producer wrote it.
    #[must_use]
    pub fn published_at(&self) -> Cow<'_, str> {
        self.text("publishedAt").unwrap_or_default()
    }

    /// The text for people.
    #[must_use]
    pub fn content(&self) -> Option<Cow<'_, str>> {
        self.text("content")
    }

    /// The targets, in the order of the normal form.
    #[must_use]
    pub fn targets(&self) -> Vec<EventTarget> {
        let raw = self.buffer[self.parts.audience.clone()].strip_prefix(",\"targets\":").unwrap_or("[]");
        let targets = read_targets(raw).unwrap_or_default().into_iter();
        let object_type = self.raw("objectType").unwrap_or_default();
        let object_id = self.raw("objectId").unwrap_or_default();
        targets
            .map(|(_, target)| {
                let mut audience = String::new();
                target.audience.push_key(&object_type, &object_id, &mut audience);
                let name = target.audience.name().map(|name| name.unescaped().into_owned());
                EventTarget { audience, name, notify: target.notify }
            })
            .collect()
    }

    /// The number of [`notifications`](Self::notifications).
    #[must_use]
    pub fn notification_count(&self) -> usize {
        self.parts.notified.len()
    }

    pub(crate) fn notified(&self) -> &[Notified] {
        &self.parts.notified
    }

    /// `objectType/objectId`.
    pub(crate) fn subject(&self) -> &str {
        &self.buffer[self.parts.object_type.start..self.parts.object_id.end]
    }

    /// The record's timestamp in UTC, if any target is notified.
    pub(crate) fn time(&self) -> &str {
        &self.buffer[self.parts.time.clone()]
    }

    /// The normal form before and after `targets`: an audience must not learn who the others are.
    pub(crate) fn json_without_targets(&self) -> [&str; 2] {
        let Parts { json, audience, .. } = &self.parts;
        [&self.buffer[json.start..audience.start], &self.buffer[audience.end..json.end]]
    }

    /// The target's JSON without `notify` and the closing brace.
    pub(crate) fn target_json(&self, notified: &Notified) -> &str {
        &self.buffer[notified.target.json.clone()]
    }

    pub(crate) fn key(&self, notified: &Notified) -> &str {
        &self.buffer[notified.key.clone()]
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let members = json::members(self.json()).ok()?;
        find(&members, name).and_then(|member| json::string(member.value).ok())
    }

    fn texts(&self) -> [&str; 5] {
        let [before, after] = self.json_without_targets();
        [self.json(), before, after, self.object_type(), self.object_id()]
    }

    fn notified_texts(&self) -> impl Iterator<Item = (usize, [&str; 3])> {
        let texts = |it| [self.target_json(it), self.key(it), self.time()];
        self.notified().iter().map(move |it| (it.target.index, texts(it)))
    }

    fn raw(&self, name: &str) -> Option<Text<'_>> {
        let members = json::members(self.json()).ok()?;
        find(&members, name).and_then(|member| Text::new(member.value).ok())
    }
}

/// By content: where the texts are does not matter.
impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.id, self.coordinates) == (other.id, other.coordinates)
            && self.texts() == other.texts()
            && self.notified_texts().eq(other.notified_texts())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.notified().iter().map(|notified| self.key(notified)).collect();
        let mut event = f.debug_struct("Event");
        event.field("id", &self.id).field("coordinates", &self.coordinates);
        event.field("json", &self.json()).field("notified", &keys).finish_non_exhaustive()
    }
}

/// Where in the buffer `write` wrote.
fn written(buffer: &mut String, write: impl FnOnce(&mut String)) -> Range<usize> {
    let start = buffer.len();
    write(buffer);
    start..buffer.len()
}

fn members(json: &str) -> Result<Vec<RawMember<'_>>, NotNormalForm> {
    json::members(json).map_err(|error| NotNormalForm(error.to_string()))
}

/// Compares raw names: in the normal form, the contract's names have no escapes.
fn find<'a>(members: &[RawMember<'a>], name: &str) -> Option<RawMember<'a>> {
    let is_named = |raw: &str| {
        raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).is_some_and(|raw| raw == name)
    };
    members.iter().copied().find(|member| is_named(member.name))
}

fn required_text<'a>(members: &[RawMember<'a>], name: &str) -> Result<Text<'a>, NotNormalForm> {
    find(members, name)
        .filter(|member| json::Kind::of(member.value) == json::Kind::String)
        .and_then(|member| Text::new(member.value).ok())
        .ok_or_else(|| NotNormalForm(format!("its {name} is missing or not text")))
}

fn read_targets(raw: &str) -> Result<Vec<(&str, Target<'_>)>, NotNormalForm> {
    let limits = Limits::unlimited();
    let mut findings = Findings::new(&limits);
    let elements = json::elements(raw).map_err(|error| NotNormalForm(format!("targets: {error}")))?;
    let targets: Vec<_> = elements
        .into_iter()
        .filter_map(|raw| Target::read(raw, &Pointer::Root, &mut findings).map(|target| (raw, target)))
        .collect();
    match findings.into_problems() {
        Some(problems) => Err(NotNormalForm(format!("targets: {problems}"))),
        None => Ok(targets),
    }
}

/// The start of `part`, a slice of `whole`.
fn position(whole: &str, part: &str) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decider, Reading, Record, Verdict};

    fn record(offset: i64, value: &str) -> Record {
        let coordinates = Coordinates { partition: 0, offset, timestamp: 1 };
        Record { coordinates, key: None, value: Some(value.to_owned().into()), headers: Vec::new() }
    }

    /// Small events, large ones and rejections, in more than two buffers.
    fn records() -> Vec<Record> {
        let value = |number: i64| match number % 100 {
            99 => format!(r#"{{"objectType":"a","objectId":"b","content":"{}"}}"#, "x".repeat(100_000)),
            last if last % 3 == 0 => r#"{"objectType":"a"}"#.to_owned(),
            _ => format!(
                r#"{{"objectType":"a","objectId":"{number}","targets":[{{"targetId":"x","notify":true}}]}}"#
            ),
        };
        (0..1_000).map(|number| record(number, &value(number))).collect()
    }

    fn events(verdicts: &[Verdict]) -> Vec<&Event> {
        let event = |verdict| match verdict {
            &Verdict { reading: Reading::Valid { ref event, .. }, .. } => Some(event),
            _ => None,
        };
        verdicts.iter().filter_map(event).collect()
    }

    #[test]
    fn records_read_together_get_the_verdicts_that_they_get_alone() {
        let decider = Decider::new("t", Limits::default());
        let alone: Vec<_> = records().iter().map(|record| decider.read(record)).collect();
        assert_eq!(decider.read_all(&records()), alone);
        assert_eq!(decider.read_all(&[]), []);
        assert!(events(&alone).len() > 600);
    }

    #[test]
    fn events_share_buffers_of_bounded_size() {
        let verdicts = Decider::new("t", Limits::default()).read_all(&records());
        let events = events(&verdicts);
        let mut buffers: Vec<_> = events.iter().map(|event| event.buffer.as_ptr()).collect();
        buffers.dedup();
        assert!((10..30).contains(&buffers.len()), "{} buffers", buffers.len());
        for event in events {
            let longest = Decider::BUFFER_BYTES + event.json().len().max(100_200);
            assert!(event.buffer.len() <= longest, "{} bytes", event.buffer.len());
            assert!(event.buffer.capacity() <= longest + 16_384, "{} bytes", event.buffer.capacity());
        }
    }
}

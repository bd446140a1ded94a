//! Idempotency keys, by which a repeated command is recognized.

use std::fmt;

use bytes::Bytes;

use crate::{
    cloud_event::{Form, Structured},
    code::Code,
    entry::Entry,
    id::ActivityId,
    json,
    limits::Limits,
    normal_form::NormalForm,
    problem::{Findings, Pointer},
    record::{Header, Record},
    wording::Quoted,
};

/// The key of one command and the fingerprint of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// BLAKE3 of the key's kind and its length-prefixed parts, truncated to 128 bits.
    pub hash: [u8; 16],
    /// Equal for equal content, however it is written: BLAKE3 of the normal form with free properties in canonical form
    /// and without a default `publishedAt`, truncated to 128 bits.
    pub fingerprint: [u8; 16],
    /// The same with free properties as written: the fingerprint of version 0.1.0, which existing logs contain.
    pub as_written: [u8; 16],
}

/// A key that is in use, as the next command with that key finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The activity that the first command became.
    pub first: ActivityId,
    pub fingerprint: [u8; 16],
    /// The partition's clock when a valid command last had the key, in milliseconds since 1970.
    pub last_seen: i64,
}

/// The key as the command gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenKey<'a> {
    Header(&'a [u8]),
    CloudEvent { source: &'a [u8], id: &'a [u8] },
}

pub(crate) const HEADER: &str = "idempotency-key";
pub(crate) const MAX_KEY_BYTES: usize = 255;

impl<'a> GivenKey<'a> {
    /// The key in the headers, if any. The header `idempotency-key` takes precedence over a CloudEvent's source and id,
    /// which are only read with `event_in_headers`.
    pub fn read(record: &'a Record, event_in_headers: bool, findings: &mut Findings<'_>) -> Option<Self> {
        if record.headers.is_empty() {
            return None;
        }
        let mut given = record.headers.iter().filter(|header| header.name == HEADER.as_bytes());
        let Some(first) = given.next() else {
            return event_in_headers.then(|| Self::of_cloud_event(&record.headers)).flatten();
        };
        if record.key.as_ref().is_none_or(Bytes::is_empty) {
            let message = format_args!(
                "a record with the header {HEADER} needs a record key, which keeps repetitions in one partition"
            );
            findings.add(&Pointer::Root, Code::IdempotencyKeyWithoutRecordKey, message);
        }
        let more = given.count();
        if more > 0 {
            let wanted = format_args!("the header {HEADER} only once");
            findings.expected(&Pointer::Root, Code::BadIdempotencyKey, wanted, more + 1);
            return None;
        }
        checked(first.value.as_deref(), findings).map(Self::Header)
    }

    /// The key of an event in structured mode, which equals that of the same event in binary mode.
    pub fn of_structured(event: &'a Structured<'_>) -> Option<Self> {
        let (source, id) = (event.source.as_ref()?, event.id.as_ref()?);
        Some(Self::CloudEvent { source: source.as_bytes(), id: id.as_bytes() })
    }

    fn of_cloud_event(headers: &'a [Header]) -> Option<Self> {
        let last = |name: &str| {
            let value = Header::last(headers, name.as_bytes())?.value.as_deref()?;
            (!value.is_empty()).then_some(value)
        };
        Some(Self::CloudEvent { source: last("ce_source")?, id: last("ce_id")? })
    }

    fn hash(&self) -> [u8; 16] {
        let (kind, parts): (u8, &[&[u8]]) = match self {
            Self::Header(key) => (1, &[key]),
            Self::CloudEvent { source, id } => (2, &[source, id]),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        truncated(&hasher.finalize())
    }
}

/// Whether a command has a key, valid or not.
pub(crate) fn is_given(headers: &[Header], value: Option<&[u8]>) -> bool {
    if headers.iter().any(|header| header.name == HEADER.as_bytes()) {
        return true;
    }
    let limits = Limits::default();
    let mut ignored = Findings::new(&limits);
    if Form::of(headers, &mut ignored) == Form::Value {
        return GivenKey::of_cloud_event(headers).is_some();
    }
    let members = value.and_then(|value| json::members(std::str::from_utf8(value).ok()?).ok());
    members.is_some_and(|members| GivenKey::of_structured(&Structured::read(members, &mut ignored)).is_some())
}

impl IdempotencyKey {
    /// `content` is the entry's, in the buffer, which is left as it was.
    pub(crate) fn new(
        given: GivenKey<'_>,
        entry: &Entry<'_>,
        content: &NormalForm,
        buffer: &mut String,
    ) -> Self {
        let as_written = fingerprint(content, buffer);
        let fingerprint = if entry.has_free() {
            let length = buffer.len();
            // The timestamp does not enter the fingerprint.
            let canonical = NormalForm::write_canonical(entry, 0, buffer);
            let fingerprint = fingerprint(&canonical, buffer);
            buffer.truncate(length);
            fingerprint
        } else {
            as_written
        };
        Self { hash: given.hash(), fingerprint, as_written }
    }

    /// Whether the command has the content of the claim. Claims contain either kind of fingerprint; neither kind is ever
    /// equal for different content.
    pub(crate) fn has_content_of(&self, claim: &Claim) -> bool {
        [self.fingerprint, self.as_written].contains(&claim.fingerprint)
    }
}

fn checked<'a>(key: Option<&'a [u8]>, findings: &mut Findings<'_>) -> Option<&'a [u8]> {
    let mut report = |found: fmt::Arguments<'_>| {
        let wanted = format_args!("1 to {MAX_KEY_BYTES} bytes of UTF-8 in the header {HEADER}");
        findings.expected(&Pointer::Root, Code::BadIdempotencyKey, wanted, found);
        None
    };
    match key.map(|key| (key, std::str::from_utf8(key))) {
        None => report(format_args!("null")),
        Some((_, Err(error))) => {
            report(format_args!("a byte that is not UTF-8 at position {}", error.valid_up_to()))
        }
        Some((_, Ok(""))) => report(format_args!("none")),
        Some((key, Ok(text))) if key.len() > MAX_KEY_BYTES => {
            report(format_args!("{} bytes, starting with {}", key.len(), Quoted(text)))
        }
        Some((key, Ok(_))) => Some(key),
    }
}

/// Leaves out the default of `publishedAt`: it is the record's timestamp, which differs in a repetition.
fn fingerprint(content: &NormalForm, buffer: &str) -> [u8; 16] {
    let (json, buffer) = (&content.json, buffer.as_bytes());
    let Some(default) = &content.default_published_at else {
        return truncated(&blake3::hash(&buffer[json.clone()]));
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&buffer[json.start..default.start]);
    hasher.update(&buffer[default.end..json.end]);
    truncated(&hasher.finalize())
}

fn truncated(hash: &blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

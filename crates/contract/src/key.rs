//! Idempotency keys: how a command that is sent again is told from a new one.

use super::{
    cloud_event::{Form, Structured},
    code::Code,
    entry::Entry,
    found::Quoted,
    id::ActivityId,
    json,
    limits::Limits,
    normal_form::NormalForm,
    problem::{Findings, Pointer},
    record::{Header, Record},
};

/// The key of one command and the fingerprint of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// BLAKE3 of the key with its kind, each part length-prefixed, cut to 128 bits.
    pub hash: [u8; 16],
    /// Of the content, however it is written: BLAKE3 of the normal form with its free properties in canonical form,
    /// before `publishedAt` gets its default, cut to 128 bits.
    pub fingerprint: [u8; 16],
    /// The same with free properties as they were written: the fingerprint of version 0.1.0, which claims of logs hold.
    pub as_written: [u8; 16],
}

/// What the first command with a key left behind, as the next one with that key finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The activity that the first command became.
    pub first: ActivityId,
    pub fingerprint: [u8; 16],
    /// The partition's clock when a valid command last carried the key, in milliseconds since 1970.
    pub last_seen: i64,
}

/// What a command's headers say that its key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GivenKey<'a> {
    Header(&'a [u8]),
    CloudEvent { source: &'a [u8], id: &'a [u8] },
}

pub(super) const HEADER: &str = "idempotency-key";
pub(super) const LONGEST_KEY: usize = 255;

impl<'a> GivenKey<'a> {
    /// The key in the headers, if there is one; the header `idempotency-key` wins over a CloudEvent's id, which is
    /// looked for in the headers where `event_in_headers`.
    pub fn read(record: &'a Record, event_in_headers: bool, findings: &mut Findings<'_>) -> Option<Self> {
        if record.headers.is_empty() {
            return None;
        }
        let mut given = record.headers.iter().filter(|header| header.name == HEADER.as_bytes());
        let Some(first) = given.next() else {
            return event_in_headers.then(|| Self::of_cloud_event(&record.headers)).flatten();
        };
        if record.key.as_ref().is_none_or(Vec::is_empty) {
            let message = format_args!(
                "a record with the header {HEADER} needs a key: without one its repetitions could land in other partitions"
            );
            findings.add(&Pointer::Root, Code::IdempotencyKeyWithoutRecordKey, message);
        }
        let more = given.count();
        if more > 0 {
            let message = format_args!("expected the header {HEADER} once, found {} of them", more + 1);
            findings.add(&Pointer::Root, Code::BadIdempotencyKey, message);
            return None;
        }
        checked(first.value.as_deref(), findings).map(Self::Header)
    }

    /// The key of an event in structured mode: the same as of one in binary mode.
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
        cut(&hasher.finalize())
    }
}

/// Whether a command brings a key of its own, be it a good one or not.
pub(super) fn is_given(headers: &[Header], value: Option<&[u8]>) -> bool {
    if headers.iter().any(|header| header.name == HEADER.as_bytes()) {
        return true;
    }
    let limits = Limits::default();
    let mut unheard = Findings::new(&limits);
    if Form::of(headers, &mut unheard) == Form::Value {
        return GivenKey::of_cloud_event(headers).is_some();
    }
    let members = value.and_then(|value| json::members(std::str::from_utf8(value).ok()?).ok());
    members.is_some_and(|members| GivenKey::of_structured(&Structured::read(members, &mut unheard)).is_some())
}

impl IdempotencyKey {
    pub(super) fn new(given: GivenKey<'_>, entry: &Entry<'_>, content: &NormalForm) -> Self {
        let as_written = fingerprint(content);
        let fingerprint = if entry.has_free() {
            // The timestamp is left out of the fingerprint.
            fingerprint(&NormalForm::write_canonical(entry, 0, content.json.len()))
        } else {
            as_written
        };
        Self { hash: given.hash(), fingerprint, as_written }
    }

    /// Whether the command has the content that left the claim. A claim of either form names no other content, for what is
    /// written the same is the same.
    #[must_use]
    pub fn has_content_of(&self, claim: &Claim) -> bool {
        [self.fingerprint, self.as_written].contains(&claim.fingerprint)
    }
}

fn checked<'a>(key: Option<&'a [u8]>, findings: &mut Findings<'_>) -> Option<&'a [u8]> {
    let mut report = |found: std::fmt::Arguments<'_>| {
        let message =
            format_args!("expected 1 to {LONGEST_KEY} bytes of UTF-8 in the header {HEADER}, found {found}");
        findings.add(&Pointer::Root, Code::BadIdempotencyKey, message);
        None
    };
    let Some(key) = key else { return report(format_args!("null")) };
    match std::str::from_utf8(key) {
        Err(error) => report(format_args!("a byte that is not UTF-8 at position {}", error.valid_up_to())),
        Ok(text) if key.len() > LONGEST_KEY => {
            report(format_args!("{} bytes, which begin {}", key.len(), Quoted(text)))
        }
        Ok("") => report(format_args!("none")),
        Ok(_) => Some(key),
    }
}

/// The record's timestamp is no content: a repetition has another.
fn fingerprint(content: &NormalForm) -> [u8; 16] {
    let json = content.json.as_bytes();
    let Some(default) = &content.default_published_at else { return cut(&blake3::hash(json)) };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&json[..default.start]);
    hasher.update(&json[default.end..]);
    cut(&hasher.finalize())
}

fn cut(hash: &blake3::Hash) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash.as_bytes()[..16]);
    short
}

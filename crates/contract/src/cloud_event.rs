//! Commands that come as CloudEvents: which form a record has, and what a structured event carries.
//!
//! The forms are those of the [Kafka protocol binding] 1.0.2: *binary*, attributes in headers `ce_…` and the data as
//! the value, and *structured*, all of it in the value in the [JSON format] 1.0.2. Of an event, the entry that it
//! carries is decided, and its `source` and `id` are an idempotency key.
//!
//! The CloudEvents SDK for Rust is not used: it reads data into `serde_json::Value`, which would change numbers and
//! forget repeated names of an entry that is kept byte for byte, and it stops at the first problem.
//!
//! [Kafka protocol binding]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
//! [JSON format]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    code::Code,
    field::{Field, fields},
    found::{Found, Quoted},
    json::{self, Kind, RawMember},
    member::{self, Member},
    problem::{Findings, Pointer},
    record::Header,
};

/// Where a record has its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The value is the entry: a plain command, or a CloudEvent in binary mode.
    Value,
    /// The value is a CloudEvent, of which `data` is the entry.
    Structured,
}

/// What a structured event says of itself, as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Structured<'a> {
    pub source: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
    /// The members of the object under `data`.
    pub data: Option<Vec<RawMember<'a>>>,
}

fields! {
    /// What is read of a structured event; all else is left unread.
    EventField {
        Id => "id",
        Source => "source",
        Type => "type",
        SpecVersion => "specversion",
        DataContentType => "datacontenttype",
        Data => "data",
        DataBase64 => "data_base64",
    }
}

pub(super) const CONTENT_TYPE: &str = "content-type";
const SPEC_VERSION: &str = "ce_specversion";
/// What every event has, in the order of the specification.
const REQUIRED: [EventField; 3] = [EventField::Id, EventField::Source, EventField::Type];
const ATTRIBUTE: &[u8] = b"ce_";
pub(super) const ATTRIBUTES: [&str; 4] = ["ce_id", "ce_source", "ce_specversion", "ce_type"];

impl Form {
    /// What the headers say; problems of an event in binary mode are reported.
    pub fn of(headers: &[Header], findings: &mut Findings<'_>) -> Self {
        if headers.is_empty() {
            return Self::Value;
        }
        let content_type = text(headers, CONTENT_TYPE).map(media_type);
        if let Some(event_type) =
            content_type.as_deref().filter(|it| it.starts_with("application/cloudevents"))
        {
            if event_type != "application/cloudevents+json" {
                bad(
                    findings,
                    format_args!(
                        "expected the content-type application/cloudevents+json of one event, found {}",
                        Quoted(event_type)
                    ),
                );
            }
            return Self::Structured;
        }
        let is_event = Header::last(headers, SPEC_VERSION.as_bytes()).is_some();
        check_given_once(headers, is_event, findings);
        if is_event {
            check_binary(headers, content_type.as_deref(), findings);
        }
        Self::Value
    }
}

/// Source and id are a key without the other attributes, so also where no version says that this is an event. Of that the
/// content-type is an attribute.
fn check_given_once(headers: &[Header], is_event: bool, findings: &mut Findings<'_>) {
    let is_attribute =
        |name: &[u8]| name.starts_with(ATTRIBUTE) || (is_event && name == CONTENT_TYPE.as_bytes());
    let mut times = BTreeMap::new();
    for header in headers.iter().filter(|header| is_attribute(&header.name)) {
        *times.entry(&*header.name).or_insert(0) += 1;
    }
    for (name, times) in times.into_iter().filter(|(_, times)| *times > 1) {
        let name = String::from_utf8_lossy(name);
        let name = Quoted(&name);
        bad(
            findings,
            format_args!(
                "expected the header {name}, an attribute of a CloudEvent, once, found {times} of them"
            ),
        );
    }
}

/// A record with `ce_specversion` says that it is an event, so it has to be one.
fn check_binary(headers: &[Header], content_type: Option<&str>, findings: &mut Findings<'_>) {
    for name in ATTRIBUTES {
        match text(headers, name) {
            Some("") | None => bad(
                findings,
                format_args!(
                    "expected the header {name}, which every CloudEvent has, as UTF-8 that is not empty"
                ),
            ),
            Some(version) if name == SPEC_VERSION => check_version(version, findings),
            Some(_) => {}
        }
    }
    if let Some(content_type) = content_type.filter(|it| !is_json(it)) {
        let message = format_args!(
            "expected JSON as the event's data, found the content-type {}",
            Quoted(content_type)
        );
        bad(findings, message);
    }
}

impl<'a> Structured<'a> {
    /// Reads the event that a value is.
    pub fn read(members: Vec<RawMember<'a>>, findings: &mut Findings<'_>) -> Self {
        let root = Pointer::Root;
        let members = member::once_each(members, Code::BadCloudEvent, &root, findings);
        let mut event = Self::default();
        if let Some(version) = attribute(&members, EventField::SpecVersion, findings) {
            check_version(&version, findings);
        }
        let [id, source, _] = REQUIRED.map(|field| attribute(&members, field, findings));
        (event.id, event.source) = (id, source);
        if let Some(content_type) =
            member(&members, EventField::DataContentType).filter(|member| !member.is_null())
        {
            let text = (Kind::of(content_type.raw.value) == Kind::String)
                .then(|| json::string(content_type.raw.value).ok())
                .flatten();
            if !text.is_some_and(|text| is_json(&media_type(&text))) {
                let found = Found(content_type.raw.value);
                let message = format_args!("expected JSON as the event's data, found {found}");
                findings.add(&root.name(EventField::DataContentType.name()), Code::BadCloudEvent, message);
            }
        }
        event.data = data(&members, findings);
        event
    }
}

/// The entry: an object.
fn data<'a>(members: &[Member<'a, EventField>], findings: &mut Findings<'_>) -> Option<Vec<RawMember<'a>>> {
    let at = Pointer::Root;
    let at = at.name(EventField::Data.name());
    let Some(data) = member(members, EventField::Data) else {
        let base64 = member(members, EventField::DataBase64).is_some();
        let found = if base64 { "data_base64, which is for content that is not JSON" } else { "none" };
        findings.add(
            &at,
            Code::Missing,
            format_args!("expected the entry as the event's data, found {found}"),
        );
        return None;
    };
    let members =
        (Kind::of(data.raw.value) == Kind::Object).then(|| json::members(data.raw.value).ok()).flatten();
    if members.is_none() {
        let message = format_args!("expected an entry, an object, found {}", Found(data.raw.value));
        findings.add(&at, Code::NotAnObject, message);
    }
    members
}

fn member<'m, 'a>(
    members: &'m [Member<'a, EventField>],
    field: EventField,
) -> Option<&'m Member<'a, EventField>> {
    members.iter().find(|member| member.field == Some(field))
}

/// A required attribute: a string that is not empty.
fn attribute<'a>(
    members: &[Member<'a, EventField>],
    field: EventField,
    findings: &mut Findings<'_>,
) -> Option<Cow<'a, str>> {
    let root = Pointer::Root;
    let at = root.name(field.name());
    let raw = member(members, field).map(|member| member.raw.value);
    let text = raw.filter(|raw| Kind::of(raw) == Kind::String).and_then(|raw| json::string(raw).ok());
    let text = text.filter(|text| !text.is_empty());
    if text.is_none() {
        let message = "expected a string that is not empty, which every CloudEvent has, found";
        match raw {
            Some(raw) => findings.add(&at, Code::BadCloudEvent, format_args!("{message} {}", Found(raw))),
            None => findings.add(&at, Code::BadCloudEvent, format_args!("{message} none")),
        }
    }
    text
}

/// Minor versions only add what may be left unread.
fn check_version(version: &str, findings: &mut Findings<'_>) {
    if version != "1.0" && !version.starts_with("1.") {
        bad(
            findings,
            format_args!("expected a CloudEvent of version 1.0, found version {}", Quoted(version)),
        );
    }
}

fn bad(findings: &mut Findings<'_>, message: std::fmt::Arguments<'_>) {
    findings.add(&Pointer::Root, Code::BadCloudEvent, message);
}

/// A header's text; none where it is absent, null or not UTF-8.
fn text<'h>(headers: &'h [Header], name: &str) -> Option<&'h str> {
    std::str::from_utf8(Header::last(headers, name.as_bytes())?.value.as_deref()?).ok()
}

/// `Application/JSON; charset=utf-8` is `application/json` (RFC 9110, section 8.3.1).
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// RFC 8259, and the suffix of RFC 6839.
fn is_json(media_type: &str) -> bool {
    matches!(media_type, "application/json" | "text/json") || media_type.ends_with("+json")
}

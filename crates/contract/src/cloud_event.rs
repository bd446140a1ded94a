//! Commands as CloudEvents.
//!
//! The [Kafka protocol binding] 1.0.2 has two modes: *binary*, with attributes in headers `ce_…` and the data as the
//! value, and *structured*, with the whole event as the value, in the [JSON format] 1.0.2. The event's data is the entry;
//! its `source` and `id` are an idempotency key.
//!
//! The CloudEvents SDK for Rust does not fit: it parses data into `serde_json::Value`, which changes numbers and drops
//! repeated names, but entries are kept byte for byte; and it stops at the first problem.
//!
//! [Kafka protocol binding]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
//! [JSON format]: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    code::Code,
    field::{Field, fields},
    json::{self, Kind, RawMember},
    member::{self, Member},
    problem::{Findings, Pointer},
    record::Header,
    repeated::repeated,
    wording::{Found, Quoted},
};

/// Where a record contains its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The value is the entry: a plain command, or a CloudEvent in binary mode.
    Value,
    /// The value is a CloudEvent, whose `data` is the entry.
    Structured,
}

/// A CloudEvent in structured mode, as far as it could be read.
#[derive(Debug, Default)]
pub(crate) struct Structured<'a> {
    pub source: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
    /// The members of the object `data`.
    pub data: Option<Vec<RawMember<'a>>>,
}

fields! {
    /// All other attributes are ignored.
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

pub(crate) const CONTENT_TYPE: &str = "content-type";
const SPEC_VERSION: &str = "ce_specversion";
const ATTRIBUTE: &[u8] = b"ce_";
pub(crate) const ATTRIBUTES: [&str; 4] = ["ce_id", "ce_source", "ce_specversion", "ce_type"];

impl Form {
    /// Reads the form from the headers, and reports problems of an event in binary mode.
    pub fn of(headers: &[Header], findings: &mut Findings<'_>) -> Self {
        if headers.is_empty() {
            return Self::Value;
        }
        let content_type = text(headers, CONTENT_TYPE).map(media_type);
        if let Some(event_type) =
            content_type.as_deref().filter(|it| it.starts_with("application/cloudevents"))
        {
            if event_type != "application/cloudevents+json" {
                let wanted = "the content-type application/cloudevents+json of one event";
                findings.expected(&Pointer::Root, Code::BadCloudEvent, wanted, Quoted(event_type));
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

/// Also applies without `ce_specversion`, because source and id alone are an idempotency key. The content-type is only an
/// attribute of an event.
fn check_given_once(headers: &[Header], is_event: bool, findings: &mut Findings<'_>) {
    let is_attribute =
        |name: &[u8]| name.starts_with(ATTRIBUTE) || (is_event && name == CONTENT_TYPE.as_bytes());
    let attributes: Vec<&[u8]> =
        headers.iter().map(|header| &*header.name).filter(|name| is_attribute(name)).collect();
    let mut times = BTreeMap::new();
    for (_, first) in repeated(attributes.iter()) {
        *times.entry(attributes[first]).or_insert(1) += 1;
    }
    for (name, times) in times {
        let name = String::from_utf8_lossy(name);
        let wanted = format_args!("the header {}, a CloudEvents attribute, only once", Quoted(&name));
        findings.expected(&Pointer::Root, Code::BadCloudEvent, wanted, times);
    }
}

/// A record with `ce_specversion` must be a valid event.
fn check_binary(headers: &[Header], content_type: Option<&str>, findings: &mut Findings<'_>) {
    for name in ATTRIBUTES {
        match text(headers, name) {
            Some("") | None => {
                let message = format_args!(
                    "expected the header {name}, which every CloudEvent needs, as nonempty UTF-8"
                );
                findings.add(&Pointer::Root, Code::BadCloudEvent, message);
            }
            Some(version) if name == SPEC_VERSION => check_version(version, findings),
            Some(_) => {}
        }
    }
    if let Some(content_type) = content_type.filter(|it| !is_json(it)) {
        let found = format_args!("the content-type {}", Quoted(content_type));
        findings.expected(&Pointer::Root, Code::BadCloudEvent, "JSON as the event's data", found);
    }
}

impl<'a> Structured<'a> {
    /// Reads a value that is an event.
    pub fn read(members: Vec<RawMember<'a>>, findings: &mut Findings<'_>) -> Self {
        let root = Pointer::Root;
        let members = member::read_all_with(members, Code::BadCloudEvent, &root, findings);
        let mut event = Self::default();
        if let Some(version) = attribute(&members, EventField::SpecVersion, findings) {
            check_version(&version, findings);
        }
        event.id = attribute(&members, EventField::Id, findings);
        event.source = attribute(&members, EventField::Source, findings);
        attribute(&members, EventField::Type, findings);
        if let Some(raw) = value(&members, EventField::DataContentType).filter(|raw| *raw != "null")
            && !string(raw).is_some_and(|content_type| is_json(&media_type(&content_type)))
        {
            let at = root.name(EventField::DataContentType.name());
            findings.expected(&at, Code::BadCloudEvent, "JSON as the event's data", Found(raw));
        }
        event.data = data(&members, findings);
        event
    }
}

/// The entry, which must be an object.
fn data<'a>(members: &[Member<'a, EventField>], findings: &mut Findings<'_>) -> Option<Vec<RawMember<'a>>> {
    let at = Pointer::Root;
    let at = at.name(EventField::Data.name());
    let Some(raw) = value(members, EventField::Data) else {
        let base64 = value(members, EventField::DataBase64).is_some();
        let found = if base64 { "data_base64, which is for data that is not JSON" } else { "none" };
        findings.expected(&at, Code::Missing, "the entry as the event's data", found);
        return None;
    };
    let entry = json::members(raw).ok();
    if entry.is_none() {
        findings.expected(&at, Code::NotAnObject, "an entry, an object", Found(raw));
    }
    entry
}

fn value<'a>(members: &[Member<'a, EventField>], field: EventField) -> Option<&'a str> {
    members.iter().find(|member| member.field == Some(field)).map(|member| member.raw.value)
}

/// A required attribute: a nonempty string.
fn attribute<'a>(
    members: &[Member<'a, EventField>],
    field: EventField,
    findings: &mut Findings<'_>,
) -> Option<Cow<'a, str>> {
    let root = Pointer::Root;
    let at = root.name(field.name());
    let raw = value(members, field);
    let text = raw.and_then(string).filter(|text| !text.is_empty());
    if text.is_none() {
        let wanted = "a nonempty string, which every CloudEvent needs";
        match raw {
            Some(raw) => findings.expected(&at, Code::BadCloudEvent, wanted, Found(raw)),
            None => findings.expected(&at, Code::BadCloudEvent, wanted, "nothing"),
        }
    }
    text
}

fn string(raw: &str) -> Option<Cow<'_, str>> {
    if Kind::of(raw) == Kind::String { json::string(raw).ok() } else { None }
}

/// Minor versions only add what readers may ignore.
fn check_version(version: &str, findings: &mut Findings<'_>) {
    if !version.starts_with("1.") {
        let found = format_args!("version {}", Quoted(version));
        findings.expected(&Pointer::Root, Code::BadCloudEvent, "a CloudEvent of version 1.0", found);
    }
}

/// A header's text; `None` if it is absent, null or not UTF-8.
fn text<'h>(headers: &'h [Header], name: &str) -> Option<&'h str> {
    std::str::from_utf8(Header::last(headers, name.as_bytes())?.value.as_deref()?).ok()
}

/// For example `application/json` for `Application/JSON; charset=utf-8` (RFC 9110, section 8.3.1).
fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// As registered by RFC 8259, or with the suffix of RFC 6839.
fn is_json(media_type: &str) -> bool {
    matches!(media_type, "application/json" | "text/json") || media_type.ends_with("+json")
}

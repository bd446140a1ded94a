//! The entry: the value of a command.

use std::borrow::Cow;

use serde::Deserialize;

use crate::{
    attachment::{Attachment, Attachments},
    code::Code,
    date_time,
    field::{Field, fields},
    identity::Identity,
    json::{Kind, RawMember},
    member::{self, Member},
    problem::{Findings, Pointer},
    target::{Target, Targets},
    text::{self, Rule, Text},
    wording::{Found, Quoted, is_misspelt},
};

/// A valid entry, with aliases resolved and with all defaults except that of `publishedAt`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub verb: Text<'a>,
    /// Absent if the system itself did it.
    pub actor: Option<Identity<'a>>,
    pub object_type: Text<'a>,
    pub object_id: Text<'a>,
    /// A date-time with offset, as the producer wrote it.
    pub published_at: Option<Text<'a>>,
    /// At least one, each audience once.
    pub targets: Targets<'a>,
    pub attachments: Attachments<'a>,
    pub content: Option<Text<'a>>,
    /// The object type's own properties, byte for byte.
    pub free: Vec<RawMember<'a>>,
}

pub(crate) const DEFAULT_VERB: Text<'static> = Text::normal("\"share\"");

/// Names for an audience in other vocabularies: Activity Streams 2.0, mail, chat. Compared without case.
pub(crate) const FOREIGN_AUDIENCES: [&str; 8] =
    ["cc", "bto", "bcc", "audience", "audiences", "recipient", "recipients", "notify"];
/// Another one, but only as an array or an object: `{"from": "open", "to": "closed"}` is a change of state.
pub(crate) const TO: &str = "to";

fields! {
    /// All other properties belong to the object type.
    EntryField {
        Verb => "@type" | "type",
        Actor => "actor",
        ObjectType => "objectType",
        ObjectId => "objectId",
        PublishedAt => "publishedAt" | "published",
        Targets => "targets",
        Attachments => "attachments" | "attachment",
        Content => "content",
    }
}

impl<'a> Entry<'a> {
    /// With the default verb, and nothing else yet.
    pub fn new() -> Self {
        Self { verb: DEFAULT_VERB, ..Self::default() }
    }

    /// Whether the entry or an attachment has free properties.
    pub fn has_free(&self) -> bool {
        !self.free.is_empty() || self.attachments.iter().any(|attachment| !attachment.free.is_empty())
    }

    /// Reads the entry at `at` in the value. `None` if the record has any problem at all.
    pub fn read(members: Vec<RawMember<'a>>, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        let members = member::read_all(members, at, findings);
        let mut entry = Self::new();
        for member in &members {
            entry.read_member(member, at, findings);
        }
        member::require(EntryField::ObjectType, "the object's type, a string", &members, at, findings);
        member::require(EntryField::ObjectId, "the object's id, a string", &members, at, findings);
        if !members.iter().any(|member| member.field == Some(EntryField::Targets)) {
            entry.targets.push(Target::EVERYONE);
        }
        findings.is_empty().then_some(entry)
    }

    fn read_member(
        &mut self,
        member: &Member<'a, EntryField>,
        entry: &Pointer<'_>,
        findings: &mut Findings<'_>,
    ) {
        let name = &member.name;
        let at = &entry.name(name);
        let raw = member.raw.value;
        // Fields that can't be read keep their defaults. Each has a problem, so the entry is dropped.
        match member.field {
            Some(EntryField::Targets) => self.targets = Target::read_all(raw, at, findings),
            Some(_) if member.is_null() => {}
            Some(EntryField::Verb) => self.verb = text::read(raw, Rule::Id, at, findings).unwrap_or_default(),
            Some(EntryField::Actor) => self.actor = Identity::read(raw, at, findings),
            Some(EntryField::ObjectType) => {
                self.object_type = text::read(raw, Rule::Id, at, findings).unwrap_or_default();
            }
            Some(EntryField::ObjectId) => {
                self.object_id = text::read(raw, Rule::Id, at, findings).unwrap_or_default();
            }
            Some(EntryField::PublishedAt) => self.published_at = read_date_time(raw, at, findings),
            Some(EntryField::Attachments) => self.attachments = Attachment::read_all(raw, at, findings),
            Some(EntryField::Content) => self.content = text::read(raw, Rule::Free, at, findings),
            None if is_misspelt(name, EntryField::Targets.name()) => {
                let message =
                    format_args!("an entry has no property {}; did you mean \"targets\"?", Quoted(name));
                findings.add(at, Code::MisspeltTargets, message);
            }
            None if is_foreign_audience(name, raw) => {
                let message = format_args!(
                    "an entry has no property {}; put its audience in \"targets\"",
                    Quoted(name)
                );
                findings.add(at, Code::ForeignAudience, message);
            }
            None => self.free.push(member.raw),
        }
    }
}

/// Whether a property that the contract does not name looks as if it meant the audience.
pub(crate) fn is_audience(name: &str, raw: &str) -> bool {
    is_misspelt(name, EntryField::Targets.name()) || is_foreign_audience(name, raw)
}

fn is_foreign_audience(name: &str, raw: &str) -> bool {
    FOREIGN_AUDIENCES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || (name.eq_ignore_ascii_case(TO) && matches!(Kind::of(raw), Kind::Array | Kind::Object))
}

fn read_date_time<'a>(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Text<'a>> {
    let text = text::read(raw, Rule::Free, at, findings)?;
    if date_time::is_rfc_3339(&text.unescaped()) {
        return Some(text);
    }
    let wanted =
        "a date-time with offset like 2026-11-24T01:20:00.123+01:00 (RFC 3339, at most 9 fraction digits)";
    findings.expected(at, Code::BadDateTime, wanted, Found(raw));
    None
}

/// The record key `objectType/objectId`, which keeps the activities of one object in order. `None` if the command's value
/// names no object. The value need not be a valid entry.
#[must_use]
pub fn object_key(value: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(rename = "objectType", borrow)]
        object_type: Cow<'a, str>,
        #[serde(rename = "objectId", borrow)]
        object_id: Cow<'a, str>,
    }
    let Object { object_type, object_id } = serde_json::from_slice(value).ok()?;
    (!object_type.is_empty() && !object_id.is_empty()).then(|| format!("{object_type}/{object_id}"))
}

#[cfg(test)]
mod tests {
    use super::object_key;

    #[test]
    fn builds_the_object_key_of_a_value_that_names_an_object() {
        let key = |text: &str| object_key(text.as_bytes());
        assert_eq!(
            key(r#"{"objectId":"4\u0032","objectType":"customer","x":[1]}"#).as_deref(),
            Some("customer/42")
        );
        assert_eq!(key(r#"{"objectId":"42"}"#), None);
        assert_eq!(key(r#"{"objectId":"","objectType":"customer"}"#), None);
        assert_eq!(key(r#"{"objectId":42,"objectType":"customer"}"#), None);
        assert_eq!(key("[]"), None);
        assert_eq!(key("no"), None);
    }
}

//! The entry: what a command's value says.

use std::borrow::Cow;

use super::{
    attachment::Attachment,
    code::Code,
    date_time,
    field::{Field, fields},
    found::{Found, Quoted, is_misspelt},
    identity::Identity,
    json::{Kind, RawMember},
    member::{self, Member},
    problem::{Findings, Pointer},
    target::Target,
    text::{self, Rule},
};

/// A valid entry with every alias resolved and every default filled in but `publishedAt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub verb: Cow<'a, str>,
    /// Absent where the system itself did it.
    pub actor: Option<Identity<'a>>,
    pub object_type: Cow<'a, str>,
    pub object_id: Cow<'a, str>,
    /// A date-time with offset, as it was written.
    pub published_at: Option<Cow<'a, str>>,
    /// At least one, each audience once.
    pub targets: Vec<Target<'a>>,
    pub attachments: Vec<Attachment<'a>>,
    pub content: Option<Cow<'a, str>>,
    /// What belongs to the object type, as it came.
    pub free: Vec<RawMember<'a>>,
}

pub(super) const DEFAULT_VERB: &str = "share";

/// How other vocabularies name an audience: Activity Streams 2.0, mail, chat. In any case.
pub(super) const FOREIGN_AUDIENCES: [&str; 8] =
    ["cc", "bto", "bcc", "audience", "audiences", "recipient", "recipients", "notify"];
/// One more, where it is an array or an object: `{"from": "open", "to": "closed"}` is a change of state.
pub(super) const TO: &str = "to";

fields! {
    /// What an entry says; all else is the object type's.
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
    /// Whether the entry or an attachment has properties of its own.
    pub fn has_free(&self) -> bool {
        !self.free.is_empty() || self.attachments.iter().any(|attachment| !attachment.free.is_empty())
    }

    /// Reads the members of the entry, which is `at` that place of the value; nothing is returned where anything is
    /// wrong with the record.
    pub fn read(members: Vec<RawMember<'a>>, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Self> {
        let members = member::of_raw(members, at, findings);
        let mut draft = Draft::default();
        for member in &members {
            draft.read(member, at, findings);
        }
        member::require(EntryField::ObjectType, "the object's type, a string", &members, at, findings);
        member::require(EntryField::ObjectId, "the object's id, a string", &members, at, findings);
        if !findings.is_empty() {
            return None;
        }
        Some(Self {
            verb: draft.verb.unwrap_or(Cow::Borrowed(DEFAULT_VERB)),
            actor: draft.actor,
            object_type: draft.object_type?,
            object_id: draft.object_id?,
            published_at: draft.published_at,
            targets: draft.targets.unwrap_or_else(|| vec![Target::EVERYONE]),
            attachments: draft.attachments,
            content: draft.content,
            free: draft.free,
        })
    }
}

/// The fields as far as they were read.
#[derive(Default)]
struct Draft<'a> {
    verb: Option<Cow<'a, str>>,
    actor: Option<Identity<'a>>,
    object_type: Option<Cow<'a, str>>,
    object_id: Option<Cow<'a, str>>,
    published_at: Option<Cow<'a, str>>,
    targets: Option<Vec<Target<'a>>>,
    attachments: Vec<Attachment<'a>>,
    content: Option<Cow<'a, str>>,
    free: Vec<RawMember<'a>>,
}

impl<'a> Draft<'a> {
    fn read(&mut self, member: &Member<'a, EntryField>, entry: &Pointer<'_>, findings: &mut Findings<'_>) {
        let name = &member.name;
        let at = entry.name(name);
        let raw = member.raw.value;
        match member.field {
            Some(EntryField::Targets) => self.targets = Some(Target::read_all(raw, &at, findings)),
            Some(_) if member.is_null() => {}
            Some(EntryField::Verb) => self.verb = text::read(raw, Rule::Id, &at, findings),
            Some(EntryField::Actor) => self.actor = Identity::read(raw, &at, findings),
            Some(EntryField::ObjectType) => self.object_type = text::read(raw, Rule::Id, &at, findings),
            Some(EntryField::ObjectId) => self.object_id = text::read(raw, Rule::Id, &at, findings),
            Some(EntryField::PublishedAt) => self.published_at = read_date_time(raw, &at, findings),
            Some(EntryField::Attachments) => self.attachments = Attachment::read_all(raw, &at, findings),
            Some(EntryField::Content) => self.content = text::read(raw, Rule::Free, &at, findings),
            None if is_misspelt(name, EntryField::Targets.name()) => {
                let message =
                    format_args!("{} is no property of an entry; did you mean \"targets\"?", Quoted(name));
                findings.add(&at, Code::MisspeltTargets, message);
            }
            None if is_foreign_audience(name, raw) => {
                let message = format_args!(
                    "an entry has no property {}; name its audience in \"targets\"",
                    Quoted(name)
                );
                findings.add(&at, Code::ForeignAudience, message);
            }
            None => self.free.push(member.raw),
        }
    }
}

fn is_foreign_audience(name: &str, raw: &str) -> bool {
    FOREIGN_AUDIENCES.iter().any(|known| name.eq_ignore_ascii_case(known))
        || (name.eq_ignore_ascii_case(TO) && matches!(Kind::of(raw), Kind::Array | Kind::Object))
}

fn read_date_time<'a>(raw: &'a str, at: &Pointer<'_>, findings: &mut Findings<'_>) -> Option<Cow<'a, str>> {
    let text = text::read(raw, Rule::Free, at, findings)?;
    if date_time::is_rfc_3339(&text) {
        return Some(text);
    }
    let message = format_args!(
        "expected a date-time with offset like 2026-11-24T01:20:00.123+01:00 (RFC 3339, at most 9 fraction digits), found {}",
        Found(raw)
    );
    findings.add(at, Code::BadDateTime, message);
    None
}

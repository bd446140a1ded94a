//! The entry: what a command's value says.

use std::borrow::Cow;

use super::{
    Code,
    attachment::Attachment,
    date_time,
    found::{Found, Quoted, is_misspelt},
    identity::Identity,
    json::RawMember,
    member,
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

const DEFAULT_VERB: &str = "share";

fn field_of(name: &str) -> &str {
    match name {
        "type" => "@type",
        "attachment" => "attachments",
        other => other,
    }
}

impl<'a> Entry<'a> {
    /// Reads the members of a command's value; nothing is returned where anything is wrong with them.
    pub fn read(members: Vec<RawMember<'a>>, findings: &mut Findings<'_>) -> Option<Self> {
        let root = Pointer::Root;
        let members = member::of_raw(members, &root, field_of, findings);
        let mut draft = Draft::default();
        for member in &members {
            draft.read(&member.name, member.raw, member.is_null(), findings);
        }
        member::require("objectType", "the object's type, a string", (&members, field_of), &root, findings);
        member::require("objectId", "the object's id, a string", (&members, field_of), &root, findings);
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
    fn read(&mut self, name: &str, member: RawMember<'a>, null: bool, findings: &mut Findings<'_>) {
        let root = Pointer::Root;
        let at = root.name(name);
        let raw = member.value;
        match field_of(name) {
            "targets" => self.targets = Some(Target::read_all(raw, &at, findings)),
            "@type" | "actor" | "objectType" | "objectId" | "publishedAt" | "attachments" | "content"
                if null => {}
            "@type" => self.verb = text::read(raw, Rule::Id, &at, findings),
            "actor" => self.actor = Identity::read(raw, &at, findings),
            "objectType" => self.object_type = text::read(raw, Rule::Id, &at, findings),
            "objectId" => self.object_id = text::read(raw, Rule::Id, &at, findings),
            "publishedAt" => self.published_at = read_date_time(raw, &at, findings),
            "attachments" => self.attachments = Attachment::read_all(raw, &at, findings),
            "content" => self.content = text::read(raw, Rule::Free, &at, findings),
            name if is_misspelt(name, "targets") => {
                let message =
                    format_args!("{} is no property of an entry; did you mean \"targets\"?", Quoted(name));
                findings.add(&at, Code::MisspeltTargets, message);
            }
            _ => self.free.push(member),
        }
    }
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
